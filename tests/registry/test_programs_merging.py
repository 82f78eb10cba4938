"""A merge and a split within programs: the survivor takes part and receives, nobody twice, and a split gives back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from uuid import UUID

import pytest
from services.programs import World

from registry.people import PeopleStore
from registry.programs import Cycle

WHO = {"actor": "user:mary", "source": "test", "request_id": "r-1"}
FEBRUARY = (date(2026, 2, 1), date(2026, 2, 28))


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(database_url, tmp_path) as found:
        await found.people.close()
        found.people = PeopleStore(
            found.pool,
            found.vault,
            found.vault.blind,
            delay=0.001,
            on_status=found.programs.on_registrant_status,
        )
        yield found


async def two(world: World) -> tuple[UUID, UUID]:
    return await world.person("1", account="KE-1"), await world.person("2", account="KE-2")


async def merge(world: World, survivor: UUID, absorbed: UUID) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        await world.people.merging.merge(connection, survivor, absorbed, **WHO)


async def split(world: World, absorbed: UUID) -> None:
    async with world.pool.acquire() as connection, connection.transaction():
        await world.people.merging.split(connection, absorbed, **WHO)


async def enrolled(world: World) -> dict[UUID, str]:
    rows = await world.pool.fetch("SELECT registrant_id, state FROM enrollment")
    return {row["registrant_id"]: row["state"] for row in rows}


async def paid(world: World, cycle: Cycle) -> list[UUID]:
    await world.distribute(cycle)
    rows = await world.payments(cycle)
    return [row["recipient_id"] for row in rows if row["state"] != "cancelled"]


async def test_of_two_in_one_cycle_the_survivor_is_paid_once(world: World) -> None:
    survivor, absorbed = await two(world)
    await world.program()
    await world.enroll()
    cycle = await world.approved()
    await merge(world, survivor, absorbed)
    assert await enrolled(world) == {survivor: "enrolled", absorbed: "duplicated"}
    (held,) = await world.programs.entitlements(cycle.id, held="registrant-merged")
    assert held["registrant_id"] == absorbed
    assert await paid(world, cycle) == [survivor]
    await split(world, absorbed)
    assert await enrolled(world) == {survivor: "enrolled", absorbed: "enrolled"}
    assert sorted(await paid(world, cycle)) == sorted([survivor, absorbed])


async def test_a_batch_that_has_not_gone_out_loses_the_payment_of_the_absorbed(world: World) -> None:
    survivor, absorbed = await two(world)
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    await merge(world, survivor, absorbed)
    rows = await world.fetch_all(cycle)
    assert [row["payee"]["registrant_id"] for row in rows] == [str(survivor)]


async def test_who_took_part_alone_hands_over_to_the_survivor_and_gets_it_back(world: World) -> None:
    absorbed = await world.person("2", account="KE-2")
    await world.program()
    await world.enroll()
    survivor = await world.person("1", account="KE-1")
    cycle = await world.approved()
    await merge(world, survivor, absorbed)
    assert await enrolled(world) == {survivor: "enrolled", absorbed: "duplicated"}
    assert await world.programs.entitlements(cycle.id, held="registrant-merged") == []
    later = await world.approved("cash", *FEBRUARY)
    assert await paid(world, cycle) == [survivor]
    await split(world, absorbed)
    assert await enrolled(world) == {survivor: "exited", absorbed: "enrolled"}
    # What was made for the survivor while they were one stays the survivor's.
    assert await paid(world, later) == [survivor]


async def test_what_was_not_ordered_goes_back_with_a_split(world: World) -> None:
    absorbed = await world.person("2", account="KE-2")
    await world.program()
    await world.enroll()
    survivor = await world.person("1", account="KE-1")
    cycle = await world.approved()
    await merge(world, survivor, absorbed)
    await split(world, absorbed)
    assert await paid(world, cycle) == [absorbed]


async def test_a_household_receives_through_the_survivor_of_its_head(world: World) -> None:
    survivor, absorbed = await two(world)
    group = await world.group({absorbed: ["head"]})
    await world.program(target_type="group")
    await world.enroll()
    cycle = await world.approved()
    await merge(world, survivor, absorbed)
    assert await enrolled(world) == {group: "enrolled"}
    assert await paid(world, cycle) == [survivor]


async def test_a_person_s_decision_about_the_survivor_stands(world: World) -> None:
    survivor, absorbed = await two(world)
    await world.program()
    await world.enroll()
    await world.pool.execute(
        "UPDATE enrollment SET state = 'exited', exit_date = current_date, cause = 'person' WHERE registrant_id = $1",
        survivor,
    )
    await merge(world, survivor, absorbed)
    assert await enrolled(world) == {survivor: "exited", absorbed: "duplicated"}
