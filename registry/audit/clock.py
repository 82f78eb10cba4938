"""Which events can have no more neighbours: numbers of transactions, kept rising when the trail moves to another server."""

from __future__ import annotations

from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused

_NOW: Final = """
SELECT pg_snapshot_xmin(s.now)::text::bigint + c.shift AS ended, pg_snapshot_xmax(s.now)::text::bigint + c.shift AS next
FROM (SELECT pg_current_snapshot() AS now) s, audit_clock c
"""
_HIGHEST: Final = """
SELECT greatest((SELECT max(upper) FROM audit_checkpoint),
    (SELECT max(transaction) FROM audit_event
     WHERE transaction >= coalesce((SELECT max(upper) FROM audit_checkpoint), 0)))
"""


async def ended(connection: asyncpg.Connection | PoolConnectionProxy) -> int:
    """Return the number below which every transaction has ended, as the connection's snapshot sees it.

    Raises `Refused` (`audit-clock-behind`) when the server counts below what is sealed already: the database was restored
    into another server.
    """
    row = await connection.fetchrow(_NOW)
    assert row is not None  # audit_clock has one row
    sealed = await connection.fetchval("SELECT max(upper) FROM audit_checkpoint")
    if sealed is not None and sealed > row["next"]:
        raise Refused(
            f"The database counts transactions from {row['next']}, but the audit trail is sealed up to {sealed}; "
            "nothing was sealed.",
            code="audit-clock-behind",
            remedy="The database was restored into another server: run `hub db upgrade` as the owner of the tables.",
        )
    return int(row["ended"])


async def next_number(connection: asyncpg.Connection | PoolConnectionProxy) -> int:
    """Return the number that no event of the connection's snapshot can have reached."""
    row = await connection.fetchrow(_NOW)
    assert row is not None
    return int(row["next"])


async def wind(pool: asyncpg.Pool) -> int:
    """Let numbers go on above the highest the trail holds, where the server counts below it; return what was added.

    Needs the owner of `audit_event`; writers wait for some milliseconds.
    """
    async with pool.acquire() as connection:
        row = await connection.fetchrow(_NOW)
        assert row is not None
        if (await connection.fetchval(_HIGHEST, timeout=600) or 0) < row["next"]:
            return 0
        async with connection.transaction():
            await connection.execute("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE")
            row = await connection.fetchrow(_NOW)
            highest = await connection.fetchval(_HIGHEST, timeout=600)
            assert row is not None
            if highest is None or highest < row["next"]:
                return 0
            added = int(highest) - int(row["ended"]) + 1
            shift = await connection.fetchval(
                "UPDATE audit_clock SET shift = shift + $1 RETURNING shift", added
            )
            await connection.execute(
                "ALTER TABLE audit_event ALTER COLUMN transaction "
                f"SET DEFAULT (txid_current() + {int(shift)})"
            )
            return added
