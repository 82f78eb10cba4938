"""Time partitions: made ahead of need, dropped when the retention of all they hold has ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, Literal, TypeAlias
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Unavailable
from canonical_model.message import uuid7_floor
from registry.logs import log
from registry.objects import ObjectStore
from registry.storage.database import database_errors

Length = Literal["day", "month"]
Progress: TypeAlias = Callable[[int, int], None]
"""Told how many of how many are done."""
PARTITIONED: Final = ("message", "delivery", "attempt", "audit_event")
LOCK: Final = 0x6F70_6570
_LOG = logging.getLogger(__name__)
_APPEND_ONLY: Final = frozenset({"audit_event"})
_UNTRUNCATED: Final = "audit_no_truncate"
_LOCK_WAIT: Final = "2s"
_WAIT: Final = 10.0
_TRIES: Final = 5
_OBJECTS: Final = 16
"""Objects removed at once; bounded by the threads of the object store, which others need too."""
_EXISTS: Final = (
    "SELECT to_regclass($1) IS NOT NULL AND ($2::text IS NULL OR EXISTS "
    "(SELECT FROM pg_trigger WHERE tgrelid = to_regclass($1) AND tgname = $2 AND tgenabled = 'A'))"
)
# The hub's own role may own no tables: then the owner makes and drops partitions with `hub db partitions --make`.
_LATER: Final = (asyncpg.LockNotAvailableError, asyncpg.InsufficientPrivilegeError)
_Connection: TypeAlias = asyncpg.Connection | PoolConnectionProxy


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
    pool: asyncpg.Pool,
    length: Length,
    *,
    now: datetime | None = None,
    ahead: int = 3,
    progress: Progress | None = None,
) -> list[str]:
    """Make the partitions of this and the next `ahead` periods (and of yesterday's); return the names made. Safe to repeat.

    A table is made on its own and then attached, which lets readers and writers of the parent go on. A partition that
    cannot be made within two seconds is logged and left to the next round while the one of `now` is there; raises
    `Unavailable` (`database-unavailable`) when that one is missing after several tries, or the database is away. `progress`
    is told after each partition how many of how many are looked after.
    """
    moment = now or datetime.now(UTC)
    made: list[str] = []
    async with (
        database_errors("making the partitions of the store"),
        pool.acquire(timeout=_WAIT) as connection,
    ):
        for left in reversed(range(_TRIES)):
            late = await _make_missing(connection, length, moment, ahead, made, progress)
            if not late:
                break
            lacking = [table for table in PARTITIONED if not await _holds(connection, table, moment)]
            if not lacking:
                log(_LOG, logging.WARNING, "partitions-wait", error=late[-1], count=len(late))
                break
            if not left:
                raise Unavailable(
                    f"No partition of {lacking[0]} holds the present time and none could be made ({type(late[-1]).__name__}).",
                    code="database-unavailable",
                    remedy="Run `hub db partitions --make` as the owner of the tables; end transactions that hold a lock on them.",
                    retry_after=10,
                ) from late[-1]
    return made


async def _make_missing(
    connection: _Connection,
    length: Length,
    moment: datetime,
    ahead: int,
    made: list[str],
    progress: Progress | None,
) -> list[Exception]:
    """Make what is missing, adding the names to `made`; return why others could not be made now."""
    late: list[Exception] = []
    wanted = [
        (table, start, size)
        for table in PARTITIONED
        for start, size in await _wanted(connection, table, length, moment, ahead)
    ]
    wanted.sort(key=lambda one: one[1])
    for number, (table, start, size) in enumerate(wanted, 1):
        name = _name(table, start, size)
        if not await connection.fetchval(_EXISTS, name, _UNTRUNCATED if table in _APPEND_ONLY else None):
            try:
                async with connection.transaction():
                    # Whoever waits for a lock makes all who come later wait behind it, so nobody waits for long.
                    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
                    await connection.execute("SELECT pg_advisory_xact_lock($1)", LOCK)
                    if await _make(connection, table, name, start, next_start(start, size)):
                        made.append(name)
            except _LATER as error:
                late.append(error)
        if progress is not None:
            progress(number, len(wanted))
    return late


async def _wanted(
    connection: _Connection, table: str, length: Length, moment: datetime, ahead: int
) -> list[tuple[datetime, Length]]:
    """Return the periods to look after, oldest first.

    A month that days hold in part (the length was changed in its middle) is filled up with days: as a whole it cannot be
    made, and what no partition holds is refused by the database.
    """
    last = start_of(moment, length)
    for _ in range(ahead):
        last = next_start(last, length)
    # A day back: ids made just before midnight may be written just after it.
    yesterday = start_of(moment - timedelta(days=1), "day")
    start = start_of(yesterday, length)
    bounds = await _bounds(connection, table)
    found: list[tuple[datetime, Length]] = []
    while start <= last:
        end = next_start(start, length)
        first, past = str(uuid7_floor(start)), str(uuid7_floor(end))
        if length == "day" or (first, past) in bounds or not _overlaps(bounds, first, past):
            found.append((start, length))
        else:
            day = max(start, yesterday)
            while day < end:
                found.append((day, "day"))
                day = next_start(day, "day")
        start = end
    return found


async def _make(connection: _Connection, table: str, name: str, start: datetime, end: datetime) -> bool:
    """Make one partition and what guards it; say whether the table is new."""
    new = await connection.fetchval("SELECT to_regclass($1)", name) is None
    if new:
        # Another partition holds part of the range already: the length was changed.
        if _overlaps(await _bounds(connection, table), str(uuid7_floor(start)), str(uuid7_floor(end))):
            return False
        # Attached afterwards, a new partition needs no exclusive lock on its parent.
        await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL)")
        await connection.execute(
            f"ALTER TABLE {table} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{uuid7_floor(start)}') TO ('{uuid7_floor(end)}')"
        )
    if table in _APPEND_ONLY:
        # Triggers of statements stay with the parent, so each partition needs its own.
        await connection.execute(
            f"CREATE OR REPLACE TRIGGER {_UNTRUNCATED} BEFORE TRUNCATE ON {name} "
            "FOR EACH STATEMENT EXECUTE FUNCTION audit_is_append_only()"
        )
        # Ordinary triggers are silent in a session that replays replication.
        await connection.execute(f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER {_UNTRUNCATED}")
    return new


async def _bounds(connection: _Connection, table: str) -> list[tuple[str, str]]:
    """Return first and past-the-last id of every partition, in the order of time."""
    rows = await connection.fetch(
        "SELECT pg_get_expr(c.relpartbound, c.oid) AS bound FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = $1::text::regclass ORDER BY 1",
        table,
    )
    split = [str(row["bound"]).split("'") for row in rows]
    return [(parts[1], parts[3]) for parts in split if len(parts) >= 4]


def _overlaps(bounds: Sequence[tuple[str, str]], low: str, high: str) -> bool:
    return any(first < high and past > low for first, past in bounds)


async def _holds(connection: _Connection, table: str, moment: datetime) -> bool:
    """Say whether a partition takes what is written at this moment."""
    at = str(uuid7_floor(moment))
    return any(first <= at < past for first, past in await _bounds(connection, table))


async def drop_ended(pool: asyncpg.Pool, objects: ObjectStore, *, now: datetime | None = None) -> list[str]:
    """Drop message-path partitions none of whose data keys is left and in which no delivery is live; return their names.

    The sealed bodies in the object store go first, so that a partition whose objects could not all be removed stays and is
    tried again; raises `Unavailable` then. Audit partitions stay: an audit trail has its own retention.
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
            if not await _ended(connection, suffix, begin, end_of_period):
                continue
            await _remove_objects(connection, row["name"], objects)
            try:
                async with connection.transaction():
                    # Waiting for a long reader would make every writer wait behind this; the next round tries again.
                    await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_WAIT}'")
                    if not await _ended(connection, suffix, begin, end_of_period):
                        continue
                    for table in ("attempt", "delivery", "message"):
                        await connection.execute(f"DROP TABLE IF EXISTS {table}_{suffix}")
            except _LATER as error:
                log(_LOG, logging.WARNING, "partition-stays", error=error, partition=row["name"])
                continue
            dropped += [f"{table}_{suffix}" for table in ("attempt", "delivery", "message")]
    return dropped


async def _ended(connection: _Connection, suffix: str, begin: str, end: str) -> bool:
    """Say whether nothing of a period can be read or is still to be delivered."""
    if await connection.fetchval(
        f"SELECT EXISTS (SELECT 1 FROM message_{suffix} m JOIN data_key k ON k.id = m.key_id "
        "WHERE k.wrapped IS NOT NULL LIMIT 1)"
    ):
        return False
    # A delivery may lie in a later partition than its message: made past midnight, or a replay.
    return not await connection.fetchval(
        "SELECT EXISTS (SELECT 1 FROM delivery WHERE ended_at IS NULL AND message_id >= $1 AND message_id < $2) "
        "OR EXISTS (SELECT 1 FROM delivery WHERE ended_at IS NULL AND id >= $1 AND id < $2)",
        begin,
        end,
    )


async def _remove_objects(connection: _Connection, partition: str, objects: ObjectStore) -> None:
    """Remove the objects the messages of a partition point to, some at a time; what is gone already is no error."""
    after = UUID(int=0)
    while rows := await connection.fetch(
        f"SELECT id, claim FROM {partition} WHERE claim IS NOT NULL AND id > $1 ORDER BY id LIMIT {_OBJECTS}",
        after,
    ):
        after = rows[-1]["id"]
        await asyncio.gather(*(objects.delete(row["claim"]) for row in rows))
