"""A Mojaloop switch with payee institutions on a loopback port: it refuses what the real one refuses, and calls back by itself."""

from __future__ import annotations

import asyncio
import contextlib
import io
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from yarl import URL

from connectors.mojaloop.formats import MAX_BODY, dumps, http_date
from connectors.mojaloop.sandbox_scheme import Fault, Scheme
from connectors.mojaloop.sandbox_switch import SWITCH, Call, Switch
from connectors.mojaloop.sandbox_wire import Turned, Wire
from connectors.mojaloop.signing import Received, SignatureInvalid, Signer, Verifier
from connectors.testing.sandbox import Mode, Seen

CLIENT_ID: Final = "hub"
CLIENT_SECRET: Final = "sandbox-client-secret-0001"  # noqa: S105 - known to everybody, only for the sandbox
PAYER: Final = "payerfsp"
_MAX_SEEN: Final = 20_000
_KEYS: dict[str, tuple[str, str]] = {}


def key_pair(kind: str = "RS256", name: str = "") -> tuple[str, str]:
    """Return a private and a public key in PEM; one pair of a kind and name per process, since RSA keys take long."""
    known = _KEYS.get(f"{kind}/{name}")
    if known is not None:
        return known
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = (
        rsa.generate_private_key(65537, 2048) if kind == "RS256" else ec.generate_private_key(ec.SECP256R1())
    )
    pair = (
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode(),
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode(),
    )
    return _KEYS.setdefault(f"{kind}/{name}", pair)


class SchemeSandbox:
    """Listens at `/switch` on a loopback port; give it the hub's callback address with `calls_back_to`."""

    def __init__(
        self,
        *,
        version: str = "1.1",
        fsps: Sequence[str] = ("bluebank", "greenwallet", "redmoney"),
        algorithm: str = "RS256",
        callbacks: str | None = None,
        fee: int = 0,
    ) -> None:
        self.received: deque[Seen] = deque(maxlen=_MAX_SEEN)
        self.busiest = 0
        self.in_flight: dict[str, int] = {}
        self.most_in_flight: dict[str, int] = {}
        """The most requests that were on their way to each institution at one time."""
        self.port = 0
        self.wire = Wire(version, PAYER)
        self.scheme = Scheme(self.wire, tuple(fsps), fee)
        self.callback_statuses: dict[int, int] = {}
        """How often the hub answered callbacks with each status."""
        self.late_seconds = 1.0
        self.only_version: str | None = None
        self._switch = Switch(self.wire, self.scheme, self._callback)
        self._callbacks = callbacks
        self._hub_key, hub_public = key_pair(algorithm, "hub")
        own_key, self._own_public = key_pair(algorithm, "scheme")
        self._signers = {name: Signer(own_key, name) for name in (*fsps, SWITCH)}
        self._verifier = Verifier({PAYER: [hub_public]})
        self._tokens: dict[str, float] = {}
        self.token_seconds = 3600
        self._mode, self._status, self._seconds = Mode.OK, 503, 0.0
        self._retry_after: int | None = None
        self._inside = 0
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Listen on a free loopback port."""
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=8 << 20)
        app.router.add_post("/token", self._token)
        app.router.add_get("/sandbox/state", self._state)
        app.router.add_route("*", "/switch/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=32), timeout=aiohttp.ClientTimeout(total=20)
        )

    async def stop(self) -> None:
        """Stop listening and calling back; safe to call twice."""
        self._stopping.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        http, self._http = self._http, None
        if http is not None:
            await http.close()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that reaches this sandbox."""
        return {
            "url": f"http://127.0.0.1:{self.port}/switch",
            "allow_private_networks": ["127.0.0.0/8"],
            "version": self.wire.version,
            "payer_fsp": PAYER,
            "payer_id": "MIN",
            "payer_name": "Ministry",
            "signing_key": self._hub_key,
            "public_keys": {name: [self._own_public] for name in (*self.scheme.fsps, SWITCH)},
            "switch_fsp": SWITCH,
            "token_url": f"http://127.0.0.1:{self.port}/token",
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "bulk": not self.wire.iso,
        }

    def secrets(self) -> Sequence[str]:
        """Return the secrets in `settings`."""
        return (CLIENT_SECRET, self._hub_key)

    def effects(self) -> Sequence[str]:
        """Return the ids of the transfers whose money moved."""
        return tuple(key for key, paid in self.scheme.transfers.items() if paid.state == "COMMITTED")

    def shuffle_bulk(self, on: bool) -> None:
        """Give the entries of bulk answers in another order than they were asked for in."""
        self._switch.shuffle = on

    def calls_back_to(self, address: str | None) -> None:
        """Send callbacks to this address from now on; None: nowhere."""
        self._callbacks = address

    def forget_tokens(self) -> None:
        """Let no token given out so far hold any longer."""
        self._tokens.clear()

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next requests in this way; `status` defaults to 503."""
        self._mode, self._status, self._seconds = mode, status or 503, seconds
        self._retry_after = retry_after

    async def settled(self) -> None:
        """Wait until every callback under way has been made."""
        while self._tasks:
            await asyncio.gather(*list(self._tasks), return_exceptions=True)

    async def _state(self, request: web.Request) -> web.Response:
        committed = self.scheme.committed()
        return web.json_response(
            {
                "transfers": len(self.scheme.transfers),
                "committed": len(committed),
                "amount": sum(paid.amount for paid in committed),
                "busiest": self.busiest,
                "callbacks": {str(status): count for status, count in self.callback_statuses.items()},
            }
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET):
            return web.json_response({"error": "invalid_client"}, status=401)
        token = secrets.token_urlsafe(24)
        self._tokens[token] = time.monotonic() + self.token_seconds
        return web.json_response(
            {"access_token": token, "token_type": "Bearer", "expires_in": self.token_seconds}
        )

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            return await self._answer(request)
        except Turned as turned:
            listed = [dict(zip(("key", "value"), v.split("."), strict=True)) for v in turned.versions]
            information: dict[str, Any] = {"errorCode": turned.code, "errorDescription": turned.why}
            if listed:
                information["extensionList"] = {"extension": listed}
            return web.json_response({"errorInformation": information}, status=turned.status)
        finally:
            self._inside -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self._tokens.get(token, 0) < time.monotonic():
            raise Turned(401, "3000", "the token does not hold")
        uri = request.raw_path.removeprefix("/switch")
        resource = uri.split("/")[1].partition("?")[0]
        headers = {name.lower(): value for name, value in request.headers.items()}
        if self.only_version is not None:
            raise Turned(406, "3001", "that version is not spoken here", (self.only_version,))
        self.wire.check_headers(headers, resource, body=request.method == "POST")
        if self._mode is Mode.REFUSE:
            raise Turned(400, "3100", "refused by switch of the sandbox")
        if self._mode is Mode.STATUS:
            wait = {"Retry-After": str(self._retry_after)} if self._retry_after is not None else {}
            return web.Response(status=self._status, headers=wait, text="what was posted: " + repr(raw))
        after_202 = await self._take(request.method, uri, resource, headers, raw)
        early = await self._misbehaved(request)
        response = web.Response(status=202)
        if early is not None:
            return early
        await response.prepare(request)
        await response.write_eof()
        for call in after_202:
            self._spawn(call)
        return response

    async def _misbehaved(self, request: web.Request) -> web.StreamResponse | None:
        mode = self._mode
        if mode is Mode.SLOW:
            await self._wait(self._seconds)
        elif mode is Mode.HANG:
            await self._wait(None)
        elif mode is Mode.FLOOD:
            return web.Response(status=202, body=b"x" * (4 << 20))
        transport = request.transport
        if mode in {Mode.CLOSE_AFTER_BODY, Mode.GARBAGE, Mode.HANG} and transport is not None:
            if mode is Mode.GARBAGE and isinstance(transport, asyncio.WriteTransport):
                transport.write(b"\x00\xffthis is no answer\r\n\r\n")
            transport.close()
            return web.Response(status=202)
        return None

    async def _take(
        self, method: str, uri: str, resource: str, headers: dict[str, str], raw: bytes
    ) -> list[Call]:
        """Act on a request and return the callbacks it leads to."""
        if method == "GET":
            self.received.append(Seen(uri, raw, headers))
            return self._switch.asked(uri, resource)
        body = self.wire.check_body(raw)
        try:
            self._verifier.check(Received(method, uri, headers, raw))
        except SignatureInvalid as error:
            raise Turned(400, "3105", str(error)) from None
        if resource not in {"quotes", "transfers", "bulkQuotes", "bulkTransfers"} or uri != f"/{resource}":
            raise Turned(404, "3002", "no such address")
        if self.wire.iso and resource.startswith("bulk"):
            raise Turned(404, "3002", "no such address")
        calls, key = self._switch.posted(resource, body, raw)
        self.received.append(Seen(key, raw, headers))
        kept = []
        for call, early in calls:
            if early:
                await call()
            else:
                kept.append(call)
        return kept

    def _callback(
        self, uri: str, resource: str, told: dict[str, Any] | str, source: str, identifier: str
    ) -> Call:
        """Return a callback that only has to be called; misbehaviours of the payee's identifier are in it."""
        if isinstance(told, str):
            uri, told = f"{uri}/error", self.wire.error(told, resource)
        body = dumps(told)
        has = self.scheme.has

        async def call() -> None:
            if has(identifier, Fault.LATE):
                await self._wait(self.late_seconds)
            sender, sent = source, body
            if has(identifier, Fault.WRONG_PARTY):
                sender = next(name for name in self.scheme.fsps if name != source)
            if has(identifier, Fault.OVERSIZE):
                sent = dumps(told | {"extensionList": "x" * (MAX_BODY + 1)})
            headers = self.signed("PUT", uri, sent, sender, resource)
            if has(identifier, Fault.UNSIGNED):
                headers = {k: v for k, v in headers.items() if k != "FSPIOP-Signature"}
            if has(identifier, Fault.TAMPERED):
                sent = sent.replace(b":", b": ", 1)
            for _ in range(2 if has(identifier, Fault.DUPLICATE) else 1):
                await self.deliver("PUT", uri, headers, sent)

        return call

    def signed(self, method: str, uri: str, body: bytes, source: str, resource: str) -> dict[str, str]:
        """Return the headers of a callback, signed by its source."""
        date = http_date()
        headers = {
            "Content-Type": self.wire.media_type(resource),
            "Date": date,
            "FSPIOP-Source": source,
            "FSPIOP-Destination": PAYER,
        }
        return headers | self._signers[source].headers(method, uri, body, PAYER, date)

    async def deliver(self, method: str, uri: str, headers: dict[str, str], body: bytes) -> int:
        """Send one callback and return the status it was answered with; 0 when nobody answered or no address is set."""
        if self._callbacks is None or self._http is None:
            return 0
        address = URL(self._callbacks + uri, encoded=True)
        try:
            async with self._http.request(
                method, address, data=io.BytesIO(body), headers=headers
            ) as response:
                await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        self.callback_statuses[status] = self.callback_statuses.get(status, 0) + 1
        return status

    def _spawn(self, call: Call) -> None:
        task = asyncio.ensure_future(call())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()


__all__ = [
    "CLIENT_ID",
    "CLIENT_SECRET",
    "PAYER",
    "SWITCH",
    "Fault",
    "SchemeSandbox",
    "key_pair",
]
