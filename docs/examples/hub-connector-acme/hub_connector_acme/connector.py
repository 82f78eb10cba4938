"""Glue between the hub's contract and acme's client; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import ClassVar

import aiohttp

from canonical_model.message import Message
from connectors.contract import Callback, Context, Exchange, Health, Manifest, Receipt, Settings
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.http import NOT_TAKEN, Reply, map_http_failure, retry_after
from connectors.manifests import manifest_beside
from hub_connector_acme.client import AcmeClient
from hub_connector_acme.settings import AcmeSettings


class AcmeConnector:
    """Sends canonical messages to acme."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = AcmeSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (aiohttp.ClientError,)

    def __init__(self, settings: AcmeSettings) -> None:
        self._settings = settings
        self._client: AcmeClient | None = None

    @staticmethod
    def map_error(error: Exception) -> HubError:
        """Return the hub error for an exception of the HTTP library."""
        return map_http_failure(error, "acme")

    async def open(self, ctx: Context) -> None:
        """Make the client and prove that the key is taken."""
        client = AcmeClient(ctx.http, self._settings.base_url, self._settings.api_key.get_secret_value())
        reply = await client.health(asyncio.get_running_loop().time() + 10)
        if reply.status in {401, 403}:
            raise ConfigError("acme did not accept the key.", code="target-login-refused")
        if reply.status != 200:
            raise Unavailable(f"acme answered {reply.status} to the health call.")
        self._client = client

    async def close(self) -> None:
        """Forget the client; the HTTP session belongs to the hub."""
        self._client = None

    async def probe(self) -> Health:
        """Ask acme how it is."""
        try:
            reply = await self._ready().health(asyncio.get_running_loop().time() + 5)
        except HubError as error:
            return Health(False, error.detail)
        return Health(reply.status == 200, f"acme answered {reply.status}.", reply.seconds)

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Hand over one message under its own id."""
        reply = await self._ready().post(str(message.id), message.to_json(), deadline)
        return self._receipt("POST", reply, message)

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Ask whether a message arrived."""
        reply = await self._ready().find(str(message.id), deadline)
        return None if reply.status == 404 else self._receipt("GET", reply, message)

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Return nothing: acme sends no callbacks."""
        return ()

    def _ready(self) -> AcmeClient:
        if self._client is None:
            raise Unavailable("The target is not open; nothing was sent.", code="target-closed")
        return self._client

    def _receipt(self, method: str, reply: Reply, message: Message) -> Receipt:
        status, said = reply.status, f"acme answered {reply.status} to message {message.id}."
        if status in NOT_TAKEN:
            raise Unavailable(said, retry_after=retry_after(reply.headers, 3600))
        if 300 <= status < 500 or status in {501, 505}:
            raise Refused(said, code="target-refused")
        if not 200 <= status < 300:
            # A 500 or a gateway's 502 leaves open whether the message was taken, so it is asked for first.
            raise Unknown(said)
        address = f"{self._settings.base_url}/messages"
        exchange = Exchange(
            method, address, str(status), datetime.now(UTC), reply.seconds, reply_bytes=len(reply.body)
        )
        return Receipt(str(message.id), (exchange,))
