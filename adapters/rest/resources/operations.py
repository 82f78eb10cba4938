"""The operations of a resource, made from its declaration: routes, checks and description alike."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, create_model

from adapters.http.body import parse_json, read_body
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.rest.resources.absence import evenly
from adapters.rest.resources.declaration import Connection, Reply, Resource, Viewer
from adapters.rest.resources.lines import answer_lines, stream_lines
from adapters.rest.resources.reading import LIMIT, Reading, elements_of, wanted
from adapters.rest.resources.writing import Writing, tag_of
from adapters.rest.stream import LINES
from registry.storage.answers import Answer as Kept
from registry.storage.answers import FirstAnswers
from registry.storage.database import database_errors

JSON: Final = "application/json"
MERGE_PATCH: Final = "application/merge-patch+json"
_PAGING: Final = ("query-parameter-invalid", "cursor-invalid", "filter-invalid")
_CHANGES: Final = ("request-json-invalid", "request-invalid", "body-too-large", "media-type-unsupported", "request-too-slow", "request-body-broken")  # fmt: skip
_KEPT: Final = ("precondition-required", "precondition-failed")
_ETAG: Final = {"ETag": "The version, for If-Match and If-None-Match."}
_IF_MATCH: Final = {"If-Match": "The ETag of the version this changes; needed."}
_KEY: Final = 200


class Desk:
    """What the handlers of all resources work with."""

    def __init__(self, pool: Any, vault: Any, settings: Any) -> None:
        self.pool, self.settings, self.blind = pool, settings, vault.blind
        self.reading = Reading(pool, vault.blind)
        self.writing = Writing(self.reading)
        self.answers = FirstAnswers(vault)

    async def write(self, work: Callable[[Connection], Awaitable[Reply]], name: str) -> Reply:
        """Run one write in a transaction of its own."""
        async with (
            database_errors(f"writing {name}"),
            self.pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            return await work(connection)

    async def once(
        self,
        operation: str,
        viewer: Viewer,
        key: str | None,
        body: bytes,
        work: Callable[[Connection], Awaitable[Reply]],
    ) -> Reply:
        """Run one write in a transaction, a repeat of its Idempotency-Key within a day only by its first answer.

        Raises `RequestRefused` (`request-invalid`) for a key of another length, `Refused` (`idempotency-key-reused`).
        """
        if key is None:
            return await self.write(work, operation)
        if not 1 <= len(key) <= _KEY:
            raise RequestRefused(
                f"The Idempotency-Key is not 1 to {_KEY} characters long. Nothing was changed.",
                code="request-invalid",
            )
        known = self.answers.request(viewer.actor, operation, key, body)

        async def told(connection: Connection) -> Reply:
            first = await self.answers.claim(connection, known)
            if first is not None:
                again = orjson.loads(first.body)
                headers = {"ETag": tag_of(again), "Idempotency-Replayed": "true"}
                return Reply(
                    first.status, again, headers | ({"Location": first.location} if first.location else {})
                )
            made = await work(connection)
            raw = orjson.dumps(made.body, option=orjson.OPT_UTC_Z, default=str)
            await self.answers.keep(connection, known, Kept(made.status, made.headers.get("Location"), raw))
            return made

        return await self.write(told, operation)


def viewer_of(call: Call, purpose: str | None = None) -> Viewer:
    """Return who asks."""
    return Viewer(call.partner, call.scopes, call.request_id, purpose, call.user, call.roles)


def respond(reply: Reply, extra: Mapping[str, str] | None = None) -> web.Response:
    """Return the HTTP answer of a reply."""
    body = None if reply.body is None else orjson.dumps(reply.body, option=orjson.OPT_UTC_Z, default=str)
    return web.Response(
        body=body,
        status=reply.status,
        content_type=None if body is None else JSON,
        headers={**reply.headers, **(extra or {})},
    )


def page_model(resource: Resource) -> type[BaseModel]:
    """Return the model of a page of entries."""
    return create_model(
        f"{resource.model.__name__}Page",
        __doc__=f"A page of {resource.name}.",
        items=(list[resource.model], ...),  # type: ignore[name-defined]
        next=(str | None, Field(description="The cursor of the next page.")),
    )


def query_model(resource: Resource) -> type[BaseModel]:
    """Return the model of a list's query, which is also what unknown parameters are told by."""
    fields: dict[str, Any] = {
        name: (one.annotation, Field(description=one.description))
        if one.needed
        else (one.annotation | None, Field(None, description=one.description))
        for name, one in resource.filters.items()
    }
    fields |= {
        "sort_": (str | None, Field(None, alias="_sort", max_length=100, description="Sort key, - before it for descending.")),
        "elements_": (str | None, Field(None, alias="_elements", max_length=1000, description="Members to answer, comma separated.")),
        "cursor": (str | None, Field(None, max_length=500)),
        "limit": (int, Field(50, ge=1, le=LIMIT)),
    }  # fmt: skip
    if resource.purpose:
        fields["purpose"] = _PURPOSE
    config = ConfigDict(extra="forbid")
    return create_model(f"{resource.model.__name__}Query", __config__=config, **fields)


_PURPOSE: Final = (
    str | None,
    Field(None, min_length=1, max_length=200, description="What it is needed for; kept in the audit trail."),
)


def operations(resource: Resource, desk: Desk) -> list[Operation]:
    """Return the operations a resource has: list, read, and where it can be written create, replace, patch, delete."""
    tag, title = resource.tag, resource.model.__name__
    many = "".join(part.capitalize() for part in re.split("[-/]", resource.name))
    one = partial(Operation, path=f"{resource.path}/{{id}}", tag=tag)
    whole = {200: Answer(f"The {resource.one}.", {JSON: resource.model}, _ETAG)}
    selection: dict[str, Any] = {"elements_": (str | None, Field(None, alias="_elements", max_length=1000))}
    if resource.purpose:
        selection["purpose"] = _PURPOSE
    found = [
        Operation(
            name=f"list{many}", method="GET", path=resource.path, tag=tag, scope=resource.read,
            summary=f"List {resource.name}", handler=partial(_list, resource, desk), query=query_model(resource),
            answers={200: Answer("A page, or with Accept: application/x-ndjson everything that fits, one on each line.",
                {JSON: page_model(resource), LINES: {"type": "string"}}, {"Link": 'The next page (rel="next").'})},
            problems=_PAGING, produces=(JSON, LINES),
        ),
    ]  # fmt: skip
    if resource.single:
        found.append(one(
            name=f"read{title}", method="GET", scope=resource.read, summary=f"Read one {resource.one}",
            handler=partial(_read, resource, desk), problems=(resource.not_found, "query-parameter-invalid"),
            answers={**whole, 304: Answer("It is as it was in the version of If-None-Match.")},
            query=create_model(f"{title}Selection", __config__=ConfigDict(extra="forbid"), **selection),
            headers={"If-None-Match": "The ETag of the version you have."},
        ))  # fmt: skip
    if resource.entry is None:
        return found
    made = Answer(
        f"The {resource.one} as it is now.", {JSON: resource.model}, {**_ETAG, "Location": "Where it is."}
    )
    purpose: dict[str, Any] = {"purpose": _PURPOSE}
    for_what = (
        create_model(f"{title}Purpose", __config__=ConfigDict(extra="forbid"), **purpose)
        if resource.purpose
        else None
    )
    found.append(
        Operation(
            name=f"create{title}", method="POST", path=resource.path, tag=tag, scope=resource.write,
            summary=f"Make a {resource.one}, or many as a stream of lines", handler=partial(_create, resource, desk),
            body=Body.STREAM, requests={JSON: resource.entry, LINES: {"type": "string"}}, produces=(JSON, LINES),
            query=for_what,
            answers={201: made, 200: Answer("One result for each line.", {LINES: {"type": "string"}})},
            headers={"Idempotency-Key": "Your key of this request: a repeat within a day gets the first answer."},
            problems=(*_CHANGES, "resource-exists", "idempotency-key-reused", "content-encoding-unsupported",
                *resource.refusals),
        )
    )  # fmt: skip
    if resource.changeable:
        found += [
            one(
                name=f"replace{title}", method="PUT", scope=resource.write, summary=f"Replace a {resource.one}",
                query=for_what, handler=partial(_change, resource, desk, "replace"), body=Body.WHOLE, requests={JSON: resource.entry},
                answers=whole, problems=(*_CHANGES, *_KEPT, resource.not_found, *resource.refusals), headers=_IF_MATCH,
            ),
            one(
                name=f"patch{title}", method="PATCH", scope=resource.write,
                summary=f"Change a {resource.one} by a merge patch (RFC 7396)",
                query=for_what, handler=partial(_change, resource, desk, "patch"), body=Body.WHOLE,
                requests={MERGE_PATCH: {"type": "object"}, JSON: {"type": "object"}},
                answers=whole, problems=(*_CHANGES, *_KEPT, resource.not_found, *resource.refusals), headers=_IF_MATCH,
            ),
        ]  # fmt: skip
    if resource.deletable:
        found.append(
            one(
                name=f"delete{title}", method="DELETE", scope=resource.write, summary=f"Remove a {resource.one}",
                handler=partial(_delete, resource, desk), headers=_IF_MATCH, answers={204: Answer("It is gone.")},
                problems=(*_KEPT, resource.not_found, *resource.refusals),
            )
        )  # fmt: skip
    return found


async def _list(resource: Resource, desk: Desk, request: web.Request, call: Call) -> web.StreamResponse:
    asked = wanted(resource, call.query)
    viewer = viewer_of(call, getattr(call.query, "purpose", None))
    if LINES in request.headers.get("Accept", ""):
        return await stream_lines(
            desk.reading.stream(resource, viewer, asked), request, call, desk.settings.request_timeout
        )
    items, cursor = await desk.reading.page(resource, viewer, asked)
    headers = dict(resource.headers(viewer)) if resource.headers is not None and items else {}
    if cursor is not None:
        headers["Link"] = f'<{request.rel_url.update_query(cursor=cursor)}>; rel="next"'
    return respond(Reply(200, {"items": items, "next": cursor}, headers))


async def _read(resource: Resource, desk: Desk, request: web.Request, call: Call) -> web.StreamResponse:
    elements = elements_of(resource, getattr(call.query, "elements_", None))
    viewer = viewer_of(call, getattr(call.query, "purpose", None))
    async with evenly(resource.constant):
        row = await desk.reading.one(resource, viewer, request.match_info["id"])
    headers = dict(resource.headers(viewer)) if resource.headers is not None else {}
    tag = tag_of(row, "" if elements is None else ",".join(elements))
    headers["ETag"] = tag
    if tag in {
        part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")
    }:
        return respond(Reply(304, None, headers))
    body = row if elements is None else {name: row[name] for name in elements}
    return respond(Reply(200, body, headers))


async def _create(resource: Resource, desk: Desk, request: web.Request, call: Call) -> web.StreamResponse:
    viewer = viewer_of(call, getattr(call.query, "purpose", None))
    if request.content_type == LINES:

        async def make(connection: Connection, value: Any) -> Reply:
            return await desk.writing.create(connection, resource, viewer, value)

        return await answer_lines(desk.pool, desk.settings, make, request, call)
    body = await read_body(request, desk.settings.body_limit, desk.settings.request_timeout)
    value = parse_json(body)
    key = request.headers.get("Idempotency-Key")
    if key is None and resource.gather is not None:
        return respond(await resource.gather(viewer, value))

    async def work(connection: Connection) -> Reply:
        return await desk.writing.create(connection, resource, viewer, value)

    key = request.headers.get("Idempotency-Key")
    return respond(await desk.once(call.operation.name, viewer, key, body, work))


async def _change(
    resource: Resource, desk: Desk, deed: str, request: web.Request, call: Call
) -> web.StreamResponse:
    value, viewer = parse_json(call.body), viewer_of(call, getattr(call.query, "purpose", None))
    change = getattr(desk.writing, deed)
    match, id_ = request.headers.get("If-Match"), request.match_info["id"]
    async with evenly(resource.constant):
        return respond(
            await desk.write(
                lambda connection: change(connection, resource, viewer, id_, value, match), resource.name
            )
        )


async def _delete(resource: Resource, desk: Desk, request: web.Request, call: Call) -> web.StreamResponse:
    viewer, match, id_ = viewer_of(call), request.headers.get("If-Match"), request.match_info["id"]
    return respond(
        await desk.write(
            lambda connection: desk.writing.delete(connection, resource, viewer, id_, match), resource.name
        )
    )
