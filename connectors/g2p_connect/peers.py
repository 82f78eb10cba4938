"""What the sandboxes of this connector share: the signature they ask for, and how they acknowledge."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
from aiohttp import web

from registry.signing import VerifyKey, decode


def is_signed(body: dict[str, Any], keys: Mapping[str, VerifyKey]) -> bool:
    """Say whether a message, whose `signature` is taken out of it, is signed over the rest by one of the keys (compact JWS, ES256)."""
    signature = str(body.pop("signature", ""))
    if signature.count(".") != 2 or orjson.loads(decode(signature.split(".")[1])) != body:
        return False
    return any(key.verify(signature, "ES256") for key in keys.values())


def acknowledge(status: str, code: str | None = None) -> web.Response:
    """Return an acknowledgement, with 400 and the standard's code when a message is refused."""
    message: dict[str, Any] = {"ack_status": status, "timestamp": now(), "correlation_id": str(uuid4())}
    if code is not None:
        message["error"] = {"code": code, "message": "refused by the sandbox"}
    return web.json_response({"message": message}, status=200 if code is None else 400)


def now() -> str:
    """Return the time as messages have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
