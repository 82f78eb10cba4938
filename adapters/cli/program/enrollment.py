"""`hub program enrollment`: what a person decides on single enrollments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from adapters.cli.program.shared import As, Code, IdFile, Ids, Json, Reason, actor, ids, run, say, table, uuid
from registry.programs import EXIT, PAUSE, RESUME, Move

app = typer.Typer(no_args_is_help=True)


def _move(
    code: str,
    to: Move,
    given: list[str] | None,
    file: Path | None,
    reason: str | None,
    who: str | None,
    as_json: bool,
) -> None:
    listed = ids(given, file)
    say(run(lambda hub: hub.programs.move_enrollments(code, listed, to, actor(who), reason=reason)), as_json)


@app.command("pause")
def pause_command(
    code: Code,
    given: Ids = None,
    file: IdFile = None,
    reason: Reason = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Pause registrants: no cycle takes them in, and no enrollment by rule undoes it.

    Example: hub program enrollment pause cash 0197c0de-0000-7000-8000-000000000000 --reason moved-away
    """
    _move(code, PAUSE, given, file, reason, who, as_json)


@app.command("resume")
def resume_command(
    code: Code,
    given: Ids = None,
    file: IdFile = None,
    reason: Reason = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Take paused registrants in again.

    Example: hub program enrollment resume cash --ids back.txt
    """
    _move(code, RESUME, given, file, reason, who, as_json)


@app.command("exit")
def exit_command(
    code: Code,
    given: Ids = None,
    file: IdFile = None,
    reason: Reason = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Let registrants leave the program; only a list enrolls them again.

    Example: hub program enrollment exit cash --ids left.txt --reason asked
    """
    _move(code, EXIT, given, file, reason, who, as_json)


@app.command("show")
def show_command(
    code: Code,
    registrant: Annotated[str, typer.Argument(metavar="ID", help="The registrant's id.")],
    as_json: Json = False,
) -> None:
    """Show every state a registrant has had in a program: since when, why and by whom.

    Example: hub program enrollment show cash 0197c0de-0000-7000-8000-000000000000
    """
    id_ = uuid(registrant)
    table(
        run(lambda hub: hub.programs.place(code, id_)),
        ("state", "since", "until", "cause", "reason", "actor"),
        as_json,
    )
