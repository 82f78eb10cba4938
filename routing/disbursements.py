"""Payments that partners order in a standard's own words: each paid once, with what was answered, and callbacks still owed.

A reference of a transaction is one payment, whatever is repeated: the database holds that. What became of it is read from the
ledger of transfers, and before a rail has it, from its delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from registry.storage.database import database_errors
from registry.vault import DataKey, Vault, aad
from routing import statements_disbursements as sql
from routing.intake import CHUNK, Intake
from routing.transfers import CANCELLED, FAILED, PAID

ITEMS: Final = "disbursement"
REQUESTS: Final = "disbursement_request"
REPEATED: Final = "reference-reused"
"""The code of an item whose reference was used for another order before."""
LEASE: Final = 60.0
"""Seconds in which no other process takes up a callback that one has taken."""
_REQUESTS_OF_ONE: Final = 200


@dataclass(slots=True)
class Order:
    """One payment to be ordered: `body` are the bytes by which a repeat is recognised, `words` the order as its sender wrote it."""

    reference_id: str
    message: Message
    body: bytes = field(repr=False)
    words: Mapping[str, Any] = field(repr=False)
    payer: str | None = field(default=None, repr=False)
    payee: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Item:
    """What was answered to one item of a request: the payment it became, or the code by which it was refused."""

    reference_id: str
    payment_id: UUID | None = None
    code: str | None = None
    text: str | None = None
    at: datetime | None = None
    """When it was refused; known of a stored request."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of a partner; `words` are kept sealed for the callback, `due_in` are seconds until it (None: there is none)."""

    partner: str
    kind: str
    origin: str
    body: bytes = field(repr=False)
    transaction_id: str = ""
    words: Mapping[str, Any] = field(default_factory=dict, repr=False)
    due_in: float | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A stored request; of a repeat, the first one with its answers."""

    id: UUID
    partner: str
    kind: str
    received_at: datetime
    transaction_id: str
    items: tuple[Item, ...]
    words: Mapping[str, Any] = field(repr=False)
    repeated: bool = False
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a payment: `rcvd`, `pdng`, `succ` or `rjct`, with the rail's code where there is one."""

    status: str
    at: datetime
    code: str | None = None
    rail_reference: str | None = None
    words: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Disbursements:
    """Stores requests and their payments in one transaction, and says later what became of them."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, intake: Intake) -> None:
        self._pool, self._vault, self._intake = pool, vault, intake

    async def order(
        self,
        asked: Asked,
        found: Sequence[Order | Item],
        request_id: str | None = None,
        *,
        whole: bool = False,
    ) -> Taken:
        """Store a request with its payments, all or nothing; `found` are orders and refused items, in the order they came.

        With `whole` a reference that stands for another order refuses all of it. Raises `Refused`: `message-id-reused` when
        the request's id came before with another body, `disburse-reference-reused`, `no-route`.
        """
        orders = [one for one in found if isinstance(one, Order)]
        entries = {}
        for number, order in enumerate(orders):
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)  # a long list must not hold up every other caller
            entries[id(order)] = await self._intake.prepare(
                order.message, partner=asked.partner, raw=order.body, request_id=request_id
            )
        key = await self._vault.current_key(ITEMS)
        await self._vault.current_key(REQUESTS)  # at hand before a connection is held
        async with (
            database_errors("storing disbursements"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            known = await self._enter(connection, asked, orders, key)
            items: list[Item] = []
            fresh = []
            for one in found:
                if isinstance(one, Item):
                    items.append(one)
                    continue
                id_, same = known[id(one)]
                if id_ == _payment(one):
                    fresh.append(entries[id(one)])
                if whole and not same:
                    raise Refused(
                        f"A reference of the request stands for another order already, payment {id_}. Nothing was ordered.",
                        code="disburse-reference-reused",
                        remedy="Give every payment a reference of its own within its batch.",
                    )
                items.append(Item(one.reference_id, id_) if same else Item(one.reference_id, None, REPEATED))
            if fresh:
                for answer in await self._intake.write(connection, fresh):
                    if isinstance(answer, Exception):
                        raise answer
            kept = await self._keep(connection, asked, items)
        return await self._taken(kept)

    async def ask(self, asked: Asked, items: Sequence[Item] = ()) -> Taken:
        """Store a request that orders nothing, so that it can be answered by a callback."""
        await self._vault.current_key(REQUESTS)  # at hand before a connection is held
        async with (
            database_errors("storing a question"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            kept = await self._keep(connection, asked, items)
        return await self._taken(kept)

    async def _enter(
        self, connection: Any, asked: Asked, orders: Sequence[Order], key: DataKey
    ) -> dict[int, tuple[UUID, bool]]:
        """Insert what is new and return for each order its payment and whether that is this very order."""
        blind = self._vault.blind
        transaction = self.transaction_hash(asked.transaction_id)
        rows = []
        for one in orders:
            id_ = _payment(one)
            sealed = key.seal(
                orjson.dumps({**one.words, "transaction_id": asked.transaction_id}),
                aad(ITEMS, "sealed", id_.bytes),
            )
            rows.append(
                (
                    id_, self._reference_hash(one.reference_id), blind.digest("disburse-item", one.body),
                    self._address_hash(one.payer), self._address_hash(one.payee), one.message.id, key.id, sealed,
                )
            )  # fmt: skip
        columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(8)]
        await connection.execute(sql.ENTER, asked.partner, transaction, *columns)
        there = {
            row["reference_hash"]: row
            for row in await connection.fetch(sql.KNOWN, asked.partner, transaction, columns[1])
        }
        return {
            id(one): (there[row[1]]["id"], there[row[1]]["body_hash"] == row[2])
            for one, row in zip(orders, rows, strict=True)
        }

    async def _keep(self, connection: Any, asked: Asked, items: Sequence[Item]) -> Taken | asyncpg.Record:
        """Store a request and return it, or the row of the one that came before under its id."""
        blind, id_ = self._vault.blind, uuid7()
        key = await self._vault.current_key(REQUESTS)
        origin = blind.digest("disburse-origin", asked.origin.encode())
        body_hash = blind.digest("disburse-body", asked.body)
        told = [
            [one.reference_id, None if one.payment_id is None else str(one.payment_id), one.code, one.text]
            for one in items
        ]
        plain = {"transaction_id": asked.transaction_id, "items": told, "words": asked.words}
        sealed = key.seal(orjson.dumps(plain), aad(REQUESTS, "sealed", id_.bytes))
        received = await connection.fetchval(
            sql.KEEP, id_, asked.partner, asked.kind, origin, body_hash, self.transaction_hash(asked.transaction_id),
            asked.due_in, key.id, sealed,
        )  # fmt: skip
        if received is not None:
            return Taken(
                id_, asked.partner, asked.kind, received, asked.transaction_id, tuple(items), asked.words
            )
        kept: asyncpg.Record = await connection.fetchrow(sql.KEPT, asked.partner, origin)
        self._check_same(kept, asked)  # within the transaction, so that nothing of another request stays
        return kept

    async def _taken(self, kept: Taken | asyncpg.Record) -> Taken:
        """Return a stored request; called without a connection held, since opening one may need the vault."""
        return kept if isinstance(kept, Taken) else await self._opened(kept, repeated=True)

    def _check_same(self, kept: asyncpg.Record, asked: Asked) -> None:
        if kept["body_hash"] != self._vault.blind.digest("disburse-body", asked.body):
            raise Refused(
                f"This message id came before with another body, as request {kept['id']}; the first one stands and nothing "
                "of this one was stored.",
                code="message-id-reused",
                pointer="/header/message_id",
                remedy="Give every new message a new id; repeat a message with exactly the same content.",
            )

    async def do_once(self, asked: Asked, work: Callable[[Any], Awaitable[Mapping[str, Any]]]) -> Taken:
        """Do work with a connection and store its answer with the request, all or nothing; a repeat gets the first answer.

        Raises `Refused` (`message-id-reused`) when the request's id came before with another body.
        """
        origin = self._vault.blind.digest("disburse-origin", asked.origin.encode())
        await self._vault.current_key(REQUESTS)  # at hand before a connection is held
        async with (
            database_errors("doing what was asked"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            # Of two that come at once the second waits here, and then finds the answer of the first.
            await connection.execute(sql.ALONE, asked.partner, origin)
            row = await connection.fetchrow(sql.KEPT, asked.partner, origin)
            if row is not None:
                self._check_same(row, asked)
            kept = row or await self._keep(
                connection, replace(asked, words={**asked.words, **await work(connection)}), ()
            )
        return await self._taken(kept)

    async def requests(self, partner: str, transaction_id: str, kind: str) -> list[Taken]:
        """Return a partner's requests of one kind in a transaction, in the order they came."""
        async with database_errors("looking for a transaction"):
            rows = await self._pool.fetch(
                sql.OF_KIND, partner, self.transaction_hash(transaction_id), kind, _REQUESTS_OF_ONE
            )
        return [await self._opened(row) for row in rows]

    # What became of them

    async def states(self, ids: Sequence[UUID], *, partner: str | None = None) -> dict[UUID, State]:
        """Return what is known of payments, by id; with a partner, of that partner's alone."""
        if not ids:
            return {}
        async with database_errors("asking for payments"):
            copying = [route.name for route in self._intake.routes if route.copies]
            rows = await self._pool.fetch(sql.STATES, list(ids), partner, copying)
        found = {}
        for row in rows:
            key = await self._vault.key(row["key_id"])
            words = orjson.loads(key.open(row["sealed"], aad(ITEMS, "sealed", row["id"].bytes)))
            found[row["id"]] = _state(row, words)
        return found

    async def of_transaction(self, partner: str, transaction_id: str) -> list[Item]:
        """Return the items of a partner's transaction: what stands of each reference, the newest answer of refused ones."""
        async with database_errors("looking for a transaction"):
            rows = await self._pool.fetch(
                sql.OF_TRANSACTION, partner, self.transaction_hash(transaction_id), _REQUESTS_OF_ONE
            )
        items: dict[str, Item] = {}
        for row in rows:
            for item in (await self._opened(row)).items:
                known = items.get(item.reference_id)
                if known is None or known.payment_id is None:
                    items[item.reference_id] = item
        return list(items.values())

    async def of_references(self, partner: str, references: Sequence[str]) -> dict[str, list[UUID]]:
        """Return the payments of a partner's references, of whichever transaction."""
        by_hash = {self._reference_hash(each): each for each in references}
        async with database_errors("looking for references"):
            rows = await self._pool.fetch(sql.OF_REFERENCES, partner, list(by_hash))
        found: dict[str, list[UUID]] = {}
        for row in rows:
            found.setdefault(by_hash[row["reference_hash"]], []).append(row["id"])
        return found

    async def of_request(self, partner: str, id_: UUID) -> Taken | None:
        """Return a partner's request by the correlation id it was told."""
        async with database_errors("looking for a request"):
            row = await self._pool.fetchrow(sql.OF_REQUEST, partner, id_)
        return None if row is None else await self._opened(row)

    async def search(self, partner: str, kind: str, address: str, limit: int) -> list[UUID]:
        """Return a partner's payments from (`payer_fa`) or to (`payee_fa`) a financial address, the newest first."""
        async with database_errors("searching disbursements"):
            rows = await self._pool.fetch(
                sql.BY_PAYER if kind == "payer_fa" else sql.BY_PAYEE,
                partner,
                self._address_hash(address),
                limit,
            )
        return [row["id"] for row in rows]

    # Callbacks

    async def due(self, limit: int = 20) -> list[Taken]:
        """Take up requests whose callback is due; nobody else takes them for a minute."""
        async with database_errors("looking for callbacks"):
            rows = await self._pool.fetch(sql.DUE, limit, LEASE)
        return [await self._opened(row) for row in rows]

    async def told(self, id_: UUID) -> None:
        """Note that a request was answered by its callback."""
        async with database_errors("noting a callback"):
            await self._pool.execute(sql.TOLD, id_)

    async def again(self, id_: UUID, due_in: float | None, *, failed: bool = False) -> None:
        """Put a callback off by seconds, or give it up with None; `failed` counts a try."""
        async with database_errors("putting off a callback"):
            await self._pool.execute(sql.AGAIN, id_, due_in, int(failed))

    def transaction_hash(self, transaction_id: str) -> bytes:
        """Return the keyed hash a transaction is found by."""
        return self._vault.blind.digest("disburse-txn", transaction_id.encode())

    def _reference_hash(self, reference_id: str) -> bytes:
        return self._vault.blind.digest("disburse-ref", reference_id.encode())

    def _address_hash(self, address: str | None) -> bytes | None:
        # A financial address is the same in any case of its letters (G2P Connect, FinancialAddress).
        return None if address is None else self._vault.blind.index("disburse-fa", address.lower())

    async def _opened(self, row: asyncpg.Record, *, repeated: bool = False) -> Taken:
        key = await self._vault.key(row["key_id"])
        plain = orjson.loads(key.open(row["sealed"], aad(REQUESTS, "sealed", row["id"].bytes)))
        items = tuple(
            Item(reference, None if id_ is None else UUID(id_), code, text, row["received_at"])
            for reference, id_, code, text in plain["items"]
        )
        return Taken(
            row["id"], row["partner"], row["kind"], row["received_at"], plain["transaction_id"], items, plain["words"],
            repeated, row["attempts"],
        )  # fmt: skip


def _payment(order: Order) -> UUID:
    return UUID(order.message.data["payment_id"])


def _state(row: asyncpg.Record, words: Mapping[str, Any]) -> State:
    if row["state"] is None:
        # A target without the ledger may have it, or a person has to say; nothing here proves that anybody was paid or was not.
        status = "rjct" if row["refused"] else "pdng" if row["open"] else "rcvd"
        code = row["delivery_code"] if row["refused"] else None
        return State(status, row["created_at"], code, None, words)
    ended = {PAID: "succ", FAILED: "rjct", CANCELLED: "rjct"}.get(row["state"])
    at = row["completed_at"] if ended and row["completed_at"] is not None else row["updated_at"]
    reason = row["reason"] or (CANCELLED if row["state"] == CANCELLED else None)
    return State(ended or "pdng", at, reason if ended == "rjct" else None, row["rail_reference"], words)
