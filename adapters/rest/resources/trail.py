"""The audit trail over HTTP: events, who saw a registrant's record, checkpoints, sealed values, verifying."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import UUID

from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from adapters.http.operations import Answer, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.jobs import VERIFY
from adapters.rest.resources.cursor import read_cursor, write_cursor
from adapters.rest.resources.declaration import Filter, Resource, Sort
from adapters.rest.resources.jobs import JobReply
from adapters.rest.resources.operations import JSON, Desk, respond, viewer_of
from adapters.rest.resources.writing import Reply
from registry.audit import AuditTrail
from registry.audit.trail import id_floor
from registry.jobs import JobStore


class AuditEventReply(BaseModel):
    """Who did what to which object."""

    id: UUID
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    outcome: str
    request_id: str | None
    details: dict[str, Any] | None


class CheckpointReply(BaseModel):
    """One link of the chain; whoever keeps `signed` is a witness."""

    id: int = Field(description="Its number.")
    first_id: UUID
    last_id: UUID
    count: int
    late: int
    signed: str = Field(description="Compact JWS (ES256).")
    made_at: datetime


class AuditEventPage(BaseModel):
    """A page of events, newest first."""

    items: list[AuditEventReply]
    next: str | None


class ValuesReply(BaseModel):
    """What a change changed."""

    old: dict[str, Any]
    new: dict[str, Any]


class WhoQuery(BaseModel):
    """Which events about a registrant are wanted."""

    model_config = ConfigDict(extra="forbid")

    looks: bool = Field(False, description="Only who read the record.")
    cursor: str | None = Field(None, max_length=500)
    limit: int = Field(50, ge=1, le=200)


class PurposeQuery(BaseModel):
    """Why values are needed."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = Field(
        min_length=1, max_length=200, description="Kept in the audit trail; names no person."
    )


EVENTS: Final = Resource(
    name="audit/events",
    one="audit event",
    tag="audit",
    model=AuditEventReply,
    select="SELECT e.id, e.at, e.actor, e.action, e.object_type, e.object_id, e.outcome, e.request_id, e.details\nFROM audit_event e",
    key="e.id",
    key_kind="uuid",
    not_found="audit-event-not-found",
    read=Scope.AUDIT_READ,
    filters={
        "actor": Filter("e.actor = {}", str, "Who did it."),
        "action": Filter("e.action = {}", str, "What was done."),
        "object_type": Filter("e.object_type = {}", str, "Kind of the object."),
        "object_id": Filter("e.object_id = {}", str, "Id of the object."),
        "outcome": Filter("e.outcome = {}", str, "How it ended."),
        "since": Filter("e.id >= {}", AwareDatetime, "At this instant or later.", id_floor),
        "until": Filter("e.id < {}", AwareDatetime, "Before this instant.", id_floor),
    },
    sorts={"-id": Sort("e.id", "uuid"), "id": Sort("e.id", "uuid")},
)
CHECKPOINTS: Final = Resource(
    name="audit/checkpoints",
    one="checkpoint",
    tag="audit",
    model=CheckpointReply,
    select="SELECT c.number AS id, c.first_id, c.last_id, c.count, c.late, c.signed, c.made_at\nFROM audit_checkpoint c",
    key="c.number",
    key_kind="bigint",
    not_found="audit-checkpoint-not-found",
    read=Scope.AUDIT_READ,
    sorts={"-id": Sort("c.number", "bigint"), "id": Sort("c.number", "bigint")},
)


def operations(desk: Desk, trail: AuditTrail, jobs: JobStore) -> list[Operation]:
    """Return what the trail has besides its lists."""
    return [
        Operation(
            name="whoSawRegistrant", method="GET", path="/v1/audit/registrants/{id}", tag="audit", scope=Scope.AUDIT_READ,
            summary="Who saw or changed a registrant's record, newest first", handler=partial(_who, desk, trail),
            query=WhoQuery, answers={200: Answer("A page of events.", {JSON: AuditEventPage})},
            problems=("registrant-not-found", "query-parameter-invalid", "cursor-invalid"),
        ),
        Operation(
            name="revealAuditValues", method="GET", path="/v1/audit/events/{id}/values", tag="audit",
            scope=Scope.AUDIT_REVEAL, summary="Old and new values of a change; audited with its purpose",
            handler=partial(_values, desk, trail), query=PurposeQuery,
            answers={200: Answer("The values.", {JSON: ValuesReply})},
            problems=("audit-event-not-found", "audit-values-none", "query-parameter-invalid", "purpose-missing"),
        ),
        Operation(
            name="verifyAudit", method="POST", path="/v1/audit/verify", tag="audit", scope=Scope.AUDIT_READ,
            summary="Verify the whole trail as a job", handler=partial(_verify, jobs),
            answers={202: Answer("The job; its result names the first broken link.", {JSON: JobReply},
                {"Location": "The job."})},
            problems=("job-once-reused",),
            headers={"Idempotency-Key": "Your key of this request: a repeat gets the first job."},
        ),
    ]  # fmt: skip


async def _who(desk: Desk, trail: AuditTrail, request: web.Request, call: Call) -> web.StreamResponse:
    query = call.query if isinstance(call.query, WhoQuery) else WhoQuery()
    try:
        id_ = UUID(request.match_info["id"])
    except ValueError:
        raise RequestRefused("There is no such registrant.", code="registrant-not-found") from None
    about = f"who {id_} {query.looks}".encode()
    before = None if query.cursor is None else UUID(read_cursor(desk.blind, about, query.cursor)[0])
    events = await trail.who(id_, looks=query.looks, before=before, limit=query.limit)
    following = write_cursor(desk.blind, about, [events[-1].id]) if len(events) == query.limit else None
    return respond(Reply(200, {"items": [asdict(each) for each in events], "next": following}))


async def _values(desk: Desk, trail: AuditTrail, request: web.Request, call: Call) -> web.StreamResponse:
    assert isinstance(call.query, PurposeQuery)
    viewer = viewer_of(call)
    id_ = desk.reading.key(EVENTS, request.match_info["id"])
    values = await trail.reveal(
        id_, purpose=call.query.purpose, actor=viewer.actor, request_id=viewer.request_id
    )
    return respond(Reply(200, values))


async def _verify(jobs: JobStore, request: web.Request, call: Call) -> web.StreamResponse:
    viewer = viewer_of(call)
    key = request.headers.get("Idempotency-Key")
    submitted = await jobs.submit(
        VERIFY,
        actor=viewer.actor,
        once=None if key is None else f"{VERIFY} {viewer.actor} {key[:200]}",
        request_id=viewer.request_id,
    )
    return respond(Reply(202, submitted.job.as_dict(), {"Location": f"/v1/jobs/{submitted.job.id}"}))
