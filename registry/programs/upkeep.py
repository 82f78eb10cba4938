"""What programs need when its day has come, without anybody asking: one job at a time, of all processes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from registry.audit import AuditEvent, insert_many
from registry.jobs import Job, JobContext, JobStore
from registry.logs import log
from registry.programs import cycles, definition, holds
from registry.programs.definition import Program
from registry.programs.refusals import STEP_SECONDS, Connection, transaction
from registry.storage.database import database_errors
from registry.storage.outbox import Outbox

_LOG = logging.getLogger(__name__)
UPKEEP: Final = "program.upkeep"
_ACTOR: Final = "hub"
_PART: Final = 20_000
_MOST: Final = 10_000
# Every entitlement of a cycle ends on one day, so that cycles tell what is over without a look at a million rows.
_DUE: Final = f"""
SELECT 'grace' AS what, c.id::text AS key FROM cycle c WHERE c.state NOT IN ('ended', 'cancelled') AND (
    EXISTS (SELECT FROM entitlement e WHERE e.cycle_id = c.id AND e.held IS NOT NULL AND e.held_until < $1
        AND CASE e.held WHEN 'account-unverified' THEN e.state IN ('draft', 'pending_validation', 'approved')
            ELSE e.recipient_id IS NOT NULL END)
    OR EXISTS (SELECT FROM entitlement e JOIN verified_account v ON v.registrant_id = e.recipient_id
        WHERE e.cycle_id = c.id AND e.held = 'account-unverified' AND (v.expires_on IS NULL OR v.expires_on >= $1)))
UNION ALL
SELECT 'vouchers', c.id::text FROM cycle c WHERE c.state = 'distributed' AND c.terms -> 'benefit' ->> 'kind' = 'voucher'
    AND c.start_date + coalesce((c.terms -> 'benefit' ->> 'valid_days')::int, 90) - 1 < $1
    AND EXISTS (SELECT FROM entitlement e WHERE e.cycle_id = c.id AND e.state = 'sent_to_provider' AND e.valid_until < $1)
UNION ALL
SELECT 'cycle', p.code FROM program p WHERE p.state = 'active' AND p.schedule @> '{{"open": true}}'
    AND NOT EXISTS (SELECT FROM cycle c WHERE c.program_id = p.id AND c.state <> 'cancelled' AND c.end_date >= $1)
ORDER BY 1, 2 LIMIT {_MOST}
"""
_OVER: Final = """
UPDATE entitlement SET state = 'expired', updated_at = now() WHERE id IN (
    SELECT id FROM entitlement WHERE cycle_id = $1 AND state = 'sent_to_provider' AND valid_until < $2 LIMIT $3)
RETURNING cycle_id, amount, topped, paid, id
"""


async def submit_due(pool: asyncpg.Pool, jobs: JobStore, every: float, now: datetime) -> Job | None:
    """Put the job of this span of `every` seconds into the queue where something is due; one for all processes."""
    async with database_errors("looking for what is due"), pool.acquire(timeout=10) as connection:
        due = await _due(connection, now.date())
    if not due:
        return None
    made = await jobs.submit(UPKEEP, actor=_ACTOR, once=f"{UPKEEP}/{int(now.timestamp() // every)}")
    return made.job if made.created else None


async def keep(context: JobContext, outbox: Outbox, today: date | None = None) -> Mapping[str, Any]:
    """Do everything that is due on a day, each thing in transactions of its own; the handler of the job.

    Returns how many entitlements were released and expired, how many cycles were opened, and how many things were refused,
    which are looked at again in the next span.
    """
    today = today or datetime.now(UTC).date()
    found = {"verified": 0, "released": 0, "expired": 0, "vouchers": 0, "opened": 0, "refused": 0}
    async with transaction(context.pool, "looking for what is due") as connection:
        due = await _due(connection, today)
    for number, (what, key) in enumerate(due):
        if context.cancelled:
            break
        try:
            while True:
                async with transaction(context.pool, "doing what is due") as connection:
                    done, more = await _do(connection, what, key, today, outbox, JobStore(context.pool))
                    found = {name: count + done.get(name, 0) for name, count in found.items()}
                    await context.save(connection, {"found": found}, number + 1, len(due))
                if not more:
                    break
        except Refused as refused:
            found["refused"] += 1
            log(_LOG, logging.WARNING, "upkeep-refused", error=refused, kind=what)
    return found


async def _due(connection: Connection, today: date) -> list[tuple[str, str]]:
    found = []
    for row in await connection.fetch(_DUE, today, timeout=STEP_SECONDS):
        what, key = row["what"], row["key"]
        if what != "cycle" or await _days(connection, await definition.get(connection, key), today):
            found.append((what, key))
    return found


async def _days(connection: Connection, program: Program, today: date) -> tuple[date, date] | None:
    last = await connection.fetchval(
        "SELECT max(start_date) FROM cycle WHERE program_id = $1 AND state <> 'cancelled'", program.id
    )
    return cycles.covering(program.schedule, today, last)


async def _do(
    connection: Connection, what: str, key: str, today: date, outbox: Outbox, jobs: JobStore
) -> tuple[Mapping[str, int], bool]:
    """Do one thing that is due, or a part of it; return what was done and whether there is more of it."""
    if what == "grace":
        return await holds.grace(connection, UUID(key), today, _ACTOR), False
    if what == "vouchers":
        return await _expire_vouchers(connection, UUID(key), today)
    program = await definition.get(connection, key, lock=True)
    days = await _days(connection, program, today)
    if days is None:
        return {}, False
    _, _, new = await cycles.open_(jobs, connection, program, _ACTOR, outbox, start=days[0], end=days[1])
    return {"opened": int(new)}, False


async def _expire_vouchers(
    connection: Connection, cycle_id: UUID, today: date
) -> tuple[Mapping[str, int], bool]:
    await cycles.get(connection, cycle_id, lock=True)
    rows = await connection.fetch(_OVER, cycle_id, today, _PART, timeout=STEP_SECONDS)
    await holds.freed(connection, rows, _ACTOR)
    details = {"expired": len(rows), "before": (today - timedelta(days=1)).isoformat()}
    await insert_many(
        connection, [AuditEvent(_ACTOR, "cycle.expire_vouchers", "cycle", str(cycle_id), details=details)]
    )
    return {"vouchers": len(rows)}, len(rows) == _PART
