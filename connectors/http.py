"""One bounded HTTP request, and every failure told apart by what was already sent; for connectors that speak HTTP."""

from __future__ import annotations

import asyncio
import re
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from connectors.errors import ConfigError, HubError, Unavailable, Unknown
from connectors.network import AddressRefused

MAX_REPLY: Final = 64 * 1024
NOT_TAKEN: Final = frozenset({408, 425, 429, 503})
"""Statuses that say the request was not acted upon: it may be sent again whatever it does."""
TRY_LATER: Final = NOT_TAKEN | (frozenset(range(500, 600)) - {501, 505})
"""Statuses after which a target that recognises repeats may be sent the same again; some of them leave open what happened."""

_CERTIFICATE_ALERT: Final = re.compile(r"_ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)")
"""The names OpenSSL gives to the alerts about a certificate."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer; `body` holds at most what was asked for (64 KiB) and `cut` says whether there was more."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    cut: bool
    seconds: float


async def http_request(
    session: aiohttp.ClientSession,
    method: str,
    url: str | URL,
    *,
    deadline: float,
    headers: Mapping[str, str] | CIMultiDict[str] | None = None,
    body: bytes | None = None,
    connect_timeout: float = 10.0,
    most: int = MAX_REPLY,
) -> Reply:
    """Make one request; raises `Unavailable` when nothing was sent and `Unknown` when something was and no answer came.

    `deadline` is in seconds of the loop's clock; it bounds the whole call, as `most` (bytes) bounds the answer's body.
    Redirects are not followed.
    """
    started = time.perf_counter()
    remaining = deadline - asyncio.get_running_loop().time()
    # Connecting ends before the deadline does, so that "nothing was sent" is still known.
    limit = aiohttp.ClientTimeout(
        total=max(remaining, 0.001), connect=max(min(connect_timeout, remaining * 0.9), 0.001)
    )
    try:
        async with session.request(
            method, url, data=body, headers=headers, allow_redirects=False, timeout=limit
        ) as response:
            text, cut = await read_reply(response.content, most)
            if cut:
                response.close()
            return Reply(response.status, response.headers, text, cut, time.perf_counter() - started)
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise map_http_failure(error, URL(url).host or "") from None


async def read_reply(stream: aiohttp.StreamReader, most: int = MAX_REPLY) -> tuple[bytes, bool]:
    """Return the body of an answer, at most so many bytes, and whether there was more; a cut one's connection is of no further use."""
    if stream.is_eof() and not stream.total_bytes:
        return b"", False
    chunks, size = [], 0
    while chunk := await stream.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            return b"".join(chunks)[:most], True
    return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), False


def map_http_failure(error: BaseException, host: str) -> HubError:
    """Return the hub error for an exception of the HTTP library; its text is left out, since it may quote the other side."""
    refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        getattr(error, "_os_error", None), AddressRefused
    )
    if refused or isinstance(error, AddressRefused):
        return Unavailable(
            f"The host {host} leads to an address the hub may not reach; nothing was sent.",
            code="address-not-allowed",
            remedy="If the target lies in a private network, list that network in its settings.",
        )
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
        return Unavailable(
            f"No trusted TLS connection to {host} could be made; nothing was sent.",
            code="target-tls-failed",
            remedy="Check the target's certificate, its expiry date and ca_file.",
        )
    if isinstance(error, aiohttp.ClientOSError) and _certificate_refused(error.__cause__):
        return Unavailable(
            f"The host {host} did not let the hub in by the certificate it showed, or wants one; nothing was taken.",
            code="target-tls-failed",
            remedy="Check client_cert_file and client_key_file, the certificate's expiry date, and whom the target trusts.",
        )
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Unavailable(
            f"No connection to {host} could be made ({type(error).__name__}); nothing was sent.",
            code="target-unavailable",
            remedy="Check that the target is up and that the network lets the hub through.",
        )
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return ConfigError(
            "The address of the target cannot be used.", remedy="Correct it in the target's settings."
        )
    return Unknown(
        f"The connection to {host} ended without a usable answer ({type(error).__name__}).",
        code="outcome-unknown",
        remedy="The hub asks or repeats as the target allows; otherwise ask the partner.",
    )


def _certificate_refused(cause: BaseException | None) -> bool:
    """Say whether the other side's verdict on our certificate ended the connection.

    With TLS 1.3 it comes after our own side of the handshake (RFC 8446, 4.4.2.4 and 6.2), when the request has left already;
    a server that gives it has not read the request.
    """
    return isinstance(cause, ssl.SSLError) and _CERTIFICATE_ALERT.search(cause.reason or "") is not None


def retry_after(headers: Mapping[str, str], limit: float, now: datetime | None = None) -> float | None:
    """Return the seconds a `Retry-After` header asks for (a number or an HTTP date), at most `limit`; None when it says nothing."""
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) <= 12:
        return min(float(value), limit)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - (now or datetime.now(UTC))).total_seconds(), 0.0), limit)
