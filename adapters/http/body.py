"""Bounded reading: no body is larger, slower or deeper than the hub allows."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson
from aiohttp import web, web_exceptions
from aiohttp.http_exceptions import HttpProcessingError

from adapters.http.problems import RequestRefused

MAX_DEPTH: Final = 64
_ENCODINGS: Final = frozenset({"", "identity", "gzip", "deflate"})


def check_length(request: web.BaseRequest, limit: int) -> None:
    """Refuse a body by its declared length or encoding, before a byte of it is read."""
    length = request.headers.get("Content-Length")
    if length is not None and int(length) > limit:
        raise too_large(limit)
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None and encoding.strip().lower() not in _ENCODINGS:
        raise RequestRefused(
            "The content encoding of the body is not taken here. Nothing was accepted.",
            code="content-encoding-unsupported",
            remedy="Send the body as it is, or with gzip or deflate.",
            headers={"Accept-Encoding": "gzip, deflate, identity"},
            close=True,
        )


def too_large(limit: int) -> RequestRefused:
    """Return the refusal of a body above `limit` bytes, counted after decompression."""
    return RequestRefused(
        f"The body is larger than the {limit} bytes this hub takes. Nothing was accepted.",
        code="body-too-large",
        remedy="Send several smaller requests, or a stream of lines (application/x-ndjson).",
        close=True,
    )


def too_slow(seconds: float) -> RequestRefused:
    """Return the refusal of a body that took longer than `seconds`."""
    return RequestRefused(
        f"The body did not arrive within {seconds:g} seconds. Nothing was accepted.",
        code="request-too-slow",
        remedy="Send it again; a repeat with the same id is recognised.",
        close=True,
    )


def broken() -> RequestRefused:
    """Return the refusal of a body whose chunks or compression are wrong."""
    return RequestRefused(
        "The body did not arrive whole: its chunks or its compression are wrong. Nothing was accepted.",
        code="request-body-broken",
        remedy="Send it again; a repeat with the same id is recognised.",
        close=True,
    )


async def read_body(request: web.Request, limit: int, seconds: float) -> bytes:
    """Return the whole body; raises `RequestRefused` when it is too large, too slow or broken."""
    check_length(request, limit)
    if not request.can_read_body:
        return b""
    content = request.content
    try:
        if content.is_eof():
            # The usual small body lies complete in memory: no timer is needed for it.
            body = content.read_nowait(-1)
            if len(body) > limit:
                raise too_large(limit)
            return body
        async with asyncio.timeout(seconds):
            pieces: list[bytes] = []
            size = 0
            while piece := await content.readany():
                size += len(piece)
                if size > limit:
                    raise too_large(limit)
                pieces.append(piece)
    except TimeoutError:
        raise too_slow(seconds) from None
    except (web.RequestPayloadError, HttpProcessingError, web_exceptions.HTTPException):
        raise broken() from None
    return b"".join(pieces)


def parse_json(raw: bytes, *, code: str = "request-json-invalid") -> Any:
    """Return the JSON value of a body; raises `RequestRefused` for other text and for nesting deeper than 64."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise RequestRefused(
            f"The body is not JSON in UTF-8: line {error.lineno}, column {error.colno}. Nothing was accepted.",
            code=code,
            remedy="Correct the body and send it again.",
        ) from None
    # Fewer brackets than levels cannot be too deep, so that most bodies are never walked.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _deeper(value):
        raise RequestRefused(
            f"The JSON of the body is nested deeper than {MAX_DEPTH} levels. Nothing was accepted.",
            code=code,
            remedy="Send a flatter body.",
        )
    if b"\\u0000" in raw and _holds_nul(value):
        # PostgreSQL holds no NUL in text or JSON.
        raise RequestRefused(
            "A text of the body holds a NUL character. Nothing was accepted.",
            code=code,
            remedy="Remove the character.",
        )
    return value


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in name or _holds_nul(one) for name, one in value.items())
    return isinstance(value, list) and any(_holds_nul(one) for one in value)


def _deeper(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                inner.extend(item.values())
            elif isinstance(item, list):
                inner.extend(item)
        level = [item for item in inner if isinstance(item, dict | list)]
        if not level:
            return False
    return True
