"""What becomes of entitlements and payments once a cycle is approved: held, recalled, redeemed, settled, decided."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import UTC, date, datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.money import Money
from canonical_model.payment import PaymentStatus
from registry.programs import closing, disputes, holds, reconciliation, vouchers
from registry.programs.refusals import Connection, transaction
from registry.storage.outbox import Outbox
from registry.vault import Vault

_T = TypeVar("_T")


class Payouts:
    """The part of the service of programs that looks after entitlements and payments; each call is one transaction."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, outbox: Outbox) -> None:
        self._pool, self._vault, self._outbox = pool, vault, outbox

    def _do(self, doing: str) -> AbstractAsyncContextManager[PoolConnectionProxy]:
        return transaction(self._pool, doing)

    async def _one(self, doing: str, work_: Callable[..., Awaitable[_T]], *args: Any, **more: Any) -> _T:
        async with self._do(doing) as connection:
            return await work_(connection, *args, **more)

    async def hold(
        self, ids: Sequence[UUID], reason: str, actor: str, *, until: date | None = None
    ) -> dict[str, int]:
        """Hold entitlements; what has not gone out is taken out."""
        return await self._one(
            "holding entitlements", holds.hold, ids, reason, actor, self._outbox, until=until
        )

    async def resume(self, ids: Sequence[UUID], actor: str) -> dict[str, int]:
        """Let held entitlements be paid with the next distribution."""
        return await self._one("resuming entitlements", holds.resume, ids, actor)

    async def recall(self, batch_id: UUID, reason: str, actor: str) -> dict[str, int]:
        """Take back a batch that has not gone out."""
        return await self._one("recalling a batch", holds.recall, batch_id, reason, actor, self._outbox)

    async def cancel_entitlements(self, ids: Sequence[UUID], reason: str, actor: str) -> dict[str, int]:
        """Cancel entitlements for good."""
        return await self._one("cancelling entitlements", holds.cancel, ids, reason, actor)

    async def grace(self, cycle_id: UUID, actor: str, today: date | None = None) -> dict[str, int]:
        """Look at holds with a date again."""
        return await self._one(
            "looking at holds", holds.grace, cycle_id, today or datetime.now(UTC).date(), actor
        )

    async def verify_accounts(
        self, ids: Sequence[UUID], source: str, *, expires_on: date | None = None
    ) -> int:
        """Note who has a verified account."""
        return await self._one("noting accounts", holds.verify_accounts, ids, source, expires_on=expires_on)

    async def on_registrant_status(self, connection: Connection, ids: Sequence[UUID]) -> int:
        """Stop what is not sent yet for registrants whose status changed, in the caller's transaction."""
        return await holds.on_registrant_status(connection, ids, self._outbox)

    async def redeem(self, cycle_id: UUID, entitlement_id: UUID, actor: str) -> bool:
        """Note that goods were handed out."""
        return await self._one("handing out", closing.redeem, cycle_id, entitlement_id, actor)

    async def vouchers(self, cycle_id: UUID, after: int = 0, limit: int = 1000) -> list[dict[str, Any]]:
        """Return the vouchers of a cycle with their codes."""
        return await self._one("reading vouchers", vouchers.listed, self._vault, cycle_id, after, limit)

    async def voucher_key(self, cycle_id: UUID) -> dict[str, str]:
        """Return the public key by which long codes of a cycle are checked."""
        return await self._one("reading a key of vouchers", vouchers.public_key, self._vault, cycle_id)

    async def redeem_voucher(self, cycle_id: UUID, code: str, actor: str) -> tuple[UUID, bool]:
        """Take a voucher; return its entitlement and whether it was taken just now."""
        async with self._do("taking a voucher") as connection:
            found = await vouchers.find(connection, self._vault, cycle_id, code)
            return found, await closing.redeem(connection, cycle_id, found, actor)

    async def ask_top_up(self, entitlement_id: UUID, amount: int, reason: str, actor: str) -> UUID:
        """Ask for more money for one entitlement."""
        return await self._one(
            "asking for a top-up", closing.ask_top_up, entitlement_id, amount, reason, actor
        )

    async def decide_top_up(self, top_up_id: UUID, agreed: bool, actor: str) -> dict[str, Any]:
        """Agree to a top-up or refuse it."""
        return await self._one("deciding a top-up", closing.decide_top_up, top_up_id, agreed, actor)

    async def give_back(self, payment_id: UUID, money: Money | None, actor: str, note: str) -> dict[str, Any]:
        """Note that money of a payment came back."""
        return await self._one("noting a return", closing.give_back, payment_id, money, actor, note)

    async def settle(
        self, ids: Sequence[UUID], status: PaymentStatus, actor: str, note: str, *, paid: Money | None = None
    ) -> dict[str, int]:
        """Say by hand what became of open payments."""
        return await self._one("settling payments", disputes.settle, ids, status, actor, note, paid=paid)

    async def payments(
        self, batch_id: UUID, *, state: str | None = None, after: UUID | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return payments of a batch."""
        return await self._one("listing payments", reconciliation.payments, batch_id, state, after, limit)

    async def reconcile(self, cycle_id: UUID) -> dict[str, Any]:
        """Return what became of what a cycle ordered."""
        return await self._one("reconciling a cycle", reconciliation.of_cycle, cycle_id)

    async def disputes(
        self, *, open_only: bool = True, before: UUID | None = None, limit: int = 100
    ) -> list[dict[str, Any]]:
        """Return the disputes that wait for a decision."""
        return await self._one(
            "listing disputes", disputes.listed, open_only=open_only, before=before, limit=limit
        )

    async def decide(
        self, dispute_id: UUID, decision: str, actor: str, note: str | None = None
    ) -> dict[str, Any]:
        """Accept or dismiss a disputed result."""
        return await self._one("deciding a dispute", disputes.decide, dispute_id, decision, actor, note)
