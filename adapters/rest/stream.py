"""A stream of messages: one event a line in, one result a line out, with a bounded number in between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from adapters.http.body import broken, check_length, too_large, too_slow
from adapters.http.language import best_language
from adapters.http.operations import Call
from adapters.http.problems import RequestRefused
from adapters.http.services import AcceptedMessage, Services
from adapters.rest.incoming import read_line
from adapters.rest.replies import result_of
from canonical_model.errors import Defect, HubError
from canonical_model.message import Message

LINES: Final = "application/x-ndjson"
WINDOW: Final = 256
"""Most messages of a stream that are on their way into the store at once."""
_STREAM_LIMIT: Final = 1 << 40
_READ: Final = 64 * 1024

Item = tuple[Message, bytes] | HubError


async def answer_stream(services: Services, request: web.Request, call: Call) -> web.StreamResponse:
    """Accept a stream line by line and answer each line in order.

    Lines are taken in windows of what has arrived, at most 256; the next window is read while nothing else waits, so
    memory stays bounded whatever the sender does. A line above the body limit, a sender who pauses longer than the request
    timeout, or a window above the partner's rate ends the stream with a last line that says so; of that window nothing is
    accepted, and its `index` is the line to go on from.
    """
    check_length(request, _STREAM_LIMIT)
    language = best_language(request.headers.get("Accept-Language", ""))
    response = web.StreamResponse(status=202, headers={**call.common, **call.headers, "Content-Type": LINES})
    response.headers["X-Request-ID"] = call.request_id
    await response.prepare(request)
    index = 0
    try:
        async for window in windows(request, services.settings.body_limit, services.settings.request_timeout):
            # The first message of a stream was paid for with the request itself.
            call.count_messages(len(window) + (index > 0))
            items = [_item(line, call.partner.name) for line in window]
            answers = await _accept(services, items, call)
            results = [
                result_of(index + place, answer, call.request_id, language)
                for place, answer in enumerate(answers)
            ]
            index += len(items)
            await write_lines(response, results, services.settings.request_timeout)
    except RequestRefused as error:
        await write_lines(
            response, [result_of(index, error, call.request_id, language)], services.settings.request_timeout
        )
        response.force_close()
    await response.write_eof()
    return response


async def write_lines(
    response: web.StreamResponse, results: Sequence[Mapping[str, object]], seconds: float
) -> None:
    """Write one line for each result; a reader who takes none within `seconds` loses the connection."""
    lines = b"".join(
        orjson.dumps(result, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE, default=str)
        for result in results
    )
    try:
        async with asyncio.timeout(seconds):
            await response.write(lines)
    except TimeoutError:
        # A sender who never reads its answers must not hold memory here.
        raise ConnectionResetError("the answers were not read in time") from None


async def _accept(services: Services, items: list[Item], call: Call) -> list[AcceptedMessage | HubError]:
    good = [item for item in items if isinstance(item, tuple)]
    try:
        answered = list(
            await services.intake.accept_many(good, partner=call.partner.name, request_id=call.request_id)
            if good
            else ()
        )
    except HubError as error:
        answered = [error] * len(good)
    if len(answered) != len(good):
        answered = [Defect("The intake did not answer every message.")] * len(good)
    answers = iter(answered)
    return [next(answers) if isinstance(item, tuple) else item for item in items]


def _item(line: bytes, partner: str) -> Item:
    try:
        return read_line(line, partner)
    except HubError as error:
        return error


async def windows(request: web.Request, limit: int, seconds: float) -> AsyncIterator[list[bytes]]:
    """Yield the lines that have arrived, 1 to 256 at a time; empty lines are passed over."""
    rest = b""
    pending: list[bytes] = []
    while piece := await _piece(request, seconds):
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > limit or any(len(line) > limit for line in lines):
            raise too_large(limit)
        pending += [line for line in lines if line.strip()]
        while pending:
            yield pending[:WINDOW]
            pending = pending[WINDOW:]
    if rest.strip():
        yield [rest]


async def _piece(request: web.Request, seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await request.content.read(_READ)
    except TimeoutError:
        raise too_slow(seconds) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise broken() from None
