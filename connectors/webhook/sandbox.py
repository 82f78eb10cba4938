"""A local receiver of webhooks that verifies signatures and recognises repeats as a partner should."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from connectors.errors import Refused
from connectors.testing.sandbox import Mode, Seen
from connectors.webhook.signing import ID_HEADER, verify

SECRET: Final = "sandbox-webhook-secret-0001"  # noqa: S105 - known to everybody, only for the sandbox
TOKEN: Final = "sandbox-bearer-token-0001"  # noqa: S105 - the same
KEY_ID: Final = "sandbox-key"
_MAX_KEPT: Final = 10_000
_MAX_BODY: Final = 8 * 1024 * 1024


def new_key_pair() -> tuple[str, str]:
    """Return a fresh P-256 key pair as PEM text: private, public."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


class WebhookSandbox:
    """Receives at `/events` on a loopback port; keeps what arrived, newest 10,000."""

    def __init__(self, *, signing: str = "hmac", signed_content: str = "hub") -> None:
        self.received: list[Seen] = []
        self.busiest = 0
        self.port = 0
        self._signing = signing
        self._signed_content = signed_content
        self._private, self._public = new_key_pair() if signing == "es256" else ("", "")
        self._mode, self._status, self._seconds = Mode.OK, 503, 0.0
        self._retry_after: int | None = None
        self._effects: dict[str, None] = {}
        self._inside = 0
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=_MAX_BODY)
        app.router.add_route("*", "/events", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening; safe to call twice."""
        self._stopping.set()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def settings(self) -> dict[str, Any]:
        """Return the settings of a webhook target that reaches this sandbox."""
        signing: dict[str, Any] = {"signing": self._signing}
        if self._signing == "hmac":
            signing |= {"secrets": [SECRET], "signed_content": self._signed_content}
        elif self._signing == "es256":
            signing |= {"private_key": self._private, "key_id": KEY_ID}
        return {
            "url": f"http://127.0.0.1:{self.port}/events",
            "allow_private_networks": ["127.0.0.0/8"],
            "bearer_token": TOKEN,
            **signing,
        }

    def secrets(self) -> Sequence[str]:
        """Return the secrets in `settings`."""
        return tuple(secret for secret in (SECRET, TOKEN, self._private) if secret)

    def effects(self) -> Sequence[str]:
        """Return the ids taken, each once: a repeat is recognised by `webhook-id`."""
        return tuple(self._effects)

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next messages in this way; `status` defaults to 503."""
        self._mode, self._status, self._seconds = mode, status or 503, seconds
        self._retry_after = retry_after

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.Response(status=204, headers={"Allow": "OPTIONS, POST"})
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            return await self._post(request)
        finally:
            self._inside -= 1

    async def _post(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _problem(401, "token-invalid")
        try:
            self._verify(request, body)
        except Refused:
            return _problem(401, "signature-invalid")
        return await self._answer(request, body)

    def _verify(self, request: web.Request, body: bytes) -> None:
        if self._signing == "es256":
            verify(request.headers, body, public_keys={KEY_ID: self._public})
        elif self._signing == "hmac":
            verify(request.headers, body, secrets=[SECRET], signed_content=self._signed_content)

    def _keep(self, request: web.Request, body: bytes) -> None:
        message_id = request.headers.get(ID_HEADER, "")
        self.received.append(Seen(message_id, body, dict(request.headers)))
        self._effects[message_id] = None
        if len(self.received) > _MAX_KEPT:
            del self.received[0]
            del self._effects[next(iter(self._effects))]

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        mode = self._mode
        if mode is Mode.REFUSE:
            return _problem(422, "type-not-expected")
        if mode is Mode.STATUS:
            headers = {"Retry-After": str(self._retry_after)} if self._retry_after is not None else {}
            return web.Response(status=self._status, headers=headers, text="what was posted: " + repr(body))
        self._keep(request, body)
        if mode is Mode.SLOW:
            await self._wait(self._seconds)
        elif mode is Mode.HANG:
            await self._wait(None)
        elif mode is Mode.FLOOD:
            return web.Response(body=b"x" * (4 << 20))
        transport = request.transport
        if mode in {Mode.CLOSE_AFTER_BODY, Mode.GARBAGE, Mode.HANG} and transport is not None:
            if mode is Mode.GARBAGE and isinstance(transport, asyncio.WriteTransport):
                transport.write(b"\x00\xffthis is no answer\r\n\r\n")
            transport.close()
        return web.Response(status=202, headers={"X-Reference": f"ref-{len(self.received)}"})

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


def _problem(status: int, code: str) -> web.Response:
    return web.json_response(
        {"code": code, "status": status}, status=status, content_type="application/problem+json"
    )
