"""Running jobs: a bounded number at once, each with a beat, taken over from workers that fell silent."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import HubError, Refused, Unavailable, Unknown
from registry.jobs.context import JobContext, JobLost
from registry.jobs.job import Job
from registry.jobs.store import CHANNEL, MOST_ATTEMPTS, SILENT_SECONDS, JobStore
from registry.logs import log
from registry.storage.database import GONE

_LOG = logging.getLogger(__name__)
Handler = Callable[[JobContext], Awaitable[Mapping[str, Any] | None]]
"""The work of one kind: goes on from `context.position` and returns its result, JSON without personal data."""
Kinds = Mapping[str, Handler]
_POLL: Final = 5.0
_BEAT: Final = 2.0
_AWAY: Final = 2.0
_LOOK: Final = 0.1
_AGAIN: Final = 30.0
"""Seconds until a job whose needs are away is tried again."""


class JobRunner:
    """Runs the jobs of the given kinds from `start` to `stop`, at most `parallel` at once."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        worker: UUID,
        kinds: Kinds,
        *,
        parallel: int = 2,
        silent: float = SILENT_SECONDS,
        poll: float = _POLL,
    ) -> None:
        self._pool, self._worker, self._kinds = pool, worker, kinds
        self._silent, self._poll = silent, poll
        self._places = asyncio.Semaphore(parallel)
        self._wake = asyncio.Event()
        self._running: set[asyncio.Task[None]] = set()
        self._loop: asyncio.Task[None] | None = None
        self.store = JobStore(pool)

    def start(self) -> None:
        """Begin to take jobs."""
        self._loop = asyncio.create_task(self._take(), name="jobs")

    async def stop(self) -> None:
        """Take no more; what runs is put back and goes on elsewhere from where it was saved last."""
        tasks = [*self._running, *([self._loop] if self._loop else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._loop = None

    async def run(self, id_: UUID, progress: Callable[[int, int | None], None] | None = None) -> Job:
        """Run one job here, or watch it where another worker has it, and return it ended; for commands."""
        while True:
            # Asked for again each time: the worker that had it may have died, and nobody else may be there to take it over.
            job = await self.store.claim(self._worker, list(self._kinds), id_=id_, silent=self._silent)
            if job is not None:
                await self._work(job, progress)
            job = await self.store.get(id_)
            if progress is not None:
                progress(job.done, job.total)
            if job.ended:
                return job
            await asyncio.sleep(_LOOK)

    async def _take(self) -> None:
        listener: PoolConnectionProxy | None = None
        try:
            while True:
                try:
                    if listener is None or listener.is_closed():
                        if listener is not None:
                            await self._pool.release(listener)
                        listener = await self._pool.acquire(timeout=10)
                        await listener.add_listener(CHANNEL, self._woken)
                    await self._take_all()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll):
                            await self._wake.wait()
                    self._wake.clear()
                except (HubError, asyncpg.PostgresError, *GONE) as error:
                    log(_LOG, logging.WARNING, "jobs-wait", error=error)
                    await asyncio.sleep(_AWAY)
        finally:
            if listener is not None:
                with contextlib.suppress(*GONE):
                    await listener.remove_listener(CHANNEL, self._woken)
                    await self._pool.release(listener)

    def _woken(self, *_: Any) -> None:
        self._wake.set()

    async def _take_all(self) -> None:
        """Take jobs until there is none, waiting for a free place before each."""
        while True:
            await self._places.acquire()
            job = None
            try:
                job = await self.store.claim(self._worker, list(self._kinds), silent=self._silent)
            finally:
                if job is None:
                    self._places.release()
            if job is None:
                return
            task = asyncio.create_task(self._placed(job), name=f"job {job.id}")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _placed(self, job: Job) -> None:
        try:
            await self._work(job, None)
        except (HubError, asyncpg.PostgresError, *GONE) as error:
            # Not even its end could be recorded: it falls silent and is taken up again from where it was saved.
            log(_LOG, logging.WARNING, "job-left", error=error, kind=job.kind)
        finally:
            self._places.release()

    async def _work(self, job: Job, progress: Callable[[int, int | None], None] | None) -> None:
        if job.attempts >= MOST_ATTEMPTS:
            await self.store.end(job, self._worker, "failed", error=_said(_given_up()))
            return
        context = JobContext(job, self._worker, self._pool, progress)
        handler = asyncio.ensure_future(self._kinds[job.kind](context))
        beating = asyncio.create_task(self._beat(job, context, handler))
        try:
            result = await handler
            state = "cancelled" if context.told else "done"
            await self.store.end(job, self._worker, state, result=result)
        except JobLost as error:
            log(_LOG, logging.WARNING, "job-lost", error=error, kind=job.kind)
        except asyncio.CancelledError:
            if not handler.done():
                handler.cancel()
                await asyncio.gather(handler, return_exceptions=True)
            with contextlib.suppress(*GONE, asyncpg.PostgresError):
                await asyncio.shield(self.store.release(job, self._worker))
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
        except (Unavailable, Unknown, *GONE) as error:
            after = getattr(error, "retry_after", None) or _AGAIN
            log(_LOG, logging.WARNING, "job-waits", error=error, kind=job.kind, retry_after=after)
            await self.store.release(job, self._worker, wait=after, error=_said(error))
        except Exception as error:
            log(_LOG, logging.ERROR, "job-failed", error=error, kind=job.kind)
            await self.store.end(job, self._worker, "failed", error=_said(error))
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)

    async def _beat(self, job: Job, context: JobContext, handler: asyncio.Future[Any]) -> None:
        while True:
            await asyncio.sleep(min(_BEAT, self._silent / 4))
            try:
                cancel = await self.store.beat(job, self._worker)
            except (HubError, asyncpg.PostgresError, *GONE) as error:
                log(_LOG, logging.WARNING, "job-beat-missed", error=error, kind=job.kind)
                continue
            if cancel is None:
                handler.cancel()
                return
            if cancel:
                context.cancel()


def _said(error: BaseException) -> dict[str, Any]:
    """Return what a job's row says of an error; the text of an unexpected one stays in the log's class and place."""
    if isinstance(error, HubError):
        return {"code": error.code, "detail": error.detail, "remedy": error.remedy}
    return {
        "code": "internal-defect",
        "detail": f"The hub failed while it worked on the job ({type(error).__name__}).",
        "remedy": "The log has the place; the job can be submitted again.",
    }


def _given_up() -> Refused:
    return Refused(
        f"{MOST_ATTEMPTS} workers fell silent on the job and nothing of it was saved.",
        code="job-given-up",
        remedy="It may be what ends its workers (memory, time): look into the log, then submit it again.",
    )
