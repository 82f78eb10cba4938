"""One import: the file read in chunks, each written with its position in one transaction, so that a kill doubles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, Final, Protocol

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import HubError
from registry.imports.ahead import Ahead, MadeChunk, Order
from registry.imports.columns import ColumnMapping, Kind, suggest
from registry.imports.corrections import OWN
from registry.imports.files import Problem, Row
from registry.imports.reading import RowRead, RowReader
from registry.imports.source import Reading, Source
from registry.imports.store import ImportStore, Untaken
from registry.imports.templates import matching
from registry.jobs import JobContext
from registry.storage.database import database_errors

Connection = asyncpg.Connection | PoolConnectionProxy
CHUNK: Final = 2000
"""Rows of one transaction."""
SAMPLE: Final = 200
"""Rows looked at for a suggestion."""


class Writer(Protocol):
    """Writes the people and groups of a chunk; `registry.imports.writing` has the real one."""

    mostly_new: bool
    """Whether most rows of the last chunk were new, so that making them ready ahead is of use."""

    async def order(self, connection: Connection) -> Order | None:
        """Return what another process needs to make rows ready, None where only this one can."""
        ...

    def prepare(self, rows: Sequence[RowRead]) -> Any:
        """Return what is to be written for rows without a problem; called in a thread, while another chunk is written."""
        ...

    async def __call__(self, connection: Connection, prepared: Any) -> Sequence[bool | HubError]:
        """Write all rows in the caller's transaction; say for each whether it is new, or why it was not taken."""
        ...

    async def made(
        self, connection: Connection, order: Order, chunk: MadeChunk, reader: RowReader
    ) -> Sequence[bool | HubError]:
        """Write rows that another process made ready; the answers are those of a call."""
        ...


@dataclass(slots=True)
class Counts:
    """What became of the rows so far."""

    rows: int = 0
    created: int = 0
    updated: int = 0
    untaken: int = 0
    codes: dict[str, int] = field(default_factory=dict)
    """How often each problem came up."""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Counts:
        """Return the counts of a saved position."""
        return cls(said["rows"], said["created"], said["updated"], said["untaken"], dict(said["codes"]))

    def as_dict(self) -> dict[str, Any]:
        """Return the counts as a position or a result keeps them."""
        return {
            "rows": self.rows, "created": self.created, "updated": self.updated, "untaken": self.untaken,
            "codes": self.codes,
        }  # fmt: skip

    def refuse(self, problems: Sequence[Problem]) -> None:
        """Count a row that was not taken."""
        self.untaken += 1
        for code in {one.code for one in problems}:
            self.codes[code] = self.codes.get(code, 0) + 1


def propose(
    source: Source, kind: Kind, attributes: Sequence[str] = (), name: str = "unnamed"
) -> ColumnMapping:
    """Return the mapping of a file: one that comes with the hub where the header is just that, else a suggestion."""
    with source.open() as table:
        header = [column for column in table.header if column not in OWN]
        known = matching(header)
        if known is not None:
            return known
        samples: dict[str, list[str]] = {column: [] for column in header}
        for row in islice(table.rows, SAMPLE):
            for column, cell in zip(table.header, row.cells, strict=True):
                if column in samples and cell not in (None, ""):
                    samples[column].append(str(cell))
        return suggest(header, samples, kind=kind, attributes=attributes, name=name)


def check(
    source: Source,
    reading: Reading,
    told: Callable[[int], None] = lambda _: None,
    untaken: Callable[[Row, RowRead], None] | None = None,
) -> Counts:
    """Read a whole file without writing anything; `told` hears how many rows are read, `untaken` of each with a problem."""
    counts = Counts()
    with source.open() as table:
        reader = reading.reader(table.header)
        for row in table.rows:
            read = reader.read(row)
            counts.rows += 1
            if read.value is None:
                counts.refuse(read.problems)
                if untaken is not None:
                    untaken(row, read)
            if counts.rows % CHUNK == 0:
                told(counts.rows)
    told(counts.rows)
    return counts


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Rows that were read: those to be written, made ready, and those that are not taken."""

    last: int
    good: Sequence[tuple[int, Sequence[Any]]]
    """Number and cells."""
    untaken: Sequence[Untaken]
    write: Callable[[Connection], Awaitable[Sequence[bool | HubError]]]


class Import:
    """Writes a file's rows to the registry, chunk by chunk; what was written before a break is passed over afterwards."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        store: ImportStore,
        write: Writer,
        source: Source,
        reading: Reading,
        *,
        chunk: int = CHUNK,
    ) -> None:
        self._pool = pool
        self._store = store
        self._write = write
        self._source = source
        self._reading = reading
        self._chunk = chunk

    async def run(self, context: JobContext) -> dict[str, Any]:
        """Write every row behind the job's position, and return what became of all rows; the handler of a job.

        Raises `Refused` when the file cannot be read on, `Unavailable` when the database went away: the chunks before stay.
        """
        after, counts = 0, Counts()
        if context.position is not None:
            after, counts = context.position["row"], Counts.of(context.position["counts"])
        async for chunk in self._with_help(context, after):
            if chunk is None:
                return counts.as_dict()
            counts = await self._take(context, chunk, counts)
            after = chunk.last
        async for chunk in self._alone(context, after):
            counts = await self._take(context, chunk, counts)
        return counts.as_dict()

    async def _with_help(self, context: JobContext, after: int) -> AsyncIterator[_Chunk | None]:
        """Yield chunks that other processes make ready, as long as they are of use; None last where nothing is left."""
        async with database_errors("preparing an import"), self._pool.acquire(timeout=30) as connection:
            order = await self._write.order(connection)
        async with Ahead.at_work(order, self._source, self._reading, after, self._chunk) as ahead:
            if ahead is None or order is None:
                return
            with self._source.open() as table:
                reader = self._reading.reader(table.header)
            coming = asyncio.create_task(ahead.next())
            made: MadeChunk | bool = False
            try:
                while not context.cancelled and isinstance(made := await coming, MadeChunk):
                    coming = asyncio.create_task(ahead.next())
                    write = partial(self._write.made, order=order, chunk=made, reader=reader)
                    yield _Chunk(made.last, made.good, made.untaken, write)
                    if not self._write.mostly_new:
                        return
                if not context.cancelled and made is True:
                    yield None
            finally:
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)

    async def _alone(self, context: JobContext, after: int) -> AsyncIterator[_Chunk]:
        """Yield chunks behind a row; while the database writes one, a thread reads the next and makes it ready."""
        if context.cancelled:
            return
        with self._source.open() as table:
            reader = self._reading.reader(table.header)
            rows = (row for row in table.rows if row.number > after)
            coming = asyncio.create_task(asyncio.to_thread(self._read, reader, rows))
            try:
                while not context.cancelled and (chunk := await coming):
                    coming = asyncio.create_task(asyncio.to_thread(self._read, reader, rows))
                    yield chunk
            finally:
                # The thread goes through the open file, so it has to end before the file is closed.
                await asyncio.gather(coming, return_exceptions=True)

    def _read(self, reader: RowReader, rows: Iterator[Row]) -> _Chunk | None:
        good: list[tuple[int, Sequence[Any]]] = []
        reads: list[RowRead] = []
        untaken = []
        row = None
        for row in islice(rows, self._chunk):
            read = reader.read(row)
            if read.value is None:
                untaken.append(Untaken(row.number, row.cells, read.problems))
            else:
                good.append((row.number, row.cells))
                reads.append(read)
        if row is None:
            return None
        prepared = self._write.prepare(reads) if reads else None
        return _Chunk(row.number, good, untaken, partial(self._write, prepared=prepared))

    async def _take(self, context: JobContext, chunk: _Chunk, counts: Counts) -> Counts:
        new = Counts(
            counts.rows + len(chunk.good) + len(chunk.untaken), counts.created, counts.updated, counts.untaken,
            dict(counts.codes),
        )  # fmt: skip
        untaken = list(chunk.untaken)
        async with (
            database_errors("importing rows"),
            self._pool.acquire(timeout=30) as connection,
            connection.transaction(),
        ):
            answers = await chunk.write(connection) if chunk.good else []
            for (number, cells), answer in zip(chunk.good, answers, strict=True):
                if isinstance(answer, HubError):
                    untaken.append(Untaken(number, cells, [Problem(answer.code, answer.detail)]))
                elif answer:
                    new.created += 1
                else:
                    new.updated += 1
            for one in untaken:
                new.refuse(one.problems)
            await self._store.keep(connection, context.id, untaken)
            await context.save(connection, {"row": chunk.last, "counts": new.as_dict()}, new.rows)
        return new
