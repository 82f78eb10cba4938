"""`hub audit`: read the trail, seal it, and prove that nothing in it was changed."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID

import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from adapters.cli.output import ERR, OUT, print_json
from adapters.hub import Hub
from canonical_model.errors import Refused
from registry.audit import (
    AuditTrail,
    Report,
    Sealer,
    TrailEvent,
    TrailFilter,
    Verifier,
    Witness,
    export,
)
from registry.settings import load_settings

app = typer.Typer(no_args_is_help=True)
checkpoint_app = typer.Typer(no_args_is_help=True)
app.add_typer(checkpoint_app, name="checkpoint", help="List checkpoints, and give one to an outside witness.")
T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Since = Annotated[datetime | None, typer.Option("--from", help="From this date or instant (UTC) on.")]
Until = Annotated[datetime | None, typer.Option("--to", help="Before this date or instant (UTC).")]
Limit = Annotated[int, typer.Option(min=1, max=200, help="Most events of one page.")]
Cursor = Annotated[str | None, typer.Option(help="Go on after the last page, as its end said.")]


def _run(work: Callable[[Hub], Awaitable[T]]) -> T:
    async def whole() -> T:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            return await work(hub)
        finally:
            await hub.close()

    return asyncio.run(whole())


def _id(text: str, code: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refused("This is not an id of the hub.", code=code, remedy="Ids are UUIDs.") from None


def _utc(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo else at.replace(tzinfo=UTC)


@app.command("verify")
def verify_command(
    since: Since = None,
    until: Until = None,
    against: Annotated[
        Path | None, typer.Option(help="A checkpoint that was exported, to compare with too.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Verify the chain over the audit trail and name the first broken link; exit code 1 when there is one.

    Example: hub audit verify --from 2026-03-01
    """
    witness = None if against is None else Witness.load(against)

    async def work(hub: Hub) -> Report:
        verifier = Verifier(hub.pool, hub.vault)
        with Progress(console=ERR, transient=True, disable=as_json or not ERR.is_terminal) as bar:
            task = bar.add_task("verifying", total=None)
            return await verifier.verify(
                since=_utc(since),
                until=_utc(until),
                against=witness,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )

    report = _run(work)
    if as_json:
        print_json(report.as_dict())
    else:
        _say(report)
    if not report.whole:
        raise typer.Exit(1)


def _say(report: Report) -> None:
    OUT.print(f"{report.events} events in {report.checkpoints} checkpoints were verified.", markup=False)
    if report.unsealed:
        OUT.print(
            f"{report.unsealed} events are not yet sealed, the first of {report.unsealed_since:%Y-%m-%d %H:%M:%S} UTC.",
            markup=False,
        )
    if report.whole:
        OUT.print("The trail is whole.", markup=False)
        return
    OUT.print(f"First broken link: {report.breaks[0]}", style="bold red", markup=False)
    for each in report.breaks[1:]:
        OUT.print(f"  then: {each}", markup=False)
    if report.more:
        OUT.print("  … and more", markup=False)


@app.command("seal")
def seal_command(as_json: Json = False) -> None:
    """Seal now what a running hub would seal within a minute.

    Example: hub audit seal
    """

    async def work(hub: Hub) -> dict[str, Any]:
        with Progress(console=ERR, transient=True, disable=as_json or not ERR.is_terminal) as bar:
            task = bar.add_task("sealing", total=None)
            return asdict(
                await Sealer(hub.pool, hub.vault).seal(lambda done: bar.update(task, completed=done))
            )

    done = _run(work)
    if as_json:
        print_json(done)
    elif done["busy"]:
        OUT.print("Another process is sealing.", markup=False)
    else:
        OUT.print(
            f"{done['events']} events were sealed in {done['checkpoints']} checkpoints, {done['late']} of them late.",
            markup=False,
        )


@app.command("renew-key")
def renew_key_command(as_json: Json = False) -> None:
    """Sign checkpoints with a new key from now on; what older keys signed is still verified.

    Example: hub audit renew-key
    """
    kid = _run(lambda hub: Sealer(hub.pool, hub.vault).keys.renew())
    if as_json:
        print_json({"kid": kid})
    else:
        OUT.print(f"Checkpoints are signed with {kid} from the next start of a hub on.", markup=False)


@app.command("list")
def list_command(
    actor: Annotated[str | None, typer.Option(help="Who did it.")] = None,
    action: Annotated[str | None, typer.Option(help="What was done, such as delivery.replay.")] = None,
    object_type: Annotated[str | None, typer.Option("--type", help="Kind of object.")] = None,
    object_id: Annotated[str | None, typer.Option("--id", help="Id of the object.")] = None,
    outcome: Annotated[str | None, typer.Option(help="How it ended, such as ok.")] = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List audit events, newest first.

    Example: hub audit list --action delivery.replay --from 2026-03-01
    """
    filter_ = TrailFilter(actor, action, object_type, object_id, outcome, _utc(since), _utc(until))
    before = None if cursor is None else _id(cursor, "cursor-invalid")
    events = _run(lambda hub: AuditTrail(hub.pool, hub.vault).events(filter_, before=before, limit=limit))
    _page(events, limit, as_json)


@app.command("who")
def who_command(
    id_: Annotated[str, typer.Argument(metavar="REGISTRANT", help="The registrant's id.")],
    looks: Annotated[bool, typer.Option("--looks", help="Only who read the record.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List who saw or changed a registrant's record, newest first; of merged registrants too.

    Example: hub audit who 0197c0de-0000-7000-8000-000000000000 --looks
    """
    registrant = _id(id_, "registrant-not-found")
    before = None if cursor is None else _id(cursor, "cursor-invalid")
    events = _run(
        lambda hub: AuditTrail(hub.pool, hub.vault).who(registrant, looks=looks, before=before, limit=limit)
    )
    _page(events, limit, as_json)


def _page(events: Sequence[TrailEvent], limit: int, as_json: bool) -> None:
    following = str(events[-1].id) if len(events) == limit else None
    if as_json:
        print_json({"items": [asdict(each) for each in events], "next": following})
        return
    table = Table(
        "When (UTC)", "Who", "What", "Object", "Outcome", "Purpose", "Event", box=None, pad_edge=False
    )
    for each in events:
        table.add_row(
            f"{each.at.astimezone(UTC):%Y-%m-%d %H:%M:%S}", Text(each.actor), Text(each.action),
            Text(f"{each.object_type} {each.object_id}"), Text(each.outcome),
            Text(str((each.details or {}).get("purpose", ""))), str(each.id),
        )  # fmt: skip
    OUT.print(table)
    OUT.print(
        f"{len(events)} events." + (f" Older ones: --cursor {following}" if following else ""), markup=False
    )


@app.command("show")
def show_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    reveal: Annotated[
        bool, typer.Option("--reveal", help="Show old and new values; needs --purpose.")
    ] = False,
    purpose: Annotated[
        str | None, typer.Option(help="Why the values are needed; kept in the trail, so it names no person.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one audit event and the checkpoint that seals it; with --reveal the values of a change, which is audited.

    Example: hub audit show 0197c0de-0000-7000-8000-000000000000 --reveal --purpose "complaint 17"
    """
    event_id = _id(id_, "audit-event-not-found")

    async def work(hub: Hub) -> dict[str, Any]:
        trail = AuditTrail(hub.pool, hub.vault)
        found = asdict(await trail.event(event_id)) | {"checkpoint": await trail.checkpoint_of(event_id)}
        if reveal:
            actor = f"user:{getpass.getuser()}"
            found["values"] = dict(await trail.reveal(event_id, purpose=purpose or "", actor=actor))
        return found

    found = _run(work)
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if value is not None:
            OUT.print(f"{name:<12} {value}", markup=False)


@checkpoint_app.command("list")
def checkpoint_list_command(limit: Limit = 50, as_json: Json = False) -> None:
    """List the newest checkpoints.

    Example: hub audit checkpoint list
    """

    async def work(hub: Hub) -> list[dict[str, Any]]:
        rows = await hub.pool.fetch(
            "SELECT number, made_at, count, late, first_id, last_id FROM audit_checkpoint "
            "ORDER BY number DESC LIMIT $1",
            limit,
        )
        return [dict(row) for row in rows]

    found = _run(work)
    if as_json:
        print_json({"items": found})
        return
    table = Table("Number", "Made (UTC)", "Events", "Late", "First", "Last", box=None, pad_edge=False)
    for each in found:
        table.add_row(
            str(each["number"]), f"{each['made_at'].astimezone(UTC):%Y-%m-%d %H:%M:%S}", str(each["count"]),
            str(each["late"]), str(each["first_id"]), str(each["last_id"]),
        )  # fmt: skip
    OUT.print(table)


@checkpoint_app.command("export")
def checkpoint_export_command(
    file: Annotated[Path, typer.Argument(help="Where to write it; a file that is there is not replaced.")],
    number: Annotated[int | None, typer.Option(min=1, help="Which checkpoint; else the newest.")] = None,
    as_json: Json = False,
) -> None:
    """Write a checkpoint to a file for somebody outside to keep; `hub audit verify --against` compares with it.

    Example: hub audit checkpoint export checkpoint.json
    """
    witness = _run(lambda hub: export(hub.pool, number))
    try:
        with file.open("xb") as out:
            out.write(witness.to_bytes())
    except OSError as error:
        raise Refused(
            f"{file} cannot be written ({type(error).__name__}).",
            code="file-not-written",
            remedy="Name a file that is not there yet, in a folder you may write to.",
        ) from error
    if as_json:
        print_json({"number": witness.number, "file": str(file)})
    else:
        OUT.print(f"Checkpoint {witness.number} was written to {file}.", markup=False)
