"""Approval of cycles: steps by role and amount; the maker never approves; the last step reserves the money."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from canonical_model.entitlement import BenefitKind
from canonical_model.errors import Refused
from canonical_model.program import CycleStatus
from registry.audit import AuditEvent, insert_many
from registry.jobs import JobStore
from registry.programs import cycles, funds
from registry.programs.cycles import Cycle
from registry.programs.refusals import Connection
from registry.storage.outbox import Outbox


@dataclass(frozen=True, slots=True)
class Approved:
    """What came of an approval: how many steps are done of how many, and the job that approves the entitlements."""

    cycle: Cycle
    done: int
    needed: int
    job: UUID | None
    repeated: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "cycle": self.cycle.id, "state": self.cycle.state, "done": self.done, "needed": self.needed,
            "job": self.job, "repeated": self.repeated,
        }  # fmt: skip


async def submit(jobs: JobStore, connection: Connection, cycle_id: UUID, actor: str) -> UUID:
    """Submit a prepared cycle for approval; return the job that moves its entitlements.

    Raises `Refused`: `cycle-incomplete`, `cycle-empty`, and as `cycles.start` does.
    """
    cycle = await cycles.get(connection, cycle_id, lock=True)
    if cycle.state is CycleStatus.TO_APPROVE and cycle.work is None and actor in cycle.makers:
        return await _job_of(connection, "cycle.submit", cycle_id)
    if cycle.state is CycleStatus.DRAFT and cycle.prepared_at is None:
        raise Refused(
            f"The entitlements of cycle {cycle.name} are not all prepared. Nothing was submitted.",
            code="cycle-incomplete",
            remedy="Run `hub program cycle prepare` to its end.",
        )
    if cycle.state is CycleStatus.DRAFT and cycle.entitlements == 0:
        raise Refused(
            f"Cycle {cycle.name} has no entitlements. Nothing was submitted.",
            code="cycle-empty",
            remedy="Look at the eligibility and amount rules; `hub program preview` counts.",
        )
    job = await cycles.start(jobs, connection, cycle_id, "submit", {CycleStatus.DRAFT}, actor, as_maker=True)
    if cycle.work != "submit":
        route = cycle.managers.approval.route
        needed = (
            [{"role": f"route:{route}"}]
            if route is not None
            else [
                {"role": step.role}
                for step in cycle.managers.approval.steps
                if (not step.above or cycle.total > step.above)
                and (not step.above_each or cycle.largest > step.above_each)
            ]
        )
        await connection.execute(
            "UPDATE cycle SET round = round + 1, steps = $2 WHERE id = $1", cycle_id, needed
        )
    return job


async def approve(
    jobs: JobStore,
    connection: Connection,
    cycle_id: UUID,
    actor: str,
    roles: Collection[str],
    outbox: Outbox,
    *,
    step: int | None = None,
) -> Approved:
    """Agree to the next step, or to step `step` (from 1); the last one reserves the whole total or is refused.

    A repeat by the same person changes nothing. Raises `Refused`: `approval-own`, `approval-twice`, `approval-role`,
    `approval-taken`, `fund-overdrawn`, `fund-missing`, `cycle-state`, `cycle-busy`.
    """
    cycle = await cycles.get(connection, cycle_id, lock=True)
    given = await connection.fetch(
        "SELECT step, actor, agreed FROM cycle_approval WHERE cycle_id = $1 AND round = $2 ORDER BY step",
        cycle_id,
        cycle.round,
    )
    mine = [row["step"] for row in given if row["actor"] == actor and row["agreed"]]
    if mine and (step is None or step in mine):
        # A double click, or a client that did not hear the answer.
        job = (
            await cycles.start(jobs, connection, cycle_id, "approve", {CycleStatus.APPROVED}, actor)
            if cycle.work == "approve"
            else None
        )
        return Approved(cycle, len(given), len(cycle.steps), job, repeated=True)
    number = len(given) + 1
    _may_decide(cycle, actor)
    if step is not None and step != number:
        raise Refused(
            f"Step {step} of cycle {cycle.name} is not the next one ({number} of {len(cycle.steps)}). Nothing was approved.",
            code="approval-taken",
            remedy="`hub program cycle show` says which step is next.",
        )
    role = _role(cycle, number, roles)
    await connection.execute(
        "INSERT INTO cycle_approval (cycle_id, round, step, role, actor, agreed) VALUES ($1, $2, $3, $4, $5, true)",
        cycle_id,
        cycle.round,
        number,
        role,
        actor,
    )
    await insert_many(
        connection,
        [
            AuditEvent(
                actor,
                "cycle.approve",
                "cycle",
                str(cycle_id),
                details={"round": cycle.round, "step": number, "role": role},
            )
        ],
    )
    if number < len(cycle.steps):
        return Approved(cycle, number, len(cycle.steps), None, repeated=False)
    await _reserve(connection, cycle, actor)
    cycle = await cycles.finish(connection, cycle_id, actor, outbox, CycleStatus.APPROVED)
    job = await cycles.start(jobs, connection, cycle_id, "approve", {CycleStatus.APPROVED}, actor)
    return Approved(cycle, number, number, job, repeated=False)


async def reject(
    jobs: JobStore,
    connection: Connection,
    cycle_id: UUID,
    actor: str,
    roles: Collection[str],
    outbox: Outbox,
    reason: str,
) -> UUID:
    """Send a cycle back to who made it, with a reason; return the job that moves its entitlements. Raises as `approve`."""
    cycle = await cycles.get(connection, cycle_id, lock=True)
    _may_decide(cycle, actor)
    number = 1 + await connection.fetchval(
        "SELECT count(*) FROM cycle_approval WHERE cycle_id = $1 AND round = $2", cycle_id, cycle.round
    )
    role = _role(cycle, number, roles)
    await connection.execute(
        "INSERT INTO cycle_approval (cycle_id, round, step, role, actor, agreed, reason) VALUES ($1, $2, $3, $4, $5, false, $6)",
        cycle_id,
        cycle.round,
        number,
        role,
        actor,
        reason,
    )
    await insert_many(
        connection,
        [
            AuditEvent(
                actor,
                "cycle.reject",
                "cycle",
                str(cycle_id),
                details={"round": cycle.round, "step": number, "role": role},
            )
        ],
    )
    await cycles.finish(connection, cycle_id, actor, outbox, CycleStatus.DRAFT)
    return await cycles.start(jobs, connection, cycle_id, "reject", {CycleStatus.DRAFT}, actor)


async def listed(connection: Connection, cycle_id: UUID) -> list[dict[str, Any]]:
    """Return who agreed to a cycle or sent it back, oldest first."""
    rows = await connection.fetch(
        "SELECT round, step, role, actor, agreed, reason, at FROM cycle_approval WHERE cycle_id = $1 ORDER BY round, step",
        cycle_id,
    )
    return [dict(row) for row in rows]


def _may_decide(cycle: Cycle, actor: str) -> None:
    if cycle.work is not None:
        raise Refused(
            f"Cycle {cycle.name} is busy ({cycle.work}). Nothing was decided.",
            code="cycle-busy",
            remedy="Wait until its work is done.",
        )
    if cycle.state is not CycleStatus.TO_APPROVE:
        raise Refused(
            f"Cycle {cycle.name} is {cycle.state.value} and waits for no approval. Nothing was decided.",
            code="cycle-state",
            remedy="`hub program cycle show` says what comes next.",
        )
    if actor in cycle.makers:
        # The database would refuse it too; here it costs no transaction.
        raise Refused(
            "Who opened, prepared or submitted a cycle cannot decide on it. Nothing was decided.",
            code="approval-own",
            remedy="Ask somebody else of the role.",
        )


def _role(cycle: Cycle, number: int, roles: Collection[str]) -> str:
    role: str = cycle.steps[number - 1]["role"]
    if role not in roles:
        raise Refused(
            f"Step {number} of cycle {cycle.name} is for the role {role}. Nothing was decided.",
            code="approval-role",
            remedy="Ask somebody of that role.",
        )
    return role


async def _reserve(connection: Connection, cycle: Cycle, actor: str) -> None:
    if cycle.benefit.kind is not BenefitKind.CASH and cycle.fund_id is None:
        return
    if cycle.fund_id is None:
        raise Refused(
            f"Cycle {cycle.name} has no fund to reserve from. Nothing was approved.",
            code="fund-missing",
            remedy="Give the program a fund, cancel the cycle and open it again.",
        )
    if cycle.total > 0:
        # The check of the fund's row refuses what it does not hold, whoever else reserves at the same time.
        await funds.entry(
            connection,
            cycle.fund_id,
            "reserve",
            cycle.total,
            actor,
            cycle_id=cycle.id,
            once=f"reserve/{cycle.id}/{cycle.round}",
        )


async def _job_of(connection: Connection, kind: str, cycle_id: UUID) -> UUID:
    found: UUID = await connection.fetchval(
        "SELECT id FROM job WHERE kind = $1 AND params ->> 'cycle' = $2 ORDER BY created_at DESC LIMIT 1",
        kind,
        str(cycle_id),
    )
    return found
