"""What the conformance kit tries a paying connector against: its peer, and a ledger that fails as its database can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from canonical_model.message import Message, new_traceparent
from canonical_model.payment import PaymentInstruction
from connectors.errors import Refused, Unavailable, Unknown
from connectors.testing.sandbox import Mode, Seen

_MAX_KEPT: Final = 10_000


def example_message(account: Mapping[str, str] | None = None, *, currency: str = "KES") -> Message:
    """Return the order to pay a made-up person, at a wallet or at the account given."""
    return Message(
        source="/sandbox",
        type="org.openspp.payment.instructed.v1",
        subject="person/ZM-4411-7723",
        traceparent=new_traceparent(),
        data={
            "payment_id": "P-1",
            "payee": {"identifiers": [{"id_type": "UIN", "value": "ZM-4411-7723"}]},
            "payee_name": {"full_name": "Zuleika Marker"},
            "payee_account": {"kind": "mobile_money", "account_number": "+999555012345", **(account or {})},
            "amount": {"minor_units": 85000, "currency": currency},
            "note": "zuleika.marker@person.example",
        },
    )


class PeerSandbox(Protocol):
    """The system that a paying connector reaches, on a loopback port or in folders."""

    async def start(self) -> None:
        """Be there."""

    async def stop(self) -> None:
        """Be gone; safe to call twice."""

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that reaches it."""

    def secrets(self) -> Sequence[str]:
        """Return the secrets among the settings."""


class EntryLedger(Protocol):
    """Where a paying connector's orders are entered."""

    def order(self, orders: Sequence[PaymentInstruction], batch_id: str | None = None) -> int:
        """Enter payments as queued and return how many are new; one that is there already changes nothing."""


PeerT = TypeVar("PeerT", bound=PeerSandbox)
LedgerT = TypeVar("LedgerT", bound=EntryLedger)


class PayingSandbox(Generic[PeerT, LedgerT]):
    """A peer, and a ledger in `services()`; what the kit switches is how the ledger takes payments."""

    def __init__(self, peer: PeerT, ledger: LedgerT) -> None:
        self.peer, self.ledger = peer, ledger
        self.received: list[Seen] = []
        self.busiest = 0
        self._effects: dict[str, None] = {}
        self._inside = 0
        self._running = False
        self._mode, self._seconds = Mode.OK, 0.0
        self._retry_after: int | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Let the peer be there, and take payments from now on."""
        self._stopping = asyncio.Event()
        self._running = True
        await self.peer.start()

    async def stop(self) -> None:
        """Let the peer be gone, and fail every payment like a database that is gone; safe to call twice."""
        self._running = False
        self._stopping.set()
        await self.peer.stop()

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that reaches the peer."""
        return self.peer.settings()

    def services(self) -> Mapping[str, Any]:
        """Return the services a payment target finds this sandbox in."""
        return {"ledger": self}

    def secrets(self) -> Sequence[str]:
        """Return the secrets among the settings."""
        return self.peer.secrets()

    def effects(self) -> Sequence[str]:
        """Return the ids of the messages whose payments are in the ledger, each once."""
        return tuple(self._effects)

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next messages in this way; a database has no `status`."""
        self._mode, self._seconds, self._retry_after = mode, seconds, retry_after

    def transfers(self, target: str) -> LedgerT:
        """Return the ledger of a target's transfers."""
        return self.ledger

    async def enter(
        self, target: str, message_id: UUID, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        """Take payments into the ledger and return how many are new."""
        self._check_running()
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            await asyncio.sleep(0)
            return await self._enter(str(message_id), batch_id, orders)
        finally:
            self._inside -= 1

    async def complete(
        self, target: str, message_id: UUID, batch_id: str | None, totals: Mapping[str, int]
    ) -> None:
        """Take the totals of a message."""

    async def entered(self, target: str, message_id: UUID) -> bool:
        """Say whether a message's payments are all in the ledger."""
        self._check_running()
        return str(message_id) in self._effects

    async def _enter(
        self, message_id: str, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        mode = self._mode
        if mode is Mode.REFUSE:
            raise Refused(f"The program of message {message_id} is closed.", code="target-refused")
        if mode is Mode.STATUS:
            raise Unavailable("The ledger is busy.", code="target-busy", retry_after=self._retry_after)
        new = self.ledger.order(orders, batch_id)
        self.received.append(Seen(message_id, b"".join(o.payment_id.encode() for o in orders), {}))
        self._effects[message_id] = None
        if len(self.received) > _MAX_KEPT:
            del self.received[0]
            del self._effects[next(iter(self._effects))]
        if mode in (Mode.SLOW, Mode.HANG):
            await self._wait(self._seconds if mode is Mode.SLOW else None)
        if mode in (Mode.CLOSE_AFTER_BODY, Mode.GARBAGE) or (mode is Mode.HANG and not self._running):
            # What the books say when the connection breaks while a commit is answered.
            raise Unknown("The database went away while the ledger was written.", code="outcome-unknown")
        return new

    def _check_running(self) -> None:
        if not self._running:
            raise Unavailable("The database is away; nothing was entered.", code="database-unavailable")

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
