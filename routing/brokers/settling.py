"""Settlements of outbox rows, collected for a few milliseconds and written in one statement each."""

from __future__ import annotations

import asyncio
import logging
from uuid import UUID

import asyncpg

from registry.logs import log

_LOG = logging.getLogger(__name__)

COLLECT_SECONDS = 0.003
WRITE_SECONDS = 10.0

DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"
LATER = """
    UPDATE outbox SET available_at = clock_timestamp() + s.delay * interval '1 second', taken_by = NULL, taken_at = NULL, redelivered = true
    FROM unnest($1::bigint[], $2::float8[]) AS s(id, delay) WHERE outbox.id = s.id AND outbox.taken_by = $3
"""


class Settler:
    """Writes acknowledgements and delays; holds them while the database is away and writes them when it is back.

    An acknowledgement deletes the row whoever holds it now: the work is done. A delay moves the row only while it is
    still ours. Both may be repeated without harm. What is held is bounded by what was handed out: nothing can be
    claimed while the database is away.
    """

    def __init__(self, pool: asyncpg.Pool, worker_id: UUID) -> None:
        self._pool = pool
        self._worker = worker_id
        self._done: list[int] = []
        self._later: list[tuple[int, float]] = []
        self._task: asyncio.Task[None] | None = None
        self.writing: set[int] = set()
        """Ids settled but not yet written: a recovery must not give them to others."""

    def done(self, row: int) -> None:
        """Delete a row soon."""
        self._done.append(row)
        self._start(row)

    def later(self, row: int, delay: float) -> None:
        """Make a row available again after `delay` seconds."""
        self._later.append((row, delay))
        self._start(row)

    async def close(self, seconds: float) -> None:
        """Write what is left, at most `seconds` long."""
        if self._task is not None:
            _, late = await asyncio.wait({self._task}, timeout=seconds)
            for task in late:
                # Those parcels come again.
                log(_LOG, logging.WARNING, "broker-settlements-unwritten", count=len(self.writing))
                task.cancel()
                await asyncio.wait({task}, timeout=1.0)

    def _start(self, row: int) -> None:
        self.writing.add(row)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write(), name="broker-settler")

    async def _write(self) -> None:
        pause = 0.1
        await asyncio.sleep(COLLECT_SECONDS)
        while self._done or self._later:
            done, self._done = self._done, []
            later, self._later = self._later, []
            try:
                async with self._pool.acquire(timeout=WRITE_SECONDS) as connection:
                    if done:
                        await connection.execute(DELETE, sorted(done), timeout=WRITE_SECONDS)
                        self.writing.difference_update(done)
                        done = []
                    if later:
                        rows, delays = [row for row, _ in later], [delay for _, delay in later]
                        await connection.execute(LATER, rows, delays, self._worker, timeout=WRITE_SECONDS)
                        self.writing.difference_update(rows)
                        later = []
                pause = 0.1
            except Exception as error:  # nobody else writes settlements: whatever it was, it is tried again
                self._done = done + self._done
                self._later = later + self._later
                log(
                    _LOG,
                    logging.WARNING,
                    "broker-settlements-delayed",
                    error_class=type(error).__name__,
                    count=len(self.writing),
                )
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
        self._task = None
