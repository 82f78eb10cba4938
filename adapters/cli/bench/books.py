"""Payments driven by the ledger in PostgreSQL, as the hub drives them: what it costs beside the rail, and whether memory is flat."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import psutil

from adapters.cli.bench import processor
from adapters.cli.bench.scratch import drop_database, fresh_database
from canonical_model.message import uuid7
from canonical_model.payment import PaymentInstruction
from connectors.payments.contract import Ledger, Rail
from connectors.payments.driver import Driver, Opened
from registry.settings import HubSettings
from registry.storage import migrate
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault
from routing.ledger import Books

TARGET: Final = "bench"
_CHUNK: Final = 1000
_WAIT: Final = 7200.0
_LOOK: Final = 0.5
"""Seconds between two looks at whether all have ended."""
_ENDED: Final = (
    "SELECT count(*) FILTER (WHERE state = 'paid'), count(*) FILTER (WHERE state NOT IN ('paid', 'failed', 'cancelled')) "
    "FROM transfer WHERE target = $1"
)
# Asked again and again while it runs, so it stops at the first row it finds: it is no part of what is measured.
_LIVE: Final = """
SELECT EXISTS (SELECT FROM transfer t WHERE t.batch = b.id AND t.state IN ('queued', 'working', 'sent'))
FROM transfer_batch b WHERE b.target = $1
"""


@dataclass(slots=True)
class Kept:
    """What paying by the ledger in the database took: seconds, CPU of the hub and of the database, MiB of growth."""

    payments: int
    seconds: float
    cpu: float
    database_cpu: float | None
    growth: float
    wrong: int


@asynccontextmanager
async def books(database: str) -> AsyncIterator[tuple[Books, asyncpg.Pool]]:
    """Open the ledger of a database of its own, which is dropped afterwards."""
    name = f"hub_bench_payments_{os.getpid()}"
    url = await fresh_database(database, name)
    try:
        await migrate.upgrade_async(url)
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            settings = HubSettings(data_dir=Path(folder))
            pool = await open_pool(settings, url=url, size=4)
            vault = await Vault.open(pool, settings)
            try:
                await ensure(pool, "month")
                yield Books(pool, vault), pool
            finally:
                await vault.close()
                await pool.close()
    finally:
        await drop_database(database, name)


async def pay(
    held: Books,
    pool: asyncpg.Pool,
    rail: Rail,
    orders: Iterator[PaymentInstruction],
    batch: str | None = TARGET,
) -> Kept:
    """Enter orders as one batch, or each for itself where `batch` is None, drive the rail until all have ended, and say what that took."""
    message, entered, units = uuid7(), 0, 0
    process = psutil.Process()
    before, cpu, began = await processor.backends(pool), time.process_time(), time.perf_counter()
    memory = most = process.memory_info().rss
    while some := list(islice(orders, _CHUNK)):
        await held.enter(TARGET, message, batch, some)
        entered += len(some)
        units += sum(one.amount.minor_units for one in some)
    await held.complete(TARGET, message, batch, {"count": entered, "minor_units": units})
    try:
        async with asyncio.timeout(_WAIT), Driver(TARGET, held, Opened(rail)):
            while True:
                left = int(await pool.fetchval(_LIVE, TARGET))
                if not left:
                    row = await pool.fetchrow(_ENDED, TARGET)
                    assert row is not None  # an aggregate has one
                    paid, left = row
                most = max(most, process.memory_info().rss)
                if not left:
                    break
                await asyncio.sleep(_LOOK)
    finally:
        await held.drain()
    return Kept(
        entered, time.perf_counter() - began, time.process_time() - cpu,
        processor.spent(before, await processor.backends(pool)), (most - memory) / 2**20, entered - paid,
    )  # fmt: skip


def rows(name: str, kept: Kept, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the figures as rows of the bench's document."""
    yield row(f"{name}.seconds", kept.seconds, "s")
    yield row(f"{name}.rate", kept.payments / kept.seconds, "1/s")
    yield row(f"{name}.cpu", kept.cpu / kept.payments * 1000, "ms/payment")
    if kept.database_cpu is not None:
        yield row(f"{name}.cpu_database", kept.database_cpu / kept.payments * 1000, "ms/payment")
    yield row(f"{name}.memory_growth", kept.growth, "MiB")
    yield row(f"{name}.wrong", kept.wrong, "payments", None, 0)


def ledger_of(held: Books) -> Ledger:
    """Return the ledger of the benchmark's target."""
    return held.transfers(TARGET)
