"""What the server says of itself: health, metrics, its description, and the page of every error."""

from __future__ import annotations

import asyncio
import html
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final

import orjson
from aiohttp import web

from adapters.http import error_pages
from adapters.http.catalog import CATALOG
from adapters.http.openapi import describe
from adapters.http.operations import OPERATIONS, Answer, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.http.services import Check, Services
from registry.logs import log
from routing import metrics

_LOG = logging.getLogger(__name__)
_CHECK_SECONDS: Final = 3.0
_TEXT: Final = {"text/plain": {"type": "string"}}


def operations(services: Services) -> list[Operation]:
    """Return the operations by which operators, partners and machines look at the server."""
    json = {"application/json": {"type": "object"}}
    get = partial(Operation, method="GET", tag="server")
    return [
        get(
            name="readLiveness",
            path="/healthz/live",
            summary="Whether the process answers",
            handler=_live,
            answers={200: Answer("It does.", json)},
        ),
        get(
            name="readReadiness",
            path="/healthz/ready",
            summary="Whether every part the hub needs answers",
            handler=partial(_ready, services),
            answers={200: Answer("All do.", json), 503: Answer("Some part does not.", json)},
        ),
        get(
            name="readMetrics",
            path="/metrics",
            summary="Measurements in the Prometheus form",
            handler=_metrics,
            scope=Scope.METRICS_READ,
            trust_loopback=True,
            produces=("text/plain", "application/openmetrics-text"),
            answers={200: Answer("Measurements.", _TEXT)},
        ),
        get(
            name="readDescription",
            path="/openapi.json",
            summary="This description (OpenAPI 3.1)",
            handler=_openapi,
            answers={200: Answer("The description.", json)},
        ),
        get(
            name="readDocs",
            path="/docs",
            summary="This description as a page",
            handler=_docs,
            produces=("text/html",),
            browser=True,
            answers={200: Answer("A page.", {"text/html": {"type": "string"}})},
        ),
        get(
            name="readError",
            path="/errors/{code}",
            summary="What an error code means and what can be done",
            handler=_error,
            produces=("text/markdown", "text/plain", "text/html"),
            answers={200: Answer("A page in Markdown.", {"text/markdown": {"type": "string"}})},
            problems=("resource-not-found",),
        ),
    ]


async def _live(request: web.Request, call: Call) -> web.Response:
    return _json({"status": "live"})


async def _ready(services: Services, request: web.Request, call: Call) -> web.Response:
    ready, body = await readiness(services.checks)
    return _json(body, status=200 if ready else 503)


async def readiness(
    checks: Mapping[str, Callable[[], Awaitable[Check]]],
) -> tuple[bool, dict[str, Any]]:
    """Run all checks at once, each at most three seconds; return whether all hold, and the answer that says so."""
    results = await asyncio.gather(*(_checked(name, check) for name, check in checks.items()))
    ready = all(check.ok for check in results)
    return ready, {
        "status": "ready" if ready else "not-ready",
        "checks": {
            name: {"ok": check.ok, **({"note": check.note} if check.note else {})}
            for name, check in zip(checks, results, strict=True)
        },
    }


async def _checked(name: str, check: Callable[[], Awaitable[Check]]) -> Check:
    try:
        async with asyncio.timeout(_CHECK_SECONDS):
            return await check()
    except TimeoutError:
        return Check(ok=False, note=f"no answer within {_CHECK_SECONDS:g} seconds")
    except Exception as error:
        log(_LOG, logging.WARNING, "readiness-check-failed", name=name, error=error)
        return Check(ok=False, note="the check failed; the log says why")


async def _metrics(request: web.Request, call: Call) -> web.Response:
    return web.Response(body=metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})


async def _openapi(request: web.Request, call: Call) -> web.Response:
    listed: list[Operation] = request.app[OPERATIONS]
    return _json(describe(listed))


async def _docs(request: web.Request, call: Call) -> web.Response:
    rows = "".join(
        f"<section><h2><code>{html.escape(one.method)} {html.escape(one.path)}</code></h2><p>{html.escape(one.summary)}</p>"
        f"<p>{html.escape(one.description)}</p>"
        f"<p>Scope: <code>{html.escape(one.scope or 'none')}</code></p></section>"
        for one in request.app[OPERATIONS]
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>OpenSPP Hub API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<style>body{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}</style></head>"
        f'<body><h1>OpenSPP Hub API</h1><p>For machines: <a href="/openapi.json">openapi.json</a></p>{rows}</body></html>'
    )
    return web.Response(text=page, content_type="text/html")


async def _error(request: web.Request, call: Call) -> web.Response:
    text = error_page(request.match_info["code"])
    if text is None:
        raise RequestRefused("There is no page for this error code.", code="resource-not-found")
    return web.Response(
        text=text, content_type="text/markdown", headers={"Cache-Control": "public, max-age=3600"}
    )


def error_page(code: str) -> str | None:
    """Return the page of an error code: the written one where the docs are installed, else what the catalog knows."""
    written = error_pages.page(code)
    if written is not None or code not in CATALOG:
        return written
    return f"# {code}\n\n{CATALOG[code].title}. It is answered with HTTP status {CATALOG[code].status}.\n"


def _json(body: Any, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
