"""`hub accounts`: which financial address an id is paid at; ids and addresses come from standard input, never from arguments."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.table import Table

from adapters.cli.accounts_elsewhere import elsewhere
from adapters.cli.opened import actor, on_hub
from adapters.cli.output import OUT, print_json
from adapters.hub import Hub
from canonical_model.errors import Refused
from registry.accounts import MANY, Accounts, Link, Linked, Question, Resolved, StrategyBook, parse
from registry.accounts.files import read_links
from registry.imports.files import Format

app = typer.Typer(no_args_is_help=True)

_SHOWN: Final = 1000
"""Refused rows of a file that are named one by one."""
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
From = Annotated[
    datetime | None, typer.Option("--from", help="Since when the links hold; now, where it is left out.")
]
Until = Annotated[
    datetime | None, typer.Option("--until", help="Until when; until they are ended, where it is left out.")
]
Purpose = Annotated[
    str, typer.Option("--purpose", help="What the addresses are needed for; it goes into the audit trail.")
]


def accounts(hub: Hub) -> Accounts:
    """Return the account mapper of a hub."""
    return Accounts(hub.pool, hub.vault)


@app.command("link")
def link_command(
    valid_from: From = None,
    valid_to: Until = None,
    update: Annotated[bool, typer.Option("--update", help="Change ids that are linked already.")] = False,
    as_json: Json = False,
) -> None:
    """Link ids to financial addresses: standard input has a line for each, the id, a space, the address.

    Example: echo vid:54321@nid account:12345@national-bank | hub accounts link
    """
    links = [Link(one[0], one[1], _zoned(valid_from), _zoned(valid_to)) for one in _lines(2, 2)]

    async def work(hub: Hub) -> list[Linked]:
        desk = accounts(hub)
        return await (desk.update if update else desk.link)(links, actor=actor())

    _outcomes(on_hub(work), "changed" if update else "linked", as_json)


@app.command("unlink")
def unlink_command(as_json: Json = False) -> None:
    """End the links of ids: standard input has a line for each, the id and, to be sure, the address it is linked to.

    Example: echo vid:54321@nid | hub accounts unlink
    """
    asked = [Question(one[0], one[1] if len(one) > 1 else None) for one in _lines(1, 2)]
    _outcomes(on_hub(lambda hub: accounts(hub).unlink(asked, actor=actor())), "ended", as_json)


@app.command("resolve")
def resolve_command(
    purpose: Purpose,
    at: Annotated[
        str | None, typer.Option("--at", help="Ask the account mapper of this g2p_connect target instead.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which address ids are paid at: standard input has an id on each line, at most a thousand.

    Example: echo vid:54321@nid | hub accounts resolve --purpose "complaint 12"
    """
    asked = [Question(one[0]) for one in _lines(1, 1)]
    if at is not None:
        told = on_hub(lambda hub: elsewhere(hub, at, asked, purpose, actor()))
        _resolved(
            [
                {"id": each.id, "state": one.state, "address": one.address, "source": at, "code": one.code}
                for each, one in zip(asked, told, strict=True)
            ],
            as_json,
        )
        return

    async def work(hub: Hub) -> tuple[list[Resolved], StrategyBook]:
        desk = accounts(hub)
        return await desk.resolve(asked, actor=actor(), purpose=purpose), await desk.strategies()

    found, book = on_hub(work)
    rows = []
    for each, one in zip(asked, found, strict=True):
        read = None if one.address is None else book.read("fa", one.address)
        row: dict[str, Any] = {
            "id": each.id,
            "state": one.state,
            "address": one.address,
            "source": one.source,
        }
        parts = {} if read is None else {"strategy": read.strategy.name, "fields": dict(read.fields)}
        rows.append(row | parts)
    _resolved(rows, as_json)


@app.command("list")
def list_command(
    id_stdin: Annotated[
        bool, typer.Option("--id-stdin", help="Only links of the id on standard input.")
    ] = False,
    ended: Annotated[bool, typer.Option("--ended", help="Also links that ended: the history.")] = False,
    purpose: Annotated[
        str | None, typer.Option("--purpose", help="Show ids and addresses; it goes into the audit trail.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most links of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page before.")] = None,
    as_json: Json = False,
) -> None:
    """List links in the order they were made, without saying whose they are.

    Example: echo vid:54321@nid | hub accounts list --id-stdin --ended
    """
    id_ = _lines(1, 1)[0][0] if id_stdin else None
    after = None if cursor is None else _link_id(cursor)
    found = on_hub(
        lambda hub: accounts(hub).listed(
            id=id_, after=after, ended=ended, limit=limit, actor=actor(), purpose=purpose
        )
    )
    going_on = str(found[-1]["id"]) if len(found) == limit else None
    if as_json:
        print_json({"links": found, "cursor": going_on})
        return
    table = Table("link", "strategy", "state", "since", "until", "by")
    if purpose is not None:
        table.add_column("id")
        table.add_column("address")
    for one in found:
        until = one["ended_at"] or one["valid_to"]
        more = () if purpose is None else (one["account_id"], one["address"])
        state = one["state"] if one["ended_how"] is None else one["ended_how"]
        since = f"{one['valid_from']:%Y-%m-%d}"
        table.add_row(
            str(one["id"]), one["strategy"], state, since, f"{until:%Y-%m-%d}" if until else "–", one["linked_by"], *more,
        )  # fmt: skip
    OUT.print(table)
    if going_on is not None:
        OUT.print(f"There may be more: --cursor {going_on}", markup=False)


@app.command("strategies")
def strategies_command(
    apply: Annotated[
        Path | None,
        typer.Option(
            "--apply", help="A TOML file of strategies to put in force.", exists=True, dir_okay=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List how ids and financial addresses are written, in the order in which the forms are tried; or add to them.

    Example: hub accounts strategies --apply strategies.toml
    """
    given = None if apply is None else parse(apply.read_text(encoding="utf-8"))

    async def work(hub: Hub) -> StrategyBook:
        desk = accounts(hub)
        if given is not None:
            await desk.apply(given, actor=actor())
        return await desk.strategies()

    book = on_hub(work)
    if as_json:
        print_json({"strategies": [each.model_dump(mode="json", exclude_defaults=True) for each in book.all]})
        return
    table = Table("name", "kind", "template", "account", "description")
    for each in book.all:
        account = "" if each.account is None else each.account.value
        table.add_row(each.name, each.kind, each.template, account, each.description)
    OUT.print(table)


@app.command("import")
def import_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CSV, XLSX or NDJSON file.", exists=True, dir_okay=False)
    ],
    update: Annotated[bool, typer.Option("--update", help="Change ids that are linked already.")] = False,
    format: Annotated[Format | None, typer.Option(help="Where the file's name does not say it.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV file; UTF-8 when none is named.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of an XLSX file; the first when none is named.")] = None,
    as_json: Json = False,
) -> None:
    """Link the ids of a file, a thousand rows at a time; a file that was broken off is simply imported again.

    Columns: id, fa, and where there are any name, phone_number, valid_from, valid_to. Rows that are refused are named by
    their number and cost the others nothing.

    Example: hub accounts import links.csv
    """

    async def work(hub: Hub) -> tuple[int, Counter[str], list[dict[str, Any]]]:
        desk, who = accounts(hub), actor()
        done, codes = 0, Counter[str]()
        refused: list[dict[str, Any]] = []
        for some in read_links(file, format=format, encoding=encoding, sheet=sheet):
            good = [(number, one) for number, one in some if isinstance(one, Link)]
            write = desk.update if update else desk.link
            outcomes = await write([one for _, one in good], actor=who)
            told = [(number, one.code) for (number, _), one in zip(good, outcomes, strict=True)]
            told += [(number, one) for number, one in some if isinstance(one, str)]
            for number, code in sorted(told):
                if code is None:
                    done += 1
                    continue
                codes[code] += 1
                if len(refused) < _SHOWN:
                    refused.append({"row": number, "code": code})
        return done, codes, refused

    done, codes, refused = on_hub(work)
    if as_json:
        print_json({"done": done, "refused": sum(codes.values()), "codes": codes, "rows": refused})
        return
    OUT.print(f"{done:,} {'changed' if update else 'linked'}, {sum(codes.values()):,} refused.", markup=False)
    for one in refused:
        OUT.print(f"  row {one['row']}: {one['code']}", markup=False)


def _lines(least: int, most: int) -> list[list[str]]:
    found = [line.split() for line in sys.stdin.read(1 << 20).splitlines() if line.strip()]
    if not 0 < len(found) <= MANY or any(not least <= len(one) <= most for one in found):
        raise Refused(
            f"Standard input has 1 to {MANY} lines of {least if least == most else f'{least} or {most}'} words here. "
            "Nothing was done.",
            code="account-input-invalid",
            remedy="Write an id on each line, and behind a space the address where one is needed.",
        )
    return found


def _link_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            "The cursor is none of this list. Nothing was listed.",
            code="cursor-invalid",
            remedy="Use the cursor of the last page, or begin without one.",
        ) from None


def _zoned(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)


def _resolved(rows: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({"accounts": rows})
        return
    for row in rows:
        OUT.print(f"{row['id']}  {row['state']}  {row['address'] or '–'}", markup=False)


def _outcomes(found: Iterable[Linked], word: str, as_json: bool) -> None:
    listed = list(found)
    done = sum(one.code is None for one in listed)
    if as_json:
        items = [{"link": one.link_id, "code": one.code} for one in listed]
        print_json({"done": done, "refused": len(listed) - done, "items": items})
        return
    OUT.print(f"{done} {word}, {len(listed) - done} refused.", markup=False)
    for number, one in enumerate(listed, 1):
        if one.code is not None:
            OUT.print(f"  line {number}: {one.code}", markup=False)
