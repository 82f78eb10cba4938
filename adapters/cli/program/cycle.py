"""`hub program cycle`: one round of a program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any
from uuid import UUID

import typer

from adapters.cli.output import OUT
from adapters.cli.program.shared import (
    After,
    As,
    Code,
    CycleName,
    Json,
    Limit,
    actor,
    cycle_of,
    day,
    run,
    say,
    shown,
    table,
    uuid,
    worked,
)
from adapters.hub import Hub
from registry.programs import Cycle

app = typer.Typer(no_args_is_help=True)

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is done; else a worker does it.")]
Roles = Annotated[list[str], typer.Option("--role", help="A role you have; more than once for several.")]


@app.command("open")
def open_command(
    code: Code,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="DAY", help="First day, YYYY-MM-DD; the schedule's next if left out."),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="DAY", help="Last day, YYYY-MM-DD.")] = None,
    prepare: Annotated[
        bool, typer.Option("--prepare/--no-prepare", help="Make the entitlements right after.")
    ] = True,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Open a cycle: who is in, what each gets and who receives is noted now; later edits do not move it.

    The same days asked for twice are one cycle, and one that was broken off goes on.

    Example: hub program cycle open cash --from 2026-01-01 --to 2026-01-31
    """
    first, last = day(start), day(end)

    async def work(hub: Hub) -> dict[str, Any]:
        programs, name = hub.programs, actor(who)
        cycle, job, new = await programs.open_cycle(code, name, start=first, end=last)
        if not new and cycle.snapshot_at is None and (await hub.jobs.get(job)).ended:
            job = await programs.snapshot(cycle.id, name)
        done = await worked(hub, job)
        cycle = await programs.cycle(code, cycle.sequence)
        if prepare and cycle.snapshot_at is not None and cycle.prepared_at is None:
            done |= await worked(hub, await programs.prepare(cycle.id, name))
        return {"cycle": cycle.name, "id": cycle.id, "new": new, "currency": cycle.currency, **done}

    say(run(work), as_json)


@app.command("list")
def list_command(
    code: Annotated[
        str | None, typer.Argument(metavar="[PROGRAM]", help="Cycles of this program only.")
    ] = None,
    after: After = None,
    limit: Limit = 50,
    as_json: Json = False,
) -> None:
    """List cycles, newest first.

    Example: hub program cycle list cash
    """
    before = None if after is None else uuid(after)
    rows = [
        {"name": one.name, **one.as_dict()}
        for one in run(lambda hub: hub.programs.cycles(code, before, limit))
    ]
    following = rows[-1]["id"] if len(rows) == limit else None
    columns = ("name", "state", "work", "start_date", "end_date", "beneficiaries", "entitlements", "total")
    table(rows, columns, as_json, following)


@app.command("show")
def show_command(name: CycleName, as_json: Json = False) -> None:
    """Show a cycle, who agreed to it, and what comes next.

    Example: hub program cycle show cash/1
    """

    async def work(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        given = await hub.programs.approvals(cycle.id)
        return {**cycle.as_dict(), "approvals": given, "next": _next(cycle, given)}

    say(run(work), as_json)


def _next(cycle: Cycle, given: list[dict[str, Any]]) -> str:
    if cycle.work is not None:
        return f"{cycle.work} is under way: hub jobs list"
    if cycle.state == "to_approve":
        done = sum(one["round"] == cycle.round for one in given)
        return f"step {done + 1} of {len(cycle.steps)}: hub program approve {cycle.name} --role {cycle.steps[done]['role']}"
    return {
        "draft": f"hub program cycle {'submit' if cycle.prepared_at else 'prepare'} {cycle.name}",
        "approved": f"hub program pay {cycle.name}",
        "distributed": f"hub program reconcile {cycle.name}, then hub program cycle end {cycle.name}",
    }.get(cycle.state, "nothing")


def _do(name: str, work: Callable[[Hub, UUID], Awaitable[UUID]], as_json: bool, *, wait: bool = True) -> None:
    async def whole(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        done = await worked(hub, await work(hub, cycle.id), wait=wait)
        after = await cycle_of(hub.programs, name)
        return {"cycle": name, "currency": after.currency, **done, "state": after.state}

    say(run(whole), as_json)


@app.command("prepare")
def prepare_command(name: CycleName, wait: Wait = True, who: As = None, as_json: Json = False) -> None:
    """Make the entitlements of a cycle from its snapshot.

    Example: hub program cycle prepare cash/1
    """
    _do(name, lambda hub, id_: hub.programs.prepare(id_, actor(who)), as_json, wait=wait)


@app.command("submit")
def submit_command(name: CycleName, wait: Wait = True, who: As = None, as_json: Json = False) -> None:
    """Submit a prepared cycle for approval.

    Example: hub program cycle submit cash/1
    """
    _do(name, lambda hub, id_: hub.programs.submit(id_, actor(who)), as_json, wait=wait)


def approve_command(
    name: CycleName,
    role: Roles,
    step: Annotated[int | None, typer.Option(min=1, help="Only if this step is the next one.")] = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Agree to the next step of a cycle's approval; the last step reserves the money. Who made the cycle cannot.

    Example: hub program approve cash/1 --role approver
    """

    async def work(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        done = await hub.programs.approve(cycle.id, actor(who), role, step=step)
        found = done.as_dict()
        if done.job is not None:
            found |= await worked(hub, done.job)
        after = await cycle_of(hub.programs, name)
        return {**found, "cycle": name, "state": after.state, "reserved": after.reserved}

    say(run(work), as_json)


def reject_command(
    name: CycleName,
    role: Roles,
    reason: Annotated[str, typer.Option("--reason", help="Why it is sent back; whoever made it reads this.")],
    who: As = None,
    as_json: Json = False,
) -> None:
    """Send a cycle back to who made it.

    Example: hub program reject cash/1 --role approver --reason wrong-area
    """
    _do(name, lambda hub, id_: hub.programs.reject(id_, actor(who), role, reason), as_json)


def pay_command(
    name: CycleName,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say how much would be ordered, for how many.")
    ] = False,
    wait: Wait = True,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Order the payments of an approved cycle, and again those that were released since; held ones stay out.

    Example: hub program pay cash/1
    """
    if not dry_run:
        _do(name, lambda hub, id_: hub.programs.distribute(id_, actor(who)), as_json, wait=wait)
        return

    async def work(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        account = await hub.programs.reconcile(cycle.id)
        rows = [row for row in account["entitlements"] if row["state"] == "approved"]
        due = [row for row in rows if row["held"] is None]
        return {
            "cycle": name,
            "payments": sum(row["entitlements"] for row in due),
            "ordered": sum(row["amount"] - row["paid"] for row in due),
            "held": sum(row["entitlements"] for row in rows) - sum(row["entitlements"] for row in due),
        }

    say(run(work), as_json)


@app.command("end")
def end_command(name: CycleName, wait: Wait = True, who: As = None, as_json: Json = False) -> None:
    """End a cycle whose payments are all settled; what was not redeemed expires, what is left of its money is free.

    Example: hub program cycle end cash/1
    """
    _do(name, lambda hub, id_: hub.programs.end_cycle(id_, actor(who)), as_json, wait=wait)


@app.command("cancel")
def cancel_command(
    name: CycleName,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Cancel a cycle of which nothing was paid; its money and its days are free again.

    Example: hub program cycle cancel cash/1 --yes
    """
    if not yes:
        typer.confirm(f"Cancel cycle {name} for good?", abort=True)
    _do(name, lambda hub, id_: hub.programs.cancel_cycle(id_, actor(who)), as_json)


@app.command("entitlements")
def entitlements_command(
    name: CycleName,
    state: Annotated[str | None, typer.Option(help="In this state only, such as approved.")] = None,
    held: Annotated[str | None, typer.Option(metavar="REASON", help="Held for this reason only.")] = None,
    after: After = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the entitlements of a cycle by registrant.

    Example: hub program cycle entitlements cash/1 --held payment-failed
    """
    behind = None if after is None else uuid(after)

    async def work(hub: Hub) -> list[dict[str, Any]]:
        cycle = await cycle_of(hub.programs, name)
        return await hub.programs.entitlements(cycle.id, state=state, held=held, after=behind, limit=limit)

    rows = run(work)
    following = rows[-1]["registrant_id"] if len(rows) == limit else None
    table(
        rows,
        ("id", "registrant_id", "state", "amount", "topped", "paid", "held", "held_until"),
        as_json,
        following,
    )


@app.command("grace")
def grace_command(name: CycleName, who: As = None, as_json: Json = False) -> None:
    """Look again at who is held until a day: whoever has a verified account by now is released, the others as agreed.

    Example: hub program cycle grace cash/1
    """

    async def work(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        return dict(await hub.programs.grace(cycle.id, actor(who)))

    say(run(work), as_json)


def reconciled(name: str, as_json: bool) -> bool:
    """Print what became of what a cycle ordered; say whether all sums agree."""

    async def work(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        return {"cycle": name, **await hub.programs.reconcile(cycle.id)}

    found = run(work)
    if as_json:
        say(found, as_json)
        return bool(found["balanced"])
    sums = ("ordered", "paid", "failed", "unknown", "cancelled", "returned", "fees")
    rows = [{"batch": f"{one['number']}", **one} for one in found["batches"]] + [{"batch": "all", **found}]
    told = [{**row, **{each: shown(row[each], found["currency"]) for each in sums}} for row in rows]
    table(told, ("batch", "payments", *sums, "balanced"), as_json)
    for row in found["entitlements"]:
        held = f", held: {row['held']}" if row["held"] else ""
        OUT.print(f"{row['entitlements']:,} entitlements {row['state']}{held}", markup=False)
    return bool(found["balanced"])
