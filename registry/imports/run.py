"""One import: the file read in chunks, each written with its position in one transaction, so that a kill doubles nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import HubError
from registry.attributes import Attribute
from registry.imports.columns import Column, ColumnMapping, Kind, fit, suggest
from registry.imports.corrections import OWN
from registry.imports.files import Format, Problem, Row, Table, open_table
from registry.imports.reading import RowRead, RowReader
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
    """Writes the people and groups of a chunk; `registry.people` has the real one."""

    async def __call__(self, connection: Connection, rows: Sequence[RowRead]) -> Sequence[bool | HubError]:
        """Write all rows in the caller's transaction; say for each whether it is new, or why it was not taken."""
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


@dataclass(frozen=True, slots=True)
class Source:
    """A file and how to read it."""

    path: Path
    format: Format | None = None
    encoding: str | None = None
    sheet: str | None = None

    def open(self) -> AbstractContextManager[Table]:
        """Open the file; a context manager that gives its table."""
        return open_table(self.path, format=self.format, encoding=self.encoding, sheet=self.sheet)


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


@dataclass(frozen=True, slots=True)
class Reading:
    """What rows are read with."""

    mapping: ColumnMapping
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    areas: Callable[[str], bool] | None = None
    region: str | None = None

    def reader(self, header: Sequence[str]) -> RowReader:
        """Return the reader of a file with this header; raises `Refused` (`import-columns-missing`)."""
        meaning: list[Column | None] = [
            None if name in OWN else column
            for name, column in zip(header, fit(self.mapping, header), strict=True)
        ]
        return RowReader(
            self.mapping, meaning, attributes=self.attributes, areas=self.areas, region=self.region
        )


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
        with self._source.open() as table:
            reader = self._reading.reader(table.header)
            rows = (row for row in table.rows if row.number > after)
            # While the database writes one chunk, a thread reads the next.
            coming = asyncio.create_task(asyncio.to_thread(self._read, reader, rows))
            try:
                while not context.cancelled and (chunk := await coming):
                    coming = asyncio.create_task(asyncio.to_thread(self._read, reader, rows))
                    counts = await self._take(context, chunk, counts)
            finally:
                # The thread goes through the open file, so it has to end before the file is closed.
                await asyncio.gather(coming, return_exceptions=True)
        return counts.as_dict()

    def _read(self, reader: RowReader, rows: Iterator[Row]) -> list[tuple[Row, RowRead]]:
        return [(row, reader.read(row)) for row in islice(rows, self._chunk)]

    async def _take(
        self, context: JobContext, chunk: Sequence[tuple[Row, RowRead]], counts: Counts
    ) -> Counts:
        new = Counts(
            counts.rows + len(chunk), counts.created, counts.updated, counts.untaken, dict(counts.codes)
        )
        untaken = [Untaken(row.number, row.cells, read.problems) for row, read in chunk if read.value is None]
        good = [(row, read) for row, read in chunk if read.value is not None]
        async with (
            database_errors("importing rows"),
            self._pool.acquire(timeout=30) as connection,
            connection.transaction(),
        ):
            answers = await self._write(connection, [read for _, read in good]) if good else []
            for (row, _), answer in zip(good, answers, strict=True):
                if isinstance(answer, HubError):
                    untaken.append(Untaken(row.number, row.cells, [Problem(answer.code, answer.detail)]))
                elif answer:
                    new.created += 1
                else:
                    new.updated += 1
            for one in untaken:
                new.refuse(one.problems)
            await self._store.keep(connection, context.id, untaken)
            await context.save(connection, {"row": chunk[-1][0].number, "counts": new.as_dict()}, new.rows)
        return new
