"""A small HTTP client for webhooks: one bounded POST, every failure told apart by what was already sent."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import aiohttp
import orjson
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from connectors.errors import ConfigError, HubError, Unavailable, Unknown
from connectors.network import AddressGuard, AddressRefused, GuardedResolver, open_session

MAX_REPLY: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer; `body` holds at most 64 KiB and `cut` says whether there was more."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    cut: bool
    seconds: float


def tls_context(ca_file: Path | None, cert_file: Path | None, key_file: Path | None) -> ssl.SSLContext:
    """Return a TLS context for one target; raises `ConfigError` when a file cannot be used."""
    try:
        context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        if cert_file is not None:
            context.load_cert_chain(str(cert_file), str(key_file) if key_file else None, password=lambda: "")
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"The TLS files of the webhook cannot be used: {type(error).__name__}.",
            code="tls-files-invalid",
            remedy="Check ca_file, client_cert_file and client_key_file: PEM, readable, key without passphrase.",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class WebhookClient:
    """Posts bodies to one address through a session of its own, whose resolver obeys the guard."""

    def __init__(
        self,
        url: str,
        guard: AddressGuard,
        *,
        connections: int,
        connect_timeout: float,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._url = URL(url)
        self.address = str(self._url.with_query(None))
        """Scheme, host and path: what may be recorded."""
        self._connect_timeout = connect_timeout
        self._session = open_session(
            limit=connections,
            limit_per_host=0,
            connect_timeout=connect_timeout,
            resolver=GuardedResolver(guard),
            tls=tls,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def request(
        self, method: str, headers: Mapping[str, str] | CIMultiDict[str], body: bytes | None, deadline: float
    ) -> Reply:
        """Make one request; raises `Unavailable` when nothing was sent and `Unknown` when something was and no answer came."""
        started = time.perf_counter()
        remaining = deadline - asyncio.get_running_loop().time()
        # Connecting ends before the deadline does, so that "nothing was sent" is still known.
        limit = aiohttp.ClientTimeout(
            total=None, connect=max(min(self._connect_timeout, remaining * 0.9), 0.001)
        )
        try:
            async with self._session.request(
                method, self._url, data=body, headers=headers, allow_redirects=False, timeout=limit
            ) as response:
                text, cut = await _read(response)
                return Reply(response.status, response.headers, text, cut, time.perf_counter() - started)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise map_failure(error, self._url.host or "") from None


async def _read(response: aiohttp.ClientResponse) -> tuple[bytes, bool]:
    stream = response.content
    if stream.is_eof() and not stream.total_bytes:
        return b"", False
    chunks, size = [], 0
    async for chunk in stream.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_REPLY:
            response.close()
            return b"".join(chunks)[:MAX_REPLY], True
    return b"".join(chunks), False


def map_failure(error: BaseException, host: str) -> HubError:
    """Return the hub error for an exception of the HTTP library; its text is left out, since it may quote the other side."""
    refused = isinstance(error, aiohttp.ClientConnectorError) and isinstance(
        getattr(error, "_os_error", None), AddressRefused
    )
    if refused or isinstance(error, AddressRefused):
        return Unavailable(
            f"The host {host} leads to an address the hub may not reach; nothing was sent.",
            code="address-not-allowed",
            remedy="If the target lies in a private network, list that network in allow_private_networks.",
        )
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
        return Unavailable(
            f"No trusted TLS connection to {host} could be made; nothing was sent.",
            code="target-tls-failed",
            remedy="Check the target's certificate, its expiry date and ca_file.",
        )
    if isinstance(error, (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)):
        return Unavailable(
            f"No connection to {host} could be made ({type(error).__name__}); nothing was sent.",
            code="target-unavailable",
            remedy="Check that the target is up and that the network lets the hub through.",
        )
    if isinstance(error, (aiohttp.InvalidURL, aiohttp.NonHttpUrlClientError)):
        return ConfigError("The webhook address cannot be used.", remedy="Correct `url` of the target.")
    return Unknown(
        f"The connection to {host} ended without a usable answer ({type(error).__name__}).",
        code="outcome-unknown",
        remedy="The hub repeats the message under the same id; the receiver recognises it by webhook-id.",
    )


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


def problem_code(reply: Reply) -> str | None:
    """Return the machine-readable code of a problem+json answer when it cannot be anything but a code."""
    if not reply.headers.get("Content-Type", "").lower().startswith("application/problem+json") or reply.cut:
        return None
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(body, dict):
        return None
    for name in ("code", "type", "title"):
        value = body.get(name)
        if isinstance(value, str):
            slug = value.rstrip("/").rpartition("/")[2].rpartition(":")[2] if name == "type" else value
            if _is_code(slug):
                return slug
    return None


def _is_code(text: str) -> bool:
    """Say whether a text has the shape of a code: short lower-case words joined by - _ or ., no run of four digits."""
    if not 2 <= len(text) <= 64 or not text[0].isalpha():
        return False
    words = text.replace("-", " ").replace("_", " ").replace(".", " ").split(" ")
    shape = all(w and w.isascii() and w.isalnum() and w == w.lower() for w in words)
    digits = sum(c.isdigit() for c in text)
    return shape and digits <= 3 and len(words) > 1
