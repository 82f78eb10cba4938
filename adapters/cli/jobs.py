"""`hub jobs`: long work, how far it is, and ending it."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from datetime import UTC
from typing import Annotated, TypeVar
from uuid import UUID

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from adapters.cli.output import ERR, OUT, print_json
from adapters.hub import Hub
from canonical_model.errors import Refused
from registry.jobs import Job, JobStore
from registry.jobs.store import not_found
from registry.settings import load_settings

app = typer.Typer(no_args_is_help=True)
T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id.")]


def _run(work: Callable[[JobStore], Awaitable[T]]) -> T:
    async def whole() -> T:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            return await work(hub.jobs)
        finally:
            await hub.close()

    return asyncio.run(whole())


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise not_found() from None


async def follow(hub: Hub, job: Job) -> Job:
    """Run a job in this process, or watch it where a worker has it, with a bar for a person; return it ended."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(), console=ERR, transient=True, disable=not ERR.is_terminal,
    ) as bar:  # fmt: skip
        task = bar.add_task(job.kind, total=job.total)
        return await hub.runner().run(
            job.id, lambda done, total: bar.update(task, completed=done, total=total)
        )


@app.command("list")
def list_command(
    kind: Annotated[str | None, typer.Option(help="Jobs of this kind.")] = None,
    state: Annotated[
        str | None, typer.Option(help="Jobs in this state: queued, running, done, failed, cancelled.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Most jobs of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Go on after the last page, as its end said.")] = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first.

    Example: hub jobs list --state running
    """
    before = None if cursor is None else _id(cursor)
    jobs = _run(lambda store: store.list(kind=kind, state=state, before=before, limit=limit))
    following = str(jobs[-1].id) if len(jobs) == limit else None
    if as_json:
        print_json({"items": [job.as_dict() for job in jobs], "next": following})
        return
    table = Table(
        "Job", "Kind", "State", "Done", "A second", "Left", "Who", "Made (UTC)", box=None, pad_edge=False
    )
    for job in jobs:
        table.add_row(
            str(job.id), job.kind, _state(job), _done(job), "–" if job.rate is None else f"{job.rate:,.0f}",
            "–" if job.remaining is None else f"{job.remaining:,.0f} s", Text(job.actor),
            f"{job.created_at.astimezone(UTC):%Y-%m-%d %H:%M:%S}",
        )  # fmt: skip
    OUT.print(table)
    OUT.print(
        f"{len(jobs)} jobs." + (f" Older ones: --cursor {following}" if following else ""), markup=False
    )


@app.command("show")
def show_command(
    id_: Id,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Show one job; exit code 1 when it failed.

    Example: hub jobs show 0197c0de-0000-7000-8000-000000000000 --watch
    """
    job_id = _id(id_)

    async def work(store: JobStore) -> Job:
        job = await store.get(job_id)
        if watch:
            with Progress(console=ERR, transient=True, disable=as_json or not ERR.is_terminal) as bar:
                task = bar.add_task(job.kind, total=job.total)
                async for job in store.watch(job_id):
                    bar.update(task, completed=job.done, total=job.total)
        return job

    _say(_run(work), as_json)


@app.command("run")
def run_command(id_: Id, as_json: Json = False) -> None:
    """Run a waiting job in this process, or watch it where a worker has it; exit code 1 when it failed.

    Example: hub jobs run 0197c0de-0000-7000-8000-000000000000
    """
    job_id = _id(id_)

    async def whole() -> Job:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            return await follow(hub, await hub.jobs.get(job_id))
        finally:
            await hub.close()

    _say(asyncio.run(whole()), as_json)


@app.command("cancel")
def cancel_command(id_: Id, as_json: Json = False) -> None:
    """Ask a job to end; what it has done stays, and one that waits ends at once.

    Example: hub jobs cancel 0197c0de-0000-7000-8000-000000000000
    """
    job_id = _id(id_)
    job = _run(lambda store: store.cancel(job_id, actor=f"user:{getpass.getuser()}"))
    if job.ended and job.state != "cancelled":
        raise Refused(
            f"Job {job.id} has ended already ({job.state}); nothing was changed.",
            code="job-ended",
            remedy="`hub jobs show` says how it ended.",
        )
    _say(job, as_json, fail=False)


def _say(job: Job, as_json: bool, *, fail: bool = True) -> None:
    if as_json:
        print_json(job.as_dict())
    else:
        OUT.print(Text.assemble((str(job.id), "bold"), f"  {job.kind}  ", _state(job), f"  {_done(job)}"))
        for name, value in (("params", job.params), ("result", job.result), ("error", job.error)):
            if value:
                OUT.print(f"  {name}: {value}", markup=False)
    if fail and job.state == "failed":
        raise typer.Exit(1)


def _state(job: Job) -> Text:
    ending = job.cancel and not job.ended
    styles = {"done": "green", "failed": "bold red", "running": "blue", "cancelled": "yellow"}
    return Text("ending" if ending else job.state, style=styles.get(job.state, ""))


def _done(job: Job) -> str:
    return f"{job.done:,}" if job.total is None else f"{job.done:,} of {job.total:,}"
