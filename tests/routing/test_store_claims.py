"""Claims and sweeps: who may send a delivery, and how often it is pointed to."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import pytest
from services.path import MessagePath, message, route

from canonical_model.message import uuid7
from routing.store import Claim, DeliveryStore, Sweeper


@pytest.fixture
async def path(database_url: str, tmp_path: Path) -> AsyncIterator[MessagePath]:
    async with MessagePath(database_url, tmp_path, [route("pay", order="none")]) as found:
        yield found


async def one_delivery(path: MessagePath, name: str) -> UUID:
    accepted = await path.intake.accept(message(originid=name), partner="ministry", raw=b"raw")
    found: UUID = await path.pool.fetchval(
        "SELECT id FROM delivery WHERE message_id = $1", accepted.message_id
    )
    return found


async def let_time_pass(path: MessagePath, seconds: float) -> None:
    await path.pool.execute(
        "UPDATE delivery SET claimed_at = claimed_at - make_interval(secs => $1), held_until = held_until - "
        "make_interval(secs => $1), pointed_at = pointed_at - make_interval(secs => $1)",
        seconds,
    )


@pytest.mark.parametrize(
    ("hold", "passed", "free"), [(35.0, 20.0, False), (35.0, 40.0, True), (0.0, 20.0, True)]
)
async def test_a_silent_workers_claim_is_freed_only_when_its_send_cannot_arrive_any_more(
    path: MessagePath, hold: float, passed: float, free: bool
) -> None:
    # The worker lost its database, not its target: its request may still be under way.
    delivery = await one_delivery(path, "held")
    store = DeliveryStore(path.pool, uuid7(), path.intake)
    assert isinstance(await store.claim(delivery, hold), Claim)
    await let_time_pass(path, passed)
    freed, _ = await Sweeper(path.pool).sweep()
    assert freed == int(free)


async def test_a_lost_pointer_is_renewed_once_and_not_again_at_every_sweep(path: MessagePath) -> None:
    await one_delivery(path, "lost")
    await path.pool.execute("DELETE FROM outbox")
    await let_time_pass(path, 61.0)
    renewed = [(await Sweeper(path.pool).sweep(["pay"]))[1]]
    for _ in range(3):
        # The relay has handed the pointer on; it only waits its turn.
        await path.pool.execute("DELETE FROM outbox")
        renewed.append((await Sweeper(path.pool).sweep(["pay"]))[1])
    assert renewed == [1, 0, 0, 0]


async def test_what_waits_its_turn_on_a_busy_route_is_not_pointed_to_again(path: MessagePath) -> None:
    await one_delivery(path, "turn")
    await path.pool.execute("DELETE FROM outbox")
    await let_time_pass(path, 600.0)
    assert await Sweeper(path.pool).sweep([]) == (0, 0)


async def test_one_worker_sweeps_at_a_time(path: MessagePath) -> None:
    await one_delivery(path, "alone")
    await path.pool.execute("DELETE FROM outbox")
    await let_time_pass(path, 61.0)
    async with path.pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock($1)", 0x6F70_7377)
        assert await Sweeper(path.pool).sweep(["pay"]) == (0, 0)
    assert await Sweeper(path.pool).sweep(["pay"]) == (0, 1)


async def test_a_renewed_pointer_carries_the_trace_of_its_message(path: MessagePath) -> None:
    await one_delivery(path, "traced")
    first = await path.pool.fetchval("DELETE FROM outbox RETURNING traceparent")
    await let_time_pass(path, 61.0)
    await Sweeper(path.pool).sweep(["pay"])
    assert first is not None
    assert await path.pool.fetchval("SELECT traceparent FROM outbox") == first
