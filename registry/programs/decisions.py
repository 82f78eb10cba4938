"""Parts of the work that an outside service decides: the question goes out by a route, the answers come as messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.decision import DecisionRequest, DecisionResult, DecisionSlot
from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from canonical_model.money import Money
from canonical_model.program import TargetType
from canonical_model.registrant import RegistrantRef
from canonical_model.types import to_data
from registry.audit import AuditEvent, insert_many
from registry.jobs import JobStore
from registry.programs import approvals, cycles
from registry.programs.refusals import STEP_SECONDS, Connection, not_found
from registry.programs.results import Done
from registry.storage.database import database_errors
from registry.storage.outbox import HUB_SOURCE, Outbox

REQUESTED: Final = "org.openspp.decision.requested.v1"
ASKED: Final = "asked"
"""Why an enrollment is a draft: a service was asked."""
_PAGE: Final = 2000
_ROWS: Final = {
    "eligibility": "SELECT registrant_id FROM enrollment WHERE program_id = $1 AND state = 'draft' AND reason = 'asked' "
    "AND registrant_id > $3 AND $2::uuid IS NULL ORDER BY registrant_id LIMIT $4",
    "deduplication": "SELECT registrant_id FROM enrollment WHERE program_id = $1 AND state = 'enrolled' "
    "AND registrant_id > $3 AND $2::uuid IS NULL ORDER BY registrant_id LIMIT $4",
    "entitlement": "SELECT registrant_id FROM cycle_beneficiary WHERE $1::uuid IS NOT NULL AND cycle_id = $2 "
    "AND registrant_id > $3 ORDER BY registrant_id LIMIT $4",
}
_ELIGIBLE: Final = """
UPDATE enrollment e SET state = CASE WHEN t.agreed THEN 'enrolled' ELSE 'not_eligible' END, since = now(), cause = 'rule',
    reason = coalesce(t.reason, 'decided'), actor = $5, enrollment_date = CASE WHEN t.agreed THEN current_date END
FROM unnest($2::uuid[], $3::bool[], $4::text[]) AS t (id, agreed, reason)
WHERE e.program_id = $1 AND e.registrant_id = t.id AND e.state = 'draft' AND e.reason = 'asked'
"""
_TWICE: Final = """
UPDATE enrollment e SET state = 'duplicated', since = now(), cause = 'rule', reason = coalesce(t.reason, 'decided'), actor = $5
FROM unnest($2::uuid[], $3::bool[], $4::text[]) AS t (id, agreed, reason)
WHERE e.program_id = $1 AND e.registrant_id = t.id AND e.state = 'enrolled' AND NOT t.agreed
"""
_AMOUNTS: Final = """
INSERT INTO cycle_amount (cycle_id, registrant_id, amount) SELECT $1, t.id, t.amount
FROM unnest($2::uuid[], $3::bigint[]) AS t (id, amount)
JOIN cycle_beneficiary b ON b.cycle_id = $1 AND b.registrant_id = t.id ON CONFLICT DO NOTHING
"""


async def ask(
    connection: Connection,
    slot: DecisionSlot,
    route: str,
    program_id: UUID,
    program: str,
    count: int,
    outbox: Outbox,
    *,
    cycle: cycles.Cycle | None = None,
) -> UUID | None:
    """Put a question in the caller's transaction; return its id, None where nobody is to be asked about.

    Raises `Refused` (`no-route`) when the route does not take it.
    """
    if count == 0:
        return None
    id_ = uuid7()
    await connection.execute(
        "INSERT INTO decision_request (id, program_id, cycle_id, slot, route, count) VALUES ($1, $2, $3, $4, $5, $6)",
        id_, program_id, None if cycle is None else cycle.id, slot.value, route, count,
    )  # fmt: skip
    approval = slot is DecisionSlot.APPROVAL and cycle is not None
    said = DecisionRequest(
        decision_id=id_.hex,
        slot=slot,
        program_id=program,
        cycle_id=None if cycle is None else cycle.id.hex,
        rows_claim=None if approval else f"decision/{id_}",
        count=count,
        total=Money(minor_units=cycle.total, currency=cycle.currency)
        if approval and cycle is not None
        else None,
    )
    message = Message(
        source=HUB_SOURCE,
        type=REQUESTED,
        subject=f"decision/{id_}",
        correlationid=id_.hex,
        data=to_data(said),
    )
    await outbox.write(connection, [message], route=route, needed=True)
    return id_


async def rows(pool: asyncpg.Pool, claim: str) -> AsyncIterator[dict[str, Any]]:
    """Yield the registrants a question is about, each by the hub's id; raises `Refused` (`batch-claim-unknown`)."""
    try:
        id_ = UUID(claim.removeprefix("decision/"))
    except ValueError:
        id_ = UUID(int=0)
    async with database_errors("fetching the rows of a question"):
        found = await pool.fetchrow(
            "SELECT d.program_id, d.cycle_id, d.slot, p.target_type FROM decision_request d JOIN program p ON p.id = d.program_id "
            "WHERE d.id = $1",
            id_,
        )
    if found is None or found["slot"] not in _ROWS:
        raise Refused(
            "The claim names no question of this hub; no rows were given.",
            code="batch-claim-unknown",
            remedy="Use the rows_claim of the message as it is.",
        )
    after = UUID(int=0)
    while True:
        async with database_errors("fetching the rows of a question"):
            page = await pool.fetch(
                _ROWS[found["slot"]], found["program_id"], found["cycle_id"], after, _PAGE
            )
        for row in page:
            after = row[0]
            yield to_data(RegistrantRef(target_type=TargetType(found["target_type"]), registrant_id=after))
        if len(page) < _PAGE:
            return


async def answered(connection: Connection, cycle_id: UUID, slot: DecisionSlot) -> bool:
    """Say whether a service has answered everything it was asked about a cycle."""
    waiting = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM decision_request WHERE cycle_id = $1 AND slot = $2 AND closed_at IS NULL)",
        cycle_id,
        slot.value,
    )
    return not waiting


async def apply(
    connection: Connection, message_id: UUID, result: DecisionResult, jobs: JobStore, outbox: Outbox
) -> tuple[Done, UUID | None]:
    """Apply answers in the caller's transaction, once per message; return what became of them and a job that follows.

    Raises `Refused`: `decision-not-found`, `currency-mixed`, and what an approval is refused for.
    """
    fresh = await connection.fetchval(
        "INSERT INTO applied_message (message_id) VALUES ($1) ON CONFLICT DO NOTHING RETURNING message_id",
        message_id,
    )
    if fresh is None:
        return Done(repeated=True), None
    asked = await _asked(connection, result.decision_id)
    if asked["closed_at"] is not None:
        return Done(), None
    actor, job, number = f"route:{asked['route']}", None, 0
    if asked["slot"] == DecisionSlot.APPROVAL:
        job = await _approval(connection, asked, result, actor, jobs, outbox)
        number = asked["count"]
    elif asked["slot"] == DecisionSlot.ENTITLEMENT:
        number = await _amounts(connection, asked, result)
    else:
        number = await _enrollments(connection, asked, result, actor)
    await connection.execute(
        "UPDATE decision_request SET answered = answered + $2, closed_at = CASE WHEN answered + $2 >= count THEN now() END "
        "WHERE id = $1",
        asked["id"],
        number,
    )
    await insert_many(
        connection,
        [AuditEvent(actor, "decision.apply", "decision", str(asked["id"]), details={"answers": number})],
    )
    return Done(changed=number > 0), job


async def _asked(connection: Connection, code: str) -> asyncpg.Record:
    try:
        id_ = UUID(code)
    except ValueError:
        id_ = UUID(int=0)
    # Cycles are locked before anything else, here as everywhere.
    cycle_id = await connection.fetchval("SELECT cycle_id FROM decision_request WHERE id = $1", id_)
    if cycle_id is not None:
        await cycles.get(connection, cycle_id, lock=True)
    row = await connection.fetchrow(
        "SELECT d.*, p.currency FROM decision_request d JOIN program p ON p.id = d.program_id WHERE d.id = $1 FOR UPDATE OF d",
        id_,
    )
    if row is None:
        raise not_found(
            "question of this hub", "decision-not-found", "Use the decision_id of the message that asked."
        )
    return row


async def _enrollments(
    connection: Connection, asked: asyncpg.Record, result: DecisionResult, actor: str
) -> int:
    rows = [one for one in result.rows if one.registrant.registrant_id is not None and one.agreed is not None]
    text = _ELIGIBLE if asked["slot"] == DecisionSlot.ELIGIBILITY else _TWICE
    done = await connection.execute(
        text, asked["program_id"], [one.registrant.registrant_id for one in rows], [one.agreed for one in rows],
        [one.reason for one in rows], actor, timeout=STEP_SECONDS,
    )  # fmt: skip
    return int(done.split()[-1]) if text is _ELIGIBLE else len(rows)


async def _amounts(connection: Connection, asked: asyncpg.Record, result: DecisionResult) -> int:
    rows = [(one.registrant.registrant_id, one.amount) for one in result.rows if one.amount is not None]
    if any(money.currency != asked["currency"] for _, money in rows):
        raise Refused(
            f"An amount for question {asked['id']} is in another currency than the program. Nothing was taken.",
            code="currency-mixed",
            remedy="Have the service answer in the program's currency; the hub changes no money.",
        )
    if any(money.minor_units < 0 for _, money in rows):
        raise Refused(
            f"An amount for question {asked['id']} is below zero. Nothing was taken.",
            code="amount-negative",
            remedy="Correct the service's answer and send it again.",
        )
    done = await connection.execute(
        _AMOUNTS,
        asked["cycle_id"],
        [id_ for id_, _ in rows],
        [money.minor_units for _, money in rows],
        timeout=STEP_SECONDS,
    )
    return int(done.split()[-1])


async def _approval(
    connection: Connection,
    asked: asyncpg.Record,
    result: DecisionResult,
    actor: str,
    jobs: JobStore,
    outbox: Outbox,
) -> UUID | None:
    roles = {role_of(asked["route"])}
    if result.agreed:
        return (await approvals.approve(jobs, connection, asked["cycle_id"], actor, roles, outbox)).job
    return await approvals.reject(
        jobs, connection, asked["cycle_id"], actor, roles, outbox, result.reason or "not-agreed"
    )


def role_of(route: str) -> str:
    """Return the role of a service in the steps of an approval."""
    return f"route:{route}"
