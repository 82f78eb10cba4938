"""Callbacks of outside systems: handed as they came to the connector of their target, which proves who sent them."""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

from adapters.http.pipeline import request_id_of
from adapters.http.problems import RequestRefused, problem_response
from adapters.http.services import Services
from canonical_model.errors import ConfigError, HubError, Unavailable
from connectors.contract import Callback, CallbackAnswer
from registry.logs import log

PATH: Final = "/callbacks/{target}/{rest:.*}"
METHODS: Final = ("POST", "PUT", "PATCH")
LIMIT: Final = 5 * 1024 * 1024
"""Bytes of the largest callback: results of a bulk call of a thousand transfers."""
_MOST: Final = 256
_READ_SECONDS: Final = 10.0
_LOG = logging.getLogger(__name__)


class Callbacks:
    """Takes callbacks for the open targets of this process, at most `most` at a time."""

    def __init__(self, services: Services, *, most: int = _MOST) -> None:
        self._services, self._most, self._busy = services, most, 0

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one callback as its connector says, or with a problem."""
        target = request.match_info["target"]
        try:
            if self._busy >= self._most:
                raise Unavailable(
                    "Too many callbacks are being taken; this one was not.", code="overloaded", retry_after=1
                )
            self._busy += 1
            try:
                answer = await self._take(request, target)
            finally:
                self._busy -= 1
        except HubError as error:
            log(_LOG, logging.WARNING, "callback-refused", code=error.code)
            return problem_response(request, request_id_of(request), error)
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    async def _take(self, request: web.Request, target: str) -> CallbackAnswer:
        targets = getattr(self._services.hub, "targets", None)
        try:
            open_target = None if targets is None else targets.get(target)
        except ConfigError:
            open_target = None
        if open_target is None or not open_target.takes_callbacks:
            raise RequestRefused(
                "No target of this hub takes callbacks at this address.", code="callback-target-unknown"
            )
        callback = Callback(
            request.rel_url.raw_path,
            dict(request.headers),
            await _body(request),
            dict(request.query),
            request.method,
        )
        answer: CallbackAnswer = await open_target.answer(callback)
        return answer


async def _body(request: web.Request) -> bytes:
    if (request.content_length or 0) > LIMIT:
        raise _too_large()
    raw = bytearray()
    try:
        async with asyncio.timeout(_READ_SECONDS):
            async for piece in request.content.iter_chunked(65536):
                raw += piece
                if len(raw) > LIMIT:
                    raise _too_large()
    except TimeoutError:
        raise RequestRefused(
            "The callback did not arrive in time.", code="request-too-slow", close=True
        ) from None
    return bytes(raw)


def _too_large() -> HubError:
    return RequestRefused(f"A callback is at most {LIMIT} bytes.", code="body-too-large")


def extension(app: web.Application, services: Services) -> None:
    """Add the address of callbacks to an application."""
    handler = Callbacks(services).handle
    for method in METHODS:
        app.router.add_route(method, PATH, handler)
