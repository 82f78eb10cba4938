"""What the conformance kit tries a paying connector against: its peer, and a ledger that fails as its database can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from canonical_model.message import Message, new_traceparent
from canonical_model.payment import PaymentInstruction
from connectors.errors import Refused, Unavailable, Unknown
from connectors.payments.memory import MemoryLedger
from connectors.testing.sandbox import Mode
from connectors.testing.service import ServiceSandbox


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


PeerT = TypeVar("PeerT", bound=PeerSandbox)


class PayingSandbox(ServiceSandbox, Generic[PeerT]):
    """A peer, and a ledger in `services()`; what the kit switches is how the ledger takes payments."""

    def __init__(self, peer: PeerT) -> None:
        super().__init__()
        self.peer, self.ledger = peer, MemoryLedger()

    async def start(self) -> None:
        """Let the peer be there, and take payments from now on."""
        await super().start()
        await self.peer.start()

    async def stop(self) -> None:
        """Let the peer be gone, and fail every payment like a database that is gone; safe to call twice."""
        await super().stop()
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

    def transfers(self, target: str) -> MemoryLedger:
        """Return the ledger of a target's transfers."""
        return self.ledger

    async def enter(
        self, target: str, message_id: UUID, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        """Take payments into the ledger and return how many are new."""
        self._check_running()
        async with self._in_hand():
            return await self._enter(str(message_id), batch_id, orders)

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
        self._keep(message_id, b"".join(o.payment_id.encode() for o in orders))
        await self._linger()
        if mode in (Mode.CLOSE_AFTER_BODY, Mode.GARBAGE) or (mode is Mode.HANG and not self._running):
            # What the books say when the connection breaks while a commit is answered.
            raise Unknown("The database went away while the ledger was written.", code="outcome-unknown")
        return new

    def _check_running(self) -> None:
        if not self._running:
            raise Unavailable("The database is away; nothing was entered.", code="database-unavailable")
