"""`hub bench cycle`: a program from enrollment to payment batches, beside the bare insert of the same rows."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import asyncpg

from adapters.cli.bench.scratch import drop_database, fresh_database
from canonical_model.message import uuid7
from canonical_model.money import Money
from canonical_model.program import ProgramStatus
from registry.jobs import Job, JobRunner
from registry.objects import open_object_store
from registry.programs import Cycle, Programs
from registry.settings import HubSettings
from registry.storage import migrate
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault
from routing.intake import Intake
from routing.outbox import HubOutbox
from routing.routes import RouteBook, parse_route

SMALL: Final = 10_000
GOAL_SMALL_SECONDS: Final = 1.0
GOAL_RATIO: Final = 2.0
GOAL_APPROVAL_SECONDS: Final = 5.0
"""For 100,000 entitlements."""
_STEPS: Final = ("enroll", "snapshot", "prepare", "submit", "approve", "pay")
_FILL: Final = """
INSERT INTO registrant (id, source, sex, birthdate, attributes)
SELECT ($1 || lpad(to_hex(n), 12, '0'))::uuid, 'urn:bench', CASE n % 2 WHEN 0 THEN 'male' ELSE 'female' END,
    date '1930-01-01' + (n * 7919 % 34000)::int, '{}'
FROM generate_series($2::bigint, $3::bigint) n ORDER BY n
"""
_FILL_CHUNK: Final = 500_000
_ROUTE: Final = "route: pay\nwhen: {type: 'org.openspp.payment.*'}\nto: bank\n"
_TERMS: Final = {
    "names": {"en": "Bench"}, "currency": "KES", "fund": "bench", "eligibility": "age_years(r.birthdate) >= 0",
    "benefit": {"amounts": [{"amount": "r.sex == 'female' ? 600000 : 500000"}]},
}  # fmt: skip
_FIRST_DAY, _LAST_DAY = date(2026, 1, 1), date(2026, 1, 31)
_TWINS: Final = ("cycle_beneficiary", "entitlement")
_WAIT: Final = 7200.0


@dataclass(slots=True)
class Figures:
    """Seconds of each step: of a small program, of the large one, and of the bare inserts of the large one's rows."""

    people: int
    small: dict[str, float] = field(default_factory=dict)
    large: dict[str, float] = field(default_factory=dict)
    bare: dict[str, float] = field(default_factory=dict)
    bytes: int = 0

    @property
    def cycle(self) -> float:
        """Seconds for snapshot and entitlements of the large program."""
        return self.large["snapshot"] + self.large["prepare"]


class _Bench:
    def __init__(self, pool: asyncpg.Pool, programs: Programs, say: Callable[[str], None]) -> None:
        self._pool, self._programs, self._say = pool, programs, say

    async def fill(self, first: int, count: int) -> None:
        for start in range(first, first + count, _FILL_CHUNK):
            last = min(start + _FILL_CHUNK, first + count) - 1
            await self._pool.execute(_FILL, str(uuid7())[:24], start, last, timeout=_WAIT)
            if count > _FILL_CHUNK:
                self._say(f"{last - first + 1:,} of {count:,} people")
        await self._pool.execute("VACUUM (ANALYZE) registrant", timeout=_WAIT)

    async def through(self, name: str, seconds: dict[str, float]) -> Cycle:
        programs = self._programs
        await programs.define({"code": name, **_TERMS}, "user:bench")
        await programs.set_state(name, ProgramStatus.ACTIVE, "user:bench")

        async def timed(step: str, job: UUID, started: float) -> Job:
            done = await JobRunner(self._pool, uuid7(), programs.kinds).run(job)
            assert done.state == "done", done.error
            seconds[step] = time.perf_counter() - started
            self._say(f"{name}: {step} took {seconds[step]:.2f} s")
            return done

        begun = time.perf_counter()
        await timed("enroll", await programs.enroll(name, "user:bench"), begun)
        begun = time.perf_counter()
        cycle, job, _ = await programs.open_cycle(name, "user:bench", start=_FIRST_DAY, end=_LAST_DAY)
        await timed("snapshot", job, begun)
        begun = time.perf_counter()
        await timed("prepare", await programs.prepare(cycle.id, "user:bench"), begun)
        begun = time.perf_counter()
        await timed("submit", await programs.submit(cycle.id, "user:bench"), begun)
        begun = time.perf_counter()
        approved = await programs.approve(cycle.id, "user:other", ["approver"])
        assert approved.job is not None
        await timed("approve", approved.job, begun)
        begun = time.perf_counter()
        await timed("pay", await programs.distribute(cycle.id, "user:bench"), begun)
        return cycle

    async def bare(self, cycle: Cycle, seconds: dict[str, float]) -> None:
        """Insert the very rows of a cycle into twins of its tables, indexes and checks included, one statement each."""
        for table in _TWINS:
            await self._pool.execute(f"CREATE TABLE bench_{table} (LIKE {table} INCLUDING ALL)")
            await self._pool.execute("CHECKPOINT", timeout=_WAIT)
            begun = time.perf_counter()
            await self._pool.execute(
                f"INSERT INTO bench_{table} SELECT * FROM {table} WHERE cycle_id = $1 ORDER BY registrant_id",
                cycle.id,
                timeout=_WAIT,
            )
            seconds[table] = time.perf_counter() - begun
            self._say(f"bare insert into a twin of {table} took {seconds[table]:.2f} s")
            await self._pool.execute(f"DROP TABLE bench_{table}")


async def measure(database: str, people: int, say: Callable[[str], None]) -> Figures:
    """Take a program of 10,000 and one of `people` from enrollment to payment batches in a database of its own, then drop it."""
    name = f"hub_bench_cycle_{os.getpid()}"
    url = await fresh_database(database, name)
    try:
        await migrate.upgrade_async(url)
        async with _opened(url) as (pool, programs):
            bench, figures = _Bench(pool, programs, say), Figures(people)
            await programs.make_fund("bench", {"en": "Bench"}, "KES", "user:bench")
            everything = Money(minor_units=600_000 * (people + SMALL), currency="KES")
            await programs.move_money("bench", "deposit", everything, "user:bench")
            await bench.fill(0, SMALL)
            await bench.through("small", figures.small)
            await bench.fill(SMALL, people - SMALL)
            cycle = await bench.through("large", figures.large)
            await bench.bare(cycle, figures.bare)
            figures.bytes = await pool.fetchval("SELECT pg_database_size(current_database())")
            return figures
    finally:
        await drop_database(database, name)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[tuple[asyncpg.Pool, Programs]]:
    with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
        settings = HubSettings(data_dir=Path(folder))
        pool = await open_pool(settings, url=url, size=4)
        try:
            await ensure(pool, "month")
            vault = await Vault.open(pool, settings)
            objects = open_object_store(settings)
            intake = Intake(pool, vault, RouteBook([parse_route(_ROUTE, "bench")]), objects)
            programs = Programs(pool, vault, HubOutbox(intake))
            yield pool, programs
            await programs.close()
            await intake.drain()
            await objects.close()
            await vault.close()
        finally:
            await pool.close()


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the figures as results of a benchmark."""
    yield row("small.enroll_to_payment", sum(figures.small.values()), "s", None, GOAL_SMALL_SECONDS)
    for name in _STEPS:
        yield row(f"small.{name}", figures.small[name], "s")
    bare = figures.bare["entitlement"]
    yield row("raw.entitlements", bare, "s")
    yield row("raw.snapshot_and_entitlements", sum(figures.bare.values()), "s")
    yield row("cycle", figures.cycle, "s", sum(figures.bare.values()))
    yield row("cycle.ratio", figures.cycle / sum(figures.bare.values()), "x bare", None, GOAL_RATIO)
    yield row("cycle.entitlements_only", figures.large["prepare"], "s", bare)
    for name in _STEPS:
        yield row(f"large.{name}", figures.large[name], "s")
        yield row(f"large.{name}_rate", figures.people / figures.large[name], "1/s")
    per_100k = figures.large["approve"] * 100_000 / figures.people
    yield row("approve.100000", per_100k, "s", None, GOAL_APPROVAL_SECONDS)
    yield row("disk", figures.bytes / 2**30, "GiB")
