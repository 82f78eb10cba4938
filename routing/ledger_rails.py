"""The ledger of payments that may go by several rails: each on one at a time, and on the next when one has surely not paid."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.message import uuid7
from canonical_model.payment import PaymentInstruction
from canonical_model.types import to_data
from registry.storage.database import database_errors
from routing import metrics
from routing import statements_rails as sql
from routing import statements_transfers as plain
from routing.ledger import Books, Order, TargetLedger, reused
from routing.rails import Failure, Rails
from routing.transfers import CANCELLED, FAILED, PAID, UNKNOWN

_CONTRADICTS: Final = frozenset({"review", "unknown"})
_Entry = tuple[*Order, str, UUID, str | None, int, UUID]
"""An order, its target, its batch there, the code of one that no rail takes, the attempt, the batch over all rails."""


class RailsBooks:
    """The service `ledger` of routes with rails: what is entered under a route's name stands on the rail that fits it."""

    def __init__(self, pool: asyncpg.Pool, books: Books, rails: Mapping[str, Rails]) -> None:
        self._pool, self._books, self.rails = pool, books, dict(rails)

    # Orders on their way in: `connectors.payments.contract.LedgerService`

    async def enter(
        self, target: str, message_id: UUID, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        """Commit payments as queued, each on the first rail that takes it, and return how many are new.

        One that no rail takes is entered as failed, so that its sender hears of it. Raises `Refused` (`payment-id-reused`).
        """
        if not orders:
            return 0
        rails = self.rails[target]
        chosen = [rails.choose(to_data(order)) for order in orders]
        rows = await self._books.sealed(orders)
        currency = orders[0].amount.currency if batch_id else None
        async with (
            database_errors("entering payments"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            whole = await connection.fetchval(sql.WHOLE, uuid7(), target, batch_id or "", currency)
            parts: dict[str, UUID] = {target: whole}
            for name in sorted({name for name, _ in chosen if name is not None}):
                parts[name] = await connection.fetchval(sql.PART, uuid7(), name, batch_id or "", currency)
            entries: list[_Entry] = [
                (*row, name or target, parts[name or target], code, 1, whole)
                for row, (name, code) in zip(rows, chosen, strict=True)
            ]
            entered = await _enter(connection, target, entries)
            if len(entered) < len(orders):
                known = [list(column) for column in zip(*rows, strict=True)]
                other = await connection.fetchval(sql.OTHER_AMOUNT, target, known[1], known[4], known[5])
                if other is not None:
                    raise reused(message_id, other)
        for name in parts:
            self._books.wake(name)
        return len(entered)

    async def complete(
        self, target: str, message_id: UUID, batch_id: str | None, totals: Mapping[str, int]
    ) -> None:
        """Say that all payments of a message are entered; what each rail has of its batch is complete with it."""
        async with (
            database_errors("completing a batch"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(
                plain.COMPLETE,
                target,
                message_id,
                batch_id or "",
                totals["count"],
                totals["minor_units"],
            )
            parts = await connection.fetch(sql.LOCK_PARTS, target, batch_id or "")
            await connection.execute(sql.RECOUNT, [row["id"] for row in parts])

    async def entered(self, target: str, message_id: UUID) -> bool:
        """Say whether all payments of a message are in the books."""
        return await self._books.entered(target, message_id)

    def transfers(self, target: str) -> RailsLedger:
        """Return the transfers of a route with rails as its connector sees them."""
        return RailsLedger(self._pool, self._books, target)

    # What becomes of attempts that ended

    async def alone(self, connection: PoolConnectionProxy, target: str) -> None:
        """Wait until nobody else settles what a target has of routes with rails, and keep it so for the transaction."""
        names = sorted(name for name, rails in self.rails.items() if target in {name, *rails.targets})
        if names:
            await connection.execute(sql.ALONE, names)

    async def go_on(
        self, connection: PoolConnectionProxy, rows: Sequence[asyncpg.Record]
    ) -> Collection[UUID]:
        """Bring what failed to the next rail where it may, in the caller's transaction; return what is not to be told.

        A later attempt that has not left is held for a person when an earlier one says after all that it may have paid.
        """
        over = [row for row in rows if row["rails"] is not None]
        if not over:
            return set()
        late = [row for row in over if row["superseded"] and row["state"] in {*_CONTRADICTS, PAID}]
        if late:
            await connection.execute(
                sql.HOLD, [row["rails"] for row in late], [row["payment_id"] for row in late]
            )
        quiet: set[UUID] = set()
        for name in sorted({row["rails"] for row in over}):
            rails = self.rails.get(name)
            if rails is not None:
                failed = [row for row in over if row["rails"] == name and _may_go_on(rails, row)]
                quiet |= await self._next(connection, rails, failed)
        return quiet | await self._outvoted(connection, [row for row in over if row["id"] not in quiet])

    async def _outvoted(self, connection: PoolConnectionProxy, rows: Sequence[asyncpg.Record]) -> set[UUID]:
        """Return ended attempts that do not say what the payment came to, which all its attempts together do.

        Paid is what any of them paid; unknown, what of any is not known; else it is as the last one ended. Where an earlier
        attempt turns out to have paid and the last one has not, the earlier one is what counts from now on.
        """
        several = [row for row in rows if row["superseded"] or row["attempt"] > 1]
        if not several:
            return set()
        found: dict[tuple[str, str], list[asyncpg.Record]] = {}
        keys = {(row["rails"], row["payment_id"]) for row in several}
        for each in await connection.fetch(sql.ATTEMPTS, *map(list, zip(*keys, strict=True))):
            found.setdefault((each["rails"], each["payment_id"]), []).append(each)
        for attempts in found.values():
            last = next(each for each in attempts if not each["superseded"])
            paid = next((each for each in attempts if each["state"] == PAID), None)
            if paid is not None and paid["superseded"] and last["state"] in {FAILED, CANCELLED}:
                await connection.execute(sql.COUNTS, last["id"], False)
                await connection.execute(sql.COUNTS, paid["id"], True)
        outvoted, instead = set(), set()
        for row in several:
            attempts = found[row["rails"], row["payment_id"]]
            came_to = _came_to(attempts)
            last = next(each for each in attempts if not each["superseded"])
            if came_to in {FAILED, CANCELLED} and row["id"] != last["id"]:
                # The last attempt says how it ended; it kept silent as long as this one was not known.
                outvoted.add(row["id"])
                instead.add(last["id"])
            elif came_to != _says(row):
                outvoted.add(row["id"])
        if outvoted:
            await connection.execute(sql.TOLD, list(outvoted))
            await connection.execute(sql.TELL, list(instead))
        return outvoted

    async def _next(
        self, connection: PoolConnectionProxy, rails: Rails, failed: Sequence[asyncpg.Record]
    ) -> set[UUID]:
        going: list[tuple[asyncpg.Record, PaymentInstruction, str]] = []
        for row in failed:
            order = await self._books.order(row)
            name, _ = rails.choose(to_data(order), after=row["target"])
            if name is not None:
                going.append((row, order, name))
        if not going:
            return set()
        await connection.fetch(sql.HOLD_WHOLES, list({row["whole"] for row, _, _ in going}))
        parts: dict[tuple[str, str], UUID] = {}
        for key in sorted({(name, row["batch_id"] or "") for row, _, name in going}):
            currency = going[0][0]["currency"] if key[1] else None
            parts[key] = await connection.fetchval(sql.PART, uuid7(), key[0], key[1], currency)
        sealed = await self._books.sealed([order for _, order, _ in going])
        entries: list[_Entry] = [
            (*kept, name, parts[name, row["batch_id"] or ""], None, row["attempt"] + 1, row["whole"])
            for kept, (row, _, name) in zip(sealed, going, strict=True)
        ]
        by_payment = {row["payment_id"]: row for row, _, _ in going}
        await connection.execute(sql.SUPERSEDE, [row["id"] for row in by_payment.values()], True)
        entered = set(await _enter(connection, rails.name, entries))
        # The next rail has it from another order: then this failure is the end of it here, and is told.
        kept_back = [row["id"] for id_, row in by_payment.items() if id_ not in entered]
        if kept_back:
            await connection.execute(sql.SUPERSEDE, kept_back, False)
        await connection.execute(sql.RECOUNT, list(parts.values()))
        for row, _, name in going:
            if row["payment_id"] in entered:
                metrics.transfer_went_on(row["target"], name)
        return {row["id"] for id_, row in by_payment.items() if id_ in entered}


class RailsLedger(TargetLedger):
    """The transfers of a route with rails; to stop one of its batches is to stop the part on each rail."""

    def __init__(self, pool: asyncpg.Pool, books: Books, target: str) -> None:
        super().__init__(books, target)
        self._pool = pool

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Let nothing more of a batch be taken on any of its rails until somebody resumes it there."""
        async with database_errors("stopping a batch"):
            await self._pool.execute(sql.STOP_PARTS, self.target, batch_id or "", reason)


def _says(row: asyncpg.Record) -> str:
    """Return what an attempt alone says of its payment; empty while it is under way."""
    state: str = row["state"]
    if state in _CONTRADICTS:
        return UNKNOWN
    return state if state in {PAID, FAILED, CANCELLED} else ""


def _came_to(attempts: Sequence[asyncpg.Record]) -> str:
    said = [_says(each) for each in attempts]
    for word in (PAID, UNKNOWN, ""):
        if word in said:
            return word
    return _says(next(each for each in attempts if not each["superseded"]))


def _may_go_on(rails: Rails, row: asyncpg.Record) -> bool:
    if row["state"] != FAILED or row["superseded"]:
        return False
    states = [entry.split("|", 3)[2] for entry in row["trail"]]
    return rails.may_go_on(
        row["target"],
        Failure(row["reason"], row["sent_at"] is not None, row["decided_by"] is not None, states),
    )


async def _enter(connection: PoolConnectionProxy, rails: str, entries: Sequence[_Entry]) -> Collection[str]:
    columns = [list(column) for column in zip(*entries, strict=True)]
    found = await connection.fetch(sql.ENTER, *columns[:11], rails, *columns[11:])
    return {row["payment_id"] for row in found}
