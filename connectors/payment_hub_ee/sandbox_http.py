"""A deployment on a loopback port: bulk processor, channel, operations app, mapper and vouchers, refusing what they refuse."""

from __future__ import annotations

import asyncio
import base64
import functools
import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import aiohttp
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from connectors.payment_hub_ee.batches import WIDE
from connectors.payment_hub_ee.client import basic
from connectors.payment_hub_ee.sandbox_books import Books, Fault
from connectors.payment_hub_ee.sandbox_mapper import MapperDesk
from connectors.payment_hub_ee.sandbox_operations import OperationsDesk
from connectors.payment_hub_ee.sandbox_vouchers import VoucherDesk
from connectors.payment_hub_ee.signing import HEADER, Signer, Verifier, part_text

TENANT: Final = "gorilla"
INSTITUTION: Final = "SocialWelfare"
PROGRAM: Final = "SchoolMeals"
PAYER: Final = "900100"
_LIMIT: Final = 64 * 1024 * 1024
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@functools.cache
def key_pair(number: int = 0) -> tuple[str, str]:
    """Return a private key (base64 of PKCS#8, as the server's tools have it) and its public part; made once for each number."""
    key = generate_private_key(65537, 2048)
    private = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(private).decode(), base64.b64encode(public).decode()


class DeploymentSandbox:
    """Payment Hub EE as one server; `books` holds what it did, `books.every` and `books.faults` how it misbehaves."""

    def __init__(
        self,
        *,
        sub_batch_size: int = 5,
        csv_size: int = 100_000,
        signed: bool = True,
        login: bool = False,
        recognises_repeats: bool = False,
        callbacks: str = "http://127.0.0.1:8080/callbacks/payment-hub",
        strict_vouchers: bool = True,
    ) -> None:
        self.books = Books(TENANT, sub_batch_size=sub_batch_size)
        self.csv_size, self.signed, self.login = csv_size, signed, login
        self.recognises_repeats = recognises_repeats
        self.callbacks = callbacks
        self.port = 0
        self.files: list[tuple[str, bytes]] = []
        """Every file that arrived complete: correlation id and bytes, repeats too."""
        self.requests: list[tuple[str, str, Mapping[str, str]]] = []
        """Method, path and headers of the newest requests."""
        self.authorize_at: str | None = None
        """Base address of a funding side that is asked before a batch is paid."""
        self.authorized: dict[str, str] = {}
        self.callback_codes: list[int] = []
        self.held: asyncio.Event | None = None
        """Files are taken and answered only once it is set."""
        self.secret = secrets.token_hex(12)
        self.password = secrets.token_hex(12)
        self.token = secrets.token_hex(16)
        self._client_key, client_public = key_pair(0)
        server_key, self._server_public = key_pair(1)
        self._verifier, self._signer = Verifier(client_public), Signer(server_key)
        self._operations = OperationsDesk(self.books)
        self.mapper = MapperDesk(self.books, self._post_later)
        self.vouchers = VoucherDesk(self._post_later, strict=strict_vouchers)
        self._seen: set[tuple[str, str]] = set()
        self._refused_busy = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self._http: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Listen on `port`, or on a free one."""

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self._note(request, handler)

        app = web.Application(client_max_size=_LIMIT, middlewares=[note])
        route = app.router.add_route
        route("GET", "/actuator/health", self._health)
        route("POST", "/oauth/token", self._token)
        route("POST", "/batchtransactions", self._batch)
        route("POST", "/channel/transfer", self._channel)
        route("POST", "/channel/gsma/transfer", self._channel)
        route("GET", "/channel/transfer/{id}", self._channel_state)
        route("GET", "/channel/txnState/{id}", self._channel_state)
        route("POST", "/authorization/callback", self._authorization)
        route("GET", "/sandbox/state", self._state)
        for method, path, handler in (
            *self._operations.routes(), *self.mapper.routes(), *self.vouchers.routes(),
        ):  # fmt: skip
            route(method, path, handler)
        self._http = aiohttp.ClientSession()
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port, backlog=1024).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop every connection; safe to call twice."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        if self._http is not None:
            await self._http.close()
            self._http = None

    def settings(self) -> dict[str, Any]:
        """Return the settings of a target that reaches this deployment."""
        url = f"http://127.0.0.1:{self.port}"
        found: dict[str, Any] = {
            "bulk_url": url, "operations_url": url, "channel_url": url, "mapper_url": url, "vouchers_url": url,
            "tenant": TENANT, "payer_id_type": "ACCOUNT_ID", "payer_id": PAYER, "max_file_bytes": self.csv_size,
            "sub_batch_size": self.books.sub_batch_size, "callback_url": self.callbacks, "callback_secret": self.secret,
            "allow_private_networks": ["127.0.0.0/8"], "channel_recognises_repeats": self.recognises_repeats,
        }  # fmt: skip
        if self.signed:
            found |= {"signing_key": self._client_key, "server_certificate": self._server_public}
        if self.login:
            found |= {"login": "password", "username": "hub", "password": self.password}
        return found

    def secrets(self) -> list[str]:
        """Return the secrets among the settings."""
        return [self._client_key, self.secret, *([self.password, self.token] if self.login else [])]

    async def settled(self) -> None:
        """Wait until no callback is on its way."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- bulk processor ----------------------------------------------------------------------------------------

    async def _batch(self, request: web.Request) -> web.StreamResponse:
        for name in ("X-CorrelationID", "Platform-TenantId", "Purpose"):
            if name not in request.headers:
                return web.Response(status=400)
        kind = (request.headers.get("Type") or request.query.get("type") or "").lower()
        content, mismatch = await self._content(request, kind)
        if self.held is not None:
            await self.held.wait()
        if mismatch is not None:
            return self._json(request, mismatch, 400)
        if self.books.has(Fault.REQUEST_LOST):
            return self._drop(request)
        if (fault := self._signature_fault(request, content)) is not None:
            return self._json(request, fault, 400)
        if request.headers["Platform-TenantId"] != TENANT:
            return self._json(
                request, {"responseCode": "01", "responseDescription": "Process definition not found"}, 412
            )
        if self.books.has(Fault.BUSY) and self._refused_busy < 3:
            self._refused_busy += 1
            return web.Response(status=503, headers={"Retry-After": "0"})
        name = request.headers.get("filename", "raw.csv") if kind == "csv" else "raw.csv"
        if kind == "csv" and len(content) > self.csv_size:
            return self._json(request, _file_fault("File too big"), 400)
        correlation = request.headers["X-CorrelationID"]
        self.files.append((correlation, content.encode()))
        callback = request.headers.get("X-CallbackURL") or request.headers.get("X-Callback-URL")
        try:
            text = content if kind == "csv" else _csv_of(orjson.loads(content))
            batch = self.books.take_file(
                text, name, correlation, callback=callback,
                institution=request.headers.get("X-Registering-Institution-ID"),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError):
            return self._json(request, _file_fault("Invalid file structure"), 400)
        if self.authorize_at is not None:
            self._spawn(self._ask_funds(batch.id))
        if self.books.has(Fault.CALLBACK_EARLY):
            await self._call_back(batch.id)
        elif not self.books.has(Fault.CALLBACK_LOST):
            for _ in range(2 if self.books.has(Fault.CALLBACK_TWICE) else 1):
                self._spawn(self._call_back(batch.id))
        if self.books.has(Fault.ANSWER_LOST):
            return self._drop(request)
        if self.books.has(Fault.ERROR_500):
            return self._json(
                request, {"responseCode": "01", "responseDescription": "java.lang.NullPointerException"}, 500
            )
        if self.books.has(Fault.GARBAGE):
            return web.Response(status=202, body=b"\x00\x01accepted")
        taken = {"PollingPath": f"/batch/Summary/{batch.id}", "SuggestedCallbackSeconds": "120"}
        return self._json(request, taken, 202)

    async def _content(self, request: web.Request, kind: str) -> tuple[str, dict[str, Any] | None]:
        is_file = request.content_type == "multipart/form-data"
        if kind == "csv" and is_file and request.headers.get("filename"):
            if not request.headers["filename"].endswith(".csv"):
                return "", _file_fault("Broken file")
            reader = await request.multipart()
            part = await reader.next()
            if isinstance(part, aiohttp.BodyPartReader) and part.name == "data":
                return part_text((await part.read()).decode()), None
        elif kind == "raw" and request.content_type == "application/json":
            return await request.text(), None
        return "", _TYPE_FAULT

    def _signature_fault(self, request: web.Request, payload: str) -> dict[str, Any] | None:
        value = request.headers.get(HEADER)
        if not self.signed or self._verifier.holds(request.headers, payload, value):
            return None
        return {
            "errorCategory": "Validation", "errorCode": "InvalidJsonWebSignature",
            "errorDescription": "The JWS passed is not valid", "developerMessage": "Pass the valid header value for X-SIGNATURE",
            "defaultUserMessage": "", "errorParameters": [{"key": HEADER, "value": value or ""}],
        }  # fmt: skip

    async def _call_back(self, batch_id: str) -> None:
        batch = self.books.batches[batch_id]
        if batch.callback is None:
            return
        rate = int(self.books.figures(batch)["rate"])
        body = {
            "clientCorrelationId": batch.request_id, "batchId": batch.id,
            "message": f"The Batch Aggregation API was complete with : {rate}",
        }  # fmt: skip
        await self._tell("POST", batch.callback, body)

    async def _ask_funds(self, batch_id: str) -> None:
        batch = self.books.batches[batch_id]
        payload = {
            "batchId": batch.id, "payerIdentifier": PAYER, "currency": batch.rows[0]["currency"],
            "amount": str(sum(int(float(row["amount"])) for row in batch.rows)),
        }  # fmt: skip
        headers = {
            "X-Client-Correlation-ID": batch.id[:16],
            "X-CallbackURL": f"http://127.0.0.1:{self.port}/authorization/callback",
        }
        await self._tell(
            "POST", f"{self.authorize_at}/batches/{batch.id}?command=authorize", payload, headers
        )

    async def _authorization(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.authorized[body["clientCorrelationId"]] = body["status"]
        return web.Response(status=200)

    # --- channel -----------------------------------------------------------------------------------------------

    async def _channel(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        correlation = request.headers.get("X-CorrelationID", secrets.token_hex(8))
        if self.books.has(Fault.REQUEST_LOST):
            return self._drop(request)
        if request.headers.get("Platform-TenantId") != TENANT:
            return self._json(request, {"errorDescription": "Process definition not found"}, 412)
        again = (request.path, correlation) in self._seen
        if self.recognises_repeats and again and "gsma" not in request.path:
            return self._json(request, _exists(correlation), 400)
        if (fault := _channel_fault(body)) is not None:
            return self._json(request, fault, 400)
        self._seen.add((request.path, correlation))
        transaction = self.books.take_single(body, correlation)
        if self.books.has(Fault.ANSWER_LOST):
            return self._drop(request)
        return self._json(request, {"transactionId": transaction}, 200)

    async def _channel_state(self, request: web.Request) -> web.StreamResponse:
        wanted = request.match_info["id"]
        entries = self.books.by_request.get(wanted) or [
            entry
            for many in self.books.by_request.values()
            for entry in many
            if entry["transactionId"] == wanted
        ]
        done = any(entry["status"] == "COMPLETED" for entry in entries)
        # Whatever is not committed is RECEIVED here: running, failed and never heard of.
        return self._json(
            request, {"transactionId": wanted, "transferState": "COMMITTED" if done else "RECEIVED"}, 200
        )

    # --- common ------------------------------------------------------------------------------------------------

    async def _note(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, request.headers))
        del self.requests[:-10_000]
        if request.path.startswith("/api/v1"):
            if self.books.has(Fault.SILENT):
                await asyncio.sleep(3600)
            if self.login and request.headers.get("Authorization") != f"Bearer {self.token}":
                return web.Response(status=401)
            if request.headers.get("Platform-TenantId") != TENANT:
                return web.json_response({"error": "tenant"}, status=400)
        return await handler(request)

    async def _health(self, request: web.Request) -> web.Response:
        return web.json_response({"status": "UP"})

    async def _token(self, request: web.Request) -> web.Response:
        form = {**request.query, **await request.post()}
        login = request.headers.get("Authorization", "")
        if (form.get("grant_type"), form.get("username"), form.get("password"), login) != (
            "password", "hub", self.password, basic("client", ""),
        ):  # fmt: skip
            return web.json_response({"error": "invalid_grant"}, status=400)
        return web.json_response({"access_token": self.token, "token_type": "bearer", "expires_in": 599})

    async def _state(self, request: web.Request) -> web.Response:
        books = self.books
        figures = [{"batchId": batch.id, **books.figures(batch)} for batch in books.batches.values()]
        return web.json_response({"batches": figures, "payments": len(books.moved), "files": len(self.files)})

    def _json(self, request: web.Request, body: Any, status: int) -> web.Response:
        raw = orjson.dumps(body)
        headers = {"Content-Type": "application/json"}
        tenant = request.headers.get("Platform-TenantId")
        if tenant:
            headers["Platform-TenantId"] = tenant
        if self.signed and not self.books.has(Fault.UNSIGNED):
            headers[HEADER] = self._signer.sign(headers, raw.decode())
        return web.Response(status=status, body=raw, headers=headers)

    @staticmethod
    def _drop(request: web.Request) -> web.Response:
        if request.transport is not None:
            request.transport.close()
        return web.Response(status=500)

    def _post_later(self, method: str, url: str, body: Any) -> Awaitable[None]:
        return self._tell(method, url, body)

    async def _tell(self, method: str, url: str, body: Any, headers: Mapping[str, str] | None = None) -> None:
        """Call somebody back: three tries without a pause, then never again."""
        if self._http is None:
            return
        content = body.encode() if isinstance(body, str) else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **(headers or {})}
        for _ in range(3):
            try:
                async with self._http.request(method, url, data=content, headers=sent) as response:
                    self.callback_codes.append(response.status)
                    if 200 <= response.status < 300:
                        return
            except (aiohttp.ClientError, OSError):
                continue

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


_TYPE_FAULT: Final = {
    "errorInformation": "File not uploaded",
    "errorDescription": "There was no fie uploaded with the request. Please upload a file and try again.",
    "errorCode": 400,
}


def _file_fault(text: str) -> dict[str, Any]:
    return {"Error Information: ": text, "Error Description : ": f"{text}. Please try again."}


def _exists(correlation: str) -> dict[str, Any]:
    return {
        "errorCategory": "Validation", "errorCode": "TransactionExists", "errorDescription": "Transaction already exists",
        "developerMessage": "Pass the valid header value for X-CorrelationID", "defaultUserMessage": "",
        "errorParameters": [{"key": "X-CorrelationID", "value": correlation}],
    }  # fmt: skip


def _channel_fault(body: Any) -> dict[str, Any] | None:
    def fault(code: str) -> dict[str, Any]:
        return {
            "errorCategory": "Validation",
            "errorCode": code,
            "errorDescription": code,
            "errorParameters": [],
        }

    try:
        payee, amount, currency, payer = (
            (
                body["payee"]["partyIdInfo"]["partyIdentifier"], body["amount"]["amount"], body["amount"]["currency"],
                body["payer"]["partyIdInfo"]["partyIdentifier"],
            )
            if "payee" in body
            else (
                body["creditParty"][0]["value"], body["amount"], body.get("currency"), body["debitParty"][0]["value"],
            )
        )  # fmt: skip
        number = float(amount)
    except (KeyError, IndexError, TypeError, ValueError):
        return fault("FormatError")
    if not currency:
        return fault("MandatoryValueNotSupplied")
    if number <= 0:
        return fault("NegativeValue")
    return fault("SamePartiesError") if payee == payer else None


def _csv_of(instructions: Any) -> str:
    """Return the CSV that a JSON batch is turned into; a null request id becomes one its sender never learns."""
    lines = [",".join(WIDE)]
    for number, one in enumerate(instructions):
        credit = one["creditParty"][0]
        debit = (one.get("debitParty") or [{"key": "", "value": ""}])[0]
        request_id = one.get("requestId") or secrets.token_hex(16)
        lines.append(
            f"{number},{request_id},{one['paymentMode']},{debit['key']},{debit['value']},{credit['key']},"
            f"{credit['value']},{one['amount']},{one['currency']},{one['descriptionText']},,,,,"
        )
    return "\n".join(lines)
