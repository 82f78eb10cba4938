"""The ends of things: a cycle ended or cancelled, an entitlement handed out, more money for one, money that came back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from canonical_model.money import Money
from canonical_model.payment import PaymentResult, PaymentStatus
from canonical_model.program import CycleStatus
from registry.audit import AuditEvent, insert_many
from registry.jobs import JobStore
from registry.programs import cycles, funds, results
from registry.programs.entitling import moving
from registry.programs.refusals import Connection, not_found, one_row
from registry.programs.work import Position, Step
from registry.storage.outbox import Outbox

_OPEN: Final = """
SELECT count(*) FROM payment p JOIN payment_batch b ON b.id = p.batch_id
WHERE b.cycle_id = $1 AND p.state IN ('issued', 'sent', 'unknown')
"""


async def end(jobs: JobStore, connection: Connection, cycle_id: UUID, actor: str) -> UUID:
    """End a distributed cycle whose payments are all settled; return the job. What was not redeemed expires.

    Raises `Refused` (`cycle-payments-open`), and as `cycles.start` does.
    """
    await _settled(connection, cycle_id)
    return await cycles.start(jobs, connection, cycle_id, "end", {CycleStatus.DISTRIBUTED}, actor)


def ending(cycle_id: UUID, actor: str, outbox: Outbox) -> Step:
    """Return the step that lets expire what was not redeemed, then frees the rest of the reservation."""
    close = moving(
        cycle_id, actor, outbox, of=["approved", "sent_to_provider"], to="expired", state=CycleStatus.ENDED
    )

    async def step(connection: Connection, position: Position) -> tuple[Position, bool]:
        position, done = await close(connection, position)
        if done:
            await _release(connection, cycle_id, actor)
        return position, done

    return step


async def cancel(jobs: JobStore, connection: Connection, cycle_id: UUID, actor: str, outbox: Outbox) -> UUID:
    """Cancel a cycle of which nothing is paid or on its way; return the job. What was reserved is free at once."""
    cycle = await cycles.get(connection, cycle_id, lock=True)
    if cycle.state is CycleStatus.CANCELLED:
        return await cycles.start(jobs, connection, cycle_id, "cancel", {CycleStatus.CANCELLED}, actor)
    await cycles.begin(
        connection,
        cycle_id,
        "cancel",
        {CycleStatus.DRAFT, CycleStatus.TO_APPROVE, CycleStatus.APPROVED},
        actor,
    )
    await _settled(connection, cycle_id)
    if cycle.spent:
        raise Refused(
            f"Cycle {cycle.name} has paid people already. Nothing was changed.",
            code="cycle-state",
            remedy="Distribute and end it; single entitlements can be cancelled.",
        )
    await _release(connection, cycle_id, actor)
    await cycles.finish(connection, cycle_id, actor, outbox, CycleStatus.CANCELLED)
    return await cycles.start(jobs, connection, cycle_id, "cancel", {CycleStatus.CANCELLED}, actor)


async def _settled(connection: Connection, cycle_id: UUID) -> None:
    cycle = await cycles.get(connection, cycle_id, lock=True)
    number = await connection.fetchval(_OPEN, cycle_id)
    if number:
        raise Refused(
            f"The outcome of {number} payments of cycle {cycle.name} is not known. Nothing was changed.",
            code="cycle-payments-open",
            remedy="Wait for their results, recall batches that have not gone out, or settle them by hand.",
        )


async def _release(connection: Connection, cycle_id: UUID, actor: str) -> None:
    cycle = await cycles.get(connection, cycle_id)
    if cycle.reserved and cycle.fund_id is not None:
        await funds.entry(connection, cycle.fund_id, "release", cycle.reserved, actor, cycle_id=cycle_id)


async def redeem(connection: Connection, cycle_id: UUID, entitlement_id: UUID, actor: str) -> bool:
    """Note that goods were handed out or a voucher was taken; False when it had been. Raises `Refused`.

    Codes: `entitlement-not-found`, `entitlement-state`, `entitlement-over` when its days are past or not yet come.
    """
    cycle = await cycles.get(connection, cycle_id, lock=True)
    row = await connection.fetchrow(
        "SELECT state, kind, amount, held, current_date BETWEEN valid_from AND valid_until AS valid FROM entitlement "
        "WHERE id = $1 AND cycle_id = $2 FOR UPDATE",
        entitlement_id,
        cycle_id,
    )
    if row is None:
        raise not_found(
            "entitlement", "entitlement-not-found", "`hub program cycle entitlements` lists them."
        )
    if row["state"] == "redeemed":
        return False
    if row["kind"] == "cash" or row["state"] != "sent_to_provider" or row["held"]:
        raise Refused(
            f"Entitlement {entitlement_id} is {row['kind']}, {row['state']}"
            f"{' and held' if row['held'] else ''}; it cannot be handed out. Nothing was changed.",
            code="entitlement-state",
            remedy="Money is paid by distribution; goods and vouchers are handed out once the cycle is distributed.",
        )
    if not row["valid"]:
        raise Refused(
            f"Entitlement {entitlement_id} does not hold today. Nothing was changed.",
            code="entitlement-over",
            remedy="`hub program cycle entitlements` shows from when to when it holds.",
        )
    await connection.execute(
        "UPDATE entitlement SET state = 'redeemed', paid = coalesce(amount, 0), updated_at = now() WHERE id = $1",
        entitlement_id,
    )
    if row["amount"] and cycle.fund_id is not None:
        await funds.entry(connection, cycle.fund_id, "spend", row["amount"], actor, cycle_id=cycle_id)
    await insert_many(
        connection, [AuditEvent(actor, "entitlement.redeem", "entitlement", str(entitlement_id))]
    )
    return True


async def ask_top_up(
    connection: Connection, entitlement_id: UUID, amount: int, reason: str, actor: str
) -> UUID:
    """Ask for more money for one entitlement; somebody else has to agree. Raises `Refused` (`entitlement-not-found`)."""
    if amount <= 0:
        raise Refused(
            "A top-up is above zero. Nothing was asked for.",
            code="amount-negative",
            remedy="Name what is to be added.",
        )
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM entitlement WHERE id = $1 AND kind = 'cash')", entitlement_id
    ):
        raise not_found(
            "entitlement of money", "entitlement-not-found", "`hub program cycle entitlements` lists them."
        )
    id_ = uuid7()
    await connection.execute(
        "INSERT INTO top_up (id, entitlement_id, amount, reason, maker) VALUES ($1, $2, $3, $4, $5)",
        id_,
        entitlement_id,
        amount,
        reason,
        actor,
    )
    await insert_many(
        connection, [AuditEvent(actor, "top_up.ask", "top_up", str(id_), details={"amount": amount})]
    )
    return id_


async def decide_top_up(connection: Connection, top_up_id: UUID, agreed: bool, actor: str) -> dict[str, Any]:
    """Agree to a top-up, which reserves it and lets the next distribution pay it, or refuse it; a repeat changes nothing.

    Raises `Refused`: `top-up-not-found`, `approval-own`, `top-up-decided`, `entitlement-state` while a payment is on its
    way, `cycle-state`, `fund-overdrawn`.
    """
    found = await connection.fetchrow(
        "SELECT t.entitlement_id, e.cycle_id FROM top_up t JOIN entitlement e ON e.id = t.entitlement_id WHERE t.id = $1",
        top_up_id,
    )
    if found is None:
        raise not_found("top-up", "top-up-not-found", "`hub program payment top-up` says its id.")
    cycle = await cycles.get(connection, found["cycle_id"], lock=True)
    row = await one_row(connection, "SELECT * FROM top_up WHERE id = $1 FOR UPDATE", top_up_id)
    if row["agreed"] is not None:
        if row["agreed"] == agreed:
            return dict(row)
        raise Refused(
            f"Top-up {top_up_id} was decided otherwise before. Nothing was changed.",
            code="top-up-decided",
            remedy="Ask for another one.",
        )
    if agreed:
        await _top(connection, cycle, row, actor)
    done = await one_row(
        connection,
        "UPDATE top_up SET agreed = $2, checker = $3, decided_at = now() WHERE id = $1 RETURNING *",
        top_up_id,
        agreed,
        actor,
    )
    await insert_many(
        connection,
        [AuditEvent(actor, "top_up.agree" if agreed else "top_up.refuse", "top_up", str(top_up_id))],
    )
    return dict(done)


async def _top(connection: Connection, cycle: cycles.Cycle, row: Any, actor: str) -> None:
    if cycle.state not in {CycleStatus.APPROVED, CycleStatus.DISTRIBUTED} or cycle.fund_id is None:
        raise Refused(
            f"Cycle {cycle.name} is {cycle.state.value} and pays nothing. Nothing was changed.",
            code="cycle-state",
            remedy="Money is added while a cycle is approved or distributed; later, a new cycle pays it.",
        )
    await funds.entry(
        connection,
        cycle.fund_id,
        "reserve",
        row["amount"],
        actor,
        cycle_id=cycle.id,
        once=f"top-up/{row['id']}",
    )
    done = await connection.fetchval(
        "UPDATE entitlement SET topped = topped + $2, state = 'approved', updated_at = now() "
        "WHERE id = $1 AND state IN ('approved', 'redeemed') RETURNING id",
        row["entitlement_id"],
        row["amount"],
    )
    if done is None:
        raise Refused(
            f"Entitlement {row['entitlement_id']} is closed, or a payment of it is on its way. Nothing was changed.",
            code="entitlement-state",
            remedy="Wait for the result of the payment.",
        )


async def give_back(
    connection: Connection, payment_id: UUID, money: Money | None, actor: str, note: str
) -> dict[str, Any]:
    """Note by hand that money of a payment came back, all of it where no amount is given.

    Raises `Refused` (`payment-not-found`, `payment-state`).
    """
    known = await results.read(connection, {payment_id})
    if payment_id not in known:
        raise not_found(
            "payment", "payment-not-found", "`hub program payment list` shows the payments of a batch."
        )
    after = replace(known[payment_id])
    said = PaymentResult(
        payment_id=payment_id.hex,
        status=PaymentStatus.REVERSED,
        amount_paid=money,
        reason_code="returned-by-hand",
    )
    if results.settle(after, said, 0) is not None or not after.changed:
        raise Refused(
            f"Payment {payment_id} is {after.state}; this amount cannot have come back of it. Nothing was changed.",
            code="payment-state",
            remedy="At most what was paid and has not come back before can come back.",
        )
    after.changed = False
    await results.write(connection, known, {payment_id: after}, actor)
    await insert_many(
        connection,
        [AuditEvent(actor, "payment.return", "payment", str(payment_id), details={"note": note[:200]})],
    )
    return {"payment": payment_id, "returned": after.returned, "paid": after.paid}
