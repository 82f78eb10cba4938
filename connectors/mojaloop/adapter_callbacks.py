"""Callbacks of a scheme adapter: plain JSON at `/bulkTransactions/{id}`, without the headers and signature of FSPIOP.

The adapter signs nothing towards its backend. What a callback can do is bounded by what only the two sides know (the bulk's random
id) and by the proof that a payment needs; `callback_secret` lets a proxy before the adapter prove it as well.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Any

import orjson

from connectors.mojaloop.callbacks import CallbackRefused, Told
from connectors.mojaloop.formats import MAX_BODY, is_id
from connectors.mojaloop.settings import MojaloopSettings


class AdapterCallbackRefused(CallbackRefused):
    """A callback of an adapter that is not acted on; its answer has the form of the adapter's backend API."""

    def body(self) -> dict[str, Any]:
        """Return `statusCode` and `message`."""
        return {"statusCode": self.code, "message": self.why}


class AdapterReader:
    """Reads the callbacks of one target that is a scheme adapter."""

    def __init__(self, settings: MojaloopSettings) -> None:
        secret = settings.callback_secret
        self._wanted = None if secret is None else f"Bearer {secret.get_secret_value()}".encode()

    def read(self, method: str, uri: str, headers: Mapping[str, str], raw: bytes) -> Told:
        """Return what a callback says; raises `CallbackRefused` for another address, method, sender or no JSON object."""
        place = uri.split("/")
        if len(place) != 3 or place[0] or place[1] != "bulkTransactions":
            raise AdapterCallbackRefused(404, "3002", "There is no such address.")
        if method != "PUT":
            raise AdapterCallbackRefused(405, "3000", "That method is not for this address.")
        lower = {name.lower(): value for name, value in headers.items()}
        given = lower.get("authorization", "").encode("utf-8", "surrogateescape")
        if self._wanted is not None and not hmac.compare_digest(given, self._wanted):
            raise AdapterCallbackRefused(401, "3000", "The secret of callbacks is missing or wrong.")
        if not is_id(place[2]):
            raise AdapterCallbackRefused(400, "3101", "The id in the address has no known form.")
        if len(raw) > MAX_BODY:
            raise AdapterCallbackRefused(400, "3104", "The body is larger than 5 MB.")
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            raise AdapterCallbackRefused(400, "3101", "The body is no JSON.") from None
        if not isinstance(body, dict):
            raise AdapterCallbackRefused(400, "3101", "The body is no object.")
        return Told("bulkTransactions", place[2], "", body, failed=False, proven=self._wanted is not None)


__all__ = ["AdapterCallbackRefused", "AdapterReader"]
