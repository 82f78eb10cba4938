"""Results of payments: each applied once, whatever the order; what does not fit goes to a person, never to a new payment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from canonical_model.message import uuid7
from canonical_model.payment import PaymentResult, PaymentStatus
from registry.programs import funds
from registry.programs.refusals import STEP_SECONDS, Connection

FINAL: Final = frozenset({"paid", "failed", "cancelled"})
_LOCK: Final = """
SELECT c.id FROM cycle c WHERE c.id IN (
    SELECT b.cycle_id FROM payment p JOIN payment_batch b ON b.id = p.batch_id WHERE p.id = ANY ($1)
) ORDER BY c.id FOR NO KEY UPDATE OF c
"""
_READ: Final = """
SELECT p.id, p.batch_id, p.entitlement_id, p.state, p.amount, p.paid, p.failed, p.cancelled, p.returned, p.fee,
    p.rail_reference, p.reason_code, p.completed_at, b.cycle_id, b.fund_id, c.currency, c.state AS cycle_state, f.fees_by,
    e.amount + e.topped AS due, e.paid AS had, e.state AS entitlement_state
FROM payment p JOIN payment_batch b ON b.id = p.batch_id JOIN cycle c ON c.id = b.cycle_id
    JOIN entitlement e ON e.id = p.entitlement_id JOIN fund f ON f.id = b.fund_id
WHERE p.id = ANY ($1)
"""
_PAYMENTS: Final = """
UPDATE payment p SET state = t.state, paid = t.paid, failed = t.failed, cancelled = t.cancelled, returned = t.returned,
    fee = t.fee, rail_reference = t.reference, reason_code = t.reason, completed_at = t.completed,
    sent_at = coalesce(p.sent_at, now()), decision_id = coalesce(t.decision, p.decision_id)
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
    $9::text[], $10::timestamptz[], $11::uuid[])
    AS t (id, state, paid, failed, cancelled, returned, fee, reference, reason, completed, decision)
WHERE p.id = t.id
"""
# Money that came back, or did not arrive, is not paid again by itself: it is held until a person resumes it.
_ENTITLEMENTS: Final = """
UPDATE entitlement e SET paid = e.paid + t.paid, updated_at = now(),
    state = CASE WHEN e.paid + t.paid >= e.amount + e.topped THEN 'redeemed'
        WHEN NOT t.live OR e.state NOT IN ('sent_to_provider', 'redeemed') THEN e.state ELSE 'approved' END,
    held = CASE WHEN e.paid + t.paid >= e.amount + e.topped THEN NULL
        WHEN NOT t.live OR e.state NOT IN ('sent_to_provider', 'redeemed') THEN e.held ELSE coalesce(e.held, t.held) END,
    held_until = CASE WHEN e.paid + t.paid >= e.amount + e.topped THEN NULL ELSE e.held_until END
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bool[]) AS t (id, paid, held, live) WHERE e.id = t.id
"""
_ENTRIES: Final = """
INSERT INTO fund_entry (id, fund_id, kind, amount, cycle_id, batch_id, actor)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bigint[], $5::uuid[], $6::uuid[], $7::text[])
"""
_DISPUTES: Final = """
INSERT INTO payment_dispute (id, payment_id, message_id, kind, status, amount_paid, currency, fee, rail_reference, reason_code)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::bigint[],
    $9::text[], $10::text[])
ON CONFLICT (message_id) DO NOTHING
"""


@dataclass(frozen=True, slots=True)
class Said:
    """One result as a message brought it, or as a person decided it (`decision` names the decision)."""

    message_id: UUID
    result: PaymentResult
    decision: UUID | None = None


@dataclass(slots=True)
class Known:
    """A payment while results are applied to it."""

    id: UUID
    batch_id: UUID
    entitlement_id: UUID
    state: str
    amount: int
    paid: int
    failed: int
    cancelled: int
    returned: int
    fee: int
    rail_reference: str | None
    reason_code: str | None
    completed_at: datetime | None
    cycle_id: UUID
    fund_id: UUID
    currency: str
    cycle_state: str
    due: int
    """What its entitlement gives, top-ups included."""
    had: int
    """What was paid of its entitlement before these results."""
    entitlement_state: str
    fees_by: str = "program"
    """Who bears the fees: those of the payee are noted and not taken from the fund."""
    decision: UUID | None = None
    changed: bool = False

    @property
    def net(self) -> int:
        """What is out: paid and not come back."""
        return self.paid - self.returned

    @property
    def live(self) -> bool:
        """Whether the cycle still pays."""
        return self.cycle_state in {"approved", "distributed"}


@dataclass(frozen=True, slots=True)
class Done:
    """What became of a result; `disputed` says a person has to decide."""

    created: bool = False
    changed: bool = False
    repeated: bool = False
    disputed: str | None = None


@dataclass(slots=True)
class _Books:
    """What is to be written after all results of a call were taken in."""

    payments: dict[UUID, Known] = field(default_factory=dict)
    before: dict[UUID, Known] = field(default_factory=dict)
    disputes: list[tuple[Any, ...]] = field(default_factory=list)


async def apply(connection: Connection, said: Sequence[Said]) -> list[Done]:
    """Apply results in the caller's transaction with a fixed number of statements; one answer each, in order."""
    rows = await connection.fetch(
        "INSERT INTO applied_message (message_id) SELECT DISTINCT id FROM unnest($1::uuid[]) AS t (id) "
        "ON CONFLICT DO NOTHING RETURNING message_id",
        [one.message_id for one in said],
    )
    fresh = {row[0] for row in rows}
    named = {one.message_id: payment_id(one.result.payment_id) for one in said}
    books = _Books()
    books.payments = await read(connection, {each for each in named.values() if each is not None})
    books.before = {key: replace(value) for key, value in books.payments.items()}
    done: list[Done] = []
    for one in said:
        if one.message_id not in fresh:
            done.append(Done(repeated=True))
            continue
        fresh.discard(one.message_id)
        done.append(_take(books, one, named[one.message_id]))
    await write(connection, books.before, books.payments, "hub")
    if books.disputes:
        await connection.execute(_DISPUTES, *map(list, zip(*books.disputes, strict=True)))
    return done


async def read(connection: Connection, ids: set[UUID]) -> dict[UUID, Known]:
    """Lock the cycles of payments and return the payments by id."""
    if not ids:
        return {}
    await connection.execute(_LOCK, list(ids))
    rows = await connection.fetch(_READ, list(ids), timeout=STEP_SECONDS)
    return {row["id"]: Known(**dict(row)) for row in rows}


def _take(books: _Books, one: Said, id_: UUID | None) -> Done:
    known = books.payments.get(id_) if id_ is not None else None
    kind = "not_ours" if known is None else settle(known, one.result, _room(books, known))
    if kind is None:
        assert known is not None
        changed, known.changed = known.changed, False
        return Done(changed=changed)
    result = one.result
    books.disputes.append(
        (
            uuid7(), None if known is None else known.id, one.message_id, kind, result.status.value,
            None if result.amount_paid is None else result.amount_paid.minor_units,
            None if result.amount_paid is None else result.amount_paid.currency,
            None if result.fee is None else result.fee.minor_units, result.rail_reference, result.reason_code,
        )
    )  # fmt: skip
    return Done(disputed=kind)


def _room(books: _Books, known: Known) -> int:
    """Return what may still be paid of an entitlement, other payments of it in this call included."""
    taken = sum(
        each.net - books.before[each.id].net
        for each in books.payments.values()
        if each.entitlement_id == known.entitlement_id
    )
    return known.due - known.had - taken


def settle(known: Known, result: PaymentResult, room: int) -> str | None:
    """Take a result over into a payment; return None, or why a person has to decide and nothing was taken over."""
    status = result.status
    if any(
        money is not None and money.currency != known.currency for money in (result.amount_paid, result.fee)
    ):
        return "currency"
    paid = known.amount if result.amount_paid is None else result.amount_paid.minor_units
    fee = 0 if result.fee is None else result.fee.minor_units
    if status in {PaymentStatus.RECEIVED, PaymentStatus.PENDING, PaymentStatus.UNKNOWN}:
        if known.state not in FINAL:
            # What arrives late of a way that has ended says nothing new.
            _set(known, "unknown" if status is PaymentStatus.UNKNOWN else "sent", 0, 0, 0, fee, result)
        return None
    if status is PaymentStatus.REVERSED:
        return _reversed(known, result, fee)
    if status is PaymentStatus.PAID:
        if paid <= 0:
            return "no_amount"
        if paid > known.amount:
            return "too_much"
        if known.state in FINAL:
            return None if known.state == "paid" and known.paid == paid else "contradicts"
        if paid > room:
            return "too_much"
        _set(known, "paid", paid, known.amount - paid, 0, fee, result)
        return None
    state = "failed" if status is PaymentStatus.FAILED else "cancelled"
    if result.amount_paid is not None and paid > 0:
        return "contradicts"
    if known.state in FINAL:
        return None if known.state == state else "contradicts"
    _set(
        known,
        state,
        0,
        known.amount if state == "failed" else 0,
        known.amount if state == "cancelled" else 0,
        fee,
        result,
    )
    return None


def _reversed(known: Known, result: PaymentResult, fee: int) -> str | None:
    back = known.paid if result.amount_paid is None else result.amount_paid.minor_units
    if known.state != "paid":
        return "reversed_unpaid"
    if back <= 0:
        return "no_amount"
    if known.returned + back > known.paid:
        return None if known.returned == back else "too_much"
    known.returned += back
    known.fee = max(known.fee, fee)
    known.reason_code = result.reason_code or known.reason_code
    known.changed = True
    return None


def _set(
    known: Known, state: str, paid: int, failed: int, cancelled: int, fee: int, result: PaymentResult
) -> None:
    known.changed = known.changed or known.state != state
    known.state, known.paid, known.failed, known.cancelled = state, paid, failed, cancelled
    known.fee = max(known.fee, fee)
    known.rail_reference = result.rail_reference or known.rail_reference
    known.reason_code = result.reason_code or known.reason_code
    known.completed_at = result.completed_at or known.completed_at


async def write(
    connection: Connection,
    before: dict[UUID, Known],
    after: dict[UUID, Known],
    actor: str,
    *,
    beyond: bool = False,
) -> None:
    """Write what changed of payments, their entitlements and the fund; with `beyond` money beyond the reservation is reserved.

    `beyond` is for what a person decided: the money is out already, so the books follow it or are refused.
    """
    changed = [one for key, one in after.items() if one != before[key]]
    if not changed:
        return
    await connection.execute(
        _PAYMENTS,
        [one.id for one in changed], [one.state for one in changed], [one.paid for one in changed],
        [one.failed for one in changed], [one.cancelled for one in changed], [one.returned for one in changed],
        [one.fee for one in changed], [one.rail_reference for one in changed], [one.reason_code for one in changed],
        [one.completed_at for one in changed], [one.decision for one in changed], timeout=STEP_SECONDS,
    )  # fmt: skip
    settled = [one for one in changed if one.state in FINAL]
    moved: dict[UUID, tuple[int, str, bool]] = {}
    for one in settled:
        delta = one.net - before[one.id].net
        held = (
            "payment-returned" if one.returned else "payment-partial" if one.paid else f"payment-{one.state}"
        )
        earlier = moved.get(one.entitlement_id, (0, held, one.live))
        moved[one.entitlement_id] = (earlier[0] + delta, held, one.live)
    if moved:
        await connection.execute(
            _ENTITLEMENTS, list(moved), [each[0] for each in moved.values()], [each[1] for each in moved.values()],
            [each[2] for each in moved.values()], timeout=STEP_SECONDS,
        )  # fmt: skip
    entries = _entries(before, changed, actor, beyond=beyond)
    if entries:
        await connection.execute(_ENTRIES, *map(list, zip(*entries, strict=True)))
        await funds.take_fees(connection, {one.fund_id for one in changed}, actor)


def _entries(
    before: dict[UUID, Known], changed: Sequence[Known], actor: str, *, beyond: bool
) -> list[tuple[Any, ...]]:
    sums: dict[tuple[UUID, UUID, UUID, str], int] = {}

    def add(one: Known, kind: str, amount: int) -> None:
        if amount > 0:
            key = (one.fund_id, one.cycle_id, one.batch_id, kind)
            sums[key] = sums.get(key, 0) + amount

    for one in changed:
        if one.fees_by == funds.PROGRAM:
            # A rail charges for what failed too.
            add(one, "charge", one.fee - before[one.id].fee)
        if one.state not in FINAL:
            continue
        delta = one.net - before[one.id].net
        add(one, "spend", delta)
        add(one, "return" if one.live else "refund", -delta)
        if beyond:
            closed = not one.live or one.entitlement_state in {"cancelled", "expired", "rejected"}
            reserved = 0 if closed else max(0, one.due - one.had)
            add(one, "reserve", delta - reserved)
    return [
        (uuid7(), fund_id, kind, amount, cycle_id, batch_id, actor)
        for (fund_id, cycle_id, batch_id, kind), amount in sorted(sums.items(), key=lambda item: item[0][3])
    ]


def payment_id(code: str) -> UUID | None:
    """Return the id of one of our payments, None for what cannot be one."""
    try:
        return UUID(code)
    except ValueError:
        return None
