"""Where a registrant's identity document lies: here, sealed, or at an ID system, of which the hub keeps only a token.

Both are one contract, so that whoever reads and writes documents need not know which it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused, Unavailable
from registry.storage.database import database_errors
from registry.vault.cipher import FORMAT, aad, sealed_place
from registry.vault.keys import Vault

Connection = asyncpg.Connection | PoolConnectionProxy

TOKEN_LIMIT: Final = 1024
_QUESTIONS: Final = 8
_DEADLINE: Final = 10.0
_PUT_HERE: Final = """
INSERT INTO registrant_vault (registrant_id, key_id, format, sealed)
SELECT id, $2, $3, sealed FROM unnest($1::uuid[], $4::bytea[]) AS t (id, sealed)
ON CONFLICT (registrant_id) DO UPDATE SET key_id = excluded.key_id, format = excluded.format, sealed = excluded.sealed
"""
_GET_HERE: Final = """
SELECT registrant_id, key_id, format, sealed FROM registrant_vault WHERE registrant_id = ANY($1::uuid[])
"""
_PUT_REFERENCE: Final = """
INSERT INTO registrant_reference (registrant_id, system, key_id, sealed, confirmed_at)
SELECT id, $2, $3, sealed, confirmed_at FROM unnest($1::uuid[], $4::bytea[], $5::timestamptz[]) AS t (id, sealed, confirmed_at)
ON CONFLICT (registrant_id) DO UPDATE SET system = excluded.system, key_id = excluded.key_id, sealed = excluded.sealed,
    confirmed_at = excluded.confirmed_at, unknown_since = NULL
"""
_GET_REFERENCE: Final = """
SELECT registrant_id, key_id, sealed FROM registrant_reference WHERE registrant_id = ANY($1::uuid[]) AND system = $2
"""
_HEARD: Final = """
UPDATE registrant_reference SET
    confirmed_at = CASE WHEN registrant_id = ANY ($1::uuid[]) THEN $4 ELSE confirmed_at END,
    unknown_since = CASE WHEN registrant_id = ANY ($1::uuid[]) THEN NULL ELSE coalesce(unknown_since, $4) END
WHERE system = $3 AND registrant_id = ANY ($1::uuid[] || $2::uuid[])
"""
_AGED: Final = """
SELECT registrant_id FROM registrant_reference WHERE system = $1 AND confirmed_at < $2
ORDER BY confirmed_at, registrant_id LIMIT $3
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one registrant's identity: the document, the ID system's token, or both."""

    registrant_id: UUID
    document: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    confirmed_at: datetime | None = None
    """When the ID system vouched for it (default: now)."""


class PersonVault(Protocol):
    """Keeps identity documents of registrants, wherever they lie; opening one is audited by who asks for it."""

    async def put(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Keep what is given, in the caller's transaction; raises `Refused` when it is not what this vault keeps."""

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """Return the documents of those who have one; raises `Unavailable` when they cannot be had now."""


class IdentitySource(Protocol):
    """Asks an ID system through a route; handed in by the floor above, since the registry knows no connectors."""

    async def identity(self, token: str, deadline: float) -> bytes | None:
        """Return the identity document of whom a token stands for, None when the system does not know the token.

        `deadline` is in seconds; raises `Unavailable` past it or when the system cannot answer.
        """


class HereVault:
    """Documents lie sealed in the hub's own database."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault

    async def put(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Seal documents with this month's data key; raises `Refused` (`document-missing`) when one has none."""
        key = await self._vault.current_key("registrant_vault")
        documents = []
        for each in entries:
            if each.document is None:
                raise Refused(
                    f"Registrant {each.registrant_id} came without an identity document; nothing was kept.",
                    code="document-missing",
                    remedy="Have the source send the data itself, or keep registrants by reference.",
                )
            documents.append(key.seal(each.document, sealed_place(FORMAT, each.registrant_id)))
        await connection.execute(
            _PUT_HERE, [each.registrant_id for each in entries], key.id, FORMAT, documents
        )

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """Open documents; raises `Defect` (`sealed-value-broken`) when one was tampered with."""
        async with database_errors("reading identity documents"):
            rows = await self._pool.fetch(_GET_HERE, list(ids))
        found = {}
        for row in rows:
            key = await self._vault.key(row["key_id"])
            id_ = row["registrant_id"]
            found[id_] = key.open(row["sealed"], sealed_place(row["format"], id_))
        return found


class ReferenceVault:
    """Documents stay at an ID system: here lie its token for the person, sealed, and when it last knew the token.

    What it answers is handed on and kept nowhere. `questions` are under way at a time.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        source: IdentitySource,
        *,
        system: str,
        deadline: float = _DEADLINE,
        questions: int = _QUESTIONS,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._source = source
        self.system = system
        self._deadline = deadline
        self._room = asyncio.Semaphore(questions)

    async def put(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Keep tokens and when they were confirmed, and drop the documents; raises `Refused` (`reference-missing`)."""
        key = await self._vault.current_key("registrant_reference")
        now = datetime.now(UTC)
        sealed = []
        for each in entries:
            if not each.token or len(each.token) > TOKEN_LIMIT:
                raise Refused(
                    f"Registrant {each.registrant_id} came without a token of the ID system {self.system}; nothing was kept.",
                    code="reference-missing",
                    remedy=f"Have the ID system give a token of 1 to {TOKEN_LIMIT} characters for the person first.",
                )
            sealed.append(key.seal(each.token.encode(), _place(each.registrant_id)))
        await connection.execute(
            _PUT_REFERENCE,
            [each.registrant_id for each in entries],
            self.system,
            key.id,
            sealed,
            [each.confirmed_at or now for each in entries],
        )

    async def get(self, ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """Ask the ID system for documents and note that it knew them, or since when it does not.

        Raises `Unavailable` when the system does not answer one of them in time; what it said of the others is noted.
        """
        async with database_errors("reading references"):
            rows = await self._pool.fetch(_GET_REFERENCE, list(ids), self.system)
        tokens = []
        for row in rows:
            key = await self._vault.key(row["key_id"])
            tokens.append(
                (row["registrant_id"], key.open(row["sealed"], _place(row["registrant_id"])).decode())
            )
        asked = datetime.now(UTC)
        answers = await asyncio.gather(*(self._ask(token) for _, token in tokens), return_exceptions=True)
        found, unknown, failed = {}, [], []
        for (id_, _), answer in zip(tokens, answers, strict=True):
            if isinstance(answer, BaseException):
                failed.append(answer)
            elif answer is None:
                unknown.append(id_)
            else:
                found[id_] = answer
        if found or unknown:
            async with database_errors("noting what an ID system said"):
                await self._pool.execute(_HEARD, list(found), unknown, self.system, asked)
        if failed:
            raise failed[0]
        return found

    async def unconfirmed(self, before: datetime, limit: int = 1000) -> list[UUID]:
        """Return whom the ID system was last known to know before a time, longest first; `get` confirms them."""
        async with database_errors("looking for old references"):
            rows = await self._pool.fetch(_AGED, self.system, before, limit)
        return [row["registrant_id"] for row in rows]

    async def _ask(self, token: str) -> bytes | None:
        try:
            async with self._room, asyncio.timeout(self._deadline + 1):
                return await self._source.identity(token, self._deadline)
        except TimeoutError as error:
            raise Unavailable(
                f"The ID system {self.system} did not answer within {self._deadline:g} s.",
                code="ask-timeout",
                remedy="Ask again; `hub doctor --probe` shows whether the target answers.",
                retry_after=5,
            ) from error


def _place(registrant_id: UUID) -> bytes:
    return aad("registrant_reference", "sealed", registrant_id.bytes)
