"""The relay: what is due goes to a real broker in order, what is not stays and costs nothing, nothing is lost on the way."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from canonical_model.errors import Unavailable
from registry.settings import load_settings
from registry.storage.database import open_pool
from routing.brokers.rabbitmq import RabbitMQBroker
from routing.relay import BATCH, Relay

pytestmark = pytest.mark.rabbitmq


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    # One connection, so that what it read is counted in one place.
    opened = await open_pool(load_settings(), size=1, url=database_url)
    yield opened
    await opened.close()


@pytest.fixture
async def broker(broker_url: str, broker_prefix: str) -> AsyncIterator[RabbitMQBroker]:
    opened = RabbitMQBroker(broker_url, prefix=broker_prefix)
    await opened.open()
    await opened.declare(["busy", "calm"])
    yield opened
    await opened.close()


async def put(pool: asyncpg.Pool, route: str, count: int, later: str = "0 seconds") -> None:
    await pool.execute(
        "INSERT INTO outbox (delivery_id, message_id, route, available_at) "
        "SELECT gen_random_uuid(), gen_random_uuid(), $1, now() + $3::text::interval FROM generate_series(1, $2)",
        route,
        count,
        later,
    )


async def left(pool: asyncpg.Pool) -> list[tuple[str, int]]:
    rows = await pool.fetch("SELECT route, count(*) FROM outbox GROUP BY route ORDER BY route")
    return [(row[0], row[1]) for row in rows]


async def test_rows_of_a_later_hour_stay_and_are_not_walked_over(
    pool: asyncpg.Pool, broker: RabbitMQBroker
) -> None:
    for route in ("busy", "calm", "gone"):
        await put(pool, route, 5_000, "1 hour")
    await put(pool, "calm", 3)
    await pool.execute("ANALYZE outbox")
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'outbox'"
    await pool.execute("SELECT pg_stat_force_next_flush()")
    before = await pool.fetchval(read)
    relay = Relay(pool, broker)
    assert await relay.move() is False
    await pool.execute("SELECT pg_stat_force_next_flush()")
    assert await pool.fetchval(read) - before < 100
    assert await broker.depth("calm") == 3
    assert await left(pool) == [("busy", 5_000), ("calm", 5_000), ("gone", 5_000)]
    assert await relay.move() is False


async def test_a_full_route_leaves_room_for_the_others(pool: asyncpg.Pool, broker: RabbitMQBroker) -> None:
    await put(pool, "busy", 3 * BATCH)
    await put(pool, "calm", 5)
    relay = Relay(pool, broker)
    assert await relay.move() is True
    assert await broker.depth("calm") == 5
    while await relay.move():
        pass
    assert await left(pool) == []
    assert await broker.depth("busy") == 3 * BATCH


async def test_a_route_no_queue_takes_keeps_its_rows_and_holds_up_no_other(
    pool: asyncpg.Pool, broker: RabbitMQBroker
) -> None:
    await put(pool, "removed", 4)
    await put(pool, "calm", 2)
    rows = "SELECT * FROM outbox WHERE route = 'removed' ORDER BY id"
    before = await pool.fetch(rows)
    relay = Relay(pool, broker)
    with pytest.raises(Unavailable, match="2 of 6"):
        await relay.move()
    assert await pool.fetch(rows) == before
    await put(pool, "calm", 2)
    assert await relay.move() is False
    assert await broker.depth("calm") == 4
    assert await left(pool) == [("removed", 4)]


async def test_nothing_leaves_the_outbox_while_the_broker_is_away(
    pool: asyncpg.Pool, broker: RabbitMQBroker
) -> None:
    await put(pool, "calm", 7)
    await broker.close()
    with pytest.raises(Unavailable):
        await Relay(pool, broker).move()
    assert await left(pool) == [("calm", 7)]
