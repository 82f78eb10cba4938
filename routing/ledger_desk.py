"""What people ask of the ledger and decide in it: where a payment is, what waits for a decision, what goes on again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from registry.audit import AuditEvent, insert_many
from registry.storage.database import database_errors
from routing.ledger import Books
from routing.statements_transfers import OF_BATCH
from routing.transfers import STATES, TRAIL

_ONE: Final = """
    t.id, t.target, t.payment_id, nullif(b.batch_id, '') AS batch_id, t.cycle_id, t.institution, t.stage, t.state, t.units,
    t.currency, t.charged, t.fee, t.reason, t.rail_reference, t.asked, t.resent, t.created_at, t.sent_at, t.due_at,
    t.completed_at, t.reported_at, t.decided_by
"""
_LIST: Final = f"""
SELECT {_ONE} FROM transfer t JOIN transfer_batch b ON b.id = t.batch
WHERE ($1::text IS NULL OR t.target = $1) AND ($2::text IS NULL OR t.state = $2)
  AND ($3::text IS NULL OR b.batch_id = $3) AND ($4::text IS NULL OR t.institution = $4)
  AND ($5::uuid IS NULL OR t.id > $5) AND ($7::uuid IS NULL OR t.batch = $7 OR t.whole = $7)
ORDER BY t.id LIMIT $6
"""
_SHOW: Final = f"""
SELECT {_ONE}, t.batch, t.whole, t.attempt, t.superseded, t.rails, t.trail, b.state AS batch_state, b.reason AS batch_reason,
    (SELECT s.reason FROM transfer_stop s WHERE s.target = t.target) AS target_stopped
FROM transfer t JOIN transfer_batch b ON b.id = t.batch WHERE t.payment_id = $1 ORDER BY t.rails NULLS FIRST, t.attempt, t.id
"""
_BATCHES: Final = f"""
SELECT b.id, b.target, nullif(b.batch_id, '') AS batch_id, b.state, b.reason, b.currency, b.ordered, b.ordered_units, b.created_at,
    b.closed_at, b.over_rails, b.elsewhere, s.*
FROM (
    SELECT * FROM transfer_batch b
    WHERE ($1::text IS NULL OR b.target = $1) AND ($2::text IS NULL OR b.state = $2) AND ($4::uuid IS NULL OR b.id < $4)
      AND ($5::text IS NULL OR b.id IN (
        SELECT batch FROM transfer WHERE cycle_id = $5 UNION SELECT whole FROM transfer WHERE cycle_id = $5 AND whole IS NOT NULL))
      AND ($6::text IS NULL OR b.batch_id = $6) AND ($7::uuid IS NULL OR b.id = $7)
    ORDER BY b.id DESC LIMIT $3
) b LEFT JOIN LATERAL (
    SELECT min(t.cycle_id) AS cycle_id, min(t.cycle_id) IS DISTINCT FROM max(t.cycle_id) AS cycles_mixed,
        count(t.id) AS entered, coalesce(sum(t.units), 0)::bigint AS entered_units,
        count(t.id) FILTER (WHERE t.state IN ('queued', 'working', 'sent')) AS open,
        count(t.id) FILTER (WHERE t.state = 'paid') AS paid, count(t.id) FILTER (WHERE t.state = 'failed') AS failed,
        count(t.id) FILTER (WHERE t.state IN ('unknown', 'review')) AS unknown,
        count(t.id) FILTER (WHERE t.state = 'cancelled') AS cancelled,
        coalesce(sum(t.units) FILTER (WHERE t.state = 'paid'), 0)::bigint AS paid_units,
        coalesce(sum(t.units) FILTER (WHERE t.state = 'failed'), 0)::bigint AS failed_units,
        coalesce(sum(t.units) FILTER (WHERE t.state IN ('unknown', 'review')), 0)::bigint AS unknown_units,
        coalesce(sum(t.units) FILTER (WHERE t.state = 'cancelled'), 0)::bigint AS cancelled_units,
        min(t.sent_at) FILTER (WHERE t.state IN ('unknown', 'review')) AS unclear_since
    FROM ({OF_BATCH}) t
) s ON true ORDER BY b.id DESC
"""
_DECIDE: Final = f"""
UPDATE transfer SET state = $3, decided_by = $4, report = true, completed_at = coalesce(completed_at, now()), due_at = NULL,
    trail = trail[greatest(cardinality(trail) - {TRAIL - 1}, 1):] || (to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS')
        || '+00:00|' || stage || '|' || $3 || '|decided'), updated_at = now()
WHERE target = $1 AND payment_id = $2 AND state = ANY ($5::text[]) AND leased_until < now() RETURNING id, units, currency
"""
_SETTLED: Final = """
SELECT t.cycle_id, t.target, t.currency, t.state, count(*) AS payments, sum(t.units)::bigint AS units,
    coalesce(sum(t.fee), 0)::bigint AS fees, min(t.sent_at) FILTER (WHERE t.state IN ('sent', 'unknown', 'review')) AS unclear_since,
    count(*) FILTER (WHERE t.state IN ('sent', 'unknown', 'review') AND t.sent_at > now() - interval '1 hour') AS unclear_hour,
    count(*) FILTER (WHERE t.state IN ('sent', 'unknown', 'review') AND t.sent_at <= now() - interval '1 hour'
        AND t.sent_at > now() - interval '1 day') AS unclear_day,
    count(*) FILTER (WHERE t.state IN ('sent', 'unknown', 'review') AND t.sent_at <= now() - interval '1 day'
        AND t.sent_at > now() - interval '7 days') AS unclear_week,
    count(*) FILTER (WHERE t.state IN ('sent', 'unknown', 'review') AND t.sent_at <= now() - interval '7 days') AS unclear_older
FROM transfer t
WHERE ($1::text IS NULL OR t.cycle_id = $1) AND ($2::text IS NULL OR t.target = $2)
GROUP BY t.cycle_id, t.target, t.currency, t.state ORDER BY t.cycle_id NULLS LAST, t.target, t.currency, t.state
"""
_EXPORT: Final = f"""
SELECT {_ONE} FROM transfer t JOIN transfer_batch b ON b.id = t.batch
WHERE ($1::text IS NULL OR t.cycle_id = $1) AND ($2::text IS NULL OR t.target = $2) AND t.id > $3
ORDER BY t.id LIMIT $4
"""
DECISIONS: Final = ("paid", "failed")
_PAGE: Final = 1000


class Desk:
    """Answers operators and carries out what they decide; each decision is in the audit trail."""

    def __init__(self, pool: asyncpg.Pool, books: Books) -> None:
        self._pool, self._books = pool, books

    async def listed(
        self,
        *,
        target: str | None = None,
        state: str | None = None,
        batch_id: str | None = None,
        institution: str | None = None,
        after: UUID | None = None,
        limit: int = 50,
        of: UUID | None = None,
    ) -> list[dict[str, Any]]:
        """Return transfers in the order they were entered, `of` a batch by its id here; raises `Refused` (`transfer-state`) for a state there is not."""
        if state is not None and state not in STATES:
            raise Refused(
                f"There is no state {state!r} of a transfer.",
                code="transfer-state",
                remedy=f"States are: {', '.join(STATES)}.",
            )
        return await self._rows(
            "listing payments", _LIST, target, state, batch_id, institution, after, limit, of
        )

    async def show(self, payment_id: str) -> list[dict[str, Any]]:
        """Return where a payment is, with each step's time; one entry per target, attempts on rails in order. Raises `Refused` (`payment-not-found`)."""
        found = await self._rows("looking for a payment", _SHOW, payment_id)
        if not found:
            raise _nowhere()
        for one in found:
            one["steps"] = [
                {"at": at, "stage": stage, "state": state, "code": code or None}
                for at, stage, state, code in (entry.split("|", 3) for entry in one.pop("trail"))
            ]
        return found

    async def batches(
        self,
        *,
        target: str | None = None,
        state: str | None = None,
        limit: int = 50,
        before: UUID | None = None,
        cycle_id: str | None = None,
        batch_id: str | None = None,
        id: UUID | None = None,
    ) -> list[dict[str, Any]]:
        """Return batches, the newest first, with what has become of their payments by now; `before` is the last `id` of a page."""
        return await self._rows(
            "listing batches", _BATCHES, target, state, limit, before, cycle_id, batch_id, id
        )

    async def named(self, id: UUID) -> str:
        """Return the payment id of a transfer by its id in the ledger; raises `Refused` (`payment-not-found`)."""
        rows = await self._rows("looking for a payment", "SELECT payment_id FROM transfer WHERE id = $1", id)
        if not rows:
            raise _nowhere()
        return str(rows[0]["payment_id"])

    async def decide(self, target: str, payment_id: str, decision: str, actor: str) -> None:
        """Decide over a payment in review or unknown: `paid` or `failed`, as the rail's own statement shows it.

        Nothing is sent. Raises `Refused`: `payment-decision-invalid`, `transfer-state` when it does not wait for a decision.
        """
        if decision not in DECISIONS:
            raise Refused(
                "A payment is decided to be paid or failed.",
                code="payment-decision-invalid",
                remedy=f"Decisions are: {', '.join(DECISIONS)}.",
            )
        await self._put(target, payment_id, decision, actor, ["review", "unknown"], "payment.decide")

    async def cancel(self, target: str, payment_id: str, actor: str) -> None:
        """Take back a payment of which nothing is under way yet; raises `Refused` (`transfer-state`) once something is."""
        await self._put(target, payment_id, "cancelled", actor, ["queued"], "payment.cancel")

    async def resume(self, target: str, *, batch_id: str | None = None, actor: str) -> int:
        """Let a stopped batch, or all that is stopped of a target, go on; return how much was."""
        async with (
            database_errors("resuming payments"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            rows = await connection.fetch(
                "UPDATE transfer_batch SET state = 'running', reason = NULL WHERE target = $1 AND state = 'stopped' "
                "AND ($2::text IS NULL OR batch_id = $2) RETURNING id",
                target,
                batch_id,
            )
            count = len(rows)
            if batch_id is None:
                count += len(
                    await connection.fetch("DELETE FROM transfer_stop WHERE target = $1 RETURNING 1", target)
                )
            event = AuditEvent(
                actor, "payment.resume", "target", target, details={"batch": batch_id, "count": count}
            )
            await insert_many(connection, [event])
            await connection.execute("SELECT pg_notify('hub_transfer', $1)", target)
        self._books.wake(target)
        return count

    async def settlement(
        self, *, cycle_id: str | None = None, target: str | None = None
    ) -> list[dict[str, Any]]:
        """Return sums per cycle, rail, currency and state, with fees and the age of what is sent and not known."""
        return await self._rows("summing payments", _SETTLED, cycle_id, target)

    async def note_export(
        self, actor: str, *, cycle_id: str | None, target: str | None, request_id: str | None = None
    ) -> None:
        """Write into the audit trail that somebody takes an export."""
        details = {"cycle": cycle_id, "target": target}
        async with database_errors("noting an export"), self._pool.acquire() as connection:
            event = AuditEvent(
                actor, "payment.export", "transfer", cycle_id or "*", request_id=request_id, details=details
            )
            await insert_many(connection, [event])

    async def exported(
        self, *, cycle_id: str | None = None, target: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield every transfer of a cycle or rail without anything that names its payee; memory stays flat."""
        after = UUID(int=0)
        while True:
            rows = await self._rows("exporting payments", _EXPORT, cycle_id, target, after, _PAGE)
            for row in rows:
                yield row
            if len(rows) < _PAGE:
                return
            after = rows[-1]["id"]

    async def _rows(self, what: str, statement: str, *values: Any) -> list[dict[str, Any]]:
        async with database_errors(what):
            return [dict(row) for row in await self._pool.fetch(statement, *values)]

    async def _put(
        self, target: str, payment_id: str, state: str, actor: str, of: list[str], action: str
    ) -> None:
        async with (
            database_errors("deciding over a payment"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(_DECIDE, target, payment_id, state, actor, of)
            if row is None:
                raise Refused(
                    f"No payment of this id on target {target} is {' or '.join(of)} and at rest. Nothing was changed.",
                    code="transfer-state",
                    remedy="`hub payments show` says where it is; one that is under way is asked about until it ends.",
                )
            event = AuditEvent(actor, action, "transfer", str(row["id"]), outcome=state)
            await insert_many(connection, [event])
            await connection.execute("SELECT pg_notify('hub_transfer', $1)", target)
        self._books.wake(target)


def _nowhere() -> Refused:
    return Refused(
        "No payment of this id is in the ledger.",
        code="payment-not-found",
        remedy="`hub payments list` shows what is there; an order that no target has taken is among the messages.",
    )


def plain(value: Any) -> Any:
    """Return a value as a table shows it: times as ISO 8601 text; what a spreadsheet would take for a formula gets a quote."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return str(value) if isinstance(value, UUID) else value
