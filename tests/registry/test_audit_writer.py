"""The audit trail: written with the deed, never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest

from canonical_model.errors import Unavailable
from registry.audit import AuditEvent, insert_many, record
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure

EVENTS = [
    AuditEvent("officer-1", "route.change", "route", "births", details={"version": 2}, request_id="r-1"),
    AuditEvent("officer-2", "delivery.replay", "delivery", "d-1", "refused"),
]


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=3)
    await ensure(opened, "month")
    yield opened
    await opened.close()


async def test_events_are_kept_as_they_were_written(pool: asyncpg.Pool) -> None:
    await record(pool, *EVENTS)
    await record(pool)
    rows = await pool.fetch("SELECT * FROM audit_event ORDER BY id")
    assert [row["id"] for row in rows] == sorted(event.id for event in EVENTS)
    by_actor = {row["actor"]: row for row in rows}
    assert by_actor["officer-1"]["details"] == {"version": 2}
    assert by_actor["officer-1"]["at"] == EVENTS[0].at
    assert by_actor["officer-2"]["details"] is None
    assert by_actor["officer-2"]["outcome"] == "refused"


async def test_a_trace_goes_with_its_deed(pool: asyncpg.Pool) -> None:
    async with pool.acquire() as connection:
        deed = connection.transaction()
        await deed.start()
        await insert_many(connection, EVENTS)
        await deed.rollback()
    assert await pool.fetchval("SELECT count(*) FROM audit_event") == 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET actor = 'nobody'",
        "DELETE FROM audit_event",
        "TRUNCATE audit_event",
        "UPDATE {partition} SET actor = 'nobody'",
        "DELETE FROM {partition}",
    ],
)
async def test_nobody_can_change_or_remove_an_event(pool: asyncpg.Pool, statement: str) -> None:
    await record(pool, *EVENTS)
    partition = await pool.fetchval("SELECT tableoid::regclass::text FROM audit_event LIMIT 1")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await pool.execute(statement.format(partition=partition))
    assert await pool.fetchval("SELECT count(*) FROM audit_event WHERE actor <> 'nobody'") == 2


async def test_a_trail_that_cannot_be_written_is_said(pool: asyncpg.Pool) -> None:
    await pool.close()
    with pytest.raises(Unavailable):
        await record(pool, EVENTS[0])
