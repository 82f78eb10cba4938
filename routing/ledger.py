"""The ledger of transfers: where every payment on its way through a rail stands, moved by steps that commit in groups."""

from __future__ import annotations

import asyncio
from binascii import a2b_base64, b2a_base64
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NoReturn
from uuid import UUID

import asyncpg
import orjson

from canonical_model.errors import Defect, Refused
from canonical_model.message import uuid7
from canonical_model.payment import PaymentInstruction
from canonical_model.types import to_data
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from registry.storage.listening import listen
from registry.vault import DataKey, Vault, aad
from routing import metrics
from routing import statements_transfers as sql
from routing.transfers import FINAL, REVIEW, SENT, UNKNOWN, WORKING, Bounds, Step, Transfer

CHANNEL: Final = "hub_transfer"
_TABLE: Final = "transfer"
LEASE: Final = 60.0
"""Seconds in which nobody else takes what one driver has taken and not yet moved."""
_TRIES: Final = 3
_AT_HAND: Final = 5_000
"""Orders kept opened in this process."""
Order = tuple[UUID, str, str | None, str | None, int, str, int, bytes]
"""An order as the table keeps it: id, payment, cycle, institution, minor units, currency, key, sealed order."""
_ENDS: Final = FINAL | {REVIEW, UNKNOWN}
_KEEPS_ROOM: Final = frozenset({None, WORKING, SENT})
"""States after a step that leave a target's bounds as they were; None is the state before."""


class Books:
    """The service `ledger`: the transfers of all targets. What it returns from is committed."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, *, group_commit_ms: float = 3.0) -> None:
        self._pool, self._vault = pool, vault
        self._group: GroupCommit[tuple[str, Step], bool] = GroupCommit(
            self._write, delay=group_commit_ms / 1000, most=500, parallel=1, bound=50_000
        )
        self._finds: GroupCommit[tuple[str, bytes], list[Transfer]] = GroupCommit(
            self._find, delay=group_commit_ms / 1000, most=200, bound=50_000
        )
        self._instructions: dict[UUID, PaymentInstruction] = {}
        self.changed: dict[str, asyncio.Event] = {}
        """Set, by target, when something of this process became ready to be taken."""

    def transfers(self, target: str) -> TargetLedger:
        """Return the transfers of a target, for its rail."""
        return TargetLedger(self, target)

    def wake(self, target: str) -> None:
        """Let the driver of a target in this process look for work at once."""
        self.changed.setdefault(target, asyncio.Event()).set()

    async def listen(self) -> NoReturn:
        """Wake the drivers of this process for what another one entered, moved or resumed, until cancelled."""

        def heard(target: str) -> None:
            if target in self.changed:
                self.changed[target].set()

        await listen(self._pool, CHANNEL, heard)

    async def drain(self) -> None:
        """Return once every step handed in is committed or answered with an error."""
        await self._group.drain()
        await self._finds.drain()

    # Orders on their way in

    async def enter(
        self, target: str, message_id: UUID, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        """Commit payments as queued and return how many are new; one that is there already changes nothing.

        Raises `Refused` (`payment-id-reused`) when a payment is there with another amount or currency: then none is entered.
        """
        if not orders:
            return 0
        rows = await self.sealed(orders)
        columns = [list(column) for column in zip(*rows, strict=True)]
        async with (
            database_errors("entering payments"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            made = (uuid7(), target, batch_id or "", orders[0].amount.currency if batch_id else None)
            # A batch that somebody else makes at the same moment is seen by the next statement only.
            batch = await connection.fetchval(sql.BATCH, *made) or await connection.fetchval(sql.BATCH, *made)
            new: int = await connection.fetchval(sql.ENTER, batch, target, *columns)
            if new < len(orders):
                other = await connection.fetchval(
                    sql.OTHER_AMOUNT, target, columns[1], columns[4], columns[5]
                )
                if other is not None:
                    raise reused(message_id, other)
        self.wake(target)
        return new

    async def sealed(self, orders: Sequence[PaymentInstruction]) -> list[Order]:
        """Return orders as the table keeps them, each with an id of its own."""
        key = await self._vault.current_key(_TABLE)
        rows: list[Order] = []
        for order in orders:
            id_ = uuid7()
            sealed = key.seal(orjson.dumps(to_data(order)), aad(_TABLE, "instruction", id_.bytes))
            money, account = order.amount, order.payee_account
            provider = None if account is None else account.provider
            rows.append(
                (
                    id_,
                    order.payment_id,
                    order.cycle_id,
                    provider,
                    money.minor_units,
                    money.currency,
                    key.id,
                    sealed,
                )
            )
        return rows

    async def order(self, row: asyncpg.Record) -> PaymentInstruction:
        """Return the order of a row with `id`, `key_id` and `instruction`; raises `Defect` when it was tampered with."""
        key = await self._vault.key(row["key_id"])
        data = key.open(row["instruction"], aad(_TABLE, "instruction", row["id"].bytes))
        return PaymentInstruction.model_validate_json(data)

    async def complete(
        self, target: str, message_id: UUID, batch_id: str | None, totals: Mapping[str, int]
    ) -> None:
        """Say that all payments of a message are entered; `totals` (`count`, `minor_units`) are what a batch must come to."""
        async with database_errors("completing a batch"):
            await self._pool.execute(
                sql.COMPLETE, target, message_id, batch_id or "", totals["count"], totals["minor_units"]
            )

    async def entered(self, target: str, message_id: UUID) -> bool:
        """Say whether all payments of a message are in the books."""
        async with database_errors("looking for a message's payments"):
            return bool(await self._pool.fetchval(sql.ENTERED, target, message_id))

    # Steps

    async def apply(self, target: str, steps: Sequence[Step]) -> list[bool]:
        """Commit steps and say of each whether it took effect."""
        for step in steps:
            _check(step)
        if len(steps) == 1:
            return [await self._group.submit((target, steps[0]))]
        return list(await asyncio.gather(*(self._group.submit((target, step)) for step in steps)))

    async def _write(self, items: Sequence[tuple[str, Step]]) -> Sequence[bool | Exception]:
        """Write steps in rounds, since one statement moves a row only once."""
        key = self._vault.cached_key(_TABLE) or await self._vault.current_key(_TABLE)
        done = [False] * len(items)
        left = list(range(len(items)))
        while left:
            seen: set[str] = set()
            now: list[int] = []
            later: list[int] = []
            for place in left:
                id_ = items[place][1].id
                (later if id_ in seen else now).append(place)
                seen.add(id_)
            for place in await self._round(items, now, key):
                done[place] = True
            left = later
        return done

    async def _round(
        self, items: Sequence[tuple[str, Step]], places: Sequence[int], key: DataKey
    ) -> list[int]:
        moment = datetime.now(UTC)
        at = moment.isoformat(timespec="milliseconds")
        steps = [self._column(place, *items[place], key, at) for place in places]
        references = [
            (step.id, target, self._hash(target, kind, value))
            for target, step in (items[place] for place in places)
            if step.references
            for kind, value in step.references.items()
        ]
        columns = [_filled(column) for column in zip(*steps, strict=True)]
        columns += [list(column) for column in zip(*references, strict=True)] if references else [[], [], []]
        async with database_errors("moving transfers"):
            for attempt in range(_TRIES):
                try:
                    rows = await self._pool.fetch(sql.APPLY, *columns)
                    break
                except asyncpg.TransactionRollbackError:
                    if attempt == _TRIES - 1:
                        raise
        moved = []
        for row in rows:
            target, step = items[row["place"]]
            moved.append(row["place"])
            if step.state is not None and step.state != step.expected[1]:
                before = row["before"]
                since = row["created_at"] if before is None else _entered_at(before)
                seconds = (moment - since).total_seconds()
                metrics.transfer_moved(target, step.state, step.expected[0], seconds)
        # What goes on to be asked or sent makes no room and is nothing to take, so nobody looks for work because of it.
        for name in {items[place][0] for place in moved if items[place][1].state not in _KEEPS_ROOM}:
            self.wake(name)
        return moved

    def _column(self, place: int, target: str, step: Step, key: DataKey, at: str) -> tuple[Any, ...]:
        refs = request = None
        if step.references or step.request is not None:
            row = bytes.fromhex(step.id.replace("-", ""))
            if step.references:
                refs = orjson.dumps(
                    {
                        kind: f"{key.id}:{b2a_base64(key.seal(value.encode(), _place(row, kind)), newline=False).decode()}"
                        for kind, value in step.references.items()
                    }
                ).decode()
            if step.request is not None:
                request = key.seal(step.request, aad(_TABLE, "request", row))
        state = step.state or step.expected[1]
        entry = f"{at}|{step.stage or step.expected[0]}|{state}|{step.reason or ''}"
        ends = step.state in _ENDS
        return (
            place, step.id, *step.expected, step.stage, step.state, step.institution, refs, request,
            None if request is None else key.id, step.condition, step.amount, step.fee, step.asked, step.resent, step.reason,
            None if ends and state != UNKNOWN else step.due_in, step.completed_at, step.rail_reference, ends, entry,
        )  # fmt: skip

    def _hash(self, target: str, kind: str, value: str) -> bytes:
        return self._vault.blind.digest("transfer-ref", f"{target}\x00{kind}\x00{value}".encode())

    # Reading

    async def find(self, target: str, kind: str, value: str) -> list[Transfer]:
        """Return the transfers that have, or once had, a reference of this kind and value."""
        return await self._finds.submit((target, self._hash(target, kind, value)))

    async def _find(self, items: Sequence[tuple[str, bytes]]) -> Sequence[list[Transfer] | Exception]:
        async with database_errors("looking for transfers"):
            rows = await self._pool.fetch(sql.FIND, [each[0] for each in items], [each[1] for each in items])
        found: list[list[Transfer]] = [[] for _ in items]
        for row in rows:
            found[row["place"] - 1].append(await self.opened(row))
        return found

    async def opened(self, row: asyncpg.Record) -> Transfer:
        """Return a row of the table as the transfer it is; raises `Defect` when a sealed value was tampered with."""
        id_: UUID = row["id"]
        place = id_.bytes
        instruction = self._instructions.get(id_)
        if instruction is None:
            instruction = await self.order(row)
            if len(self._instructions) >= _AT_HAND:
                # An order never changes, so what was read once may be used at the next callback; the oldest goes first.
                del self._instructions[next(iter(self._instructions))]
            self._instructions[id_] = instruction
        request = None
        if row["request"] is not None:
            request_key = await self._vault.key(row["request_key_id"])
            request = request_key.open(row["request"], aad(_TABLE, "request", place))
        references = {}
        key_id, key = "", None
        for kind, sealed in row["refs"].items():
            sealed_by, _, value = sealed.partition(":")
            if key is None or sealed_by != key_id:
                key_id, key = sealed_by, await self._vault.key(int(sealed_by))
            references[kind] = key.open(a2b_base64(value), _place(place, kind)).decode()
        return Transfer(
            str(id_), row["payment_id"], row["batch_id"] or None, instruction,
            row["stage"], row["state"], row["institution"], references, request, row["condition"], row["charged"],
            row["fee"], row["asked"], row["resent"], row["reason"], row["sent_at"],
        )  # fmt: skip

    # What a driver takes

    async def take(self, target: str, bounds: Bounds) -> tuple[list[Transfer], dict[str, list[Transfer]]]:
        """Return transfers to begin with, and by institution those to go on with, leased to the caller and within bounds."""
        async with (
            database_errors("taking transfers"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            await connection.execute(sql.TAKING, target)
            begin = await connection.fetch(sql.TAKE_FIRST, target, bounds.lookups, LEASE, bounds.ahead)
            onward = await connection.fetch(sql.TAKE_ON, target, bounds.window, LEASE, bounds.bulk)
        groups: dict[str, list[Transfer]] = {}
        for row in onward:
            groups.setdefault(row["institution"] or "", []).append(await self.opened(row))
        return [await self.opened(row) for row in begin], groups

    async def overdue(self, target: str, limit: int = 200) -> list[Transfer]:
        """Return transfers whose time has come, each put off by the lease until a step says when it is due again."""
        async with database_errors("looking for overdue transfers"):
            rows = await self._pool.fetch(sql.OVERDUE, target, limit, LEASE)
        return [await self.opened(row) for row in rows]

    async def stop(self, target: str, batch_id: str | None, reason: str) -> None:
        """Let nothing more of a batch, or without one of the target, be taken until somebody resumes it."""
        async with database_errors("stopping a batch"):
            if batch_id is None:
                await self._pool.execute(sql.STOP_TARGET, target, reason)
            else:
                await self._pool.execute(sql.STOP_BATCH, target, batch_id, reason)


class TargetLedger:
    """The ledger as one target's rail sees it: `connectors.payments.contract.Ledger`."""

    def __init__(self, books: Books, target: str) -> None:
        self._books, self.target = books, target

    async def apply(self, steps: Sequence[Step]) -> list[bool]:
        """Commit steps and say of each whether it took effect."""
        return await self._books.apply(self.target, steps)

    async def find(self, kind: str, value: str) -> list[Transfer]:
        """Return the transfers that have, or once had, a reference of this kind and value."""
        return await self._books.find(self.target, kind, value)

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Let nothing more of a batch, or without one of the target, be taken until somebody resumes it."""
        await self._books.stop(self.target, batch_id, reason)


def reused(message_id: UUID, payment_id: str) -> Refused:
    """Return the refusal of a message that orders a known payment with another amount."""
    return Refused(
        f"Message {message_id} orders payment {payment_id} with another amount than before. Nothing of it was entered.",
        code="payment-id-reused",
        remedy="Give every payment an id of its own; a payment that was ordered is never changed.",
    )


def _place(row: bytes, kind: str) -> bytes:
    return aad(_TABLE, f"refs.{kind}", row)


def _filled(column: tuple[Any, ...]) -> list[Any]:
    """Return a column as `unnest` takes it: it fills what is missing with NULL, so one of nothing else is not sent at all."""
    return [] if column[0] is None and column.count(None) == len(column) else list(column)


def _entered_at(entry: str) -> datetime:
    """Return when an entry of a trail was made; the hub and its statements write it as ISO 8601 in UTC."""
    return datetime.fromisoformat(entry.partition("|")[0])


def _check(step: Step) -> None:
    """Raise `Defect` for a step that would let a rail undo what is final or decide what is a person's to decide."""
    before, after = step.expected[1], step.state
    if after is None or after in (before, REVIEW):
        return
    if before in FINAL or before == REVIEW:
        raise Defect(
            f"A rail would move transfer {step.id} from {before} to {after}; it stays as it is.",
            code="transfer-step-forbidden",
            remedy="Report it to the connector's owner: what is final goes to review, and review is a person's.",
        )
