"""`hub messages`: where a message is, and what a person does about deliveries that failed."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from adapters.cli.output import OUT, print_json, progress
from adapters.hub import Hub
from canonical_model.errors import Refused
from registry.settings import load_settings
from routing.replay import MOST, Actor, Replayer, Report
from routing.search import LIMIT, MessageFilter
from routing.trace import MessageTrace, Trace

app = typer.Typer(no_args_is_help=True)
dead_app = typer.Typer(no_args_is_help=True)
app.add_typer(dead_app, name="dead", help="Deliveries that need a person.")

T = TypeVar("T")
_STYLES = {
    "delivered": "green", "queued": "blue", "sending": "blue", "waiting": "yellow", "retry": "yellow",
    "refused": "yellow", "dead": "bold red", "unknown": "bold red", "defect": "bold red", "abandoned": "red",
}  # fmt: skip

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Partner = Annotated[str | None, typer.Option(help="Messages of this partner.")]
Type = Annotated[str | None, typer.Option("--type", help="Messages of this type.")]
RouteName = Annotated[str | None, typer.Option("--route", help="Deliveries on this route.")]
TargetName = Annotated[str | None, typer.Option("--target", help="Deliveries to this target.")]
State = Annotated[str | None, typer.Option(help="Deliveries in this state.")]
Code = Annotated[str | None, typer.Option(help="Deliveries with this error code.")]
Since = Annotated[str | None, typer.Option(help="Accepted at or after this instant (RFC 3339).")]
Until = Annotated[str | None, typer.Option(help="Accepted before this instant (RFC 3339).")]
Limit = Annotated[int, typer.Option(min=1, max=LIMIT, help="Most entries of one page.")]
Cursor = Annotated[str | None, typer.Option(help="Continue after the page before.")]
Force = Annotated[
    bool, typer.Option("--force", help="Send even what was delivered or may have arrived; needs --reason.")
]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the audit trail, so it names no person.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count what would be sent.")]


class _Desk:
    """The read side and the deeds on an opened database."""

    def __init__(self, hub: Hub) -> None:
        self.trace = Trace(hub.pool, hub.vault.blind)
        self.replayer = Replayer(hub.pool, hub.vault.blind, hub.routes)
        self.actor = Actor(f"cli:{getpass.getuser()}")


def _run(work: Callable[[_Desk], Awaitable[T]]) -> T:
    async def whole() -> T:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            return await work(_Desk(hub))
        finally:
            await hub.close()

    return asyncio.run(whole())


def _filter(**given: str | None) -> MessageFilter:
    # A value that may name a person is better read from standard input than left in the history of the shell.
    read = {
        name: sys.stdin.readline().strip() if value == "-" else value
        for name, value in given.items()
        if value
    }
    return MessageFilter.read(read)


def _id(text: str, code: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            "This is not an id of the hub.",
            code=code,
            remedy="Ids are UUIDs; `hub messages list` shows them.",
        ) from None


def _state(word: str | None) -> Text:
    return Text(word or "–", style=_STYLES.get(word or "", ""))


def _when(at: datetime | None) -> str:
    return "–" if at is None else at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def _say(report: Report, verb: str, as_json: bool) -> None:
    if as_json:
        print_json(report.as_dict())
        return
    would = "would be " if report.dry_run else ""
    OUT.print(f"{report.done} of {report.matched} deliveries {would}{verb}.", markup=False)
    for count, why in (
        (
            report.needs_force,
            "may have arrived or were delivered: --force with --reason sends them all the same",
        ),
        (report.route_gone, "belong to a route that is no longer in force"),
        (report.spent, "were replayed too often already"),
        (report.skipped, "were dealt with already, or are being sent"),
    ):
        if count:
            OUT.print(f"  {count} {why}", markup=False)
    if report.more:
        OUT.print("  There are more: run it again.", markup=False)
    for id_ in report.ids[:5]:
        OUT.print(f"  {id_}", markup=False)


@app.command("list")
def list_command(
    partner: Partner = None,
    type_: Type = None,
    route: RouteName = None,
    target: TargetName = None,
    state: State = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    subject: Annotated[str | None, typer.Option(help="By subject; - reads it from standard input.")] = None,
    correlation: Annotated[
        str | None, typer.Option(help="By correlation id; - reads standard input.")
    ] = None,
    origin: Annotated[str | None, typer.Option(help="By the partner's own id; needs --partner.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List messages, newest first.

    Example: hub messages list --route crvs-to-registry --state dead
    """
    filter_ = _filter(
        partner=partner, type=type_, route=route, target=target, state=state, code=code, since=since, until=until,
        subject=subject, correlationid=correlation, originid=origin,
    )  # fmt: skip
    page = _run(lambda desk: desk.trace.search(filter_, cursor, limit))
    if as_json:
        print_json({"items": [asdict(item) for item in page.items], "next": page.cursor})
        return
    table = Table("Message", "Type", "Partner", "Accepted (UTC)", "State", box=None, pad_edge=False)
    for item in page.items:
        kind = item.type.removeprefix("org.openspp.")
        table.add_row(str(item.id), kind, item.partner, _when(item.accepted_at), _state(item.state))
    OUT.print(table)
    OUT.print(
        f"{len(page.items)} messages." + (f" Older ones: --cursor {page.cursor}" if page.cursor else ""),
        markup=False,
    )


@app.command("show")
def show_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The message's id.")], as_json: Json = False
) -> None:
    """Show every hop of a message.

    Example: hub messages show 0197c0de-0000-7000-8000-000000000000
    """
    message_id = _id(id_, "message-not-found")
    found = _run(lambda desk: desk.trace.message(message_id))
    if found is None:
        raise Refused(
            "There is no message with this id.",
            code="message-not-found",
            remedy="`hub messages list` shows the newest; a partner's own id is found with --origin and --partner.",
        )
    if as_json:
        print_json(found.as_dict())
    else:
        _show(found)


def _show(found: MessageTrace) -> None:
    OUT.print(Text.assemble((str(found.id), "bold"), "  ", _state(found.state)))
    OUT.print(
        f"{found.type} of {found.partner}, {found.size} bytes, accepted {_when(found.accepted_at)} UTC",
        markup=False,
    )
    table = Table(
        "When (UTC)",
        "What",
        "Route → target",
        "Outcome",
        "Seconds",
        "Code",
        "Detail",
        box=None,
        pad_edge=False,
    )
    for hop in found.hops:
        what = f"{hop.kind} {hop.number}" if hop.number else hop.kind
        place = f"{hop.route} → {hop.target}" if hop.route else ""
        seconds = "" if hop.seconds is None else f"{hop.seconds:.3f}"
        table.add_row(
            _when(hop.at), what, place, _state(hop.outcome), seconds, hop.code or "", Text(hop.detail or "")
        )
    OUT.print(table)


@app.command("replay")
def replay_command(
    id_: Annotated[str | None, typer.Argument(metavar="[ID]", help="One message; else give filters.")] = None,
    partner: Partner = None,
    type_: Type = None,
    route: RouteName = None,
    target: TargetName = None,
    state: State = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    rate: Annotated[float | None, typer.Option(help="Most deliveries a second.")] = None,
    most: Annotated[int, typer.Option(min=1, max=MOST, help="Most deliveries of one call.")] = MOST,
    dry_run: DryRun = False,
    force: Force = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Send the failed deliveries of a message, or those a filter finds, again in order of arrival.

    Example: hub messages replay --route crvs-to-registry --since 2026-03-01 --rate 50 --dry-run
    """
    if id_ is not None:
        message_id = _id(id_, "message-not-found")
        report = _run(
            lambda desk: desk.replayer.replay(
                desk.actor, message_id=message_id, dry_run=dry_run, rate=rate, force=force, reason=reason
            )
        )
    else:
        filter_ = _filter(
            partner=partner,
            type=type_,
            route=route,
            target=target,
            state=state,
            code=code,
            since=since,
            until=until,
        )
        with progress(as_json=as_json) as told:
            told("looking", 0, None)
            report = _run(
                lambda desk: desk.replayer.replay(
                    desk.actor, filter_=filter_, dry_run=dry_run, rate=rate, force=force, reason=reason, most=most,
                    progress=partial(told, "replaying"),
                )
            )  # fmt: skip
    _say(report, "sent again", as_json)


@app.command("cancel")
def cancel_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="The message's id.")],
    reason: Annotated[str, typer.Option(help="Why; names no person.")],
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Stop the deliveries of a message that still wait to be sent.

    Example: hub messages cancel 0197c0de-0000-7000-8000-000000000000 --reason "sent twice by mistake"
    """
    message_id = _id(id_, "message-not-found")
    report = _run(
        lambda desk: desk.replayer.cancel(desk.actor, message_id=message_id, reason=reason, dry_run=dry_run)
    )
    _say(report, "cancelled", as_json)


@dead_app.command("list")
def dead_list_command(
    partner: Partner = None,
    type_: Type = None,
    route: RouteName = None,
    target: TargetName = None,
    code: Code = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    as_json: Json = False,
) -> None:
    """List dead letters, newest first.

    Example: hub messages dead list --route crvs-to-registry
    """
    filter_ = _filter(
        partner=partner, type=type_, route=route, target=target, code=code, since=since, until=until
    )
    page = _run(lambda desk: desk.trace.dead_letters(filter_, cursor, limit))
    if as_json:
        print_json({"items": [asdict(item) for item in page.items], "next": page.cursor})
        return
    table = Table(
        "Delivery", "Route → target", "Ended (UTC)", "Tries", "Code", "Reason", box=None, pad_edge=False
    )
    for item in page.items:
        table.add_row(
            str(item.id), f"{item.route} → {item.target}", _when(item.ended_at), str(item.attempts),
            Text(item.code or "–", style="red"), Text(item.reason or ""),
        )  # fmt: skip
    OUT.print(table)
    OUT.print(
        f"{len(page.items)} dead letters." + (f" Older ones: --cursor {page.cursor}" if page.cursor else ""),
        markup=False,
    )


@dead_app.command("resend")
def dead_resend_command(
    id_: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")],
    force: Force = False,
    reason: Reason = None,
    as_json: Json = False,
) -> None:
    """Send one dead letter again.

    Example: hub messages dead resend 0197c0de-0000-7000-8000-000000000000
    """
    delivery_id = _id(id_, "delivery-not-found")
    report = _run(lambda desk: desk.replayer.resend(desk.actor, delivery_id, force=force, reason=reason))
    _say(report, "sent again", as_json)


@dead_app.command("dismiss")
def dead_dismiss_command(
    id_: Annotated[str, typer.Argument(metavar="DELIVERY", help="The delivery's id.")],
    reason: Annotated[str, typer.Option(help="Why; kept in the audit trail, so it names no person.")],
    as_json: Json = False,
) -> None:
    """Close one dead letter without sending it.

    Example: hub messages dead dismiss 0197c0de-0000-7000-8000-000000000000 --reason "sent by hand"
    """
    delivery_id = _id(id_, "delivery-not-found")
    report = _run(lambda desk: desk.replayer.dismiss(desk.actor, delivery_id, reason))
    _say(report, "dismissed", as_json)
