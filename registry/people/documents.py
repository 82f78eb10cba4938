"""Documents of registrants by reference: the content sealed in the object store, the database knows only what it is."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, insert_many
from registry.objects import ObjectStore
from registry.people.reading import WAIT, check_purpose
from registry.people.relationships import registrant_unknown
from registry.storage.database import database_errors
from registry.vault import Vault, aad

DOCUMENT_LIMIT: Final = 20 * 1024 * 1024
"""Largest document in bytes."""
_KIND: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9!#$&^_.+-]{0,126}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}")
_FIELDS: Final = "id, registrant_id, kind, media_type, size, actor, source, created_at, removed_at"
_SAME: Final = f"SELECT {_FIELDS} FROM document WHERE registrant_id = $1 AND digest = $2 AND kind = $3 AND removed_at IS NULL"
_INSERT: Final = f"""
INSERT INTO document (id, registrant_id, kind, media_type, size, digest, key_id, actor, source)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING {_FIELDS}
"""
_OF: Final = f"SELECT {_FIELDS} FROM document WHERE registrant_id = $1 AND (removed_at IS NULL OR $2) ORDER BY id LIMIT 1000"
_OPEN: Final = f"SELECT {_FIELDS}, key_id FROM document WHERE id = $1"
_REMOVE: Final = "UPDATE document SET removed_at = now(), removed_by = $2 WHERE id = $1 AND removed_at IS NULL RETURNING id"


@dataclass(frozen=True, slots=True)
class Document:
    """What is known of a document without its content."""

    id: UUID
    registrant_id: UUID
    kind: str
    media_type: str
    size: int
    actor: str
    source: str
    created_at: datetime
    removed_at: datetime | None


class Documents:
    """Documents of registrants; every method raises `Unavailable` when the database or the object store is away."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, objects: ObjectStore) -> None:
        self._pool = pool
        self._vault = vault
        self._objects = objects

    async def put(
        self, registrant_id: UUID, body: bytes, *, kind: str, media_type: str, source: str, actor: str
    ) -> Document:
        """Keep a document, sealed; the same content of the same kind is kept once and returned as it is.

        `kind` is a word of the country's such as `birth_certificate`. Raises `Refused`: `document-invalid`,
        `registrant-unknown`.
        """
        _check(body, kind, media_type)
        digest = self._vault.blind.digest("document", body)
        async with database_errors("keeping a document"), asyncio.timeout(WAIT):
            if not await self._pool.fetchval(
                "SELECT EXISTS (SELECT FROM registrant WHERE id = $1)", registrant_id
            ):
                raise registrant_unknown(registrant_id)
            held = await self._pool.fetchrow(_SAME, registrant_id, digest, kind)
        if held is not None:
            return Document(**dict(held))
        made, key = uuid7(), await self._vault.current_key("document")
        # The object first: a row without content would be a promise nobody can keep.
        await self._objects.put(_key(made), key.seal(body, aad("document", "body", made.bytes)))
        async with (
            database_errors("keeping a document"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(
                _INSERT, made, registrant_id, kind, media_type, len(body), digest, key.id, actor, source
            )
            await insert_many(connection, [_trace("document.kept", made, actor, registrant_id)])
        assert row is not None  # an INSERT that did not raise returns its row
        return Document(**dict(row))

    async def of(self, registrant_id: UUID, *, removed: bool = False) -> Sequence[Document]:
        """Return somebody's documents, without content; with `removed` those that were removed too."""
        async with database_errors("reading documents"), asyncio.timeout(WAIT):
            return [Document(**dict(row)) for row in await self._pool.fetch(_OF, registrant_id, removed)]

    async def open(self, document_id: UUID, purpose: str, actor: str) -> tuple[Document, bytes] | None:
        """Return a document with its content, None when there is none; the audit trail has it before the caller does.

        Raises `Refused` (`purpose-missing`) without a purpose of up to 200 characters.
        """
        check_purpose(purpose, actor, f"Document {document_id}")
        async with (
            database_errors("opening a document"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(_OPEN, document_id)
            there = row is not None and row["removed_at"] is None
            trace = AuditEvent(
                actor, "document.opened", "document", str(document_id), "ok" if there else "absent",
                details={"purpose": purpose} | ({"registrant": str(row["registrant_id"])} if row else {}),
            )  # fmt: skip
            await insert_many(connection, [trace])
        if row is None or not there:
            return None
        key = await self._vault.key(row["key_id"])
        sealed = await self._objects.get(_key(document_id), DOCUMENT_LIMIT + 1024)
        known = {name: value for name, value in dict(row).items() if name != "key_id"}
        return Document(**known), key.open(sealed, aad("document", "body", document_id.bytes))

    async def remove(self, document_id: UUID, *, actor: str) -> bool:
        """Remove a document's content for good; what it was stays known. False when there was none."""
        async with (
            database_errors("removing a document"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            done = await connection.fetchval(_REMOVE, document_id, actor) is not None
            if done:
                await insert_many(connection, [_trace("document.removed", document_id, actor, None)])
        # Again for one marked before, whose object may have stayed when the store was away.
        await self._objects.delete(_key(document_id))
        return done


def _check(body: bytes, kind: str, media_type: str) -> None:
    if not 0 < len(body) <= DOCUMENT_LIMIT:
        what = f"A document has between 1 and {DOCUMENT_LIMIT} bytes."
    elif not _KIND.fullmatch(kind):
        what = "The kind of a document is a word of lower case letters, digits and underscores."
    elif not _MEDIA_TYPE.fullmatch(media_type):
        what = "The media type of a document is written as type/subtype."
    else:
        return
    raise Refused(
        f"{what} Nothing was kept.", code="document-invalid", remedy="Correct it and send it again."
    )


def _key(document_id: UUID) -> str:
    return f"document/{document_id.hex}"


def _trace(action: str, made: UUID, actor: str, registrant_id: UUID | None) -> AuditEvent:
    details = None if registrant_id is None else {"registrant": str(registrant_id)}
    return AuditEvent(actor, action, "document", str(made), details=details)
