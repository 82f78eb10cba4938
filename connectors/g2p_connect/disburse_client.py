"""The HTTP side of a G2P Connect system: bounded requests with a token, and what an acknowledgement means."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from connectors.errors import Unavailable, Unknown
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.http import MAX_REPLY, Reply, http_request, retry_after
from connectors.network import GuardedResolver, open_session, tls_context

_EARLY: Final = 30.0


@dataclass(frozen=True, slots=True)
class Reaction:
    """An answer: `acknowledgement` is ACK, NACK, ERR or None, `body` None where it is no JSON object or too long."""

    status: int
    acknowledgement: str | None
    code: str | None
    body: dict[str, Any] | None
    wait: float | None


class DisburseClient:
    """Posts messages to one system; call it with a running loop."""

    def __init__(self, settings: DisburseSettings) -> None:
        self._settings = settings
        tls = None
        if settings.ca_file or settings.client_cert_file:
            tls = tls_context(settings.ca_file, settings.client_cert_file, settings.client_key_file)
        self._session = open_session(
            limit=settings.parallel * 2,
            connect_timeout=settings.connect_timeout,
            resolver=GuardedResolver(settings.guard()),
            tls=tls,
        )
        self._token, self._end = "", 0.0
        self._lock = asyncio.Lock()

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def post(self, path: str, body: bytes, deadline: float, *, most: int = MAX_REPLY) -> Reaction:
        """Post a message to a path under `url`, or to a whole address; `most` are bytes of the answer.

        Raises `Unavailable` when nothing was sent and `Unknown` when something was and no answer came.
        """
        address = path if "://" in path else f"{self._settings.url}{path}"
        token = await self.token(deadline)
        reply = await self._send(address, body, token, deadline, most)
        if reply.status == 401 and self._settings.token_url is not None:
            # Refused by its token alone, the message was not looked at.
            self._end = 0.0 if token == self._token else self._end
            reply = await self._send(address, body, await self.token(deadline), deadline, most)
        return _reaction(reply, self._settings.retry_after_limit)

    async def probe(self, deadline: float) -> int:
        """Return the status with which the base address answers; nothing is created."""
        await self.token(deadline)
        s = self._settings
        reply = await http_request(
            self._session, "GET", s.url, deadline=deadline, connect_timeout=s.connect_timeout
        )
        return reply.status

    async def token(self, deadline: float) -> str:
        """Return the bearer token, empty where there is none; raises `Unavailable` (`token-refused`, `token-unavailable`)."""
        s = self._settings
        if s.token_url is None:
            return s.bearer_token.get_secret_value() if s.bearer_token is not None else ""
        async with self._lock:
            if asyncio.get_running_loop().time() >= self._end:
                await self._fetch(s.token_url, deadline)
            return self._token

    async def _fetch(self, url: str, deadline: float) -> None:
        s = self._settings
        secret = s.client_secret.get_secret_value() if s.client_secret else ""
        form = {"grant_type": "client_credentials", "client_id": s.client_id or "", "client_secret": secret}
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        try:
            reply = await http_request(
                self._session, "POST", url, deadline=deadline, headers=headers, body=urlencode(form).encode()
            )
        except Unknown:
            raise Unavailable(
                "The token address broke off without an answer; nothing else was sent.",
                code="token-unavailable",
            ) from None
        answer = _object(reply)
        token = None if answer is None else answer.get("access_token")
        if reply.status != 200 or not isinstance(token, str) or not (token.isascii() and token.isprintable()):
            raise Unavailable(
                f"The token address answered {reply.status} and gave no token; nothing else was sent.",
                code="token-refused" if reply.status in {400, 401, 403} else "token-unavailable",
                remedy="Check token_url, client_id and client_secret of the target.",
            )
        lasts = (answer or {}).get("expires_in")
        seconds = float(lasts) if isinstance(lasts, (int, float)) and not isinstance(lasts, bool) else 60.0
        seconds = min(max(seconds, 1.0), 86_400.0)
        self._token = token
        self._end = asyncio.get_running_loop().time() + max(seconds - _EARLY, seconds / 2)

    async def _send(self, address: str, body: bytes, token: str, deadline: float, most: int) -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return await http_request(
            self._session,
            "POST",
            address,
            deadline=deadline,
            headers=headers,
            body=body,
            connect_timeout=self._settings.connect_timeout,
            most=most,
        )


def _reaction(reply: Reply, longest: float) -> Reaction:
    body = _object(reply)
    message = body.get("message") if body is not None else None
    told = message if isinstance(message, dict) else {}
    acknowledgement = told.get("ack_status")
    error = told.get("error")
    code = error.get("code") if isinstance(error, dict) else None
    return Reaction(
        reply.status,
        acknowledgement if acknowledgement in ("ACK", "NACK", "ERR") else None,
        code if isinstance(code, str) and len(code) <= 60 and code.startswith("err.") else None,
        body,
        retry_after(reply.headers, longest),
    )


def _object(reply: Reply) -> dict[str, Any] | None:
    if reply.cut:
        return None
    try:
        body = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return None
    return body if isinstance(body, dict) else None
