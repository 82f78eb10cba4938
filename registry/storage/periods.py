"""Time partitions: made ahead of need, dropped when the retention of all they hold has ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

import asyncpg

from canonical_model.message import uuid7_floor

Length = Literal["day", "month"]
PARTITIONED: Final = ("message", "delivery", "attempt", "audit_event")
LOCK: Final = 0x6F70_6570


def start_of(at: datetime, length: Length) -> datetime:
    """Return the first instant of the period that holds `at`."""
    day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day if length == "day" else day.replace(day=1)


def next_start(start: datetime, length: Length) -> datetime:
    """Return the first instant of the following period."""
    return start + timedelta(days=1) if length == "day" else (start + timedelta(days=32)).replace(day=1)


def _name(table: str, start: datetime, length: Length) -> str:
    return f"{table}_{start:%Y%m%d}" if length == "day" else f"{table}_{start:%Y%m}"


async def ensure(
    pool: asyncpg.Pool, length: Length, *, now: datetime | None = None, ahead: int = 3
) -> list[str]:
    """Make the partitions of this and the next `ahead` periods (and of yesterday's); return the names made. Safe to repeat."""
    moment = now or datetime.now(UTC)
    made: list[str] = []
    last = start_of(moment, length)
    for _ in range(ahead):
        last = next_start(last, length)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
        # A day back: ids made just before midnight may be written just after it.
        start = start_of(moment - timedelta(days=1), length)
        while start <= last:
            end = next_start(start, length)
            for table in PARTITIONED:
                name = _name(table, start, length)
                if await connection.fetchval("SELECT to_regclass($1)", name) is None and not await _covered(
                    connection, table, start, end
                ):
                    await connection.execute(
                        f"CREATE TABLE {name} PARTITION OF {table} "
                        f"FOR VALUES FROM ('{uuid7_floor(start)}') TO ('{uuid7_floor(end)}')"
                    )
                    made.append(name)
            start = end
    return made


async def _covered(
    connection: asyncpg.pool.PoolConnectionProxy, table: str, start: datetime, end: datetime
) -> bool:
    """Say whether another partition already holds part of the range (the length was changed)."""
    rows = await connection.fetch(
        "SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = $1::text::regclass",
        table,
    )
    low, high = uuid7_floor(start), uuid7_floor(end)
    for row in rows:
        parts = str(row["bound"]).split("'")
        if len(parts) >= 4 and parts[1] < str(high) and parts[3] > str(low):
            return True
    return False


async def drop_ended(pool: asyncpg.Pool, *, now: datetime | None = None) -> list[str]:
    """Drop message-path partitions none of whose data keys is left and in which no delivery is live; return their names.

    Audit partitions stay: an audit trail has its own retention.
    """
    moment = now or datetime.now(UTC)
    dropped: list[str] = []
    async with pool.acquire() as connection:
        rows = await connection.fetch(
            "SELECT c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i "
            "JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'message'::regclass ORDER BY 1"
        )
        for row in rows:
            parts = str(row["bound"]).split("'")
            if len(parts) < 4:
                continue  # a default partition has no end
            begin, end_of_period = parts[1], parts[3]
            if end_of_period > str(uuid7_floor(moment)):
                continue
            suffix = row["name"].removeprefix("message_")
            async with connection.transaction():
                # Waiting for a long reader would make every writer wait behind this; the next round tries again.
                await connection.execute("SET LOCAL lock_timeout = '2s'")
                alive = await connection.fetchval(
                    f"SELECT EXISTS (SELECT 1 FROM {row['name']} m JOIN data_key k ON k.id = m.key_id "
                    "WHERE k.wrapped IS NOT NULL LIMIT 1)"
                )
                # A delivery may lie in a later partition than its message: made past midnight, or a replay.
                live = await connection.fetchval(
                    "SELECT EXISTS (SELECT 1 FROM delivery WHERE ended_at IS NULL AND message_id >= $1 AND message_id < $2) "
                    f"OR EXISTS (SELECT 1 FROM delivery_{suffix} WHERE ended_at IS NULL)",
                    begin,
                    end_of_period,
                )
                if alive or live:
                    continue
                for table in ("attempt", "delivery", "message"):
                    await connection.execute(f"DROP TABLE IF EXISTS {table}_{suffix}")
                    dropped.append(f"{table}_{suffix}")
    return dropped
