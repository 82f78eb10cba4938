"""Plants payments in the ledger that name a person wherever an order can."""

from __future__ import annotations

from canonical_model.message import uuid7
from canonical_model.payment import PaymentInstruction
from connectors.payments.contract import LOOKUP, QUEUED, Step
from routing.ledger import Books

NAMED = ("771234567", "ZM-4711")


async def entered(
    books: Books, *numbers: int, target: str = "mojaloop", batch: str | None = "B-1"
) -> dict[str, str]:
    """Enter payments that name a person wherever an order can, and return their ids in the ledger by payment id."""
    orders = [
        PaymentInstruction.model_validate(
            {
                "payment_id": f"P-{number}",
                "cycle_id": "C-1",
                "payee": {"identifiers": [{"id_type": "NID", "value": NAMED[1]}]},
                "payee_account": {"kind": "mobile_money", "account_number": f"+254{NAMED[0]}"},
                "amount": {"minor_units": 1000 + number, "currency": "KES"},
            }
        )
        for number in numbers
    ]
    await books.enter(target, uuid7(), batch, orders)
    if batch is not None:
        total = sum(order.amount.minor_units for order in orders)
        await books.complete(target, uuid7(), batch, {"count": len(orders), "minor_units": total})
    rows = await books._pool.fetch("SELECT payment_id, id::text FROM transfer WHERE target = $1", target)
    return dict(map(tuple, rows))


async def moved(books: Books, id_: str, *states: tuple[str, str | None], fee: int | None = None) -> None:
    """Move a payment of mojaloop through these states, each with its code."""
    at = QUEUED
    for state, reason in states:
        step = Step(
            id_, (LOOKUP, at), state=state, reason=reason, fee=fee, rail_reference="R-99",
            references={"phone": NAMED[0]}, due_in=60.0,
        )  # fmt: skip
        assert await books.apply("mojaloop", [step]) == [True]
        at = state
