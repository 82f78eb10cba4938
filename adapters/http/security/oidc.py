"""An outside OpenID issuer: its keys found by discovery, kept for an hour, asked again when a key is new."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import orjson

from adapters.http.security.tokens import pick
from canonical_model.errors import ConfigError, Unavailable
from registry.logs import log
from registry.signing import ALGORITHMS, KeyRefused, VerifyKey, keys_of_set

_LOG = logging.getLogger(__name__)
FRESH_SECONDS: Final = 3600.0
ASK_SECONDS: Final = 30.0
"""Least time between two questions to the issuer, so that invented key ids cannot make the hub flood it."""
_DEADLINE: Final = aiohttp.ClientTimeout(total=5, connect=3)
_MAX_BYTES: Final = 256 * 1024
_LOCAL: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class OutsideIssuer:
    """A trusted outside issuer; satisfies `TrustedIssuer`."""

    own = False

    def __init__(
        self,
        issuer: str,
        audience: str,
        session: Callable[[], aiohttp.ClientSession],
        *,
        algorithms: frozenset[str] = ALGORITHMS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        _must_be_safe(issuer)
        self.issuer, self.audience, self.algorithms = issuer, audience, algorithms
        self._session, self._clock = session, clock
        self._keys: Mapping[str, VerifyKey] = {}
        self._asked = -ASK_SECONDS
        self._fetched = -FRESH_SECONDS
        self._questions = self._answered = 0
        """How many questions were put, and which was the last one answered."""
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None) -> VerifyKey | None:
        """Return the issuer's key of this id, asking the issuer when it is unknown or an hour has passed.

        None means that the issuer itself has just said it has no such key. While it may not be asked again yet, an unknown
        key raises `Unavailable`: the key may be a new one, and a refusal would send its owner away for good.
        """
        found = pick(self._keys.values(), kid)
        if found is not None and self._clock() - self._fetched < FRESH_SECONDS:
            return found
        asked_before = self._questions
        async with self._lock:
            if self._clock() - self._asked >= ASK_SECONDS:
                await self._refresh()
        # Keys outlive a silent issuer: what was trusted an hour ago is better than refusing every partner.
        found = pick(self._keys.values(), kid)
        # Without an id there is nothing new to learn: the issuer has several keys.
        answered = self._answered > asked_before or (kid is None and bool(self._keys))
        if found is None and not answered:
            raise Unavailable(
                "The key of the token is not known, and the outside issuer cannot be asked for it at this moment.",
                code="issuer-unavailable",
                remedy="Send the request again after Retry-After; the hub must reach the address in HUB_OIDC_ISSUER.",
                retry_after=max(1.0, math.ceil(self._asked + ASK_SECONDS - self._clock())),
            )
        return found

    async def _refresh(self) -> None:
        self._asked = self._clock()
        self._questions += 1
        try:
            document = await self._get(f"{self.issuer.rstrip('/')}/.well-known/openid-configuration")
            if document.get("issuer") != self.issuer:
                raise KeyRefused("the discovery document names another issuer")
            self._keys = keys_of_set(await self._get(_must_be_safe(document.get("jwks_uri"))))
            self._fetched = self._clock()
            self._answered = self._questions
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, ConfigError) as error:
            log(_LOG, logging.WARNING, "issuer-keys-unread", error=error)

    async def _get(self, url: str) -> dict[str, Any]:
        async with self._session().get(url, allow_redirects=False, timeout=_DEADLINE) as response:
            if response.status != 200:
                raise KeyRefused("the issuer did not answer with 200")
            raw = await _bounded(response)
        value = orjson.loads(raw)
        if not isinstance(value, dict):
            raise KeyRefused("the issuer did not answer with a JSON object")
        return value


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    raw = b""
    async for piece in response.content.iter_chunked(16 * 1024):
        raw += piece
        if len(raw) > _MAX_BYTES:
            raise KeyRefused("the issuer's answer is too large")
    return raw


def _must_be_safe(url: object) -> str:
    """Return an https address, or an http one of this machine; raises `ConfigError` for any other."""
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or not (
        parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOCAL)
    ):
        raise ConfigError(
            "The outside issuer or its key address is not https. Its tokens are not trusted.",
            code="issuer-invalid",
            remedy="Use an https address in HUB_OIDC_ISSUER.",
        )
    return str(url)
