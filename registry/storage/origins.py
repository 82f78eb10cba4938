"""The memory of message ids: what came before is recognised for a while, then forgotten a bounded batch at a time."""

from __future__ import annotations

from typing import Final

import asyncpg

BATCH: Final = 5000
MOST_BATCHES: Final = 400
"""One round forgets at most two million ids; the next round goes on."""

# No order: any that are old enough may go, and those another process is forgetting are left to it.
_FORGET: Final = """
DELETE FROM accepted_origin WHERE origin_hash IN (
    SELECT origin_hash FROM accepted_origin WHERE accepted_at < now() - make_interval(days => $1)
    LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


async def forget(pool: asyncpg.Pool, days: int, *, batch: int = BATCH, most: int = MOST_BATCHES) -> int:
    """Forget ids first seen more than `days` ago and return how many; each batch is a short transaction of its own."""
    gone = 0
    for _ in range(most):
        status: str = await pool.execute(_FORGET, days, batch)
        number = int(status.rpartition(" ")[2])
        gone += number
        if number < batch:
            break
    return gone
