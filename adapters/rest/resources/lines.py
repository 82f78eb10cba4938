"""NDJSON in and out: one entry on each line, a bounded number of them in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiohttp import web

from adapters.http.body import check_length, parse_json
from adapters.http.catalog import fault_of
from adapters.http.language import best_language
from adapters.http.operations import Call
from adapters.http.pipeline import defect_of
from adapters.http.problems import RequestRefused, note_fault, problem_of
from adapters.rest.resources.declaration import Connection
from adapters.rest.resources.writing import Reply
from adapters.rest.stream import LINES, windows, write_lines
from canonical_model.errors import HubError
from registry.storage.database import database_errors

_STREAM_LIMIT = 1 << 40


async def stream_lines(
    chunks: AsyncIterator[Sequence[Mapping[str, Any]]], request: web.Request, call: Call, seconds: float
) -> web.StreamResponse:
    """Answer with one entry on each line; a failure on the way ends the connection, so that half is never taken for all."""
    first = await anext(chunks, None)
    response = web.StreamResponse(headers={**call.headers, "Content-Type": LINES})
    response.headers["X-Request-ID"] = call.request_id
    await response.prepare(request)
    try:
        if first is not None:
            await write_lines(response, first, seconds)
            async for chunk in chunks:
                await write_lines(response, chunk, seconds)
    except ConnectionError:
        raise
    except Exception as error:
        note_fault(error if isinstance(error, HubError) else defect_of(error), call.request_id)
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError("the stream could not be read to its end") from error
    await response.write_eof()
    return response


async def answer_lines(
    pool: Any,
    settings: Any,
    make: Callable[[Connection, Any], Awaitable[Reply]],
    request: web.Request,
    call: Call,
) -> web.StreamResponse:
    """Make one entry from each line and answer each in order; what is refused harms no other line.

    Lines are taken in windows of at most 256, each one transaction. A line that is too long, a sender who pauses too long or
    who sends above its rate ends the stream with a last line that says so; its `index` is the line to go on from.
    """
    check_length(request, _STREAM_LIMIT)
    language = best_language(request.headers.get("Accept-Language", ""))
    response = web.StreamResponse(status=200, headers={**call.headers, "Content-Type": LINES})
    response.headers["X-Request-ID"] = call.request_id
    await response.prepare(request)
    index = 0
    try:
        async for window in windows(request, settings.body_limit, settings.request_timeout):
            call.count_messages(len(window) + (index > 0))
            results = []
            async with (
                database_errors("writing lines"),
                pool.acquire(timeout=10) as connection,
                connection.transaction(),
            ):
                for place, line in enumerate(window):
                    results.append(
                        await result_of(connection, make, line, index + place, call.request_id, language)
                    )
            index += len(window)
            await write_lines(response, results, settings.request_timeout)
    except ConnectionError:
        raise
    except Exception as error:
        fault = error if isinstance(error, HubError) else defect_of(error)
        last = {"index": index, **problem(fault, call.request_id, language)}
        await write_lines(response, [last], settings.request_timeout)
        response.force_close()
    await response.write_eof()
    return response


async def result_of(
    connection: Connection,
    make: Callable[[Connection, Any], Awaitable[Reply]],
    line: bytes,
    index: int,
    request_id: str,
    language: str,
) -> dict[str, Any]:
    """Return what became of one line, which is undone alone when it is refused."""
    try:
        value = parse_json(line)
        async with connection.transaction():
            reply = await make(connection, value)
    except (RequestRefused, HubError) as error:
        if error.action == "retry":
            raise
        return {"index": index, **problem(error, request_id, language)}
    return {"index": index, "status": reply.status, "id": None if reply.body is None else reply.body["id"]}


def problem(error: HubError, request_id: str, language: str) -> dict[str, Any]:
    """Return status and problem of one refusal among several answers."""
    note_fault(error, request_id)
    return {"status": fault_of(error).status, "problem": problem_of(error, request_id, language)}
