"""What leaves the ledger: results in chunks, each with the mark that it was told in one transaction, and batches that close."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.message import Message
from registry.storage.database import database_errors
from routing import statements_rails as rails
from routing.outbox import HubOutbox
from routing.transfers import PAID, REVIEW, UNKNOWN

RESULTS: Final = "org.openspp.payment.results.v1"
CHUNK: Final = 1000
_TAKE: Final = """
SELECT t.id, t.payment_id, t.cycle_id, t.institution, t.state, t.units, t.currency, t.rail_reference, t.reason, t.completed_at,
    nullif(b.batch_id, '') AS batch_id, t.target, t.rails, t.whole, t.superseded, t.attempt, t.sent_at, t.decided_by, t.trail,
    t.key_id, t.instruction, CASE WHEN t.rails IS NOT NULL THEN (
        SELECT sum(o.fee)::bigint FROM transfer o WHERE o.rails = t.rails AND o.payment_id = t.payment_id) ELSE t.fee END AS fees
FROM transfer t JOIN transfer_batch b ON b.id = t.batch
WHERE t.target = $1 AND t.report ORDER BY t.batch LIMIT $2 FOR UPDATE OF t SKIP LOCKED
"""
_TOUCHED: Final = """
SELECT coalesce(array_agg(DISTINCT batch), '{}') AS parts,
    coalesce(array_agg(DISTINCT whole) FILTER (WHERE whole IS NOT NULL), '{}') AS wholes FROM transfer WHERE id = ANY ($1::uuid[])
"""
_TOLD: Final = rails.TOLD
_SUMS: Final = """
SELECT r.id, count(t.id) FILTER (WHERE t.state = 'paid') AS paid, count(t.id) FILTER (WHERE t.state = 'failed') AS failed,
    count(t.id) FILTER (WHERE t.state IN ('unknown', 'review')) AS unknown,
    count(t.id) FILTER (WHERE t.state = 'cancelled') AS cancelled,
    coalesce(sum(t.units) FILTER (WHERE t.state = 'paid'), 0) AS paid_units,
    coalesce(sum(t.units) FILTER (WHERE t.state = 'failed'), 0) AS failed_units,
    coalesce(sum(t.units) FILTER (WHERE t.state IN ('unknown', 'review')), 0) AS unknown_units,
    coalesce(sum(t.units) FILTER (WHERE t.state = 'cancelled'), 0) AS cancelled_units
FROM ripe r LEFT JOIN transfer t ON {rows} GROUP BY r.id
"""
_SUM: Final = "s.paid + s.failed + s.unknown + s.cancelled + b.elsewhere"
_UNITS: Final = "s.paid_units + s.failed_units + s.unknown_units + s.cancelled_units + b.elsewhere_units"
# Sums are taken of the rows themselves, never counted along: so they cannot drift. Those of a closed batch follow a decision.
_CLOSE: Final = f"""
WITH ripe AS (
    SELECT b.id FROM transfer_batch b
    WHERE {{which}} AND b.ordered IS NOT NULL AND (b.state <> 'closed' OR b.id = ANY ($2::uuid[])) AND NOT EXISTS ({{open}})
    ORDER BY b.id FOR NO KEY UPDATE SKIP LOCKED
), sums AS ({_SUMS})
UPDATE transfer_batch b SET paid = s.paid, failed = s.failed, unknown = s.unknown, cancelled = s.cancelled,
    paid_units = s.paid_units, failed_units = s.failed_units, unknown_units = s.unknown_units,
    cancelled_units = s.cancelled_units,
    state = CASE WHEN {_SUM} = b.ordered AND {_UNITS} = b.ordered_units THEN 'closed' ELSE b.state END,
    closed_at = CASE WHEN {_SUM} = b.ordered AND {_UNITS} = b.ordered_units THEN coalesce(b.closed_at, now()) ELSE b.closed_at END
FROM sums s WHERE b.id = s.id AND (b.state <> 'closed' OR (s.paid, s.failed, s.unknown, s.cancelled)
    IS DISTINCT FROM (b.paid, b.failed, b.unknown, b.cancelled))
RETURNING b.id
"""
CLOSE: Final = _CLOSE.format(
    which="b.target = $1 AND NOT b.over_rails",
    open="SELECT FROM transfer t WHERE t.batch = b.id AND t.state IN ('queued', 'working', 'sent')",
    rows="t.batch = r.id",
)
# A payment that failed is not what it came to until it is known whether the next rail pays it.
CLOSE_WHOLE: Final = _CLOSE.format(
    which="(b.target = $1 OR b.id = ANY ($2::uuid[])) AND b.over_rails",
    open="SELECT FROM transfer t WHERE t.whole = b.id AND NOT t.superseded "
    "AND (t.report OR t.state IN ('queued', 'working', 'sent'))",
    rows="t.whole = r.id AND NOT t.superseded",
)


class Onward(Protocol):
    """What decides over attempts that ended: `routing.ledger_rails.RailsBooks`."""

    async def alone(self, connection: PoolConnectionProxy, target: str) -> None:
        """Let nobody else settle attempts at the payments that this target may have attempts at, for the transaction."""

    async def go_on(
        self, connection: PoolConnectionProxy, rows: Sequence[asyncpg.Record]
    ) -> Collection[UUID]:
        """Bring what failed to the next rail where it may; return the ids of the transfers that are not to be told."""


class Results:
    """Tells what became of transfers, at least once and from every state they end in; closes batches whose sums agree."""

    def __init__(self, pool: asyncpg.Pool, outbox: HubOutbox, onward: Onward | None = None) -> None:
        self._pool, self._outbox, self._onward = pool, outbox, onward

    async def settle(self, target: str) -> bool:
        """Write a chunk of results and close what can be closed; say whether there may be more to tell."""
        async with (
            database_errors("telling results"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            if self._onward is not None:
                await self._onward.alone(connection, target)
            rows = await connection.fetch(_TAKE, target, CHUNK)
            if rows:
                quiet = set() if self._onward is None else await self._onward.go_on(connection, rows)
                told = [row for row in rows if row["id"] not in quiet]
                await self._outbox.write(connection, _messages(target, told))
                await connection.execute(_TOLD, [row["id"] for row in told])
        async with database_errors("closing batches"):
            batches = await self._pool.fetchrow(_TOUCHED, [row["id"] for row in rows]) if rows else None
            await self._pool.fetch(CLOSE, target, batches["parts"] if batches else [])
            await self._pool.fetch(CLOSE_WHOLE, target, batches["wholes"] if batches else [])
        return len(rows) == CHUNK


def _messages(target: str, rows: list[asyncpg.Record]) -> list[Message]:
    """Return one message for each batch among the rows."""
    by_batch: dict[str | None, list[dict[str, Any]]] = {}
    for row in rows:
        by_batch.setdefault(row["batch_id"], []).append(_result(row))
    messages = []
    for batch_id, results in by_batch.items():
        data: dict[str, Any] = {"results": results}
        if batch_id is not None:
            data["batch_id"] = batch_id
        messages.append(Message(source="hub", type=RESULTS, subject=batch_id or target, data=data))
    return messages


def _result(row: asyncpg.Record) -> dict[str, Any]:
    state = row["state"]
    found: dict[str, Any] = {
        "payment_id": row["payment_id"],
        "status": "unknown" if state in {UNKNOWN, REVIEW} else state,
    }
    if state == PAID:
        found["amount_paid"] = {"minor_units": row["units"], "currency": row["currency"]}
    if row["fees"] is not None:
        found["fee"] = {"minor_units": row["fees"], "currency": row["currency"]}
    for name, value in (
        ("batch_id", row["batch_id"]),
        ("rail", row["target"] if row["rails"] is not None else None),
        ("rail_reference", row["rail_reference"]),
        ("reason_code", row["reason"]),
        ("completed_at", None if row["completed_at"] is None else row["completed_at"].isoformat()),
    ):
        if value is not None:
            found[name] = value
    return found
