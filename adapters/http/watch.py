"""The small listener of a process that serves no API: whether it lives, whether it is ready, and its measurements."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from aiohttp import web

from adapters.http.pages import readiness
from adapters.http.services import Check
from canonical_model.errors import ConfigError
from routing import metrics

_SECONDS: Final = 10.0
_MOST_BYTES: Final = 1024


class Watch:
    """Answers `GET` and `HEAD` of `/healthz/live`, `/healthz/ready` and `/metrics` and nothing else, without a token.

    No answer names a person, a partner's secret or an address; metric labels name partners, routes and targets.
    """

    def __init__(self, host: str, port: int, checks: Mapping[str, Callable[[], Awaitable[Check]]]) -> None:
        self._host = host
        self._port = port
        self._checks = checks
        self._runner: web.AppRunner | None = None

    async def start(self) -> str:
        """Listen and return the URL; raises `ConfigError` (`address-in-use`)."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_get("/healthz/live", self._live)
        app.router.add_get("/healthz/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            app, access_log=None, keepalive_timeout=_SECONDS, lingering_time=1.0, shutdown_timeout=1.0,
            max_headers=100,
        )  # fmt: skip
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port, backlog=16).start()
        except OSError as error:
            await self.stop()
            raise ConfigError(
                f"The address {self._host}:{self._port} for metrics cannot be listened on "
                f"({type(error).__name__}). Nothing was started.",
                code="address-in-use",
                remedy="Stop what holds it, or choose another with HUB_METRICS_HOST and HUB_METRICS_PORT.",
            ) from error
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def stop(self) -> None:
        """Stop listening; safe to call twice."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _live(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "live"})

    async def _ready(self, request: web.Request) -> web.Response:
        ready, body = await readiness(self._checks)
        return web.json_response(body, status=200 if ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})
