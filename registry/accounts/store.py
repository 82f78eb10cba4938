"""Links of ids to financial addresses: made, changed, ended and resolved in whole lists, one statement for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.accounts import statements as sql
from registry.accounts.strategies import Kind, Strategy, StrategyBook, shipped
from registry.audit.writer import AuditEvent, insert_many, record
from registry.people.identity import identifier_hash
from registry.people.reading import WAIT, check_purpose
from registry.storage.database import database_errors
from registry.vault import Vault, aad, sealed_place

TABLE: Final = "account_link"
MANY: Final = 1000
"""Items of one call."""
ID_CODE: Final = "account-id-invalid"
ADDRESS_CODE: Final = "account-address-invalid"
DATES_CODE: Final = "account-dates-invalid"
LINKED_CODE: Final = "account-linked-already"
UNLINKED_CODE: Final = "account-not-linked"
REPEATED_CODE: Final = "account-id-repeated"
_FRESH: Final = 5.0
"""Seconds for which a process goes by the strategies it has read."""
Connection = asyncpg.Connection | PoolConnectionProxy
_Row = tuple[Any, ...]
"""A link as it is written: its id, the hash of the id that is linked, and the other columns."""


@dataclass(frozen=True, slots=True)
class Link:
    """What is to be linked: an id, the address it is paid at, since when and until when, and what came with them."""

    id: str = field(repr=False)
    address: str = field(repr=False)
    valid_from: datetime | None = None
    valid_to: datetime | None = None
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Name, phone number and additional information, as the sender gave them; kept sealed."""


@dataclass(frozen=True, slots=True)
class Linked:
    """What became of one item: the link that was made or ended, or the code by which it was refused."""

    link_id: UUID | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be resolved: an id, an address, or whether the two belong together."""

    id: str | None = field(default=None, repr=False)
    address: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Resolved:
    """What is known of one question; id and address are None for what was not found."""

    state: str
    """`active`, `inactive`, `absent`, or `elsewhere` for an id that is linked to another address than the one asked about."""
    source: str | None = None
    """`link` for a link, `record` for an account in a registrant's own record."""
    link_id: UUID | None = None
    id: str | None = field(default=None, repr=False)
    address: str | None = field(default=None, repr=False)
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)


_ABSENT: Final = Resolved("absent")


class Accounts:
    """The account mapper; every method raises `Unavailable` when the database is away, `Refused` for too many items."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault
        self._book: StrategyBook | None = None
        self._read_at = 0.0

    # Strategies

    async def strategies(self, connection: Connection | None = None) -> StrategyBook:
        """Return the strategies in force: those applied here, then those the hub comes with under other names."""
        if self._book is None or time.monotonic() - self._read_at > _FRESH:
            async with database_errors("reading strategies of accounts"), asyncio.timeout(WAIT):
                rows = await (connection or self._pool).fetch(sql.STRATEGIES)
            ours = [Strategy.model_validate(row["spec"]) for row in rows]
            names = {each.name for each in ours}
            self._book = StrategyBook([*ours, *(each for each in shipped() if each.name not in names)])
            self._read_at = time.monotonic()
        return self._book

    async def apply(self, strategies: Sequence[Strategy], *, actor: str) -> int:
        """Put strategies in force, each in place of one of the same name; addresses that are linked stay as they are."""
        specs = [each.model_dump(mode="json", exclude_defaults=True) for each in strategies]
        trace = AuditEvent(
            actor, "account_strategy.apply", "account_strategy", "*", details={"names": [each.name for each in strategies]}
        )  # fmt: skip
        async with self._within(None, "writing strategies of accounts") as connection:
            await connection.execute(
                sql.APPLY, [each.name for each in strategies], [each.kind for each in strategies], specs
            )
            await insert_many(connection, [trace])
        self._book = None
        return len(strategies)

    # Writing

    async def prepare(self) -> None:
        """Have at hand what writing needs besides its connection; whoever gives one of their own calls this before taking it.

        Who waits for a second connection while holding the first would wait for others who do the same.
        """
        await self._vault.current_key(TABLE)

    async def link(
        self,
        links: Sequence[Link],
        *,
        actor: str,
        request_id: str | None = None,
        connection: Connection | None = None,
    ) -> list[Linked]:
        """Link ids that have no link that stands; each item has its own outcome, in the order they came."""
        _bounded(links)
        prepared = await self._prepared(links, connection)
        async with self._within(connection, "linking accounts") as using:
            fresh = [row for row in prepared if not isinstance(row, str)]
            await using.execute(sql.EXPIRE, [row[1] for row in fresh], actor)
            made = await self._enter(using, fresh, actor)
            found = _outcomes(prepared, made, LINKED_CODE)
            await self._trace(using, "account.link", found, actor, request_id)
        return found

    async def update(
        self,
        links: Sequence[Link],
        *,
        actor: str,
        request_id: str | None = None,
        connection: Connection | None = None,
    ) -> list[Linked]:
        """Give linked ids another address; the links before stay as history. An id twice in a list is refused the second time."""
        _bounded(links)
        prepared = await self._prepared(links, connection, update=True)
        seen: set[bytes] = set()
        rows: list[_Row | str] = []
        for row in prepared:
            rows.append(REPEATED_CODE if not isinstance(row, str) and row[1] in seen else row)
            if not isinstance(row, str):
                seen.add(row[1])
        async with self._within(connection, "changing accounts") as using:
            fresh = [row for row in rows if not isinstance(row, str)]
            hashes = [row[1] for row in fresh]
            await using.execute(sql.EXPIRE, hashes, actor)
            ended = {
                row["id_hash"]
                for row in await using.fetch(sql.END, hashes, [None] * len(hashes), actor, "updated")
            }
            made = await self._enter(using, [row for row in fresh if row[1] in ended], actor)
            found = _outcomes(rows, made, UNLINKED_CODE)
            await self._trace(using, "account.update", found, actor, request_id)
        return found

    async def unlink(
        self,
        questions: Sequence[Question],
        *,
        actor: str,
        request_id: str | None = None,
        connection: Connection | None = None,
    ) -> list[Linked]:
        """End the links of ids; where an address is given, only a link to that one."""
        _bounded(questions)
        book = await self.strategies(connection)
        hashes = [
            self._hash("id", each.id) if each.id and book.read("id", each.id) else None for each in questions
        ]
        addresses = [self._hash("fa", each.address) if each.address else None for each in questions]
        asked = [(one, other) for one, other in zip(hashes, addresses, strict=True) if one is not None]
        async with self._within(connection, "ending links of accounts") as using:
            await using.execute(sql.EXPIRE, [one for one, _ in asked], actor)
            rows = await using.fetch(
                sql.END, [one for one, _ in asked], [other for _, other in asked], actor, "unlinked"
            )
            ended = {row["id_hash"]: row["id"] for row in rows}
            found = [
                Linked(code=ID_CODE) if one is None else
                Linked(done) if (done := ended.pop(one, None)) else Linked(code=UNLINKED_CODE) for one in hashes
            ]  # fmt: skip
            await self._trace(using, "account.unlink", found, actor, request_id)
        return found

    # Reading

    async def resolve(
        self,
        questions: Sequence[Question],
        *,
        actor: str,
        purpose: str,
        request_id: str | None = None,
    ) -> list[Resolved]:
        """Return what is known of ids and addresses, in their order; the audit trail has it before the caller does.

        An id without a link is looked for among the registrants when its strategy names their identifier: then the first
        account of the record that can be written as an address is its answer. Raises `Refused` (`purpose-missing`).
        """
        _bounded(questions)
        check_purpose(purpose, actor, "Where people are paid")
        book = await self.strategies()
        ids = [None if each.id is None else self._hash("id", each.id) for each in questions]
        addresses = [
            self._hash("fa", each.address) if each.id is None and each.address else None for each in questions
        ]
        records: list[bytes | None] = [None] * len(questions)
        if book.identifying:
            records = [self._record_hash(book, each.id) for each in questions]
        async with database_errors("resolving accounts"), asyncio.timeout(WAIT):
            rows = await self._pool.fetch(
                sql.RESOLVE,
                [one for one in ids if one],
                [one for one in addresses if one],
                [one for one in records if one],
            )
        keys = {key: await self._vault.key(key) for key in {row["key_id"] for row in rows}}
        held = {(row["source"], row["hash"]): _opened(row, keys[row["key_id"]], book) for row in rows}
        found = []
        for each, id_, address, known in zip(questions, ids, addresses, records, strict=True):
            one = _ABSENT
            if id_ is not None:
                one = held.get(("link", id_), _ABSENT)
                if one is _ABSENT and known is not None:
                    one = held.get(("record", known), _ABSENT)
            elif address is not None:
                one = held.get(("address", address), _ABSENT)
            found.append(_compared(one, each))
        shown = [one.link_id for one in found if one.link_id is not None]
        await self._shown(actor, purpose, shown, request_id, asked=len(questions))
        return found

    async def listed(
        self,
        *,
        id: str | None = None,
        after: UUID | None = None,
        ended: bool = False,
        limit: int = 100,
        actor: str = "",
        purpose: str | None = None,
        request_id: str | None = None,
    ) -> list[dict[str, Any]]:
        """Return links in the order they were made, of one id or of all; id and address only with a purpose, which is audited."""
        if purpose is not None:
            check_purpose(purpose, actor, "Where people are paid")
        id_hash = None if id is None else self._hash("id", id)
        async with database_errors("listing links of accounts"), asyncio.timeout(WAIT):
            rows = await self._pool.fetch(sql.LISTED, after, id_hash, ended, min(limit, MANY))
        found = [
            {name: row[name] for name in row.keys() if name not in {"key_id", "sealed"}}  # noqa: SIM118
            for row in rows
        ]
        if purpose is not None:
            for one, row in zip(found, rows, strict=True):
                key = await self._vault.key(row["key_id"])
                plain = orjson.loads(key.open(row["sealed"], aad(TABLE, "sealed", row["id"].bytes)))
                one |= {"account_id": plain["id"], "address": plain["fa"]}
            await self._shown(actor, purpose, [row["id"] for row in rows], request_id)
        return found

    # Within

    @asynccontextmanager
    async def _within(self, connection: Connection | None, what: str) -> AsyncIterator[Connection]:
        """Use the caller's own transaction, or one of its own."""
        async with database_errors(what), asyncio.timeout(WAIT):
            if connection is not None:
                yield connection
                return
            async with self._pool.acquire() as mine, mine.transaction():
                yield mine

    async def _prepared(
        self, links: Sequence[Link], connection: Connection | None, *, update: bool = False
    ) -> list[_Row | str]:
        """Return a row for each link, or the code of what is wrong with it."""
        book, now = await self.strategies(connection), datetime.now(UTC)
        key = await self._vault.current_key(TABLE)
        prepared: list[_Row | str] = []
        for each in links:
            read = book.read("fa", each.address.strip())
            if book.read("id", each.id.strip()) is None:
                prepared.append(ID_CODE)
            elif read is None:
                prepared.append(ADDRESS_CODE)
            elif (each.valid_to is not None and each.valid_to <= (each.valid_from or now)) or (
                update and each.valid_from is not None and each.valid_from > now
            ):
                prepared.append(DATES_CODE)
            else:
                id_ = uuid7()
                plain: dict[str, Any] = {"id": each.id.strip(), "fa": each.address.strip()}
                if each.more:
                    plain["more"] = dict(each.more)
                sealed = key.seal(orjson.dumps(plain), aad(TABLE, "sealed", id_.bytes))
                prepared.append(
                    (
                        id_, self._hash("id", each.id), self._hash("fa", each.address), read.strategy.name,
                        each.valid_from, each.valid_to, sealed, key.id,
                    )
                )  # fmt: skip
        return prepared

    async def _enter(self, connection: Connection, rows: Sequence[_Row], actor: str) -> set[UUID]:
        if not rows:
            return set()
        *columns, keys = (list(column) for column in zip(*rows, strict=True))
        return {row["id"] for row in await connection.fetch(sql.ENTER, actor, keys[0], *columns)}

    async def _trace(
        self,
        connection: Connection,
        action: str,
        found: Sequence[Linked],
        actor: str,
        request_id: str | None,
    ) -> None:
        done = [str(one.link_id) for one in found if one.link_id is not None]
        details = {"links": done, "refused": len(found) - len(done)}
        await insert_many(
            connection, [AuditEvent(actor, action, TABLE, "*", request_id=request_id, details=details)]
        )

    async def _shown(
        self, actor: str, purpose: str, shown: Sequence[UUID], request_id: str | None, **more: Any
    ) -> None:
        """Leave the trace of what is about to be shown."""
        details = {"purpose": purpose, **more, "shown": [str(each) for each in shown]}
        await record(
            self._pool,
            AuditEvent(actor, "account.reveal", TABLE, "*", request_id=request_id, details=details),
        )

    def _hash(self, kind: Kind, text: str) -> bytes:
        # Ids and financial addresses are the same in any case of their letters (G2P Connect, cdpi_FinancialAddress).
        return self._vault.blind.index(f"account-{kind}", text.strip().lower())

    def _record_hash(self, book: StrategyBook, id_: str | None) -> bytes | None:
        read = None if id_ is None else book.read("id", id_)
        if read is None or read.strategy.identifier is None:
            return None
        return identifier_hash(self._vault.blind, read.strategy.identifier, read.fields["value"])


def _opened(row: asyncpg.Record, key: Any, book: StrategyBook) -> Resolved:
    state = "active" if row["holds"] else "inactive"
    if row["source"] == "record":
        document = orjson.loads(key.open(row["sealed"], sealed_place(row["form"], row["id"])))
        accounts = document["values"].get("accounts", [()])[0] or ()
        written = (book.write(each) for each in accounts)
        address = next((each for each in written if each is not None), None)
        if address is None:
            return _ABSENT
        return Resolved(state, "record", row["id"], None, address)
    plain = orjson.loads(key.open(row["sealed"], aad(TABLE, "sealed", row["id"].bytes)))
    return Resolved(state, "link", row["id"], plain["id"], plain["fa"], plain.get("more", {}))


def _outcomes(rows: Sequence[_Row | str], made: Set[UUID], otherwise: str) -> list[Linked]:
    """Return what became of each row: refused by its own code, made, or refused by the code for all that were not made."""
    return [
        Linked(code=row) if isinstance(row, str) else
        Linked(row[0]) if row[0] in made else Linked(code=otherwise) for row in rows
    ]  # fmt: skip


def _compared(one: Resolved, asked: Question) -> Resolved:
    """Return what is known of an id beside the address that was asked about with it."""
    if asked.id is None or asked.address is None or one.address is None:
        return one
    if one.address.lower() == asked.address.strip().lower():
        return one
    return Resolved("elsewhere")


def _bounded(items: Sequence[Any]) -> None:
    if len(items) > MANY:
        raise Refused(
            f"A list of accounts holds at most {MANY} items. Nothing was done.",
            code="account-list-too-long",
            remedy=f"Send lists of at most {MANY}.",
        )
