"""Partitions: made without stopping anybody, guarded like their parent, and late only when that does no harm."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import Unavailable
from canonical_model.message import uuid7_floor
from registry.audit import AuditEvent, record
from registry.objects import FileObjectStore
from registry.settings import HubSettings
from registry.storage import periods
from registry.storage.database import open_pool

JULY = datetime(2031, 7, 9, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    for table in periods.PARTITIONED:
        # A hub has no partition for the rest; where there is one, attaching another waits for its readers.
        await opened.execute(f"DROP TABLE IF EXISTS {table}_default")
    yield opened
    await opened.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(periods, "_LOCK_WAIT", "100ms")


@pytest.mark.usefixtures("impatient")
async def test_partitions_are_made_while_others_read_and_write(pool: asyncpg.Pool) -> None:
    await periods.ensure(pool, "month")
    async with pool.acquire() as reader, reader.transaction():
        await reader.execute("SELECT FROM message, delivery, attempt, audit_event LIMIT 1")
        await reader.execute(
            "INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome) "
            "SELECT id, 'a', 'b', 'c', 'd', 'ok' FROM (VALUES ($1::uuid)) AS v (id)",
            AuditEvent("a", "b", "c", "d").id,
        )
        made = await periods.ensure(pool, "month", now=JULY, ahead=0)
    assert {"message_203107", "delivery_203107", "attempt_203107", "audit_event_203107"} <= set(made)


async def test_a_partition_has_the_indexes_and_rules_of_its_parent(pool: asyncpg.Pool) -> None:
    await periods.ensure(pool, "month", now=JULY, ahead=0)
    assert await periods.ensure(pool, "month", now=JULY, ahead=0) == []
    for table in periods.PARTITIONED:
        counts = await pool.fetchrow(
            "SELECT (SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass) AS whole, "
            "(SELECT count(*) FROM pg_index i JOIN pg_inherits h ON h.inhrelid = i.indexrelid "
            "WHERE indrelid = $2::text::regclass) AS part, "
            "(SELECT count(*) FROM pg_index WHERE indrelid = $2::text::regclass) AS all_of_part",
            table,
            f"{table}_203107",
        )
        assert counts["whole"] == counts["part"] == counts["all_of_part"]


@pytest.mark.usefixtures("impatient")
async def test_a_locked_table_delays_the_future_and_not_the_present(pool: asyncpg.Pool) -> None:
    await periods.ensure(pool, "month", ahead=0)
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE message IN SHARE UPDATE EXCLUSIVE MODE")
        made = await periods.ensure(pool, "month", ahead=1)
    assert {name.rpartition("_")[0] for name in made} == {"delivery", "attempt", "audit_event"}
    assert [name.rpartition("_")[0] for name in await periods.ensure(pool, "month", ahead=1)] == ["message"]


@pytest.mark.usefixtures("impatient")
async def test_without_a_partition_for_the_present_the_reason_is_said(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE message IN SHARE UPDATE EXCLUSIVE MODE")
        with pytest.raises(Unavailable) as caught:
            await periods.ensure(pool, "month")
    assert "message" in caught.value.detail


async def test_no_partition_of_the_audit_trail_can_be_emptied(pool: asyncpg.Pool) -> None:
    await periods.ensure(pool, "month")
    await record(pool, AuditEvent("officer-1", "route.change", "route", "births"))
    partition = await pool.fetchval("SELECT tableoid::regclass::text FROM audit_event")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(f"TRUNCATE {partition}")
    # One made before it was guarded is guarded at the next round.
    await pool.execute(f"DROP TRIGGER audit_no_truncate ON {partition}")
    assert await periods.ensure(pool, "month") == []
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(f"TRUNCATE {partition}")
    assert await pool.fetchval("SELECT count(*) FROM audit_event") == 1


@pytest.mark.parametrize("at", [datetime(2031, 7, 9, 15, tzinfo=UTC), datetime(2031, 7, 30, tzinfo=UTC)])
async def test_a_change_from_days_to_months_leaves_no_gap(pool: asyncpg.Pool, at: datetime) -> None:
    await periods.ensure(pool, "day", now=at)
    made = await periods.ensure(pool, "month", now=at)
    assert {name.rpartition("_")[0] for name in made} == set(periods.PARTITIONED)
    moment = at
    while moment < datetime(2031, 10, 1, tzinfo=UTC):
        await pool.execute(
            "INSERT INTO message (id, partner, type, time, key_id, size, routes) VALUES ($1, 'a', 'b', now(), 1, 0, 0)",
            uuid7_floor(moment),
        )
        moment += timedelta(hours=6)
    assert await periods.ensure(pool, "month", now=at) == []
    # The day comes when months are whole again, and when days are wanted once more.
    assert "message_203111" in await periods.ensure(pool, "month", now=at + timedelta(days=31))
    assert await periods.ensure(pool, "day", now=at) == []


async def test_every_partition_looked_after_is_told(pool: asyncpg.Pool) -> None:
    told: list[tuple[int, int]] = []
    made = await periods.ensure(
        pool, "month", now=JULY, ahead=1, progress=lambda done, total: told.append((done, total))
    )
    assert told == [(number, len(made)) for number in range(1, len(made) + 1)]


PAST = datetime(2025, 3, 10, tzinfo=UTC)


async def store_past(pool: asyncpg.Pool, objects: FileObjectStore, count: int) -> None:
    await periods.ensure(pool, "month", now=PAST, ahead=0)
    for number in range(count):
        id_ = UUID(int=uuid7_floor(PAST).int + number)
        await objects.put(f"message/{id_}", b"sealed")
        await pool.execute(
            "INSERT INTO message (id, partner, type, time, key_id, claim, size, routes) "
            "VALUES ($1, 'ministry', 'a.b', now(), 1, $2, 6, 0)",
            id_,
            f"message/{id_}",
        )


async def test_large_bodies_go_with_their_partition(pool: asyncpg.Pool, tmp_path: Path) -> None:
    objects = FileObjectStore(tmp_path / "objects")
    await store_past(pool, objects, 40)
    await objects.put("message/of-another-time", b"sealed")
    assert "message_202503" in await periods.drop_ended(pool, objects)
    assert [file.name for file in (tmp_path / "objects").rglob("*") if file.is_file()] == ["of-another-time"]
    await objects.close()


async def test_a_period_that_lacks_one_of_its_tables_is_dropped_all_the_same(
    pool: asyncpg.Pool, tmp_path: Path
) -> None:
    objects = FileObjectStore(tmp_path / "objects")
    await store_past(pool, objects, 1)
    await pool.execute("DROP TABLE delivery_202503")
    assert "message_202503" in await periods.drop_ended(pool, objects)
    await objects.close()


async def test_a_partition_stays_until_its_large_bodies_are_gone(pool: asyncpg.Pool, tmp_path: Path) -> None:
    objects = FileObjectStore(tmp_path / "objects")
    await store_past(pool, objects, 1)
    await objects.close()
    with pytest.raises(Unavailable):
        await periods.drop_ended(pool, objects)
    assert await pool.fetchval("SELECT count(*) FROM message_202503") == 1
    again = FileObjectStore(tmp_path / "objects")
    assert "message_202503" in await periods.drop_ended(pool, again)
    await again.close()
