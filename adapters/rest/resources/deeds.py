"""The operations of deeds: what is done with an entry beside changing it, declared once like everything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from aiohttp import web

from adapters.http.body import parse_json
from adapters.http.language import best_language
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.rest.resources.absence import evenly
from adapters.rest.resources.declaration import Connection, Deed, Doing, Reply, Resource
from adapters.rest.resources.operations import JSON, Desk, respond, viewer_of
from adapters.rest.resources.writing import checked, tag_of

_BODY: Final = ("request-json-invalid", "request-invalid", "body-too-large", "media-type-unsupported", "request-too-slow", "request-body-broken")  # fmt: skip
_MATCH: Final = {"If-Match": "The ETag of the version this is about; left out, whatever version there is."}
_KEY: Final = {"Idempotency-Key": "Your key of this request: a repeat within a day gets the first answer."}


def deeds(resource: Resource, desk: Desk) -> list[Operation]:
    """Return the operations of what can be done with entries of a resource."""
    return [_operation(resource, deed, desk) for deed in resource.deeds]


def _operation(resource: Resource, deed: Deed, desk: Desk) -> Operation:
    tag = "".join(part.capitalize() for part in re.split(r"[-/ ]", resource.name))
    word = "".join(part.capitalize() for part in deed.word.split("-"))
    path = f"{resource.path}/{'{id}/' if deed.item else ''}${deed.word}"
    writes = deed.method == "POST" and not deed.apart
    problems = deed.problems
    headers: dict[str, str] = {}
    if deed.body is not None:
        problems += _BODY
    if deed.item:
        problems += (resource.not_found,)
        if deed.method == "POST":
            problems += ("precondition-failed",)
            headers |= _MATCH
    if writes:
        problems += ("idempotency-key-reused", "request-invalid")
        headers |= _KEY
    if deed.query is not None:
        problems += ("query-parameter-invalid",)
    place = {"Location": "Where it is."} if deed.job or deed.made else {}
    return Operation(
        name=f"{word[0].lower()}{word[1:]}{tag}{'' if deed.item else 'List'}", method=deed.method, path=path,
        tag=resource.tag, scope=deed.scope, summary=deed.summary, description=deed.description,
        handler=partial(_handle, resource, deed, desk),
        body=Body.NONE if deed.body is None else Body.WHOLE,
        requests={} if deed.body is None else {JSON: deed.body},
        query=deed.query, headers=headers, problems=tuple(dict.fromkeys(problems)), example=deed.example,
        answers={_status(deed): Answer("The job." if deed.job else "What came of it.", {JSON: deed.answer}, place)},
    )  # fmt: skip


def _status(deed: Deed) -> int:
    return 202 if deed.job else 201 if deed.made else 200


async def _handle(
    resource: Resource, deed: Deed, desk: Desk, request: web.Request, call: Call
) -> web.StreamResponse:
    viewer = viewer_of(call, getattr(call.query, "purpose", None))
    body = None if deed.body is None else checked(deed.body, parse_json(call.body or b"{}"))
    language = best_language(request.headers.get("Accept-Language", ""))
    id_, match = request.match_info.get("id", ""), request.headers.get("If-Match")

    async def work(connection: Connection | None) -> Reply:
        row: Mapping[str, Any] = {}
        if deed.item:
            row = await desk.reading.one(resource, viewer, id_, connection=connection)
            _check(resource, row, match)
        doing = Doing(connection or desk.pool, viewer, row, body, call.query, language)
        return await deed.do(doing)

    async with evenly(resource.constant):
        if deed.apart:
            return respond(await work(None))
        if deed.method == "GET":
            return respond(await desk.write(work, resource.name))
        key = request.headers.get("Idempotency-Key")
        raw = f"{id_}\x00{match}\x00".encode() + call.body
        return respond(await desk.once(call.operation.name, viewer, key, raw, work))


def _check(resource: Resource, row: Mapping[str, Any], match: str | None) -> None:
    """Refuse a deed that is about another version than there is."""
    if match is None or match.strip() == "*":
        return
    tag = tag_of(row)
    if tag not in {part.strip().removeprefix("W/") for part in match.split(",")}:
        raise RequestRefused(
            f"The {resource.one} was changed since it was read. Nothing was done.",
            code="precondition-failed",
            remedy="Read it again, see what is different, then decide anew.",
            headers={"ETag": tag},
        )
