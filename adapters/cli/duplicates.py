"""`hub duplicates`: find people who are registered twice, see why, and decide over them."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.markup import escape
from rich.table import Table

from adapters.cli.opened import actor, on_hub, registrant_id
from adapters.cli.output import OUT, print_json, progress
from adapters.hub import Hub
from canonical_model.message import uuid7
from canonical_model.names import PersonName
from registry.duplicates import STATES, DuplicateFinder, DuplicateStore, Pair
from registry.duplicates.job import KIND

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
ONE = Annotated[str, typer.Argument(metavar="ID", help="The hub's id of one of the two.")]
OTHER = Annotated[str, typer.Argument(metavar="OTHER", help="The hub's id of the other.")]


def store(hub: Hub) -> DuplicateStore:
    """Return the pairs of this hub."""
    return DuplicateStore(hub.pool, hub.vault, hub.changes)


@app.command("find")
def find_command(
    program: Annotated[
        str | None, typer.Option(help="Id of a program: look only among those who take part in it.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how many pairs there are, and keep none.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look for people who may be registered twice; names are opened for it, and the audit trail says how many.

    It is a job: broken off, it goes on with `hub duplicates find`, and a running hub goes on with it too.

    Example: hub duplicates find
    """
    chosen = None if program is None else registrant_id(program)

    async def work(hub: Hub) -> dict[str, Any]:
        with progress(as_json=as_json) as bars:
            if dry_run:
                tally = await DuplicateFinder(hub.pool, hub.vault).run(
                    actor(), today=datetime.now(UTC).date(), program=chosen, keep=False,
                    told=lambda done, parts: bars("parts", done, parts),
                )  # fmt: skip
                return asdict(tally)
            params = {} if chosen is None else {"program": str(chosen)}
            begun = [
                job
                for state in ("running", "queued")
                for job in await hub.jobs.list(kind=KIND, state=state)
                if job.params == params
            ]
            job = begun[0] if begun else None
            if job is None:
                job = (
                    await hub.jobs.submit(KIND, actor=actor(), params=params, once=f"{KIND}:{uuid7()}")
                ).job
            ended = await hub.runner().run(job.id, lambda done, parts: bars("parts", done, parts))
            return {**(ended.result or {}), "job": str(ended.id), "state": ended.state}

    found = on_hub(work)
    if as_json:
        print_json(found)
        return
    OUT.print(
        f"{found['registrants']:,} people, {found['compared']:,} pairs compared, {found['found']:,} "
        f"{'would be' if dry_run else 'new'} to be looked at.",
        markup=False,
    )


@app.command("list")
def list_command(
    state: Annotated[str, typer.Option(help=f"{', '.join(STATES)}.")] = "open",
    registrant: Annotated[str | None, typer.Option(help="Id of one of the two.")] = None,
    purpose: Annotated[
        str | None, typer.Option(help="Show names too: what for; it goes into the audit trail.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most pairs of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page before.")] = None,
    as_json: Json = False,
) -> None:
    """List pairs of people who may be one, the most alike first.

    Example: hub duplicates list --purpose "weekly review"
    """
    about = None if registrant is None else registrant_id(registrant)

    async def work(hub: Hub) -> list[Pair]:
        return await store(hub).listed(
            state=state, registrant=about, cursor=cursor, limit=limit, purpose=purpose, actor=actor()
        )

    found = on_hub(work)
    going_on = found[-1].cursor if len(found) == limit else None
    if as_json:
        print_json({"duplicates": [_body(each) for each in found], "cursor": going_on})
        return
    table = Table("one", "other", "score", "because", "state", "change")
    for each in found:
        because = ", ".join(each.reasons)
        one, other = (_shown(each, who) for who in (each.first, each.second))
        table.add_row(one, other, f"{each.score:.0f}", because, each.state, str(each.request_id or "–"))
    OUT.print(table)
    if going_on is not None:
        OUT.print(f"There may be more: --cursor {going_on}", markup=False)


@app.command("decide")
def decide_command(
    one: ONE,
    other: OTHER,
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="duplicate or distinct.")],
    survivor: Annotated[
        str | None, typer.Option(help="Of a duplicate, the id that stays; else the one registered first.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="Why, in words without anybody's data.")] = None,
    as_json: Json = False,
) -> None:
    """Decide over a pair: `distinct` is never shown again, `duplicate` asks for a merge that somebody else agrees to.

    Example: hub duplicates decide ID OTHER distinct --note "seen at the office, two people"
    """
    keep = None if survivor is None else registrant_id(survivor)
    pair = (registrant_id(one), registrant_id(other))

    async def work(hub: Hub) -> Pair:
        return await store(hub).decide(*pair, decision, actor(), survivor=keep, note=note)

    decided = on_hub(work)
    if as_json:
        print_json(_body(decided))
    elif decided.request_id is None:
        OUT.print("The two are distinct; they are not shown again.", markup=False)
    else:
        OUT.print(f"Change {decided.request_id} merges the two; it is {decided.request_state}.", markup=False)


def _body(pair: Pair) -> dict[str, Any]:
    body = asdict(pair)
    names = body.pop("names")
    if names is not None:
        body["names"] = {str(who): found for who, found in names.items()}
    return body


def _shown(pair: Pair, who: UUID) -> str:
    if pair.names is None:
        return str(who)
    names = [PersonName.model_validate(each).display for each in pair.names[who]]
    return f"{escape('; '.join(names)) or '–'}\n[dim]{who}[/]"
