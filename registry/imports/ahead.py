"""Other processes that read a file and make its rows ready, while this one writes: all cores instead of one.

They are children of the importing process and know only what comes over their pipes: the file, its mapping, and the keys that
seal people. They are an aid and nothing more: where they cannot be had, break, or no longer fit, the import goes on without.

The rows it was given come back with what it made of them, since only the database knows who is known already.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import pickle
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from struct import Struct
from typing import Any, BinaryIO, Final

from registry.imports.drafting import Drafting
from registry.imports.files import Row
from registry.imports.reading import RowRead, RowReader
from registry.imports.source import Reading, Source
from registry.imports.store import Untaken
from registry.logs import log
from registry.people.ahead import Lent, MadeUnit, Maker

_LOG: Final = logging.getLogger(__name__)
WORTH: Final = 1 << 20
"""Bytes from which a file is worth another process, which takes half a second to start."""
PROCESSES: Final = 2
_WAIT: Final = 120.0
"""Seconds a chunk may take; it takes half of one."""
# Not `-m`: what it makes must be of the classes of this module, by its name.
_PROGRAM: Final = f"from {__name__} import work; work()"
_LIMIT: Final = 1 << 30
_length: Final = Struct(">Q")


@dataclass(frozen=True, slots=True)
class Order:
    """What the writer lends, and how drafts are made of rows."""

    lent: Lent
    drafting: Drafting


@dataclass(slots=True)
class MadeChunk:
    """Rows of a file as the other process gives them back."""

    last: int
    """The number of the last row that was read."""
    good: list[tuple[int, Sequence[Any]]]
    """Number and cells of the rows without a problem."""
    untaken: list[Untaken]
    units: Mapping[Sequence[int], MadeUnit]
    """What is ready to be written, by the places of its rows among `good`."""
    left: Sequence[int]
    """The places of rows that are in no unit."""


class Ahead:
    """The processes at work, each on its share of the chunks; they come in the order of the file."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self._processes = processes
        self._turn = 0

    @classmethod
    @asynccontextmanager
    async def at_work(
        cls, order: Order | None, source: Source, reading: Reading, after: int, chunk: int
    ) -> AsyncIterator[Ahead | None]:
        """Start it behind a row; a context manager that gives None where it is of no use or cannot be had."""
        if order is None or not await asyncio.to_thread(_worth, source.path):
            yield None
            return
        processes: list[asyncio.subprocess.Process] = []
        try:
            try:
                for _ in range(PROCESSES):
                    # Its words are dropped: an exception could repeat what stands in the file.
                    processes.append(
                        await asyncio.create_subprocess_exec(
                            sys.executable, "-c", _PROGRAM, stdin=asyncio.subprocess.PIPE,
                            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                        )
                    )  # fmt: skip
            except OSError as error:
                log(_LOG, logging.WARNING, "import-process-missing", reason=type(error).__name__)
                yield None
                return
            for place, process in enumerate(processes):
                await _tell(process, (order, source, reading, after, chunk, place, PROCESSES))
            yield cls(processes)
        finally:
            for process in processes:
                with suppress(ProcessLookupError):
                    process.kill()
            for process in processes:
                # Reads to the end, without which the pipe would stay open.
                await process.communicate()

    async def next(self) -> MadeChunk | bool:
        """Return the next chunk; True behind the last one, False where the process broke."""
        stream = self._processes[self._turn % len(self._processes)].stdout
        self._turn += 1
        assert stream is not None
        try:
            async with asyncio.timeout(_WAIT):
                (length,) = _length.unpack(await stream.readexactly(_length.size))
                if not 0 < length <= _LIMIT:
                    return not length
                found = await stream.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError) as error:
            log(_LOG, logging.WARNING, "import-process-broke", reason=type(error).__name__)
            return False
        chunk: MadeChunk = pickle.loads(found)  # noqa: S301  # from our own child, over a pipe only it writes to
        return chunk


async def _tell(process: asyncio.subprocess.Process, order: object) -> None:
    told = pickle.dumps(order)
    assert process.stdin is not None
    # One that is gone already is found out when its first chunk is read.
    with suppress(ConnectionError, TimeoutError):
        process.stdin.write(_length.pack(len(told)) + told)
        async with asyncio.timeout(_WAIT):
            await process.stdin.drain()
    process.stdin.close()


def _worth(path: Path) -> bool:
    return (os.cpu_count() or 1) > 1 and path.stat().st_size >= WORTH


def made(rows: Sequence[Row], reader: RowReader, maker: Maker, drafting: Drafting) -> MadeChunk:
    """Return what is made of rows, of which there is at least one."""
    good: list[tuple[int, Sequence[Any]]] = []
    reads: list[RowRead] = []
    untaken = []
    for row in rows:
        read = reader.read(row)
        if read.value is None:
            untaken.append(Untaken(row.number, row.cells, read.problems))
        else:
            good.append((row.number, row.cells))
            reads.append(read)
    drafted = drafting.drafts(reads)
    units = maker.units(drafted.drafts, drafted.together())
    held = {place for places in units for place in places}
    left = [place for place in range(len(reads)) if place not in held]
    return MadeChunk(rows[-1].number, good, untaken, units, left)


def _work(source: BinaryIO, out: BinaryIO) -> None:
    (length,) = _length.unpack(source.read(_length.size))
    order, file, reading, after, chunk, place, processes = pickle.loads(source.read(length))  # noqa: S301  # from our own parent
    maker = Maker(order.lent, reading.areas or {})
    with file.open() as table:
        reader = reading.reader(table.header)
        rows = (row for row in table.rows if row.number > after)
        gc.collect()
        gc.freeze()
        # Nothing here lives longer than its chunk, and nothing goes in circles.
        gc.set_threshold(500_000, 20, 50)
        for turn in count():
            some = list(islice(rows, chunk))
            if not some:
                break
            if turn % processes != place:
                continue
            told = pickle.dumps(made(some, reader, maker, order.drafting), pickle.HIGHEST_PROTOCOL)
            out.write(_length.pack(len(told)))
            out.write(told)
            out.flush()
    out.write(_length.pack(0))
    out.flush()


def work() -> None:
    """Do the work of the process, and end it."""
    # Whoever asked is gone: so is the work.
    with suppress(BrokenPipeError, KeyboardInterrupt):
        _work(sys.stdin.buffer, sys.stdout.buffer)
    # Without the interpreter's clean-up, which would flush to a closed pipe.
    os._exit(0)
