"""`hub people`: who is registered, in which groups, and what became of them; identity data only with a purpose."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, cast
from uuid import UUID

import orjson
import typer
from rich.table import Table

from adapters.cli.exporting import mapping_of, write_lines, write_table
from adapters.cli.opened import actor, on_hub, registrant_id
from adapters.cli.output import ERR, OUT, print_json, progress
from adapters.hub import Hub
from canonical_model.errors import Refused
from canonical_model.types import to_data
from registry.attributes import Kind
from registry.people import Documents, Events, PeopleFilter, PeoplePage, Registrant, Relationships, Version
from registry.people.exporting import Table as ExportTable
from registry.people.exporting import exported
from registry.people.listing import LIMIT
from registry.people.refresh import Refreshed, refresh

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The hub's id of a person or group.")]
Purpose = Annotated[
    str, typer.Option("--purpose", help="What the data is needed for; it goes into the audit trail.")
]


@app.command("list")
def list_command(
    kind: Annotated[str | None, typer.Option(help="individual or group.")] = None,
    status: Annotated[str | None, typer.Option(help="active, deceased, inactive or merged.")] = None,
    group_kind: Annotated[str | None, typer.Option(help="household, family or other.")] = None,
    sex: Annotated[str | None, typer.Option(help="male, female, other or unknown.")] = None,
    area: Annotated[str | None, typer.Option(help="P-code of an area; everybody in it.")] = None,
    group: Annotated[str | None, typer.Option(help="Id of a group; its members of today.")] = None,
    source: Annotated[str | None, typer.Option(help="The source that vouches for them.")] = None,
    born_from: Annotated[str | None, typer.Option(help="Born on this day or later.")] = None,
    born_until: Annotated[str | None, typer.Option(help="Born on this day or before.")] = None,
    updated_since: Annotated[str | None, typer.Option(help="Changed since this day or instant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=LIMIT, help="Most entries of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page before.")] = None,
    as_json: Json = False,
) -> None:
    """List people and groups, newest first, without identity data.

    Example: hub people list --kind group --area SL0101
    """
    given = {
        "kind": kind, "status": status, "group_kind": group_kind, "sex": sex, "area": area, "group": group,
        "source": source, "born_from": born_from, "born_until": born_until, "updated_since": updated_since,
    }  # fmt: skip
    wanted = PeopleFilter.read({name: text for name, text in given.items() if text is not None})

    async def read(hub: Hub) -> PeoplePage:
        page = await hub.people.list(wanted, limit=limit, cursor=cursor)
        await hub.people.witnessed([each.id for each in page.items], actor())
        return page

    page = on_hub(read)
    if as_json:
        print_json({"people": [asdict(each) for each in page.items], "cursor": page.cursor})
        return
    table = Table("id", "kind", "status", "sex", "born", "area", "version", "source")
    for each in page.items:
        table.add_row(
            str(each.id), each.group_kind or each.kind, each.status, each.sex or "–", _born(each),
            each.area_code or "–", str(each.version), each.source,
        )  # fmt: skip
    OUT.print(table)
    if page.cursor is not None:
        OUT.print(f"There are more: --cursor {page.cursor}", markup=False)


@app.command("show")
def show_command(
    id_: Id,
    on: Annotated[datetime | None, typer.Option("--on", help="As of this day; today without it.")] = None,
    past: Annotated[
        bool, typer.Option("--past", help="Also memberships and relationships that ended.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a person or group without identity data: what rules see, groups, relationships, documents and facts.

    Example: hub people show 0192f3a0-7c1e-7b55-9a5e-1f2e3d4c5b6a
    """
    found = on_hub(lambda hub: _whole(hub, registrant_id(id_), None if on is None else on.date(), past))
    if as_json:
        print_json(found)
        return
    for name, value in found["registrant"].items():
        if value not in (None, {}):
            OUT.print(f"{name:<20} {value}", markup=False)
    for part in ("members", "groups", "relationships", "documents", "events"):
        _rows(part, found[part])


async def _whole(hub: Hub, id_: UUID, on: date | None, past: bool) -> dict[str, Any]:
    people = hub.people
    found = await people.get(id_)
    if found is None:
        raise _nobody()
    await people.witnessed([found.id], actor())
    members, groups, links, documents, events = await asyncio.gather(
        people.members(id_, on, past=past),
        people.groups_of(id_, on, past=past),
        Relationships(hub.pool).of(id_, on, past=past),
        Documents(hub.pool, hub.vault, hub.objects).of(id_),
        Events(hub.pool).of(id_),
    )
    return {
        "registrant": asdict(found),
        "members": [asdict(each) for each in members],
        "groups": [asdict(each) for each in groups],
        "relationships": [asdict(each) for each in links],
        "documents": [asdict(each) for each in documents],
        "events": [asdict(each) for each in events],
    }


@app.command("find")
def find_command(
    type_: Annotated[
        str | None, typer.Option("--type", help="Namespace of the identifier, else its id type.")
    ] = None,
    value: Annotated[
        str, typer.Option("--value", help="The identifier; - reads it from standard input.")
    ] = "-",
    name: Annotated[
        str | None, typer.Option("--name", help="A name or part of it; - reads standard input.")
    ] = None,
    area: Annotated[str | None, typer.Option(help="With --name: P-code of an area.")] = None,
    purpose: Annotated[
        str, typer.Option("--purpose", help="With --name: what the names are needed for.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, max=100, help="With --name: most candidates.")] = 20,
    as_json: Json = False,
) -> None:
    """Find a person or group by an identifier, or people by name; the latter shows names and needs a purpose.

    Example: echo 1234567 | hub people find --type UIN
    """
    if (type_ is None) == (name is None):
        raise Refused(
            "Say what to look by: an identifier or a name. Nothing was searched.",
            code="search-invalid",
            remedy="Use --type with the identifier on standard input, or --name with --purpose.",
        )
    if type_ is not None:
        key = _private(value)

        async def look(hub: Hub) -> Registrant | None:
            found = await hub.people.find_by_identifier(type_, key)
            if found is not None:
                await hub.people.witnessed([found.id], actor())
            return found

        found = on_hub(look)
        if found is None:
            raise _nobody()
        if as_json:
            print_json({"registrant": asdict(found)})
        else:
            OUT.print(f"{found.id}  {found.group_kind or found.kind}, {found.status}", markup=False)
        return
    text = _private(name or "-")
    answer = on_hub(
        lambda hub: hub.people.search.by_name(text, purpose=purpose, actor=actor(), area=area, limit=limit)
    )
    if as_json:
        print_json({"candidates": [asdict(each) for each in answer.candidates], "complete": answer.complete})
        return
    for each in answer.candidates:
        names = "; ".join(_name(one) for one in each.names)
        OUT.print(f"{each.id}  {each.score:5.1f}  {names}", markup=False)
    if not answer.complete:
        OUT.print(
            "More people fit than were looked at: write more of the name, or name an area.", markup=False
        )


@app.command("history")
def history_command(
    id_: Id,
    purpose: Annotated[
        str | None, typer.Option("--purpose", help="Show sealed values too; it goes into the audit trail.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most versions.")] = 50,
    before: Annotated[int | None, typer.Option(help="Only versions before this one.")] = None,
    as_json: Json = False,
) -> None:
    """Show each version of a person or group: when, who made it, from which message, and what it changed.

    Example: hub people history 0192f3a0-7c1e-7b55-9a5e-1f2e3d4c5b6a --purpose "complaint 12"
    """
    asked = registrant_id(id_)

    async def read(hub: Hub) -> list[Version]:
        if purpose is None:
            return await hub.people.history(asked, limit=limit, before=before)
        return await hub.people.reveal_history(asked, purpose, actor(), limit=limit, before=before)

    versions = on_hub(read)
    if as_json:
        print_json({"versions": [asdict(each) for each in versions]})
        return
    for each in versions:
        what = "made" if each.created else ", ".join(each.fields)
        OUT.print(
            f"{each.version:>4}  {each.at:%Y-%m-%d %H:%M}  {each.actor}  {each.source}  {what}", markup=False
        )
        for name, pair in each.changes.items():
            OUT.print(f"        {name}: {pair}", markup=False)


@app.command("reveal")
def reveal_command(id_: Id, purpose: Purpose, as_json: Json = False) -> None:
    """Show a person or group with identity data; the audit trail has your name and purpose before you see any.

    Example: hub people reveal 0192f3a0-7c1e-7b55-9a5e-1f2e3d4c5b6a --purpose "complaint 12"
    """
    found = on_hub(lambda hub: hub.people.reveal(registrant_id(id_), purpose, actor()))
    if found is None:
        raise _nobody()
    data = to_data(found)
    if as_json:
        print_json(data)
        return
    for name, value in data.items():
        if value not in ([], {}):
            OUT.print(f"{name:<20} {value}", markup=False)


@app.command("refresh")
def refresh_command(
    after: Annotated[
        str | None, typer.Option("--after", help="Go on behind this id, as a run that was broken off said.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count who would change.")] = False,
    as_json: Json = False,
) -> None:
    """Link areas and set declared attributes of people and groups there are already, from what lies sealed.

    For after areas were imported, or attributes declared, behind the people; online, and safe to break off and repeat.

    Example: hub people refresh --dry-run
    """
    start = UUID(int=0) if after is None else registrant_id(after)

    async def work(hub: Hub) -> Refreshed:
        declared = {*hub.catalog.declared("individual"), *hub.catalog.declared("group")}
        return await refresh(hub.pool, hub.vault, declared, _told, after=start, dry_run=dry_run)

    done = on_hub(work)
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    OUT.print(f"{done.seen} people and groups seen, {done.changed} {would}changed.", markup=False)
    if done.unreadable:
        OUT.print(
            f"{done.unreadable} could not be opened and stay as they were; `hub doctor` looks at keys.",
            markup=False,
        )


@app.command("export")
def export_command(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A new file: .csv, .xlsx or .ndjson.")],
    purpose: Purpose,
    kind: Annotated[str, typer.Option(help="individual or group.")] = "individual",
    status: Annotated[str | None, typer.Option(help="active, deceased, inactive or merged.")] = None,
    area: Annotated[str | None, typer.Option(help="P-code of an area; everybody in it.")] = None,
    group: Annotated[str | None, typer.Option(help="Id of a group; its members of today.")] = None,
    source: Annotated[str | None, typer.Option(help="The source that vouches for them.")] = None,
    updated_since: Annotated[str | None, typer.Option(help="Changed since this day or instant.")] = None,
    as_json: Json = False,
) -> None:
    """Write people or groups with their identity to a file only you can read; the audit trail names everybody in it.

    NDJSON holds the canonical objects. CSV and XLSX have the columns of an import, and FILE.mapping.json beside them
    says what they mean, so that `hub import run FILE --mapping FILE.mapping.json` takes them again.

    Example: hub people export north.csv --area SL01 --purpose "survey of 2026"
    """
    if file.suffix not in {".csv", ".xlsx", ".ndjson"}:
        raise typer.BadParameter("The name has to end with .csv, .xlsx or .ndjson.", param_hint="FILE")
    given = {
        "kind": kind, "status": status, "area": area, "group": group, "source": source, "updated_since": updated_since,
    }  # fmt: skip
    wanted = PeopleFilter.read({name: text for name, text in given.items() if text is not None})

    async def work(hub: Hub) -> tuple[int, Path | None]:
        who: dict[str, str] = {"purpose": purpose, "actor": actor()}
        pages = exported(hub.pool, hub.people, wanted, **who)
        with progress(as_json=as_json) as bars:
            if file.suffix == ".ndjson":
                return await write_lines(pages, file, lambda done: bars("registrants", done, None)), None
            declared = hub.catalog.declared(cast("Kind", kind))
            table = await ExportTable.of(hub.pool, hub.people, kind, declared, **who)
            done = await write_table(pages, table, file, lambda done: bars("registrants", done, None))
        beside = file.with_name(f"{file.name}.mapping.json")
        beside.write_bytes(orjson.dumps(mapping_of(table, "export"), option=orjson.OPT_INDENT_2) + b"\n")
        return done, beside

    count, mapping = on_hub(work)
    if as_json:
        print_json(
            {"registrants": count, "file": str(file), "mapping": None if mapping is None else str(mapping)}
        )
    else:
        OUT.print(f"{count:,} registrants written to {file}.", markup=False)


def _told(state: Refreshed) -> None:
    if state.seen % 10_000 == 0:
        ERR.print(
            f"{state.seen} seen, {state.changed} changed; --after {state.last} goes on from here",
            markup=False,
        )


def _private(given: str) -> str:
    # A value that names a person is better read from standard input than left in the history of the shell.
    return sys.stdin.readline().strip() if given == "-" else given


def _name(said: Mapping[str, str]) -> str:
    parts = (said.get("given_name"), said.get("addl_name"), said.get("family_name"))
    return said.get("full_name") or " ".join(part for part in parts if part)


def _born(each: Registrant) -> str:
    if each.birthdate is None:
        return "–"
    return f"{'about ' if each.birthdate_not_exact else ''}{each.birthdate}"


def _rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    columns = [name for name in rows[0] if any(row[name] not in (None, {}, []) for row in rows)]
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(_cell(row[name]) for name in columns))
    OUT.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, Iterable) and not isinstance(value, str | Mapping):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def _nobody() -> Refused:
    return Refused(
        "The registry has nobody of that description.",
        code="registrant-unknown",
        remedy="Check the id or identifier; `hub people list` shows who there is.",
    )
