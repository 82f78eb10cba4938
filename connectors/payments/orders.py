"""Payment orders on their way into the ledger: a single one, or the rows of a batch streamed in chunks."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ValidationError

from canonical_model.message import Message
from canonical_model.payment import PaymentBatch, PaymentInstruction
from connectors.contract import Context, Exchange, Receipt
from connectors.errors import ConfigError, Refused, Unknown
from connectors.payments import amounts
from connectors.payments.contract import LedgerService

SINGLE: Final = "org.openspp.payment.instructed.v1"
BATCH: Final = "org.openspp.payment.batch_instructed.v1"
_CHUNK: Final = 1000
M = TypeVar("M", bound=BaseModel)


class Orders:
    """Takes the payment messages of one target into the ledger; a killed or repeated load goes on where it was."""

    def __init__(self, target: str, ledger: LedgerService, rows: Any = None) -> None:
        self.target, self.ledger, self._rows = target, ledger, rows

    @classmethod
    def of(cls, ctx: Context) -> Orders:
        """Return the orders of a connector's context; raises `ConfigError` (`ledger-service-missing`) without a ledger."""
        ledger = ctx.services.get("ledger")
        if not isinstance(ledger, LedgerService):
            raise ConfigError(
                f"Target {ctx.target} pays from the hub's ledger of transfers, which this process does not have.",
                code="ledger-service-missing",
                remedy="Start the worker with `hub serve`.",
            )
        return cls(ctx.target, ledger, ctx.services.get("rows"))

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Return the receipt of a message once all its payments are in the ledger.

        Raises `Refused` for what is no order, a batch whose rows are not those it says (`batch-count-differs`), another
        amount of a known payment (`payment-id-reused`); `Unknown` past the deadline, after which a repeat goes on.
        """
        started_at, began = datetime.now(UTC), time.monotonic()
        try:
            async with asyncio.timeout_at(deadline):
                new = await self._enter(message)
        except TimeoutError:
            raise Unknown(
                f"The ledger of target {self.target} did not take all of message {message.id} in time.",
                code="outcome-unknown",
                remedy="Nothing: the hub sends it again, and the ledger recognises each payment. Raise the target's timeout.",
            ) from None
        exchange = Exchange(
            "ENTER", "ledger", "entered" if new else "repeated", started_at, time.monotonic() - began
        )
        return Receipt(str(message.id), (exchange,))

    async def ask(self, message: Message) -> Receipt | None:
        """Say whether the ledger holds all payments of a message."""
        return Receipt(str(message.id)) if await self.ledger.entered(self.target, message.id) else None

    async def _enter(self, message: Message) -> int:
        if message.type == SINGLE:
            order = _order(message.data, message)
            new = await self.ledger.enter(self.target, message.id, None, [order])
            totals = {"count": 1, "minor_units": order.amount.minor_units}
            await self.ledger.complete(self.target, message.id, None, totals)
            return new
        if message.type != BATCH:
            raise Refused(
                f"Target {self.target} takes no messages of type {message.type}; message {message.id} was not taken.",
                code="message-type-unsupported",
                remedy="Narrow the route's condition to the types the connector's manifest names.",
            )
        batch = _read(PaymentBatch, message.data, message)
        if await self.ledger.entered(self.target, message.id):
            return 0
        if self._rows is None:
            raise ConfigError(
                f"Target {self.target} needs the rows of message {message.id}, which this process cannot fetch.",
                code="rows-service-missing",
                remedy="Start the worker with `hub serve`.",
            )
        try:
            new, seen, units = await self._rows_of(message, batch)
        except Refused as error:
            # Nothing more of it may go out: part of it is in the books, and what is wrong with the rest a person must see.
            await self.ledger.transfers(self.target).stop(batch.batch_id, error.code)
            raise
        totals = {"count": seen, "minor_units": units}
        await self.ledger.complete(self.target, message.id, batch.batch_id, totals)
        return new

    async def _rows_of(self, message: Message, batch: PaymentBatch) -> tuple[int, int, int]:
        """Enter the rows of a batch in chunks; return how many are new, how many it has, and their sum in minor units."""
        new = seen = units = 0
        chunk: list[PaymentInstruction] = []
        async for row in self._rows.stream(batch.rows_claim):
            order = _order(row, message)
            if order.amount.currency != batch.total.currency:
                raise self._differs(message, "another currency in a row than in its total")
            chunk.append(order)
            seen, units = seen + 1, units + order.amount.minor_units
            if len(chunk) >= _CHUNK:
                new += await self.ledger.enter(self.target, message.id, batch.batch_id, chunk)
                chunk = []
        new += await self.ledger.enter(self.target, message.id, batch.batch_id, chunk)
        if (seen, units) != (batch.count, batch.total.minor_units):
            raise self._differs(
                message, f"{seen} rows and a sum that are not those it orders ({batch.count} rows)"
            )
        return new, seen, units

    @staticmethod
    def _differs(message: Message, what: str) -> Refused:
        return Refused(
            f"The batch of message {message.id} has {what}; it was stopped.",
            code="batch-count-differs",
            remedy="Find out why: rows of a batch must not change after it was instructed.",
        )


def _order(data: Any, message: Message) -> PaymentInstruction:
    """Return an order that a rail may be given; raises `Refused` (`amount-unpayable`, `payment-invalid`)."""
    order = _read(PaymentInstruction, data, message)
    amounts.check(order.amount)
    return order


def _read(model: type[M], data: Any, message: Message) -> M:
    try:
        return model.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    about_amount = first["loc"][:1] == ("amount",) or first["type"] == "amount_not_positive"
    raise Refused(
        f"Message {message.id} holds no payment order: {'.'.join(map(str, first['loc']))}: {first['type']}.",
        code="amount-unpayable" if about_amount else "payment-invalid",
        remedy="Ask the sender to correct it; nothing of this row was taken.",
    )
