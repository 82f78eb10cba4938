"""The table of jobs: submitting, claiming, beating, ending; every step is one statement."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, insert_many
from registry.jobs.job import COLUMNS, STATES, Job
from registry.storage.database import database_errors

CHANNEL: Final = "hub_job"
SILENT_SECONDS: Final = 30.0
"""A running job whose worker did not beat for so long is taken over."""
MOST_ATTEMPTS: Final = 5
"""Workers that fell silent without anything saved, after which a job is given up: it may be what kills them."""
LIMIT: Final = 200
_Connection = asyncpg.Connection | PoolConnectionProxy

_CLAIM: Final = f"""
UPDATE job SET state = 'running', worker = $1, beat_at = now(), started_at = coalesce(started_at, now()),
    attempts = attempts + CASE WHEN state = 'running' THEN 1 ELSE 0 END, error = NULL, claimed_at = now(), claimed_done = done
WHERE id = (
    SELECT id FROM job
    WHERE ended_at IS NULL AND kind = ANY ($2) AND ($4::uuid IS NULL OR id = $4)
        AND ((state = 'queued' AND (next_at IS NULL OR next_at <= now()))
            OR (state = 'running' AND beat_at < now() - make_interval(secs => $3)))
    ORDER BY created_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
"""
_END: Final = """
UPDATE job SET state = $3, result = $4, error = $5, ended_at = now(), beat_at = now(), worker = NULL
WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING kind
"""
_CANCEL: Final = f"""
UPDATE job SET cancel = true, state = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END,
    ended_at = CASE WHEN state = 'queued' THEN now() END
WHERE id = $1 AND ended_at IS NULL RETURNING {COLUMNS}
"""


class Submitted(NamedTuple):
    """A job, and whether this request made it or an earlier one with the same `once`."""

    job: Job
    created: bool


class JobStore:
    """Jobs of one database, as whoever submits, watches and cancels them sees them."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def submit(
        self,
        kind: str,
        *,
        actor: str,
        params: Mapping[str, Any] | None = None,
        once: str | None = None,
        total: int | None = None,
        connection: _Connection | None = None,
        request_id: str | None = None,
    ) -> Submitted:
        """Put a job into the queue, in the caller's transaction where a connection is given.

        A second request with the same `once` gets the first job, so that a double click does the work once; raises
        `Refused` (`job-once-reused`) when it asks for something else. Params never hold personal data.
        """
        if connection is not None:
            return await self._submit(connection, kind, actor, params, once, total, request_id)
        async with (
            database_errors("submitting a job"),
            self._pool.acquire() as own,
            own.transaction(),
        ):
            return await self._submit(own, kind, actor, params, once, total, request_id)

    async def _submit(
        self,
        connection: _Connection,
        kind: str,
        actor: str,
        params: Mapping[str, Any] | None,
        once: str | None,
        total: int | None,
        request_id: str | None,
    ) -> Submitted:
        row = await connection.fetchrow(
            "INSERT INTO job (id, kind, actor, params, once, total) VALUES ($1, $2, $3, $4, $5, $6) "
            f"ON CONFLICT (once) DO NOTHING RETURNING {COLUMNS}",
            uuid7(),
            kind,
            actor,
            dict(params or {}),
            once,
            total,
        )
        if row is None:
            row = await connection.fetchrow(f"SELECT {COLUMNS} FROM job WHERE once = $1", once)
            assert row is not None  # it was in the way just now, and jobs are never deleted
            found = Job.of(row)
            if found.kind != kind or dict(found.params) != dict(params or {}):
                raise Refused(
                    f"Job {found.id} was asked for with the same key and is other work. Nothing was started.",
                    code="job-once-reused",
                    remedy="Use a new key for new work; the first job goes on.",
                )
            return Submitted(found, created=False)
        made = Job.of(row)
        await insert_many(
            connection,
            [AuditEvent(actor, "job.submit", "job", str(made.id), "queued", request_id, {"kind": kind})],
        )
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, kind)
        return Submitted(made, created=True)

    async def get(self, id_: UUID, *, actor: str | None = None) -> Job:
        """Return one job, of `actor` only where given; raises `Refused` (`job-not-found`)."""
        async with database_errors("reading a job"):
            row = await self._pool.fetchrow(
                f"SELECT {COLUMNS} FROM job WHERE id = $1 AND ($2::text IS NULL OR actor = $2)", id_, actor
            )
        if row is None:
            raise not_found()
        return Job.of(row)

    async def list(
        self,
        *,
        kind: str | None = None,
        state: str | None = None,
        actor: str | None = None,
        before: UUID | None = None,
        limit: int = 50,
    ) -> Sequence[Job]:
        """Return the newest jobs, at most 200, with ids below `before`; raises `Refused` (`filter-invalid`)."""
        if state is not None and state not in STATES:
            raise Refused(
                f"The filter state is none of {', '.join(STATES)}. Nothing was searched.",
                code="filter-invalid",
                pointer="/state",
            )
        async with database_errors("listing jobs"):
            rows = await self._pool.fetch(
                f"SELECT {COLUMNS} FROM job WHERE ($1::text IS NULL OR kind = $1) AND ($2::text IS NULL OR state = $2) "
                "AND ($3::text IS NULL OR actor = $3) AND ($4::uuid IS NULL OR id < $4) ORDER BY id DESC LIMIT $5",
                kind, state, actor, before, min(limit, LIMIT),
            )  # fmt: skip
        return [Job.of(row) for row in rows]

    async def cancel(self, id_: UUID, *, actor: str, own: bool = False, request_id: str | None = None) -> Job:
        """Ask a job to end, with `own` only one the actor submitted; one that waits ends at once.

        Cancelling twice, or what has ended, changes nothing. Raises `Refused` (`job-not-found`).
        """
        await self.get(id_, actor=actor if own else None)
        async with (
            database_errors("cancelling a job"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(_CANCEL, id_)
            if row is not None:
                await insert_many(
                    connection, [AuditEvent(actor, "job.cancel", "job", str(id_), "ok", request_id)]
                )
        return await self.get(id_) if row is None else Job.of(row)

    async def watch(self, id_: UUID, *, seconds: float = 0.5) -> AsyncIterator[Job]:
        """Yield a job each time it changed, until it has ended; looks every `seconds`."""
        last = None
        while True:
            job = await self.get(id_)
            if job != last:
                yield job
            if job.ended:
                return
            last = job
            await asyncio.sleep(seconds)

    async def claim(
        self, worker: UUID, kinds: Collection[str], *, id_: UUID | None = None, silent: float = SILENT_SECONDS
    ) -> Job | None:
        """Take the oldest job that waits or whose worker fell silent; None when there is none."""
        async with database_errors("claiming a job"):
            row = await self._pool.fetchrow(_CLAIM, worker, list(kinds), silent, id_)
        return None if row is None else Job.of(row)

    async def beat(self, job: Job, worker: UUID) -> bool | None:
        """Say that a job is worked on; return whether it is to end, None when it is another worker's by now."""
        async with database_errors("beating for a job"):
            found: bool | None = await self._pool.fetchval(
                "UPDATE job SET beat_at = now() WHERE id = $1 AND worker = $2 AND state = 'running' RETURNING cancel",
                job.id,
                worker,
            )
        return found

    async def end(
        self,
        job: Job,
        worker: UUID,
        state: str,
        *,
        result: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
    ) -> bool:
        """Record how a job ended; False when it is another worker's by now, and nothing is recorded then."""
        async with (
            database_errors("ending a job"),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            kind = await connection.fetchval(
                _END, job.id, worker, state, None if result is None else dict(result), error
            )
            if kind is None:
                return False
            details = {"kind": kind} | ({"code": error["code"]} if error else {})
            await insert_many(
                connection, [AuditEvent("hub", "job.end", "job", str(job.id), state, details=details)]
            )
        return True

    async def release(
        self, job: Job, worker: UUID, *, wait: float = 0.0, error: Mapping[str, Any] | None = None
    ) -> None:
        """Put a job back into the queue, to be taken again after `wait` seconds; `error` says what it waits for."""
        await self._pool.execute(
            "UPDATE job SET state = 'queued', worker = NULL, next_at = now() + make_interval(secs => $3), error = $4 "
            "WHERE id = $1 AND worker = $2 AND state = 'running'",
            job.id,
            worker,
            wait,
            None if error is None else dict(error),
        )


def not_found() -> Refused:
    """Return the refusal of a job that is not there or is somebody else's."""
    return Refused(
        "There is no such job.",
        code="job-not-found",
        remedy="`hub jobs list` shows the newest; ids are UUIDs.",
    )
