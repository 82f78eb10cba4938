"""Imports of files that were handed in, as jobs any worker takes up: checking one, and writing one to the registry."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import asyncpg

from registry.attributes import load_catalog
from registry.imports.columns import ColumnMapping, Kind
from registry.imports.files import Row
from registry.imports.reading import RowRead
from registry.imports.run import Import, check, propose
from registry.imports.source import Reading, Source
from registry.imports.store import ImportStore, Untaken
from registry.imports.uploads import Upload, UploadStore
from registry.imports.writing import PeopleWriter
from registry.jobs import JobContext, Kinds
from registry.people.writing import Writer

CHECK: Final = "import.check"
RUN: Final = "import.run"
KEPT: Final = 10_000
"""Most rows with problems that a check keeps to be mended; an import keeps all."""


class ImportJobs:
    """The handlers of `CHECK` and `RUN`; params: `file`, `kind`, `mapping` (a name, or none), and `source` of a run."""

    def __init__(self, uploads: UploadStore, store: ImportStore, writer: Writer, region: str | None) -> None:
        self._uploads, self._store, self._writer, self._region = uploads, store, writer, region

    @property
    def kinds(self) -> Kinds:
        """The handlers by kind."""
        return {CHECK: self.check, RUN: self.run}

    async def check(self, context: JobContext) -> dict[str, Any]:
        """Read a whole file without writing people; the rows that would not be taken are kept for their problems."""
        untaken: list[Untaken] = []

        def note(row: Row, read: RowRead) -> None:
            if len(untaken) < KEPT:
                untaken.append(Untaken(row.number, row.cells, read.problems))

        async with self._read(context) as (source, reading, _):
            counts = await asyncio.to_thread(check, source, reading, lambda _: None, note)
        async with context.pool.acquire() as connection, connection.transaction():
            await self._store.keep(connection, context.id, untaken)
            await context.save(connection, {"row": counts.rows}, counts.rows)
        return {**counts.as_dict(), "mapping": reading.mapping.name}

    async def run(self, context: JobContext) -> dict[str, Any]:
        """Write a file's people or groups to the registry, going on where the job was saved last."""
        async with self._read(context) as (source, reading, upload):
            write = PeopleWriter(
                self._writer, source=context.params["source"], actor=context.actor, at=upload.created_at
            )
            done = await Import(context.pool, self._store, write, source, reading).run(context)
        return {**done, "mapping": reading.mapping.name}

    @asynccontextmanager
    async def _read(self, context: JobContext) -> AsyncIterator[tuple[Source, Reading, Upload]]:
        params: Mapping[str, Any] = context.params
        upload = await self._uploads.get(UUID(params["file"]))
        catalog = await load_catalog(context.pool)
        async with self._uploads.opened(upload) as source:
            kind = Kind(params["kind"])
            name = params.get("mapping")
            mapping: ColumnMapping = (
                await self._store.get(name)
                if name is not None
                else await asyncio.to_thread(propose, source, kind, [*catalog.declared(kind.value)])
            )
            areas = await known_areas(context.pool)
            yield source, Reading(mapping, catalog.declared(mapping.kind.value), areas, self._region), upload


async def known_areas(pool: asyncpg.Pool) -> Mapping[str, int] | None:
    """Return the ids of areas by their code, None while the hub knows none at all."""
    return {row["code"]: row["id"] for row in await pool.fetch("SELECT code, id FROM area")} or None
