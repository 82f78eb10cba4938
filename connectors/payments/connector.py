"""What every connector that pays from the ledger does alike: messages go into the ledger, and the rail does the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from canonical_model.message import Message
from connectors.contract import Callback, CallbackAnswer, Receipt
from connectors.errors import Unavailable, Unknown
from connectors.payments.orders import Orders
from connectors.registry.client import hub_errors

R = TypeVar("R")


class Paying(Generic[R]):
    """A target that pays; who derives from it sets `_orders` and `_rail` in `open` and takes them away in `close`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._orders: Orders | None = None
        self._rail: R | None = None

    @property
    def rail(self) -> R:
        """The rail of this target, for the process that drives it; raises `Unavailable` before `open`."""
        if self._rail is None:
            raise self._closed()
        return self._rail

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Take a payment, or all of a batch, into the ledger: from then on it is paid once or told why not."""
        orders = self._taken()
        with hub_errors(self._target, f"message {message.id}", lost=Unknown):
            return await orders.send(message, deadline)

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Say whether the ledger holds the payments of a message; `Unknown` while it cannot be asked."""
        orders = self._taken()
        try:
            with hub_errors(self._target, f"message {message.id}"):
                async with asyncio.timeout_at(deadline):
                    return await orders.ask(message)
        except (TimeoutError, Unavailable):
            raise Unknown(
                f"The ledger of target {self._target} cannot say now what became of message {message.id}.",
                code="outcome-unknown",
            ) from None

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Take a callback; results leave through the ledger, so there is no message in it."""
        await self.answer(callback)
        return ()

    async def answer(self, callback: Callback) -> CallbackAnswer:
        """Take a callback and say what its sender is answered; nobody calls back where this is not replaced."""
        return CallbackAnswer(404)

    def _taken(self) -> Orders:
        if self._orders is None:
            raise self._closed()
        return self._orders

    def _closed(self) -> Unavailable:
        return Unavailable(f"Target {self._target} is not open; nothing was sent.", code="target-closed")
