"""Processes are killed in the middle of every piece of a program's work; it is gone on with to the same result, nothing twice."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from services import program_worker
from services.programs import CHECKER, END, MAKER, ROLE, START, World

pytestmark = [pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(600)]

PEOPLE = 1500
WORKER = Path(program_worker.__file__)


async def killed_until_done(url: str, folder: Path, what: str, *, kills: int = 2) -> int:
    """Start a worker and kill it a moment later, some times over, then let one come to the end; return how many were killed."""
    done = 0
    for number in range(kills + 1):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(WORKER), url, str(folder), what, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), 60) == b"ready\n"
        if number < kills:
            try:
                await asyncio.wait_for(process.wait(), random.uniform(0.02, 0.25))
            except TimeoutError:
                process.kill()
                done += 1
            await process.wait()
        else:
            assert await asyncio.wait_for(process.wait(), 60) == 0
    return done


async def test_killed_at_any_instant_everything_is_done_once(database_url: str, tmp_path: Path) -> None:
    async with World(database_url, tmp_path) as world:
        await world.persons(PEOPLE)
        await world.program(managers={"payment": {"rows": 100}})
        programs = world.programs

        async def through(job: UUID) -> None:
            assert await killed_until_done(database_url, tmp_path, str(job)) > 0
            assert await world.pool.fetchval("SELECT state FROM job WHERE id = $1", job) == "done"

        await through(await programs.enroll("cash", MAKER))
        assert await programs.enrollments("cash") == {"enrolled": PEOPLE}
        cycle, job, _ = await programs.open_cycle("cash", MAKER, start=START, end=END)
        await through(job)
        await through(await programs.prepare(cycle.id, MAKER))
        cycle = await programs.cycle("cash", 1)
        assert (cycle.beneficiaries, cycle.entitlements, cycle.total) == (PEOPLE, PEOPLE, PEOPLE * 5000)
        assert await world.pool.fetchrow("SELECT count(*), count(DISTINCT number), min(number), max(number) FROM entitlement") == (
            PEOPLE, PEOPLE, 1, PEOPLE,
        )  # fmt: skip
        await through(await programs.submit(cycle.id, MAKER))
        approved = await programs.approve(cycle.id, CHECKER, ROLE)
        assert approved.job is not None
        await through(approved.job)
        assert await world.money() == (10_000_000 - PEOPLE * 5000, PEOPLE * 5000, 0)
        await through(await programs.distribute(cycle.id, MAKER))
        assert await told(world) == (PEOPLE, PEOPLE * 5000, PEOPLE // 100)
        assert len(await world.payments(cycle)) == PEOPLE
        await world.fetch_all(cycle)
        assert await killed_until_done(database_url, tmp_path, "results", kills=2) >= 0
        account = await programs.reconcile(cycle.id)
        assert (account["paid"], account["balanced"]) == (PEOPLE * 5000, True)
        await through(await programs.end_cycle(cycle.id, MAKER))
        assert await world.money() == (10_000_000 - PEOPLE * 5000, 0, PEOPLE * 5000)
        assert {row["state"] for row in await programs.entitlements(cycle.id)} == {"redeemed"}


async def told(world: World) -> tuple[int, int, int]:
    """Return how many payments of how much the messages order, and how many messages there are."""
    data: list[dict[str, Any]] = [
        one.data for one in await world.messages("org.openspp.payment.batch_instructed.v1")
    ]
    return sum(one["count"] for one in data), sum(one["total"]["minor_units"] for one in data), len(data)
