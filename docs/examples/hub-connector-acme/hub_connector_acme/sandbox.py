"""A local stand-in for acme that checks the key and can misbehave in every way the kit knows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

from aiohttp import web

from connectors.testing import Mode, Seen

API_KEY = "sandbox-api-key-0001"


class AcmeSandbox:
    """Takes messages at `/messages`, finds them at `/messages/<key>`, answers `/health`."""

    def __init__(self) -> None:
        self.received: list[Seen] = []
        self.busiest = 0
        self.port = 0
        self._inside = 0
        self._mode, self._status, self._seconds = Mode.OK, 503, 0.0
        self._retry_after: int | None = None
        self._effects: list[str] = []
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=8 << 20)
        app.router.add_get("/health", self._health)
        app.router.add_get("/messages/{key}", self._find)
        app.router.add_post("/messages", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; safe to call twice."""
        self._stopping.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def settings(self) -> dict[str, Any]:
        """Return the settings that reach this sandbox."""
        return {"base_url": f"http://127.0.0.1:{self.port}", "api_key": API_KEY}

    def secrets(self) -> Sequence[str]:
        """Return the secrets in `settings`."""
        return (API_KEY,)

    def effects(self) -> Sequence[str]:
        """Return the keys taken; this system takes a repeat for a new message."""
        return tuple(self._effects)

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next messages in this way."""
        self._mode, self._status, self._seconds = mode, status or 503, seconds
        self._retry_after = retry_after

    def _known(self, request: web.Request) -> bool:
        return request.headers.get("Authorization") == f"Bearer {API_KEY}"

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._known(request) else 401)

    async def _find(self, request: web.Request) -> web.Response:
        if not self._known(request):
            return web.Response(status=401)
        return web.Response(status=200 if request.match_info["key"] in self._effects else 404)

    async def _post(self, request: web.Request) -> web.Response:
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            return await self._take(request)
        finally:
            self._inside -= 1

    async def _take(self, request: web.Request) -> web.Response:
        body, mode = await request.read(), self._mode
        if not self._known(request):
            return web.Response(status=401)
        if mode is Mode.REFUSE:
            return web.Response(status=422)
        if mode is Mode.STATUS:
            wait = {} if self._retry_after is None else {"Retry-After": str(self._retry_after)}
            return web.Response(status=self._status, headers=wait)
        key = request.headers.get("Idempotency-Key", "")
        self.received.append(Seen(key, body, dict(request.headers)))
        self._effects.append(key)
        if mode in {Mode.SLOW, Mode.HANG}:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), self._seconds if mode is Mode.SLOW else None)
        if mode is Mode.FLOOD:
            return web.Response(body=b"x" * (4 << 20))
        if mode in {Mode.CLOSE_AFTER_BODY, Mode.GARBAGE, Mode.HANG} and request.transport is not None:
            if mode is Mode.GARBAGE:
                request.transport.write(b"\x00\xffthis is no answer\r\n\r\n")
            request.transport.close()
        return web.Response(status=202)
