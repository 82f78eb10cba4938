"""`hub bench import`: a file of people to the registry, beside a bare COPY of the same rows into the same indexed tables."""

from __future__ import annotations

import asyncio
import csv
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from adapters.cli.bench import processor
from adapters.cli.bench.crowd import crowd
from adapters.cli.bench.scratch import drop_database, fresh_database
from adapters.cli.serve import settle
from canonical_model.message import uuid7
from registry.imports.columns import Kind
from registry.imports.run import Import, propose
from registry.imports.source import Reading, Source
from registry.imports.store import ImportStore
from registry.imports.writing import PeopleWriter
from registry.jobs import JobRunner, JobStore
from registry.people import Writer
from registry.people.idtypes import IdentifierTypes
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage import migrate
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault

GOAL_RATE: Final = 5000.0
GOAL_SHARE: Final = 0.5
GOAL_GROWTH_MIB: Final = 64.0
TABLES: Final = (
    "registrant", "registrant_vault", "registrant_identifier", "registrant_search", "registrant_change", "membership",
)  # fmt: skip
"""What an import writes, in the order in which references allow it to be copied."""
_COPY_CHUNK: Final = 1 << 20


@dataclass(slots=True)
class Figures:
    """What one run measured."""

    people: int
    seconds: float = 0.0
    copy_seconds: float = 0.0
    copied_mib: float = 0.0
    cpu_seconds: float = 0.0
    database_cpu: float | None = None
    copy_database_cpu: float | None = None
    memory_before: float = 0.0
    memory_most: float = 0.0
    memory_processes: float = 0.0
    """Of the processes that make rows ready, all together."""
    untaken: int = 0

    @property
    def rate(self) -> float:
        """People imported a second."""
        return self.people / self.seconds

    @property
    def copy_rate(self) -> float:
        """People a second that the bare COPY writes."""
        return self.people / self.copy_seconds


async def measure(database: str, people: int, say: Callable[[str], None]) -> Figures:
    """Import an invented file into a database of its own, copy the rows bare into another one, and drop both."""
    figures = Figures(people)
    names = [f"hub_bench_import_{os.getpid()}", f"hub_bench_copy_{os.getpid()}"]
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        say(f"writing a file of {people:,} people")
        path = Path(folder) / "people.csv"
        await asyncio.to_thread(_write, path, people)
        try:
            urls = [await fresh_database(database, name) for name in names]
            for url in urls:
                await migrate.upgrade_async(url)
            await _import(urls[0], path, Path(folder), figures, say)
            await _copy(urls[0], urls[1], Path(folder), figures, say)
        finally:
            for name in names:
                await drop_database(database, name)
    return figures


def _write(path: Path, people: int) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["National ID", "Full name", "Family name", "Given name", "Other names", "Date of birth", "Gender", "Phone",
             "Household", "Role"]
        )  # fmt: skip
        for one in crowd(people):
            writer.writerow(
                [
                    f"N{one.number:09d}", one.name.get("full_name", ""), one.name.get("family_name", ""), one.name.get("given_name", ""),
                    one.name.get("addl_name", ""), one.born.isoformat(), one.sex, f"+2547{one.number % 10**8:08d}",
                    f"H{one.number // 5:08d}", "head" if one.number % 5 == 0 else "child",
                ]
            )  # fmt: skip


async def _import(url: str, path: Path, folder: Path, figures: Figures, say: Callable[[str], None]) -> None:
    settings = HubSettings(data_dir=folder / "hub")
    pool = await open_pool(settings, url=url, size=4)
    vault = None
    try:
        await ensure(pool, "month")
        vault = await Vault.open(pool, settings)
        writer = Writer(vault, tokens=_tokens(vault), types=IdentifierTypes(pool))
        source = Source(path)
        store = JobStore(pool)
        job = (await store.submit("import-here", actor="bench", params={})).job
        write = PeopleWriter(writer, source="bench", actor="bench", at=datetime.now(UTC))
        work = Import(
            pool, ImportStore(pool, vault), write, source, Reading(propose(source, Kind.INDIVIDUAL))
        )
        settle()  # as the command does
        process = psutil.Process()
        figures.memory_before = process.memory_info().rss / 2**20

        def told(done: int, _: int | None) -> None:
            figures.memory_most = max(figures.memory_most, process.memory_info().rss / 2**20)
            figures.memory_processes = max(figures.memory_processes, _memory_of_children(process))
            if done % 100_000 == 0:
                say(f"{done:,} of {figures.people:,} people")

        before, cpu, started = await processor.backends(pool), processor.own(), time.perf_counter()
        ended = await JobRunner(pool, uuid7(), {"import-here": work.run}).run(job.id, told)
        figures.seconds = time.perf_counter() - started
        figures.cpu_seconds = processor.own() - cpu
        figures.database_cpu = processor.spent(before, await processor.backends(pool))
        figures.untaken = (ended.result or {}).get("untaken", figures.people)
    finally:
        if vault is not None:
            await vault.close()
        await pool.close()


def _memory_of_children(process: psutil.Process) -> float:
    total = 0
    for child in process.children():
        with suppress(psutil.Error):
            total += child.memory_info().rss
    return total / 2**20


def _tokens(vault: Vault) -> Callable[[Any], tuple[Any, Any]]:
    return lambda value: registrant_tokens(vault.blind, value)


async def _copy(
    source: str, destination: str, folder: Path, figures: Figures, say: Callable[[str], None]
) -> None:
    """Copy the rows of every table out, then, timed, into the empty tables of another database."""
    say("copying the same rows bare")
    reading, writing = await asyncpg.connect(source), await asyncpg.connect(destination)
    try:
        before = await processor.backends(writing)
        for table in TABLES:
            path = folder / f"{table}.copy"
            await reading.copy_from_table(table, output=path, format="binary")
            figures.copied_mib += path.stat().st_size / 2**20
            started = time.perf_counter()
            await writing.copy_to_table(table, source=_pieces(path), format="binary")
            figures.copy_seconds += time.perf_counter() - started
            path.unlink()
        figures.copy_database_cpu = processor.spent(before, await processor.backends(writing))
    finally:
        await reading.close()
        await writing.close()


async def _pieces(path: Path) -> Any:
    for piece in _read(path):
        yield piece


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_COPY_CHUNK):
            yield piece


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the results, each beside its limit."""
    yield row("import", figures.rate, "people/s", figures.copy_rate, GOAL_RATE, least=True)
    yield row(
        "import.share_of_copy", figures.rate / figures.copy_rate, "x copy", None, GOAL_SHARE, least=True
    )
    yield row("raw.copy", figures.copy_rate, "people/s")
    yield row("import.cpu", figures.cpu_seconds / figures.people * 1e6, "us/person")
    for metric, seconds, beside in (
        ("import.cpu_database", figures.database_cpu, figures.copy_database_cpu),
        ("raw.copy_cpu_database", figures.copy_database_cpu, None),
    ):
        if seconds is not None:
            limit = None if beside is None else beside / figures.people * 1e6
            yield row(metric, seconds / figures.people * 1e6, "us/person", limit)
    yield row("import.seconds", figures.seconds, "s")
    yield row("import.copied", figures.copied_mib, "MiB")
    yield row("import.untaken", figures.untaken, "rows", None, 0)
    yield row("import.memory_before", figures.memory_before, "MiB")
    yield row(
        "import.memory_growth", figures.memory_most - figures.memory_before, "MiB", None, GOAL_GROWTH_MIB
    )
    yield row("import.memory_processes", figures.memory_processes, "MiB")
