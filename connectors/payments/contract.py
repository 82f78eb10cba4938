"""What a payment rail is, and what it may ask of the ledger: everything a rail's author must know, on one screen.

A rail is asynchronous, so nothing waits in memory for money: **the ledger is the truth**. The driver hands a rail rows of it,
the rail says which step each takes, and sends only after `Ledger.apply` has committed that step. Callbacks reach any process
of the hub; the rail finds their rows with `Ledger.find` and applies the next step there.

The rule of money: a step to `sent`, with the ids and exact bytes of the order, is committed before its first byte leaves. A
resend is those bytes again. After a time-out a rail asks, then resends where the system recognises repeats, then gives the
transfer to a person (`review`). So does a late or contradictory answer; nothing is ever paid again by itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable
from uuid import UUID

from canonical_model.payment import PaymentInstruction
from connectors.contract import Callback, CallbackAnswer
from routing.transfers import (
    CANCELLED,
    FAILED,
    FINAL,
    LIVE,
    LOOKUP,
    PAID,
    QUEUED,
    REVIEW,
    SENT,
    STATES,
    UNKNOWN,
    WORKING,
    Bounds,
    Step,
    Transfer,
)  # fmt: skip

__all__ = [
    "CANCELLED", "FAILED", "FINAL", "LIVE", "LOOKUP", "PAID", "QUEUED", "REVIEW", "SENT", "STATES", "UNKNOWN", "WORKING",
    "Bounds", "Callback", "CallbackAnswer", "Ledger", "LedgerService", "Rail", "Step", "Transfer",
]  # fmt: skip


class Rail(Protocol):
    """Takes transfers of the ledger through one outside system. `bounds` says how much may be under way (optional)."""

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Take transfers that are queued at `lookup` one step on; a row left as it is comes again after its lease."""

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Take transfers on that a step set back to queued at a later stage; all are of one payee institution."""

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Act on transfers whose `due_in` has passed: ask again, ask the state, resend the identical bytes, or give up."""


@runtime_checkable
class Ledger(Protocol):
    """The durable table of transfers of one target."""

    async def apply(self, steps: Sequence[Step]) -> list[bool]:
        """Commit steps and say of each whether it took effect; returns after the commit.

        A transfer that is paid, failed or cancelled may only be moved to `review`, one in review only by a person: another
        step raises `Defect`. Raises `Unavailable` when the database is away: then nothing may be sent.
        """
        ...

    async def find(self, kind: str, value: str) -> list[Transfer]:
        """Return the transfers that have, or once had, a reference of this kind and value."""
        ...

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Let nothing more of a batch (without one: of the target) be taken until `hub payments resume`; for systemic failures."""
        ...


@runtime_checkable
class LedgerService(Protocol):
    """The service `ledger` of a connector's context: the hub's books, from which a rail gets those of its target."""

    async def enter(
        self, target: str, message_id: UUID, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        """Commit payments as queued and return how many are new; one that is there already changes nothing.

        Raises `Refused` (`payment-id-reused`) when a payment is there with another amount or currency.
        """
        ...

    async def complete(
        self, target: str, message_id: UUID, batch_id: str | None, totals: Mapping[str, int]
    ) -> None:
        """Say that all payments of a message are entered: `{"count": …, "minor_units": …}` is what the batch must come to."""
        ...

    async def entered(self, target: str, message_id: UUID) -> bool:
        """Say whether all payments of a message are in the books."""
        ...

    def transfers(self, target: str) -> Ledger:
        """Return the transfers of a target, for its rail."""
        ...
