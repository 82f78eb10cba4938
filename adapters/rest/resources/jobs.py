"""Jobs over HTTP: a partner's own, how far they are, and ending them."""

from __future__ import annotations

import asyncio
import logging
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal
from uuid import UUID

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from adapters.http.operations import Answer, Call, Operation
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Args, Connection, Filter, Reply, Resource, Sort, Viewer
from adapters.rest.resources.operations import JSON, Desk, respond, viewer_of
from canonical_model.errors import HubError
from registry.jobs import Job, JobStore
from registry.jobs.job import COLUMNS
from registry.logs import log
from registry.storage.held import held

_LOG = logging.getLogger(__name__)
EVENTS: Final = "text/event-stream"
_WATCH_SECONDS: Final = 600.0
_LOOK: Final = 1.0


class JobReply(BaseModel):
    """A piece of long work."""

    id: UUID
    kind: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    actor: str
    params: dict[str, Any]
    done: int
    total: int | None
    rate: float | None = Field(description="Items a second since a worker took it.")
    remaining: float | None = Field(description="Seconds it will still take at this rate.")
    cancel: bool = Field(description="Whether somebody asked for it to end.")
    result: dict[str, Any] | None
    error: dict[str, Any] | None = Field(
        description="Why it failed, or what it waits for: code, detail, remedy."
    )
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


def _own(viewer: Viewer, args: Args) -> str | None:
    return None if Scope.JOBS_READ_ALL in viewer.scopes else f"j.actor = {args.add(viewer.actor)}"


JOBS: Final = Resource(
    name="jobs",
    one="job",
    tag="jobs",
    model=JobReply,
    select=f"SELECT {', '.join(f'j.{name.strip()}' for name in COLUMNS.split(','))}\nFROM job j",
    key="j.id",
    key_kind="uuid",
    not_found="job-not-found",
    read=Scope.JOBS_READ,
    filters={
        "kind": Filter("j.kind = {}", str, "Jobs of this kind."),
        "state": Filter("j.state = {}", Literal["queued", "running", "done", "failed", "cancelled"], "Their state."),
        "actor": Filter("j.actor = {}", str, "Who asked for them."),
    },
    sorts={"-id": Sort("j.id", "uuid"), "id": Sort("j.id", "uuid")},
    visible=_own,
    shape=lambda row: Job(**row).as_dict(),
)  # fmt: skip


async def begun(connection: Connection, id_: UUID) -> Reply:
    """Return the answer to what began long work: 202, the job and where it is."""
    job = await JobStore(held(connection)).get(id_)
    return Reply(202, job.as_dict(), {"Location": f"/v1/jobs/{id_}"})


def operations(desk: Desk, store: JobStore) -> list[Operation]:
    """Return what jobs have besides their list: cancelling and watching."""
    return [
        Operation(
            name="cancelJob", method="DELETE", path="/v1/jobs/{id}", tag="jobs", scope=Scope.JOBS_WRITE,
            summary="Ask a job to end; what it has done stays", handler=partial(_cancel, desk, store),
            answers={202: Answer("The job; one that waits has ended already.", {JSON: JobReply})},
            problems=("job-not-found",),
        ),
        Operation(
            name="watchJob", method="GET", path="/v1/jobs/{id}/events", tag="jobs", scope=Scope.JOBS_READ,
            summary="Watch a job: an event each time it changed, until it has ended (server-sent events)",
            handler=partial(_watch, desk, store), produces=(EVENTS,), problems=("job-not-found",),
            answers={200: Answer("Events named `job`, each with the job as JSON.", {EVENTS: {"type": "string"}})},
        ),
    ]  # fmt: skip


async def _cancel(desk: Desk, store: JobStore, request: web.Request, call: Call) -> web.StreamResponse:
    viewer = viewer_of(call)
    row = await desk.reading.one(JOBS, viewer, request.match_info["id"])
    job = await store.cancel(row["id"], actor=viewer.actor, request_id=viewer.request_id)
    return respond(Reply(202, job.as_dict()))


async def _watch(desk: Desk, store: JobStore, request: web.Request, call: Call) -> web.StreamResponse:
    row = await desk.reading.one(JOBS, viewer_of(call), request.match_info["id"])
    response = web.StreamResponse(headers={**call.headers, "Content-Type": EVENTS})
    response.headers["X-Request-ID"] = call.request_id
    await response.prepare(request)
    try:
        async with asyncio.timeout(_WATCH_SECONDS):
            async for job in store.watch(row["id"], seconds=_LOOK):
                data = orjson.dumps(job.as_dict(), option=orjson.OPT_UTC_Z, default=str)
                await response.write(b"event: job\ndata: " + data + b"\n\n")
    except (TimeoutError, HubError) as error:
        # Whoever still watches connects again, as event sources do by themselves.
        log(_LOG, logging.DEBUG, "job-watch-ended", error=error)
    await response.write_eof()
    return response
