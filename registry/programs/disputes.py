"""Disputes: results that contradict what is known. A person decides what is true; the books follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from canonical_model.money import Money
from canonical_model.payment import PaymentResult, PaymentStatus
from registry.audit import AuditEvent, insert_many
from registry.programs import results
from registry.programs.refusals import Connection, not_found, one_row

_FIELDS: Final = (
    "id, payment_id, message_id, kind, status, amount_paid, currency, fee, rail_reference, reason_code, received_at, decision, "
    "decided_by, decided_at, note"
)
SETTLE_LIMIT: Final = 10_000


async def listed(
    connection: Connection, *, open_only: bool = True, before: UUID | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the newest disputes with ids below `before`, those that wait for a decision only unless told otherwise."""
    rows = await connection.fetch(
        f"SELECT {_FIELDS} FROM payment_dispute WHERE ($1::uuid IS NULL OR id < $1) AND (NOT $2 OR decision IS NULL) "
        "ORDER BY id DESC LIMIT $3",
        before,
        open_only,
        min(limit, 1000),
    )
    return [dict(row) for row in rows]


async def decide(
    connection: Connection, dispute_id: UUID, decision: str, actor: str, note: str | None
) -> dict[str, Any]:
    """Accept a result, so that the books say what it says, or dismiss it; deciding the same twice changes nothing.

    Raises `Refused`: `dispute-not-found`, `dispute-decided`, `dispute-not-ours`, `fund-overdrawn`.
    """
    found = await connection.fetchrow(f"SELECT {_FIELDS} FROM payment_dispute WHERE id = $1", dispute_id)
    if found is None:
        raise not_found("dispute", "dispute-not-found", "`hub program payment disputes` lists them.")
    # Cycles are locked before anything else, here as everywhere.
    known = await results.read(connection, {found["payment_id"]} if found["payment_id"] else set())
    row = await one_row(
        connection, f"SELECT {_FIELDS} FROM payment_dispute WHERE id = $1 FOR UPDATE", dispute_id
    )
    if row["decision"] is not None:
        if row["decision"] == decision:
            return dict(row)
        raise Refused(
            f"Dispute {dispute_id} was {row['decision']} before. Nothing was changed.",
            code="dispute-decided",
            remedy="A payment whose outcome changes again gets a new result and a new dispute.",
        )
    if decision == "accepted":
        if row["payment_id"] is None:
            raise Refused(
                f"Dispute {dispute_id} is about no payment of this hub and can only be dismissed. Nothing was changed.",
                code="dispute-not-ours",
                remedy="Ask the rail where the payment id comes from, then dismiss it.",
            )
        payment = known[row["payment_id"]]
        after = replace(payment, decision=dispute_id)
        _accept(after, row)
        await results.write(connection, known, {payment.id: after}, actor, beyond=True)
    await connection.execute(
        "UPDATE payment_dispute SET decision = $2, decided_by = $3, decided_at = now(), note = $4 WHERE id = $1",
        dispute_id,
        decision,
        actor,
        note,
    )
    await insert_many(
        connection,
        [
            AuditEvent(
                actor,
                f"payment_dispute.{decision}",
                "payment_dispute",
                str(dispute_id),
                details={"payment": str(row["payment_id"])},
            )
        ],
    )
    return dict(await one_row(connection, f"SELECT {_FIELDS} FROM payment_dispute WHERE id = $1", dispute_id))


def _accept(payment: results.Known, row: Any) -> None:
    """Make a payment say what the result says; money beyond its amount is the rail's matter and stays in the dispute."""
    said = row["amount_paid"] if row["currency"] in {None, payment.currency} else None
    status = row["status"]
    paid = failed = cancelled = 0
    if status == PaymentStatus.PAID:
        paid = payment.amount if not said or said <= 0 else min(said, payment.amount)
        failed = payment.amount - paid
    elif status == PaymentStatus.REVERSED and payment.state == "paid":
        payment.returned = payment.paid
        return
    elif status == PaymentStatus.CANCELLED:
        cancelled = payment.amount
    else:
        paid = min(said, payment.amount) if said and said > 0 else 0
        failed = payment.amount - paid
    payment.state = "paid" if paid else "cancelled" if cancelled else "failed"
    payment.paid, payment.failed, payment.cancelled, payment.returned = paid, failed, cancelled, 0
    payment.rail_reference = row["rail_reference"] or payment.rail_reference
    payment.reason_code = row["reason_code"] or payment.reason_code


async def settle(
    connection: Connection,
    ids: Sequence[UUID],
    status: PaymentStatus,
    actor: str,
    note: str,
    *,
    paid: Money | None = None,
) -> dict[str, int]:
    """Say by a person's word what became of payments whose outcome is open (a rail answered on paper, or never will).

    Returns how many were settled and how many were not open. Raises `Refused` (`settle-status`, `list-length`).
    """
    if status not in {PaymentStatus.PAID, PaymentStatus.FAILED, PaymentStatus.CANCELLED}:
        raise Refused(
            "A payment is settled as paid, failed or cancelled. Nothing was changed.",
            code="settle-status",
            remedy="Leave it open while its outcome is unknown.",
        )
    if not 0 < len(ids) <= SETTLE_LIMIT:
        raise Refused(
            f"A list has 1 to {SETTLE_LIMIT:,} ids; this one has {len(ids):,}. Nothing was changed.",
            code="list-length",
            remedy="Cut the list into parts.",
        )
    known = await results.read(connection, set(ids))
    after = {key: replace(one) for key, one in known.items()}
    settled = []
    for one in after.values():
        result = PaymentResult(
            payment_id=one.id.hex, status=status, amount_paid=paid, reason_code="settled-by-hand"
        )
        if one.state not in results.FINAL and results.settle(one, result, one.due - one.had) is None:
            one.changed = False
            settled.append(one.id)
    await results.write(connection, known, after, actor)
    await insert_many(
        connection,
        [
            AuditEvent(
                actor, "payment.settle", "payment", str(each), status.value, details={"note": note[:200]}
            )
            for each in settled
        ],
    )
    return {"settled": len(settled), "unchanged": len(set(ids)) - len(settled)}
