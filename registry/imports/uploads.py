"""Files handed in to be imported: kept sealed in parts, opened for one reader at a time, forgotten after a month."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, insert_many
from registry.imports.files import Format
from registry.imports.source import Source
from registry.objects import ObjectStore
from registry.storage.database import database_errors
from registry.vault import Vault, aad

LIMIT: Final = 512 * 1024 * 1024
"""Most bytes of one file."""
DAYS: Final = 30
_PART: Final = 4 * 1024 * 1024
_TABLE: Final = "import_file"
_OLD: Final = (
    "SELECT id, parts FROM import_file WHERE created_at < now() - make_interval(days => $1) LIMIT 100"
)


class Upload(NamedTuple):
    """What is known of a file without opening it."""

    id: UUID
    format: Format
    encoding: str | None
    sheet: str | None
    parts: int
    key_id: int
    actor: str
    created_at: datetime


class UploadStore:
    """Files of one hub; every method raises `Unavailable` while database or object store are away."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, objects: ObjectStore) -> None:
        self._pool, self._vault, self._objects = pool, vault, objects

    async def keep(
        self,
        pieces: AsyncIterator[bytes],
        *,
        format: Format,
        actor: str,
        encoding: str | None = None,
        sheet: str | None = None,
        request_id: str | None = None,
    ) -> UUID:
        """Keep a file as it arrives, four megabytes of it in memory; raises `Refused` (`import-file-too-large`, `import-header-missing`).

        What was written of a file that broke off is removed.
        """
        id_, size, parts = uuid7(), 0, 0
        key = await self._vault.current_key(_TABLE)
        rest = bytearray()

        async def put() -> None:
            nonlocal parts, rest
            part, rest = bytes(rest[:_PART]), rest[_PART:]
            await self._objects.put(_key(id_, parts), key.seal(part, _bound(id_, parts)))
            parts += 1

        try:
            async for piece in pieces:
                size += len(piece)
                if size > LIMIT:
                    raise Refused(
                        f"The file is larger than {LIMIT:,} bytes. Nothing was kept.",
                        code="import-file-too-large",
                        remedy="Cut it into parts, or import it with `hub import run` on the hub's machine.",
                    )
                rest += piece
                while len(rest) >= _PART:
                    await put()
            if rest:
                await put()
            if not parts:
                raise Refused(
                    "The file is empty. Nothing was kept.",
                    code="import-header-missing",
                    remedy="Send a file with a header and rows.",
                )
            async with (
                database_errors("keeping a file"),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                await connection.execute(
                    "INSERT INTO import_file (id, format, encoding, sheet, size, parts, key_id, actor) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                    id_, format.value, encoding, sheet, size, parts, key.id, actor,
                )  # fmt: skip
                details = {"format": format.value, "size": size}
                event = AuditEvent(
                    actor, "import_file.create", "import_file", str(id_), "ok", request_id, details
                )
                await insert_many(connection, [event])
        except BaseException:
            await asyncio.shield(self._remove(id_, parts + 1))
            raise
        return id_

    async def get(self, id_: UUID) -> Upload:
        """Return what is known of a file; raises `Refused` (`import-file-missing`)."""
        async with database_errors("reading a file"):
            row = await self._pool.fetchrow(
                "SELECT id, format, encoding, sheet, parts, key_id, actor, created_at FROM import_file WHERE id = $1",
                id_,
            )
        if row is None:
            raise Refused(
                "There is no such file, or it was forgotten. Nothing was read.",
                code="import-file-missing",
                remedy="Send it again.",
            )
        return Upload(**{**dict(row), "format": Format(row["format"])})

    @asynccontextmanager
    async def opened(self, upload: Upload) -> AsyncIterator[Source]:
        """Give the file to be read: one without a name on this machine, gone when it is closed or the process ends."""
        key = await self._vault.key(upload.key_id)
        with tempfile.TemporaryFile() as file:
            for number in range(upload.parts):
                sealed = await self._objects.get(_key(upload.id, number))
                await asyncio.to_thread(file.write, key.open(sealed, _bound(upload.id, number)))
            await asyncio.to_thread(file.flush)
            path = Path(f"/dev/fd/{os.dup(file.fileno())}")
            try:
                yield Source(path, upload.format, upload.encoding, upload.sheet)
            finally:
                os.close(int(path.name))

    async def delete(self, id_: UUID, parts: int) -> None:
        """Forget a file."""
        async with database_errors("forgetting a file"):
            await self._pool.execute("DELETE FROM import_file WHERE id = $1", id_)
        await self._remove(id_, parts)

    async def forget(self) -> int:
        """Forget files older than a month; return how many."""
        async with database_errors("forgetting files"):
            rows = await self._pool.fetch(_OLD, DAYS)
        for row in rows:
            await self.delete(row["id"], row["parts"])
        return len(rows)

    async def _remove(self, id_: UUID, parts: int) -> None:
        for number in range(parts):
            await self._objects.delete(_key(id_, number))


def _key(id_: UUID, number: int) -> str:
    return f"imports/{id_.hex}/{number}"


def _bound(id_: UUID, number: int) -> bytes:
    return aad(_TABLE, "part", id_.bytes + number.to_bytes(4, "big"))
