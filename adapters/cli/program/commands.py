"""Commands on programs themselves: defined, started, previewed, enrolled; the other groups hang below."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import yaml

from adapters.cli.output import OUT, print_json
from adapters.cli.program import cycle, enrollment, fund, payment, voucher
from adapters.cli.program.shared import (
    As,
    Code,
    IdFile,
    Json,
    Limit,
    Reason,
    actor,
    day,
    ids,
    run,
    say,
    table,
    worked,
)
from adapters.hub import Hub
from canonical_model.errors import Refused
from canonical_model.program import ProgramStatus

app = typer.Typer(no_args_is_help=True)
app.add_typer(cycle.app, name="cycle", help="Open, prepare, submit, end cycles; their entitlements.")
app.add_typer(enrollment.app, name="enrollment", help="Pause, resume and exit enrollments.")
app.add_typer(fund.app, name="fund", help="Make funds, deposit, withdraw, look.")
app.add_typer(payment.app, name="payment", help="Recall, settle, return; disputes, top-ups, vouchers.")
app.add_typer(
    voucher.app, name="voucher", help="The public key of a cycle's vouchers, and checking codes with it."
)
app.command("approve")(cycle.approve_command)
app.command("reject")(cycle.reject_command)
app.command("pay")(cycle.pay_command)
app.command("hold")(payment.hold_command)
app.command("resume")(payment.resume_command)

_MOST_BYTES = 1_000_000


@app.command("define")
def define_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The program as YAML or JSON.", exists=True, dir_okay=False)
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only check it, rules included.")] = False,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Make a program from a file, or change one; cycles that are open keep their terms.

    Example: hub program define cash.yaml --dry-run
    """
    terms = _read(file)

    async def work(hub: Hub) -> dict[str, Any]:
        program, changed = await hub.programs.define(terms, actor(who), dry=dry_run)
        return {"checked": True} if program is None else {**program.as_dict(), "changed": changed}

    found = run(work)
    if as_json:
        print_json(found)
    elif dry_run:
        OUT.print("The program is as it must be; nothing was changed.")
    else:
        OUT.print(
            f"Program {found['code']}, version {found['version']}, {found['state']}"
            f"{'' if found['changed'] else '; nothing changed'}.",
            markup=False,
        )


def _read(file: Path) -> Any:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise ValueError
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError):
        raise Refused(
            "The file is neither YAML nor JSON of at most one megabyte. Nothing was changed.",
            code="program-invalid",
            remedy="docs/programs.md shows a program.",
        ) from None


@app.command("list")
def list_command(
    after: Annotated[str, typer.Option(metavar="CODE", help="Go on behind this code.")] = "",
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the programs.

    Example: hub program list
    """
    found = [one.as_dict() for one in run(lambda hub: hub.programs.programs(after, limit))]
    following = found[-1]["code"] if len(found) == limit else None
    table(found, ("code", "state", "target_type", "currency", "fund", "version"), as_json, following)


@app.command("show")
def show_command(code: Code, as_json: Json = False) -> None:
    """Show a program, how many are enrolled, and its newest cycles.

    Example: hub program show cash
    """

    async def work(hub: Hub) -> dict[str, Any]:
        program = await hub.programs.program(code)
        newest = await hub.programs.cycles(code, limit=10)
        return {
            **program.as_dict(),
            "enrollments": await hub.programs.enrollments(code),
            "cycles": [{"name": one.name, "state": one.state, "total": one.total} for one in newest],
        }

    say(run(work), as_json)


def _state(code: str, state: ProgramStatus, who: str | None, as_json: bool) -> None:
    found = run(lambda hub: hub.programs.set_state(code, state, actor(who)))
    say({"program": found.code, "state": found.state}, as_json)


@app.command("activate")
def activate_command(code: Code, who: As = None, as_json: Json = False) -> None:
    """Start a program, or start it again.

    Example: hub program activate cash
    """
    _state(code, ProgramStatus.ACTIVE, who, as_json)


@app.command("pause")
def pause_command(code: Code, who: As = None, as_json: Json = False) -> None:
    """Pause a program: nobody is enrolled, no cycle opened; open cycles go on.

    Example: hub program pause cash
    """
    _state(code, ProgramStatus.PAUSED, who, as_json)


@app.command("end")
def end_command(
    code: Code,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    who: As = None,
    as_json: Json = False,
) -> None:
    """End a program for good; open cycles go on.

    Example: hub program end cash --yes
    """
    if not yes:
        typer.confirm(f"End program {code} for good?", abort=True)
    _state(code, ProgramStatus.ENDED, who, as_json)


@app.command("preview")
def preview_command(
    code: Code,
    on: Annotated[
        str | None, typer.Option("--on", metavar="DAY", help="As of this day, YYYY-MM-DD; today if left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Count who is eligible, without changing anything: how many are new, enrolled, or left alone as a person decided.

    Example: hub program preview cash
    """
    when = day(on)
    say(run(lambda hub: hub.programs.preview(code, when)), as_json)


@app.command("enroll")
def enroll_command(
    code: Code,
    file: IdFile = None,
    reason: Reason = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count who would be enrolled by the rule.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Stay until it is done; else a worker does it.")
    ] = True,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Enroll whoever the rule takes, or the registrants of a file; whoever a person paused or exited stays so.

    Example: hub program enroll cash
    """
    listed = None if file is None else ids(None, file)

    async def work(hub: Hub) -> dict[str, Any]:
        if listed is not None:
            return dict(await hub.programs.enroll_list(code, listed, actor(who), reason=reason))
        if dry_run:
            return dict(await hub.programs.preview(code))
        return await worked(hub, await hub.programs.enroll(code, actor(who)), wait=wait)

    say(run(work), as_json)


@app.command("reconcile")
def reconcile_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[CYCLE]", help="Program and number of the cycle; all funds without it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what became of what was ordered, to the minor unit; exit code 1 when sums do not agree.

    Example: hub program reconcile cash/1
    """
    if not (fund.balances(as_json) if name is None else cycle.reconciled(name, as_json)):
        raise typer.Exit(1)
