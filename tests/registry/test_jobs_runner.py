"""Jobs: done once however often asked for, gone on with after a kill, counted once, ended when told."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from canonical_model.errors import Refused, Unavailable
from canonical_model.message import uuid7
from registry.jobs import Job, JobContext, JobRunner, JobStore
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure

ROOT = Path(__file__).resolve().parents[2]
CHUNKS = 40


async def count(context: JobContext) -> Mapping[str, Any]:
    """Write one row a chunk, from where the run before was saved."""
    for chunk in range(context.position or 0, CHUNKS):
        if context.cancelled:
            return {"chunks": chunk}
        async with context.pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO counted (chunk) VALUES ($1)", chunk)
            await context.save(connection, chunk + 1, chunk + 1, CHUNKS)
        if context.params.get("slow"):
            await asyncio.sleep(0.05)
    return {"chunks": CHUNKS}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=6)
    await ensure(opened, "month")
    await opened.execute("CREATE TABLE counted (chunk integer NOT NULL)")
    yield opened
    await opened.close()


async def ended(store: JobStore, job: Job) -> Job:
    async with asyncio.timeout(60):
        async for seen in store.watch(job.id, seconds=0.02):
            job = seen
    return job


async def until_saved(store: JobStore, job: Job, done: int) -> None:
    async with asyncio.timeout(60):
        async for seen in store.watch(job.id, seconds=0.01):
            if seen.done >= done:
                return


async def test_a_job_runs_once_and_says_how_far_it_is(pool: asyncpg.Pool) -> None:
    runner = JobRunner(pool, uuid7(), {"count": count})
    runner.start()
    made = await runner.store.submit("count", actor="user:ana", params={"batch": 1}, once="batch-1")
    again = await runner.store.submit("count", actor="user:ana", params={"batch": 1}, once="batch-1")
    assert (made.created, again.created) == (True, False)
    assert again.job.id == made.job.id
    done = await ended(runner.store, made.job)
    assert (done.state, done.done, done.total, done.result) == ("done", CHUNKS, CHUNKS, {"chunks": CHUNKS})
    assert done.rate
    assert await pool.fetchval("SELECT count(*) FROM counted") == CHUNKS
    trail = await pool.fetch("SELECT action, outcome FROM audit_event WHERE object_type = 'job' ORDER BY id")
    assert [tuple(row) for row in trail] == [("job.submit", "queued"), ("job.end", "done")]
    with pytest.raises(Refused) as caught:
        await runner.store.submit("count", actor="user:ana", params={"batch": 2}, once="batch-1")
    assert caught.value.code == "job-once-reused"
    await runner.stop()


async def test_double_clicks_at_the_same_instant_make_one_job(pool: asyncpg.Pool) -> None:
    store = JobStore(pool)
    answers = await asyncio.gather(*(store.submit("count", actor="a", once="k") for _ in range(12)))
    assert sum(answer.created for answer in answers) == 1
    assert len({answer.job.id for answer in answers}) == 1


async def test_no_more_run_at_once_than_allowed_and_each_by_one_worker(pool: asyncpg.Pool) -> None:
    at_once = most = 0
    runs: list[Any] = []

    async def busy(context: JobContext) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        runs.append(context.id)
        await asyncio.sleep(0.02)
        at_once -= 1

    runners = [JobRunner(pool, uuid7(), {"busy": busy}, parallel=1) for _ in range(2)]
    made = [await runners[0].store.submit("busy", actor="a") for _ in range(10)]
    for runner in runners:
        runner.start()
    for each in made:
        assert (await ended(runners[0].store, each.job)).state == "done"
    assert sorted(runs) == sorted(each.job.id for each in made)
    assert most <= 2
    for runner in runners:
        await runner.stop()


async def test_a_cancelled_job_ends_and_keeps_what_was_saved(pool: asyncpg.Pool) -> None:
    runner = JobRunner(pool, uuid7(), {"count": count})
    waiting = (await runner.store.submit("count", actor="a")).job
    assert (await runner.store.cancel(waiting.id, actor="a")).state == "cancelled"
    runner.start()
    job = (await runner.store.submit("count", actor="a", params={"slow": True})).job
    await until_saved(runner.store, job, 2)
    assert (await runner.store.cancel(job.id, actor="b")).cancel
    done = await ended(runner.store, job)
    assert done.state == "cancelled"
    assert done.result == {"chunks": done.done}
    assert 2 <= done.done < CHUNKS
    assert await pool.fetchval("SELECT count(*) FROM counted") == done.done
    assert (await runner.store.cancel(job.id, actor="b")).ended_at == done.ended_at
    with pytest.raises(Refused) as caught:
        await runner.store.cancel(job.id, actor="stranger", own=True)
    assert caught.value.code == "job-not-found"
    await runner.stop()


async def test_a_stopped_runner_puts_its_jobs_back_at_once(pool: asyncpg.Pool) -> None:
    runner = JobRunner(pool, uuid7(), {"count": count})
    runner.start()
    job = (await runner.store.submit("count", actor="a", params={"slow": True})).job
    await until_saved(runner.store, job, 3)
    await runner.stop()
    assert (await runner.store.get(job.id)).state == "queued"
    done = await JobRunner(pool, uuid7(), {"count": count}).run(job.id)
    assert (done.state, done.done) == ("done", CHUNKS)
    assert await pool.fetchval("SELECT count(DISTINCT chunk) = count(*) FROM counted")


async def test_a_worker_that_lost_its_job_saves_nothing_more(pool: asyncpg.Pool) -> None:
    store = JobStore(pool)
    job = (await store.submit("count", actor="a")).job
    first, second = uuid7(), uuid7()
    claimed = await store.claim(first, ["count"])
    assert claimed is not None
    assert await store.claim(second, ["count"]) is None
    await pool.execute("UPDATE job SET beat_at = now() - interval '1 hour'")
    assert await store.claim(second, ["count"]) is not None
    context = JobContext(claimed, first, pool)

    async def late() -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.execute("INSERT INTO counted (chunk) VALUES (0)")
            await context.save(connection, 1, 1)

    with pytest.raises(Unavailable) as caught:
        await late()
    assert caught.value.code == "job-lost"
    assert await pool.fetchval("SELECT count(*) FROM counted") == 0
    assert await store.beat(claimed, first) is None
    assert not await store.end(claimed, first, "done")
    assert (await store.get(job.id)).state == "running"


async def test_a_job_waits_for_what_is_away_and_goes_on(pool: asyncpg.Pool) -> None:
    tries = 0

    async def needs(context: JobContext) -> Mapping[str, Any]:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise Unavailable(
                "The object store does not answer.", code="object-store-unavailable", retry_after=0.05
            )
        return {"tries": tries}

    runner = JobRunner(pool, uuid7(), {"needs": needs}, poll=0.05)
    runner.start()
    job = (await runner.store.submit("needs", actor="a")).job
    done = await ended(runner.store, job)
    assert (done.state, done.result, done.error) == ("done", {"tries": 3}, None)
    await runner.stop()


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (Refused("No.", code="import-invalid"), "import-invalid"),
        (RuntimeError("Amina Planted"), "internal-defect"),
    ],
)
async def test_a_failed_job_says_why_and_names_nobody(
    pool: asyncpg.Pool, raised: Exception, code: str
) -> None:
    async def fails(context: JobContext) -> None:
        raise raised

    runner = JobRunner(pool, uuid7(), {"fails": fails})
    done = await runner.run((await runner.store.submit("fails", actor="a")).job.id)
    assert done.state == "failed"
    assert done.error is not None
    assert done.error["code"] == code
    assert "Amina" not in str(done.error)


async def test_a_job_that_silences_its_workers_is_given_up(pool: asyncpg.Pool) -> None:
    runner = JobRunner(pool, uuid7(), {"count": count}, poll=0.05)
    job = (await runner.store.submit("count", actor="a")).job
    for _ in range(6):
        assert await runner.store.claim(uuid7(), ["count"], id_=job.id) is not None
        await pool.execute("UPDATE job SET beat_at = now() - interval '1 hour'")
    runner.start()
    done = await ended(runner.store, job)
    assert done.error is not None
    assert (done.state, done.error["code"]) == ("failed", "job-given-up")
    assert await pool.fetchval("SELECT count(*) FROM counted") == 0
    await runner.stop()


PROGRAM = """
import asyncio, sys
sys.path[:0] = [{root!r}, {tests!r}]
from registry.jobs import JobRunner
from registry.settings import HubSettings
from registry.storage.database import open_pool
from canonical_model.message import uuid7
import importlib.util
spec = importlib.util.spec_from_file_location("jobs_here", {file!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

async def main():
    pool = await open_pool(HubSettings(), url={url!r}, size=4)
    JobRunner(pool, uuid7(), {{"count": module.count}}, silent=1.0, poll=0.1).start()
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.crash
@pytest.mark.slow
async def test_a_killed_worker_is_followed_by_another_and_each_chunk_counts_once(
    pool: asyncpg.Pool, database_url: str
) -> None:
    text = PROGRAM.format(root=str(ROOT), tests=str(ROOT / "tests"), file=__file__, url=database_url)
    store = JobStore(pool)
    job = (await store.submit("count", actor="a", params={"slow": True})).job
    for done in (3, 12, 25):
        process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(text)])
        try:
            await until_saved(store, job, done)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait(10)
    last = JobRunner(pool, uuid7(), {"count": count}, silent=1.0, poll=0.1)
    last.start()
    finished = await ended(store, job)
    await last.stop()
    assert (finished.state, finished.done) == ("done", CHUNKS)
    rows = await pool.fetch("SELECT chunk FROM counted ORDER BY chunk")
    assert [row["chunk"] for row in rows] == list(range(CHUNKS))
