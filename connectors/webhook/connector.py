"""The webhook connector: canonical message in, signed CloudEvent out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar, Final
from urllib.parse import quote

import aiohttp
import orjson
from multidict import CIMultiDict

from canonical_model.message import SPECVERSION, Message
from connectors.contract import Callback, Context, Exchange, Health, Manifest, Receipt, Repeat, Settings
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.http import NOT_TAKEN, TRY_LATER, Reply, map_http_failure, retry_after
from connectors.manifests import manifest_beside
from connectors.network import tls_context
from connectors.webhook.client import WebhookClient, problem_code
from connectors.webhook.settings import WebhookSettings
from connectors.webhook.signing import ID_HEADER, TIMESTAMP_HEADER, Signer, es256_signer, hmac_signer

_BINARY: Final = ("source", "type", "dataschema", "correlationid", "causationid", "originid")
_OPEN_SECONDS: Final = 10.0


class WebhookConnector:
    """Sends canonical messages as signed CloudEvents to one HTTP endpoint."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = WebhookSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (aiohttp.ClientError,)

    def __init__(self, settings: WebhookSettings) -> None:
        self._settings = settings
        self.repeat = Repeat.RECOGNISED if settings.recognises_repeats else Repeat.NEVER
        self._later = TRY_LATER if settings.recognises_repeats else NOT_TAKEN
        self._target = "webhook"
        self._client: WebhookClient | None = None
        self._signer: Signer | None = _signer(settings)
        self._fixed = _fixed_headers(settings)

    @staticmethod
    def map_error(error: Exception) -> HubError:
        """Return the hub error for an exception of the HTTP library."""
        return map_http_failure(error, "the target")

    async def open(self, ctx: Context) -> None:
        """Make the client and prove that the endpoint answers; raises `ConfigError` or `Unavailable`."""
        settings = self._settings
        self._target = ctx.target
        await self.close()
        tls = (
            tls_context(settings.ca_file, settings.client_cert_file, settings.client_key_file)
            if settings.is_https
            else None
        )
        self._client = WebhookClient(
            settings.url,
            settings.guard(),
            connections=settings.connections,
            connect_timeout=settings.connect_timeout,
            fixed=self._fixed,
            tls=tls,
        )
        health = await self._ask_endpoint()
        if not health.ok:
            await self.close()
            raise Unavailable(health.detail, code="target-unavailable", remedy="Check the endpoint.")

    async def close(self) -> None:
        """Close all connections; safe to call twice."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    async def probe(self) -> Health:
        """Ask the endpoint whether it is there, by a method that changes nothing."""
        try:
            return await self._ask_endpoint()
        except HubError as error:
            return Health(False, error.detail)

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Post one message; a 2xx answer is the receipt."""
        body, headers = self._encode(message)
        message_id = headers[ID_HEADER]
        if self._signer is not None:
            name, value = self._signer(message_id, headers[TIMESTAMP_HEADER], body)
            headers[name] = value
        started_at = datetime.now(UTC)
        reply = await self._ready().post(headers, body, deadline)
        status = reply.status
        repeated = status == 409 and self._settings.conflict_is_repeat
        if not 200 <= status < 300 and not repeated:
            raise self._failure(reply, message_id)
        return Receipt(
            self._reference(reply),
            (
                Exchange(
                    "POST",
                    self._ready().address,
                    str(status),
                    started_at,
                    reply.seconds,
                    len(body),
                    len(reply.body),
                    _REPEATED if repeated else _CUT if reply.cut else _NO_NOTES,
                ),
            ),
        )

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Raise `Unknown`: an endpoint cannot be asked, it recognises a repeat by `webhook-id` instead."""
        raise Unknown(f"Target {self._target} cannot be asked about message {message.id}.")

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Return nothing: a webhook target has no callbacks."""
        return ()

    def _ready(self) -> WebhookClient:
        if self._client is None:
            raise Unavailable(f"Target {self._target} is not open; nothing was sent.", code="target-closed")
        return self._client

    def _encode(self, message: Message) -> tuple[bytes, dict[str, str]]:
        """Return the body and the headers that are this message's own."""
        headers = {ID_HEADER: str(message.id), TIMESTAMP_HEADER: str(int(time.time()))}
        if message.traceparent is not None:
            headers["traceparent"] = message.traceparent
        if self._settings.mode == "structured":
            return message.to_json(), headers
        headers["ce-id"] = headers[ID_HEADER]
        headers["ce-time"] = message.time.astimezone(UTC).isoformat().replace("+00:00", "Z")
        for name in _BINARY:
            value = getattr(message, name)
            if value is not None:
                headers[f"ce-{name}"] = quote(value, safe="!#$&'()*+,/:;=?@[]~-._ ")
        return orjson.dumps(message.data, option=orjson.OPT_UTC_Z), headers

    def _reference(self, reply: Reply) -> str | None:
        name = self._settings.reference_header
        value = reply.headers.get(name, "") if name else ""
        safe = 0 < len(value) <= 128 and value.isascii() and all(c.isalnum() or c in "-_." for c in value)
        return value if safe else None

    def _failure(self, reply: Reply, message_id: str) -> HubError:
        status = reply.status
        said = f"Target {self._target} answered {status} to message {message_id}"
        if status in self._later:
            wait = retry_after(reply.headers, self._settings.retry_after_limit)
            return Unavailable(f"{said}.", code="target-unavailable", retry_after=wait)
        if 300 <= status < 400:
            return Refused(
                f"{said}, a redirect, which the hub does not follow.",
                code="target-redirected",
                remedy="Set `url` to the address the target moved to.",
            )
        if status >= 400 and status not in TRY_LATER:
            code = problem_code(reply)
            return Refused(
                f"{said} ({code})." if code else f"{said}.",
                code="target-refused",
                remedy="Ask the receiver what it expects, then replay the message.",
            )
        return Unknown(f"{said}, which is not a final answer.", code="outcome-unknown")

    async def _ask_endpoint(self) -> Health:
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                reply = await self._ready().request(self._settings.probe_method, self._fixed, None, deadline)
        except TimeoutError:
            return Health(False, f"The endpoint of {self._target} gave no answer in time.", _OPEN_SECONDS)
        except Unavailable as error:
            if error.code == "address-not-allowed":
                raise ConfigError(error.detail, code=error.code, remedy=error.remedy) from None
            raise
        except Unknown as error:
            return Health(False, error.detail)
        if reply.status >= 500 and reply.status != 501:
            return Health(False, f"The endpoint of {self._target} answered {reply.status}.", reply.seconds)
        return Health(True, f"The endpoint answered {reply.status}.", reply.seconds)


_NO_NOTES: Final[dict[str, str]] = {}
_CUT: Final = {"reply": "cut at 64 KiB"}
_REPEATED: Final = {"repeat": "recognised by the target"}


def _signer(settings: WebhookSettings) -> Signer | None:
    if settings.signing == "hmac":
        return hmac_signer([s.get_secret_value() for s in settings.secrets], settings.signed_content)
    if settings.signing == "es256" and settings.private_key is not None and settings.key_id is not None:
        return es256_signer(settings.private_key.get_secret_value(), settings.key_id)
    return None


def _fixed_headers(settings: WebhookSettings) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict()
    if settings.mode == "structured":
        headers["Content-Type"] = "application/cloudevents+json; charset=utf-8"
    else:
        headers["Content-Type"] = "application/json"
        headers["ce-specversion"] = SPECVERSION
    if settings.bearer_token is not None:
        headers["Authorization"] = f"Bearer {settings.bearer_token.get_secret_value()}"
    for name, value in settings.secret_headers.items():
        headers[name] = value.get_secret_value()
    return headers
