"""The kinds of jobs programs have: what a runner of `registry.jobs` needs to work on them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from canonical_model.decision import DecisionSlot
from canonical_model.program import CycleStatus
from registry.jobs import Handler, JobContext, Kinds
from registry.programs import closing, cycles, definition, enrolling, entitling
from registry.programs.decisions import ask
from registry.programs.distribution import distributing
from registry.programs.refusals import CHUNK, Connection
from registry.programs.rows import BatchRows
from registry.programs.rules import Rules, declared
from registry.programs.upkeep import UPKEEP, keep
from registry.programs.work import Operation, Position, Step, drive
from registry.storage.outbox import Outbox

ENROLL: Final = "program.enroll"
CYCLE: Final = ("snapshot", "prepare", "submit", "approve", "reject", "distribute", "cancel", "end")


def operation(
    kind: str,
    actor: str,
    params: Mapping[str, Any],
    outbox: Outbox,
    rules: Rules,
    rows: BatchRows,
    *,
    chunk: int = CHUNK,
) -> Operation:
    """Return how one job is stepped, for whichever runner drives it."""
    if kind == ENROLL:
        code = params["program"]
        return Operation(
            enrolling.by_rule(
                lambda connection: definition.get(connection, code), rules, actor, outbox, chunk=chunk
            ),
            _nothing,
        )
    cycle_id = UUID(params["cycle"])

    async def stop(connection: Connection) -> None:
        await cycles.stop(connection, cycle_id)

    def moving(of: list[str], to: str, state: CycleStatus | None = None) -> Operation:
        # It only carries out what is decided, so it goes on to its end.
        return Operation(entitling.moving(cycle_id, actor, outbox, of=of, to=to, state=state, chunk=chunk))

    if kind == "cycle.snapshot":
        return Operation(entitling.snapshot(cycle_id, rules, actor, outbox, chunk=chunk), stop)
    if kind == "cycle.prepare":
        return Operation(entitling.prepare(cycle_id, actor, outbox, chunk=chunk), stop)
    if kind == "cycle.distribute":
        return Operation(distributing(cycle_id, actor, outbox, rows.instructions), stop)
    if kind == "cycle.submit":
        return Operation(
            approvals_asked(
                moving(["draft"], "pending_validation", CycleStatus.TO_APPROVE).step, cycle_id, outbox
            )
        )
    if kind == "cycle.approve":
        return moving(["pending_validation"], "approved")
    if kind == "cycle.reject":
        return moving(["pending_validation"], "draft")
    if kind == "cycle.cancel":
        return moving(["draft", "pending_validation", "approved"], "cancelled")
    assert kind == "cycle.end"  # a runner takes the kinds named here only
    return Operation(closing.ending(cycle_id, actor, outbox))


def program_kinds(outbox: Outbox, rows: BatchRows, rules: Rules = declared, *, chunk: int = CHUNK) -> Kinds:
    """Return the handler of every kind of job of programs."""

    def handler(kind: str) -> Handler:
        async def handle(context: JobContext) -> Mapping[str, Any] | None:
            return await drive(
                context, operation(kind, context.actor, context.params, outbox, rules, rows, chunk=chunk)
            )

        return handle

    async def upkeep(context: JobContext) -> Mapping[str, Any] | None:
        return await keep(context, outbox)

    return {
        UPKEEP: upkeep,
        **{kind: handler(kind) for kind in (ENROLL, *(f"cycle.{name}" for name in CYCLE))},
    }


def approvals_asked(step: Step, cycle_id: UUID, outbox: Outbox) -> Step:
    """Return a step that asks the service that approves, if one does, once the cycle waits for it."""

    async def asking(connection: Connection, position: Position) -> tuple[Position, bool]:
        going, done = await step(connection, position)
        cycle = await cycles.get(connection, cycle_id) if done else None
        if cycle is not None and (route := cycle.managers.approval.route) is not None:
            # Of an earlier round it is not asked any more.
            await connection.execute(
                "UPDATE decision_request SET closed_at = now() WHERE cycle_id = $1 AND slot = 'approval' AND closed_at IS NULL",
                cycle_id,
            )
            await ask(
                connection,
                DecisionSlot.APPROVAL,
                route,
                cycle.program_id,
                cycle.program,
                1,
                outbox,
                cycle=cycle,
            )
        return going, done

    return asking


async def _nothing(connection: Connection) -> None:
    """Leave everything as it is."""
