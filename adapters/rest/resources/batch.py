"""`$batch`: several writes in one request, each with its own answer, or all of them or none."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.body import parse_json
from adapters.http.catalog import declare
from adapters.http.language import best_language
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.rest.models import Problem
from adapters.rest.resources.absence import evenly
from adapters.rest.resources.declaration import Connection, Resource, Viewer
from adapters.rest.resources.lines import problem
from adapters.rest.resources.operations import JSON, Desk, respond, viewer_of
from adapters.rest.resources.writing import Reply, checked
from canonical_model.errors import HubError, Refused

MOST: Final = 100
_PATH: Final = re.compile(r"/v1/([a-z-]+)(?:/([^/?#]+))?")

declare("batch-undone", 424, "Another part of the batch was refused")


class BatchPart(BaseModel):
    """One write of a batch: method, path and what its headers and body would be alone."""

    model_config = ConfigDict(extra="forbid")

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str = Field(max_length=500, description="Such as /v1/areas or /v1/areas/PH01.")
    if_match: str | None = Field(None, max_length=200)
    body: Any = None


class Batch(BaseModel):
    """Up to 100 reads and writes."""

    model_config = ConfigDict(extra="forbid")

    atomic: bool = Field(False, description="Whether all are done or none.")
    operations: list[BatchPart] = Field(min_length=1, max_length=MOST)


class PartReply(BaseModel):
    """What became of one part."""

    index: int
    status: int
    etag: str | None = None
    location: str | None = None
    body: dict[str, Any] | None = None
    problem: Problem | None = None


class WholeReply(BaseModel):
    """What became of each part, in order; of an atomic batch `done` says whether it was done."""

    done: bool
    results: list[PartReply]


class _Undone(Exception):
    """Takes an atomic batch back."""


def operation(resources: Sequence[Resource], desk: Desk) -> Operation:
    """Return the operation that takes batches over these resources."""
    by_name = {resource.name: resource for resource in resources}
    return Operation(
        name="batch", method="POST", path="/v1/$batch", tag="batch", identified=True,
        summary="Several reads and writes in one request, each with its own answer, or all or none",
        description="Each part needs the scope it would need alone. With `atomic` one refusal undoes every part.",
        handler=partial(_batch, by_name, desk), body=Body.WHOLE, requests={JSON: Batch},
        answers={200: Answer("One result for each part.", {JSON: WholeReply})},
        problems=("request-json-invalid", "request-invalid", "body-too-large", "media-type-unsupported",
            "request-too-slow", "request-body-broken"),
        example={"operations": [{"method": "PATCH", "path": "/v1/areas/PH01", "if_match": '"1"', "body": {"active": False}}]},
    )  # fmt: skip


async def _batch(
    by_name: Mapping[str, Resource], desk: Desk, request: web.Request, call: Call
) -> web.StreamResponse:
    batch = checked(Batch, parse_json(call.body))
    assert isinstance(batch, Batch)
    call.count_messages(len(batch.operations))
    language = best_language(request.headers.get("Accept-Language", ""))
    viewer = viewer_of(call)
    work = [partial(_part, by_name, desk, viewer, part) for part in batch.operations]
    results = await (_together if batch.atomic else _apart)(desk, work, call.request_id, language)
    done = all("problem" not in result for result in results)
    return respond(Reply(200, {"done": done, "results": results}))


_Work = Callable[[Connection], Awaitable[Reply]]


async def _apart(desk: Desk, work: Sequence[_Work], request_id: str, language: str) -> list[dict[str, Any]]:
    results = []
    for index, part in enumerate(work):
        try:
            results.append(_said(index, await desk.write(part, "a batch")))
        except HubError as error:
            results.append({"index": index, **problem(error, request_id, language)})
    return results


async def _together(
    desk: Desk, work: Sequence[_Work], request_id: str, language: str
) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []

    async def whole(connection: Connection) -> Reply:
        for index, part in enumerate(work):
            try:
                async with connection.transaction():
                    reply = await part(connection)
                results.append(_said(index, reply))
            except HubError as error:
                if error.action == "retry":
                    raise
                undone = Refused(
                    f"Part {index} of the batch was refused, so nothing of it was done.",
                    code="batch-undone",
                    remedy="Correct the part that was refused and send the batch again.",
                )
                results[:] = [
                    {"index": place, **problem(error if place == index else undone, request_id, language)}
                    for place in range(len(work))
                ]
                raise _Undone from None
        return Reply(200)

    with suppress(_Undone):
        await desk.write(whole, "a batch")
    return results


async def _part(
    by_name: Mapping[str, Resource], desk: Desk, viewer: Viewer, part: BatchPart, connection: Connection
) -> Reply:
    match = _PATH.fullmatch(part.path)
    resource = by_name.get(match[1]) if match else None
    id_ = unquote(match[2]) if match and match[2] else None
    if resource is None or (id_ is None) != (part.method == "POST"):
        raise RequestRefused("There is nothing at this address for this method.", code="resource-not-found")
    scope = resource.read if part.method == "GET" else resource.write
    if (
        scope is None
        or (resource.entry is None and part.method != "GET")
        or (part.method in {"PUT", "PATCH"} and not resource.changeable)
        or (part.method == "GET" and not resource.single)
    ):
        raise RequestRefused("This address does not take this method.", code="method-not-allowed")
    if scope not in viewer.scopes:
        raise RequestRefused(
            f"This operation needs the scope {scope.value}. Nothing was accepted.", code="scope-missing"
        )
    writing = desk.writing
    if id_ is None:
        return await writing.create(connection, resource, viewer, part.body)
    if part.method == "GET":
        async with evenly(resource.constant):
            row = await desk.reading.one(resource, viewer, id_, connection=connection)
        return Reply(200, row, {"ETag": f'"{row["version"]}"'} if "version" in row else {})
    if part.method == "DELETE":
        if not resource.deletable:
            raise RequestRefused("This address does not take this method.", code="method-not-allowed")
        return await writing.delete(connection, resource, viewer, id_, part.if_match)
    deed = writing.replace if part.method == "PUT" else writing.patch
    return await deed(connection, resource, viewer, id_, part.body, part.if_match)


def _said(index: int, reply: Reply) -> dict[str, Any]:
    said = {
        "index": index, "status": reply.status, "etag": reply.headers.get("ETag"),
        "location": reply.headers.get("Location"), "body": reply.body,
    }  # fmt: skip
    return {name: value for name, value in said.items() if value is not None}
