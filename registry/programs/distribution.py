"""Distribution: payments written batch by batch, each batch with its message in one transaction."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final
from uuid import UUID

from canonical_model.entitlement import BenefitKind
from canonical_model.localized import CODE_PATTERN
from canonical_model.message import Message, uuid7
from canonical_model.money import Money
from canonical_model.payment import PaymentBatch, PaymentInstruction
from canonical_model.program import CycleStatus
from canonical_model.registrant import RegistrantRef
from canonical_model.types import to_data
from registry.programs import cycles
from registry.programs.cycles import Cycle
from registry.programs.entitling import moving
from registry.programs.refusals import STEP_SECONDS, Connection, one_row
from registry.programs.terms import PaymentForm
from registry.programs.work import Position, Step
from registry.storage.outbox import HUB_SOURCE, Outbox

BATCH: Final = "org.openspp.payment.batch_instructed.v1"
_CODE: Final = re.compile(CODE_PATTERN)
SINGLE: Final = "org.openspp.payment.instructed.v1"
Instructions = Callable[[Connection, Cycle, UUID], Awaitable[Sequence[PaymentInstruction]]]
"""Gives the orders of a batch with what the vault holds of each payee: `BatchRows.instructions`."""
SINGLES: Final = 2000
"""Payments of one batch where each is a message of its own."""
_FIRST: Final = UUID(int=0)
_BOUND: Final = """
SELECT registrant_id FROM entitlement
WHERE cycle_id = $1 AND registrant_id > $2 AND state = 'approved' AND held IS NULL AND kind = 'cash'
ORDER BY registrant_id OFFSET $3 LIMIT 1
"""
_LAST: Final = UUID(int=2**128 - 1)
_PAY: Final = """
WITH moved AS (
    UPDATE entitlement SET state = 'sent_to_provider', tries = tries + 1, updated_at = now()
    WHERE cycle_id = $1 AND registrant_id > $2 AND registrant_id <= $3 AND state = 'approved' AND held IS NULL AND kind = 'cash'
    RETURNING id, registrant_id, recipient_id, amount + topped - paid AS amount, tries
), made AS (
    INSERT INTO payment (id, batch_id, entitlement_id, try, recipient_id, amount, state, sent_at)
    SELECT ($4 || lpad(to_hex(row_number() OVER (ORDER BY registrant_id)), 12, '0'))::uuid, $5, id, tries, recipient_id,
        amount, $6, CASE WHEN $6 = 'sent' THEN now() END
    FROM moved RETURNING amount
)
SELECT count(*) AS count, sum(amount)::bigint AS ordered FROM made
"""
FOLLOWED: Final = """(r.status = 'merged' AND EXISTS (SELECT FROM registrant own WHERE own.id = r.merged_into AND own.status = 'active')
    AND NOT EXISTS (SELECT FROM entitlement other WHERE other.cycle_id = e.cycle_id AND other.registrant_id = r.merged_into
        AND other.state NOT IN ('cancelled', 'rejected', 'expired')))"""
"""Whether the survivor of a merged registrant `r` may have what its entitlement `e` gives, without receiving twice in a cycle."""
# Whoever died or was merged since the snapshot is not paid; events that come later hold by `holds.on_registrant_status`.
_GONE: Final = f"""
UPDATE entitlement e SET held = 'registrant-' || r.status, updated_at = now() FROM registrant r
WHERE (e.id, r.id) IN (
    SELECT e.id, r.id FROM entitlement e JOIN registrant r ON r.id = e.recipient_id
    WHERE e.cycle_id = $1 AND e.state = 'approved' AND e.held IS NULL AND r.status <> 'active'
    UNION
    SELECT e.id, r.id FROM entitlement e JOIN registrant r ON r.id = e.registrant_id
    WHERE e.cycle_id = $1 AND e.state = 'approved' AND e.held IS NULL AND r.status <> 'active' AND NOT {FOLLOWED})
"""
_BATCH: Final = """
INSERT INTO payment_batch (id, cycle_id, fund_id, number, form, route, count, ordered, message_id, fetched_at, actor)
SELECT $1, $2, $3, 1 + coalesce(max(number), 0), $4, $5, $6, $7, $8, CASE WHEN $4 = 'single' THEN now() END, $9
FROM payment_batch WHERE cycle_id = $2
"""


def claim_of(batch_id: UUID, version: int) -> str:
    """Return the claim with which the rows of a batch are fetched."""
    return f"payment_batch/{batch_id}/{version}"


def distributing(cycle_id: UUID, actor: str, outbox: Outbox, rows_of: Instructions) -> Step:
    """Return the step that orders one batch of payments; the cycle is distributed after the last one.

    Whoever is held is left out and goes with a later distribution, once released. `rows_of` gives the orders of a batch
    that is paid one by one.
    """

    async def step(connection: Connection, position: Position) -> tuple[Position, bool]:
        cycle = await cycles.get(connection, cycle_id, lock=True)
        if cycle.benefit.kind is not BenefitKind.CASH:
            hand = moving(
                cycle_id, actor, outbox, of=["approved"], to="sent_to_provider", state=CycleStatus.DISTRIBUTED
            )
            return await hand(connection, position)
        going, more = await _batch(connection, cycle, position, actor, outbox, rows_of)
        if more:
            return going, False
        await cycles.finish(connection, cycle_id, actor, outbox, CycleStatus.DISTRIBUTED)
        held = await connection.fetchval(
            "SELECT count(*) FROM entitlement WHERE cycle_id = $1 AND held IS NOT NULL AND state = 'approved'",
            cycle_id,
        )
        result = {name: going.get(name, 0) for name in ("batches", "payments", "ordered")} | {"held": held}
        return {**going, "result": result}, True

    return step


async def _batch(
    connection: Connection,
    cycle: Cycle,
    position: Position,
    actor: str,
    outbox: Outbox,
    rows_of: Instructions,
) -> tuple[Position, bool]:
    payment = cycle.managers.payment
    single = payment.shape is PaymentForm.SINGLE
    rows = min(payment.rows, SINGLES) if single else payment.rows
    batch_id = uuid7()
    after = UUID(position["after"]) if "after" in position else _FIRST
    if after == _FIRST:
        await connection.execute(_GONE, cycle.id, timeout=STEP_SECONDS)
    upto = await connection.fetchval(_BOUND, cycle.id, after, rows - 1, timeout=STEP_SECONDS) or _LAST
    row = await one_row(
        connection,
        _PAY,
        cycle.id,
        after,
        upto,
        str(uuid7())[:24],
        batch_id,
        "sent" if single else "issued",
        within=STEP_SECONDS,
    )
    if not row["count"]:
        return position, False
    message = None if single else batch_message(cycle, batch_id, 1, row["count"], row["ordered"])
    await connection.execute(
        _BATCH, batch_id, cycle.id, cycle.fund_id, payment.shape.value, payment.route, row["count"], row["ordered"],
        None if message is None else message.id, actor,
    )  # fmt: skip
    messages = (
        [message]
        if message is not None
        else [_single(said) for said in await rows_of(connection, cycle, batch_id)]
    )
    await outbox.write(connection, messages, route=payment.route, needed=True)
    return {
        "after": str(upto), "batches": position.get("batches", 0) + 1,
        "payments": position.get("payments", 0) + row["count"], "count": position.get("count", 0) + row["count"],
        "ordered": position.get("ordered", 0) + row["ordered"],
    }, upto != _LAST  # fmt: skip


def batch_message(cycle: Cycle, batch_id: UUID, version: int, count: int, ordered: int) -> Message:
    """Return the one message that orders a batch; whoever sends it fetches the rows with its claim."""
    said = PaymentBatch(
        batch_id=batch_id.hex,
        program_id=cycle.program,
        cycle_id=cycle.id.hex,
        rows_claim=claim_of(batch_id, version),
        count=count,
        total=Money(minor_units=ordered, currency=cycle.currency),
    )
    return Message(
        source=HUB_SOURCE,
        type=BATCH,
        subject=f"payment_batch/{batch_id}",
        correlationid=batch_id.hex,
        originid=claim_of(batch_id, version),
        data=to_data(said),
    )


def origin_of(payment_id: UUID) -> str:
    """Return the `originid` of the message that orders one payment."""
    return f"payment/{payment_id.hex}"


def _single(said: PaymentInstruction) -> Message:
    return Message(
        source=HUB_SOURCE,
        type=SINGLE,
        subject=f"payment/{said.payment_id}",
        correlationid=said.payment_id,
        originid=origin_of(UUID(said.payment_id)),
        data=to_data(said),
    )


def instruction(
    program: str, cycle_id: UUID, currency: str, batch_id: UUID, row: Any, **known: Any
) -> PaymentInstruction:
    """Return the order of one payment; `known` adds what the vault holds of the payee.

    The attribute `preferred_rail`, where it is declared and holds a code, says how the payee would rather be paid.
    """
    preferred = row["preferred"]
    return PaymentInstruction(
        payment_id=row["id"].hex,
        batch_id=batch_id.hex,
        program_id=program,
        cycle_id=cycle_id.hex,
        entitlement_id=row["entitlement_id"].hex,
        payee=RegistrantRef(registrant_id=row["recipient_id"], **known.pop("payee", {})),
        amount=Money(minor_units=row["amount"], currency=currency),
        area=row["area"],
        preferred_rail=preferred if preferred and _CODE.fullmatch(preferred) else None,
        **known,
    )
