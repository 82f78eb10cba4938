"""What a job's handler works with: its params, where it stands, and how it says how far it came."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Unavailable
from registry.jobs.job import Job

# Position, fence and beat in one: whoever lost the job gets no row, and the transaction with the work is rolled back.
_SAVE: Final = """
UPDATE job SET position = $3, done = $4, total = coalesce($5, total), attempts = 0, beat_at = now()
WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING cancel
"""


class JobLost(Unavailable):
    """The job is another worker's by now; what was not saved is undone."""

    default_code = "job-lost"


class JobContext:
    """One run of a job; the next run begins where `save` was last called."""

    def __init__(
        self,
        job: Job,
        worker: UUID,
        pool: asyncpg.Pool,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> None:
        self._job, self._worker, self._progress = job, worker, progress
        self._cancel = job.cancel
        self.told = False
        """Whether the handler has seen that it is to end."""
        self.pool = pool
        self.position: Any = job.position
        """What was saved last, None at the beginning."""
        self.done = job.done
        self.total = job.total

    @property
    def id(self) -> UUID:
        """The job's id."""
        return self._job.id

    @property
    def actor(self) -> str:
        """Who asked for the work."""
        return self._job.actor

    @property
    def params(self) -> Mapping[str, Any]:
        """What was asked for."""
        return self._job.params

    @property
    def cancelled(self) -> bool:
        """Whether to end now; a handler that saw True here and returns has ended as cancelled."""
        self.told = self.told or self._cancel
        return self._cancel

    def cancel(self) -> None:
        """Let `cancelled` say True."""
        self._cancel = True

    async def save(
        self,
        connection: asyncpg.Connection | PoolConnectionProxy,
        position: Any,
        done: int,
        total: int | None = None,
    ) -> None:
        """Record how far the work came, in the transaction of the work itself, so that each chunk counts once.

        `position` is a JSON value and `done` the number of items from the beginning. Raises `JobLost` when another worker
        has taken the job over: let it pass, so that the transaction is rolled back.
        """
        cancel = await connection.fetchval(_SAVE, self.id, self._worker, position, done, total)
        if cancel is None:
            raise JobLost(f"Job {self.id} was taken over by another worker; the last chunk was undone here.")
        self.position, self.done = position, done
        self.total = self.total if total is None else total
        self._cancel = self._cancel or cancel
        self.show(done, self.total)

    def show(self, done: int, total: int | None = None) -> None:
        """Tell whoever watches in this process how far the work is, without recording it."""
        if self._progress is not None:
            self._progress(done, self.total if total is None else total)
