"""What programs need when its day has come: done once for all processes, by a job that everybody can see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from services.programs import MAKER, World

from registry.jobs import JobStore
from registry.programs import submit_due


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(database_url, tmp_path) as found:
        yield found


async def look(world: World, shift: int = 0) -> dict[str, Any] | None:
    """Look as two processes at once do; return what the job did."""
    now = datetime.now(UTC) + timedelta(seconds=600 * shift)
    made = await asyncio.gather(*(submit_due(world.pool, JobStore(world.pool), 600.0, now) for _ in range(2)))
    jobs = [one for one in made if one is not None]
    if not jobs:
        return None
    assert len(jobs) == 1
    job = await world.drive(jobs[0].id)
    return {name: count for name, count in (job.result or {}).items() if count}


async def test_holds_whose_day_is_over_are_released_and_where_nothing_is_due_there_is_no_job(
    world: World,
) -> None:
    await world.persons(2)
    await world.program()
    await world.enroll()
    cycle = await world.approved()
    one, two = [each["id"] for each in await world.programs.entitlements(cycle.id)]
    today = datetime.now(UTC).date()
    await world.programs.hold([one], "complaint", MAKER, until=today - timedelta(days=1))
    await world.programs.hold([two], "complaint", MAKER, until=today)
    assert await look(world) == {"released": 1}
    assert [each["id"] for each in await world.programs.entitlements(cycle.id, held="complaint")] == [two]
    assert await look(world, 1) is None


async def test_who_proved_an_account_is_released_by_itself(world: World) -> None:
    ids = await world.persons(2)
    await world.program(managers={"payment": {"account": "verified", "grace_days": 10}})
    await world.enroll()
    cycle = await world.approved()
    assert await look(world) is None
    await world.programs.verify_accounts(ids[:1], "bank-a")
    assert await look(world, 1) == {"verified": 1}
    assert len(await world.programs.entitlements(cycle.id, held="account-unverified")) == 1


async def test_vouchers_of_days_that_are_over_expire_and_free_their_money(world: World) -> None:
    await world.persons(2)
    start = datetime.now(UTC).date() - timedelta(days=10)
    await world.program(benefit={"kind": "voucher", "amounts": [{"amount": "25000"}], "valid_days": 5})
    await world.enroll()
    await world.distributed(start=start, end=start)
    assert (await world.money())[1] == 50_000
    assert await look(world) == {"vouchers": 2}
    assert (await world.money())[1] == 0
    assert await look(world, 1) is None


async def test_the_cycle_of_today_is_opened_once_where_the_program_says_so(world: World) -> None:
    start = (datetime.now(UTC).date() - timedelta(days=65)).isoformat()
    schedule = {"start": start, "rrule": "FREQ=DAILY;INTERVAL=30", "open": True}
    await world.persons(2)
    await world.program(schedule=schedule)
    await world.program("quiet", schedule={**schedule, "open": False})
    await world.enroll()
    assert await look(world) == {"opened": 1}
    (cycle,) = await world.programs.cycles("cash")
    assert cycle.start_date == datetime.now(UTC).date() - timedelta(days=5)
    assert await world.programs.cycles("quiet") == []
    assert await look(world, 1) is None
