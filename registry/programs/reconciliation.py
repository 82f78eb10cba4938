"""What became of what was ordered, to the minor unit: per batch, cycle and fund."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from registry.programs.refusals import STEP_SECONDS, Connection


async def of_cycle(connection: Connection, cycle_id: UUID) -> dict[str, Any]:
    """Return the sums of a cycle and of each of its batches; `balanced` says that every sum agrees."""
    cycle = await connection.fetchrow(
        "SELECT * FROM cycle_reconciliation WHERE cycle_id = $1", cycle_id, timeout=STEP_SECONDS
    )
    batches = await connection.fetch(
        "SELECT r.*, b.version, b.fetched_at, b.created_at FROM batch_reconciliation r JOIN payment_batch b ON b.id = r.batch_id "
        "WHERE r.cycle_id = $1 ORDER BY r.number LIMIT 10000",
        cycle_id,
        timeout=STEP_SECONDS,
    )
    states = await connection.fetch(
        "SELECT state, held, count(*) AS entitlements, coalesce(sum(amount + topped), 0)::bigint AS amount, "
        "sum(paid)::bigint AS paid FROM entitlement WHERE cycle_id = $1 GROUP BY state, held ORDER BY state, held NULLS FIRST",
        cycle_id,
        timeout=STEP_SECONDS,
    )
    return {
        **dict(cycle or {}),
        "batches": [dict(row) for row in batches],
        "entitlements": [dict(row) for row in states],
    }


async def of_funds(connection: Connection) -> list[dict[str, Any]]:
    """Return the sums of every fund."""
    rows = await connection.fetch(
        "SELECT * FROM fund_reconciliation ORDER BY code LIMIT 1000", timeout=STEP_SECONDS
    )
    return [dict(row) for row in rows]


async def payments(
    connection: Connection, batch_id: UUID, state: str | None, after: UUID | None, limit: int
) -> list[dict[str, Any]]:
    """Return payments of a batch in the order they were sent, behind `after`, in one state only where given."""
    rows = await connection.fetch(
        "SELECT id, entitlement_id, try, recipient_id, state, amount, paid, failed, unknown, cancelled, returned, fee, "
        "rail_reference, reason_code, sent_at, completed_at FROM payment WHERE batch_id = $1 AND ($2::text IS NULL OR state = $2) "
        "AND ($3::uuid IS NULL OR id > $3) ORDER BY id LIMIT $4",
        batch_id,
        state,
        after,
        min(limit, 1000),
    )
    return [dict(row) for row in rows]


async def entitlements(
    connection: Connection,
    cycle_id: UUID,
    state: str | None,
    held: str | None,
    after: UUID | None,
    limit: int,
) -> list[dict[str, Any]]:
    """Return entitlements of a cycle by registrant, behind `after`, in one state or held for one reason where given."""
    rows = await connection.fetch(
        "SELECT id, registrant_id, recipient_id, number, kind, state, amount, topped, paid, items, tries, held, held_until, "
        "valid_from, valid_until FROM entitlement WHERE cycle_id = $1 AND ($2::text IS NULL OR state = $2) "
        "AND ($3::text IS NULL OR held = $3) AND ($4::uuid IS NULL OR registrant_id > $4) ORDER BY registrant_id LIMIT $5",
        cycle_id,
        state,
        held,
        after,
        min(limit, 1000),
    )
    return [dict(row) for row in rows]
