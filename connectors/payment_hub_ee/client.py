"""The HTTP side of a Payment Hub EE deployment: bounded requests to its services, with tenant, token and signature."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import aiohttp
import orjson
from yarl import URL

from connectors.errors import Unavailable, Unknown
from connectors.http import map_http_failure, retry_after
from connectors.network import GuardedResolver, open_session, tls_context
from connectors.payment_hub_ee import batches
from connectors.payment_hub_ee.dialects import Dialect, dialect
from connectors.payment_hub_ee.model import Accepted, body_code
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payment_hub_ee.signing import HEADER, Signer, Verifier

_EARLY: Final = 30.0
_MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes read of an answer of the operations app: a page of 10,000 transfers is some 8 MB."""
_SMALL_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer; `body` is None when it was no JSON or too long, `text` is what came."""

    status: int
    headers: Mapping[str, str]
    text: bytes
    body: Any
    wait: float | None
    seconds: float = 0.0

    @property
    def code(self) -> str | None:
        """The code in an error body, of whichever of the server's forms."""
        if not isinstance(self.body, dict):
            return None
        return body_code(self.body) or _FILE_FAULTS.get(
            str(self.body.get("Error Information: ") or self.body.get("errorInformation") or "")
        )


_FILE_FAULTS: Final = {
    "File not uploaded": "file-not-uploaded",
    "Broken file": "broken-file",
    "File too big": "file-too-big",
    "Invalid file structure": "file-structure",
}
"""The sentences with which a batch is refused (FACTS section 2.4), and the codes the hub keeps of them."""


class Tokens:
    """Bearer tokens of the operations app or a gateway, fetched before the old one ends."""

    def __init__(self, client: PaymentHubClient, settings: PaymentHubSettings) -> None:
        self._client, self._settings = client, settings
        self._token, self._end = "", 0.0
        self._lock = asyncio.Lock()

    async def get(self, deadline: float) -> str:
        """Return a token that holds; raises `Unavailable` (`token-refused`, `token-unavailable`): nothing was sent then."""
        async with self._lock:
            if asyncio.get_running_loop().time() >= self._end:
                await self._fetch(deadline)
            return self._token

    def drop(self, token: str) -> None:
        """Forget a token that was refused, unless a newer one is there already."""
        if token == self._token:
            self._end = 0.0

    async def _fetch(self, deadline: float) -> None:
        s = self._settings
        login = basic(s.client_id, s.client_secret.get_secret_value())
        headers = {"Platform-TenantId": s.tenant, "Authorization": login}
        if s.login == "password":
            form = {
                "username": s.username or "",
                "password": s.password.get_secret_value() if s.password else "",
                "grant_type": "password",
            }
        else:
            form = {"grant_type": "client_credentials"}
        # A form body, as OAuth2 wants it; the app reads it as it reads a query, and a password stays out of access logs.
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            answer = await self._client.call(
                "token", "POST", "", headers, urlencode(form).encode(), deadline, most=_SMALL_BYTES
            )
        except Unknown:
            raise Unavailable(
                "The token address broke off without an answer; nothing else was sent.",
                code="token-unavailable",
            ) from None
        token = answer.body.get("access_token") if isinstance(answer.body, dict) else None
        if (
            answer.status != 200
            or not isinstance(token, str)
            or not (token.isascii() and token.isprintable())
        ):
            refused = answer.status in {400, 401, 403}
            raise Unavailable(
                f"The token address answered {answer.status} and gave no token; nothing else was sent.",
                code="token-refused" if refused else "token-unavailable",
                remedy="Check login, username, password, client_id, client_secret and token_url of the target.",
            )
        lasts = answer.body.get("expires_in")
        seconds = float(lasts) if isinstance(lasts, (int, float)) and not isinstance(lasts, bool) else 60.0
        seconds = min(max(seconds, 1.0), 86_400.0)
        self._token = token
        self._end = asyncio.get_running_loop().time() + max(seconds - _EARLY, seconds / 2)


class PaymentHubClient:
    """Makes requests to the services of one deployment; call it with a running loop."""

    def __init__(self, settings: PaymentHubSettings) -> None:
        self.settings = settings
        self.dialect: Dialect = dialect(settings.dialect)
        addresses = settings.addresses()
        secure = any(URL(address).scheme == "https" for address in addresses.values())
        key = settings.signing_key
        self._signer = Signer(key.get_secret_value(), settings.signature_order) if key else None
        self._verifier = (
            Verifier(settings.server_certificate, settings.signature_order)
            if settings.server_certificate
            else None
        )
        self._session = open_session(
            limit=settings.connections,
            limit_per_host=0,
            connect_timeout=settings.connect_timeout,
            resolver=GuardedResolver(settings.guard()),
            tls=tls_context(settings.ca_file, settings.client_cert_file, settings.client_key_file)
            if secure
            else None,
        )
        self._bases = addresses
        self._tokens = Tokens(self, settings) if settings.login != "none" else None
        self._with_token = (
            {"operations"} if settings.login == "password" else {"operations", "bulk", "channel", "mapper"}
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def token(self, deadline: float) -> None:
        """Fetch a token if one is wanted, which proves the login."""
        if self._tokens is not None:
            await self._tokens.get(deadline)

    async def health(self, service: str, deadline: float) -> Answer:
        """Ask a service how it is."""
        return await self.call(service, "GET", "/actuator/health", {}, None, deadline, most=_SMALL_BYTES)

    async def request(
        self,
        service: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
    ) -> Answer:
        """Make a request with a token where the service wants one, a fresh one after a 401.

        Raises `Unavailable` when nothing was sent, `Unknown` when something was and no answer came.
        """
        if self._tokens is None or service not in self._with_token:
            return await self.call(service, method, path, headers, body, deadline)
        for last in (False, True):
            token = await self._tokens.get(deadline)
            sent = {**headers, "Authorization": f"Bearer {token}"}
            answer = await self.call(service, method, path, sent, body, deadline)
            if answer.status != 401:
                break
            # 401 means nothing was taken, so one more try with a new token is safe.
            self._tokens.drop(token)
            if last:
                break
        return answer

    async def operations(
        self, method: str, path: str, query: Mapping[str, Any], body: Any, deadline: float
    ) -> Answer:
        """Ask the operations app; `path` is below `/api/v1`."""
        headers = {
            "Platform-TenantId": self.settings.tenant,
            "X-Correlation-ID": self.dialect.correlation_id(),
        }
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = orjson.dumps(body)
        target = f"/api/v1{path}" + (f"?{urlencode(query)}" if query else "")
        return await self.request("operations", method, target, headers, content, deadline)

    async def post_batch(
        self, content: bytes, file_name: str, correlation_id: str, payee_fsp: str | None, deadline: float
    ) -> Answer:
        """Hand a payment file over; `content` is stored by the caller before. Never call it twice for one file."""
        s, d = self.settings, self.dialect
        headers = {"X-CorrelationID": correlation_id, "Platform-TenantId": s.tenant, "Purpose": s.purpose}
        path = d.batch_path
        kind = "csv" if s.form == "csv" else "raw"
        if d.type_in == "query":
            path += f"?type={kind}"
        else:
            headers["Type"] = kind
        for name, value in (
            (d.institution_header, s.registering_institution),
            (d.program_header, s.program),
            (d.callback_header, s.callback("batch")),
            ("X-PayeeDFSP-ID", payee_fsp),
        ):
            if value:
                headers[name] = value
        if s.form == "csv":
            headers["filename"] = file_name
            headers["Content-Type"], body = batches.multipart(
                content, file_name, f"hub-{correlation_id.replace('-', '')}"
            )
        else:
            headers["Content-Type"], body = "application/json", content
        if self._signer is not None:
            headers[HEADER] = self._signer.sign(headers, content.decode())
        return await self.request("bulk", "POST", path, headers, body, deadline)

    async def post_transfer(self, body: bytes, correlation_id: str, mode: str, deadline: float) -> Answer:
        """Order one payment at the channel; mode `gsma` has an address of its own."""
        s = self.settings
        headers = {
            "X-CorrelationID": correlation_id,
            "Platform-TenantId": s.tenant,
            "Content-Type": "application/json",
        }
        if s.registering_institution:
            headers[self.dialect.institution_header] = s.registering_institution
        if self._signer is not None:
            headers[HEADER] = self._signer.sign(headers, body.decode())
        path = "/channel/gsma/transfer" if mode.lower() == "gsma" else "/channel/transfer"
        return await self.request("channel", "POST", path, headers, body, deadline)

    def answer_signed(self, answer: Answer) -> bool:
        """Say whether an answer carries the signature of the server, if the target asks for one."""
        if self._verifier is None:
            return True
        text = answer.text.decode("utf-8", "replace")
        return self._verifier.holds(answer.headers, text, answer.headers.get(HEADER))

    async def authorize(
        self, batch_id: str, payer: str, currency: str, amount: str, callback: str, deadline: float
    ) -> Answer:
        """Ask the funding side behind the bulk address to authorise a batch; it answers later, at `callback`."""
        headers = {
            "X-Client-Correlation-ID": self.dialect.correlation_id(),
            "X-CallbackURL": callback,
            "Content-Type": "application/json",
        }
        body = {"batchId": batch_id, "payerIdentifier": payer, "currency": currency, "amount": amount}
        path = f"/batches/{batch_id}?command=authorize"
        return await self.request("bulk", "POST", path, headers, orjson.dumps(body), deadline)

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
        *,
        most: int = _MOST_BYTES,
    ) -> Answer:
        """Make one request as it is and read at most `most` bytes of its answer."""
        base = self._bases[service]
        return await self._exchange(method, URL(base + path, encoded=True), headers, body, deadline, most)

    async def tell(self, url: str, body: bytes, deadline: float) -> Answer:
        """Post to an address the deployment named itself; the guard holds for it too."""
        headers = {"Content-Type": "application/json"}
        return await self._exchange("POST", URL(url), headers, body, deadline, _SMALL_BYTES)

    async def _exchange(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline: float,
        most: int,
    ) -> Answer:
        began = time.monotonic()
        remaining = deadline - asyncio.get_running_loop().time()
        connect = max(min(self.settings.connect_timeout, remaining * 0.9), 0.001)
        limit = aiohttp.ClientTimeout(total=max(remaining, 0.001), connect=connect)
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, allow_redirects=False, timeout=limit
            ) as response:
                text = await _read(response, most)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise map_http_failure(error, url.host or "") from None
        wait = retry_after(response.headers, self.settings.retry_after_limit)
        return Answer(response.status, response.headers, text, _json(text), wait, time.monotonic() - began)


def basic(user: str, password: str) -> str:
    """Return an `Authorization` header for HTTP basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def batch_accepted(answer: Answer) -> Accepted | None:
    """Return what the acceptance of a batch says, in the form of old and new builds; None when it is none."""
    body = answer.body
    if answer.status not in {200, 202} or not isinstance(body, dict):
        return None
    polling = body.get("PollingPath")
    batch_id = (
        polling.rstrip("/").rpartition("/")[2]
        if isinstance(polling, str)
        else body.get("batch_id") or body.get("batchId")
    )
    if not isinstance(batch_id, str) or not 0 < len(batch_id) <= 64 or not batch_id.isascii():
        return None
    seconds = body.get("SuggestedCallbackSeconds")
    wait = float(seconds) if isinstance(seconds, str) and seconds.isascii() and seconds.isdigit() else None
    return Accepted(batch_id, wait)


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > most:
            response.close()
            raise Unknown(
                "An answer of the payment hub was longer than the hub reads.", code="outcome-unknown"
            )
    return b"".join(chunks)


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
