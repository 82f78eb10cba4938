"""`hub changes`: ask for a change of registrants, see what it would do, agree to it, carry it out, take it back."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import orjson
import typer
from rich.markup import escape
from rich.table import Table

from adapters.cli.opened import actor, on_hub, registrant_id
from adapters.cli.output import OUT, print_json
from adapters.hub import Hub
from canonical_model.errors import HubError, Refused
from registry.changes import STATES, Preview, Request

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The id of the change request.")]
Roles = Annotated[
    list[str],
    typer.Option("--role", help="A role you have; can be given more than once. Kept with the decision."),
]
Purpose = Annotated[
    str, typer.Option("--purpose", help="What the data is needed for; it goes into the audit trail.")
]
LIMIT = 10 * 1024 * 1024
"""Most bytes of a file with a change."""


def request_id(text: str) -> UUID:
    """Return the id of a change request; raises `Refused` (`change-not-found`) for another text."""
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            "This is not the id of a change request.",
            code="change-not-found",
            remedy="`hub changes list` shows those that are open.",
        ) from None


@app.command("submit")
def submit_command(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="JSON of the change, as docs/changes.md shows each; - for standard input."
        ),
    ],
    draft: Annotated[
        bool, typer.Option("--draft", help="Keep it for yourself until it is handed in.")
    ] = False,
    base: Annotated[
        list[str] | None,
        typer.Option("--base", help="ID=VERSION you looked at, for each registrant; else the newest."),
    ] = None,
    id_: Annotated[
        str | None,
        typer.Option("--id", help="An id (UUID) of your own: asked for again with it, it is asked for once."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say whether it could be made, and keep nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask for a change; who has to agree to it is said by changes.yaml.

    Example: hub changes submit change.json
    """
    change = _json(file)
    bases = {_base(each)[0]: _base(each)[1] for each in base or ()}
    chosen = None if id_ is None else request_id(id_)

    async def work(hub: Hub) -> Request:
        return await hub.changes.submit(
            change, actor(), bases=bases, draft=draft, id_=chosen, keep=not dry_run
        )

    request = on_hub(work)
    if dry_run and not as_json:
        OUT.print(
            f"It can be made; policy {request.policy} would decide over it. Nothing was kept.", markup=False
        )
        return
    _say(request, as_json)


@app.command("hand-in")
def hand_in_command(id_: Id, as_json: Json = False) -> None:
    """Hand a draft in, so that others decide over it.

    Example: hub changes hand-in 0197c0de-0000-7000-8000-000000000000
    """
    _say(on_hub(lambda hub: hub.changes.hand_in(request_id(id_), actor())), as_json)


@app.command("list")
def list_command(
    state: Annotated[
        list[str] | None, typer.Option(help=f"{', '.join(STATES)}; else those that are open.")
    ] = None,
    maker: Annotated[str | None, typer.Option(help="Who asked for them, such as user:ada.")] = None,
    registrant: Annotated[str | None, typer.Option(help="Id of a registrant they concern.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most requests of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page before.")] = None,
    as_json: Json = False,
) -> None:
    """List change requests, newest first, without what they ask for.

    Example: hub changes list --state pending
    """
    about = None if registrant is None else registrant_id(registrant)
    before = None if cursor is None else request_id(cursor)

    async def work(hub: Hub) -> list[Request]:
        return await hub.changes.listed(
            maker=maker, registrant=about, before=before, limit=limit, **({"states": state} if state else {})
        )

    found = on_hub(work)
    going_on = str(found[-1].id) if len(found) == limit else None
    if as_json:
        print_json({"changes": [_body(each) for each in found], "cursor": going_on})
        return
    table = Table("id", "type", "state", "maker", "waits for", "asked for", "why")
    for each in found:
        why = each.reason or ""
        table.add_row(
            str(each.id), each.type, each.state, escape(each.maker), each.waits_for or "–",
            f"{each.created_at:%Y-%m-%d %H:%M}", escape(f"{why}: {', '.join(each.conflicts)}" if each.conflicts else why),
        )  # fmt: skip
    OUT.print(table)
    if going_on is not None:
        OUT.print(f"There may be more: --cursor {going_on}", markup=False)


@app.command("show")
def show_command(id_: Id, as_json: Json = False) -> None:
    """Show one change request: whom it concerns, who decided, who has to decide next.

    Example: hub changes show 0197c0de-0000-7000-8000-000000000000
    """
    _say(on_hub(lambda hub: hub.changes.get(request_id(id_))), as_json)


@app.command("preview")
def preview_command(id_: Id, purpose: Purpose, as_json: Json = False) -> None:
    """Show what a change would do, field by field, before and after; the audit trail keeps who looked and why.

    Example: hub changes preview 0197c0de-0000-7000-8000-000000000000 --purpose "check of complaint 17"
    """
    preview = on_hub(lambda hub: hub.changes.preview(request_id(id_), purpose, actor()))
    problem = preview.problem
    if as_json:
        told = (
            None
            if problem is None
            else {"code": problem.code, "detail": problem.detail, "remedy": problem.remedy}
        )
        print_json(
            {
                "change": _body(preview.request), "differences": [asdict(each) for each in preview.differences],
                "problem": told,
            }
        )  # fmt: skip
        return
    _tell(preview)


def _tell(preview: Preview) -> None:
    if preview.problem is not None:
        OUT.print(f"It cannot be made now: {preview.problem.detail} ({preview.problem.code})", markup=False)
        return
    table = Table("registrant", "field", "before", "after")
    for each in preview.differences:
        table.add_row(str(each.registrant), each.name, _text(each.before), _text(each.after))
    OUT.print(table)


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return escape(value if isinstance(value, str) else orjson.dumps(value).decode())


@app.command("agree")
def agree_command(id_: Id, roles: Roles, as_json: Json = False) -> None:
    """Agree to a change; the last agreement carries it out.

    Example: hub changes agree 0197c0de-0000-7000-8000-000000000000 --role approver
    """
    _say(on_hub(lambda hub: hub.changes.decide(request_id(id_), actor(), roles, agrees=True)), as_json)


@app.command("refuse")
def refuse_command(
    id_: Id,
    roles: Roles,
    reason: Annotated[
        str, typer.Option(help="A short code of why, such as evidence-missing; nobody's data.")
    ] = "refused",
    as_json: Json = False,
) -> None:
    """Refuse a change.

    Example: hub changes refuse 0197c0de-0000-7000-8000-000000000000 --role approver --reason evidence-missing
    """
    _say(
        on_hub(lambda hub: hub.changes.decide(request_id(id_), actor(), roles, agrees=False, reason=reason)),
        as_json,
    )


@app.command("apply")
def apply_command(
    id_: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="The id of one; without it, all that were agreed to.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Carry out what was agreed to and not carried out yet, as after a stop of the hub.

    Example: hub changes apply
    """
    if id_ is not None:
        _say(on_hub(lambda hub: hub.changes.apply(request_id(id_), actor())), as_json)
        return
    done = on_hub(lambda hub: hub.changes.resume())
    if as_json:
        print_json({"applied": done})
    else:
        OUT.print(f"{done} changes were carried out.", markup=False)


@app.command("cancel")
def cancel_command(id_: Id, as_json: Json = False) -> None:
    """Cancel a change you asked for, while it is not carried out.

    Example: hub changes cancel 0197c0de-0000-7000-8000-000000000000
    """
    _say(on_hub(lambda hub: hub.changes.cancel(request_id(id_), actor())), as_json)


@app.command("undo")
def undo_command(id_: Id, as_json: Json = False) -> None:
    """Ask for a change that takes another one back; the same people have to agree to it.

    Example: hub changes undo 0197c0de-0000-7000-8000-000000000000
    """
    _say(on_hub(lambda hub: hub.changes.undo(request_id(id_), actor())), as_json)


def _say(request: Request, as_json: bool) -> None:
    if as_json:
        print_json(_body(request))
        return
    OUT.print(f"Change {request.id} ({request.type}) of {request.maker} is {request.state}.", markup=False)
    concerned: Sequence[UUID] = request.subjects
    OUT.print(f"  concerns   {', '.join(map(str, concerned)) or 'nobody registered yet'}", markup=False)
    OUT.print(
        f"  policy     {request.policy}, {request.step} of {len(request.steps)} steps done", markup=False
    )
    for each in request.decisions:
        said = "agreed" if each.agreed else "refused"
        OUT.print(f"  {each.at:%Y-%m-%d %H:%M}  {each.actor} {said} as {each.role}", markup=False)
    if request.waits_for is not None:
        OUT.print(f"  waits for somebody with the role {request.waits_for}", markup=False)
    if request.reason is not None:
        fields = f" ({', '.join(request.conflicts)})" if request.conflicts else ""
        OUT.print(f"  because    {request.reason}{fields}", markup=False)
    for word, other in (("undoes", request.undoes), ("undone by", request.undone_by)):
        if other is not None:
            OUT.print(f"  {word:10} {other}", markup=False)


def _body(request: Request) -> dict[str, Any]:
    return asdict(request) | {"waits_for": request.waits_for}


def _base(text: str) -> tuple[UUID, int]:
    who, _, version = text.partition("=")
    if not version.isdigit():
        raise Refused(
            "A base is no ID=VERSION.",
            code="change-invalid",
            remedy="Write --base 0197c0de-0000-7000-8000-000000000000=3.",
        )
    return registrant_id(who), int(version)


def _json(file: str) -> dict[str, Any]:
    try:
        raw = sys.stdin.buffer.read(LIMIT + 1) if file == "-" else Path(file).read_bytes()
        read = orjson.loads(raw) if len(raw) <= LIMIT else None
    except (OSError, orjson.JSONDecodeError) as error:
        raise _unreadable(type(error).__name__) from None
    if not isinstance(read, dict):
        raise _unreadable("no JSON object of at most 10 MiB")
    return read


def _unreadable(why: str) -> HubError:
    return Refused(
        f"The change cannot be read: {why}. Nothing was kept.",
        code="change-invalid",
        remedy="Give a file with one JSON object; docs/changes.md shows each kind of change.",
    )
