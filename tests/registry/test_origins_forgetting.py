"""Old message ids are forgotten in bounded batches, young ones never."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from registry.settings import load_settings
from registry.storage import origins
from registry.storage.database import open_pool


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(load_settings(), size=3, url=database_url)
    await opened.execute(
        "INSERT INTO accepted_origin (origin_hash, body_hash, message_id, accepted_at) "
        "SELECT sha256(n::text::bytea), '\\x00', gen_random_uuid(), now() - make_interval(days => CASE WHEN n <= 25 THEN 61 ELSE 59 END) "
        "FROM generate_series(1, 30) AS n"
    )
    yield opened
    await opened.close()


async def _left(pool: asyncpg.Pool) -> int:
    return int(await pool.fetchval("SELECT count(*) FROM accepted_origin"))


async def test_old_ids_are_forgotten_and_young_ones_kept(pool: asyncpg.Pool) -> None:
    assert await origins.forget(pool, 60, batch=10) == 25
    assert await _left(pool) == 5
    assert await origins.forget(pool, 60, batch=10) == 0


async def test_one_round_is_bounded(pool: asyncpg.Pool) -> None:
    assert await origins.forget(pool, 60, batch=10, most=2) == 20
    assert await _left(pool) == 10


async def test_what_another_process_is_forgetting_is_not_waited_for(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as other, other.transaction():
        await other.execute("DELETE FROM accepted_origin WHERE origin_hash = sha256('1'::bytea)")
        assert await origins.forget(pool, 60) == 24
    assert await _left(pool) == 5
