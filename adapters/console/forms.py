"""Forms of the console: where they may come from, their fields, and the word that says what one did."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from aiohttp import web

from canonical_model.errors import Refused
from routing.replay import Report

_FORM_LIMIT: Final = 16 * 1024
_DONE: Final = frozenset({"resent", "dismissed", "nothing", "force", "spent", "gone"})


def word(report: Report, well: str) -> str:
    """Return the word that says what a form did: `well`, or why it did nothing."""
    if report.done:
        return well
    if report.needs_force:
        return "force"
    if report.spent:
        return "spent"
    return "gone" if report.route_gone else "nothing"


def done(request: web.Request) -> str:
    """Return the word that the address brings along, empty for none of ours."""
    said = request.query.get("done", "")
    return said if said in _DONE else ""


def same_site(request: web.Request) -> None:
    """Refuse a form sent from another site: the browser says so, even before there is a session."""
    origin = request.headers.get("Origin")
    told = request.headers.get("Sec-Fetch-Site", "same-origin")
    if told not in {"same-origin", "none"} or (
        origin is not None and origin != "null" and urlsplit(origin).netloc != request.host
    ):
        raise Refused("The form came from another site. Nothing was done.", code="form-expired")


async def fields(request: web.Request) -> Mapping[str, str]:
    """Return the text fields of a small form."""
    if (
        request.content_type != "application/x-www-form-urlencoded"
        or (request.content_length or 0) > _FORM_LIMIT
    ):
        raise Refused("This is not a form of the console. Nothing was done.", code="form-expired")
    async with asyncio.timeout(30):
        posted = await request.post()
    return {name: value for name, value in posted.items() if isinstance(value, str)}
