"""The Payment Hub EE connector: payment orders into the ledger, the rail that takes them on, and the deployment's callbacks."""

from __future__ import annotations

import asyncio
import hmac
import time
from typing import Any, ClassVar, Final

import aiohttp
import orjson

from canonical_model.payment import PaymentInstruction
from connectors.contract import (
    Callback,
    CallbackAnswer,
    Context,
    Health,
    Manifest,
    Settings,
)
from connectors.errors import ConfigError, HubError, Unavailable, Unknown
from connectors.http import map_http_failure
from connectors.manifests import manifest_beside
from connectors.payment_hub_ee.authorizing import Authorizer
from connectors.payment_hub_ee.client import PaymentHubClient
from connectors.payment_hub_ee.mapper import Mapper
from connectors.payment_hub_ee.rail import Rail
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payment_hub_ee.vouchers import Vouchers
from connectors.payments.connector import Paying
from connectors.payments.contract import Ledger
from connectors.payments.orders import Orders
from connectors.replies import Replies

_OPEN_SECONDS: Final = 10.0
_TAKEN: Final = CallbackAnswer(202)
_NOBODY: Final = CallbackAnswer(404)
_MOST_AUTHORIZING: Final = 256
_KINDS: Final = ("mapper", "vouchers")


class PaymentHubConnector(Paying[Rail]):
    """Takes payment orders into the ledger; `rail` moves them, `answer` takes callbacks."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = PaymentHubSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (aiohttp.ClientError,)
    fields: ClassVar[dict[type[Any], tuple[set[str], dict[str, str]]]] = {
        PaymentInstruction: (
            {"payment_id", "batch_id", "payee", "payee_account", "amount", "note", "expires_at"},
            {
                "program_id": "program and registering_institution are settings of the target",
                "cycle_id": "stays in the hub's books",
                "entitlement_id": "stays in the hub's books",
                "payee_name": "no file or order of this system has a place for it",
                "payer_account": "the payer's account is a setting of the target, or the server's",
                "purpose": "the Purpose header is a setting of the target",
                "area": "chooses the target before the order comes here",
                "preferred_rail": "chooses the target before the order comes here",
                "execution_date": "the server pays at once; the hub sends when the order comes",
            },
        )
    }

    def __init__(self, settings: PaymentHubSettings) -> None:
        super().__init__("payment-hub")
        self._settings = settings
        self._client: PaymentHubClient | None = None
        self._ledger: Ledger | None = None
        self._authorizer: Authorizer | None = None
        self._replies = Replies()
        self._tasks: set[asyncio.Task[bool]] = set()

    @staticmethod
    def map_error(error: Exception) -> HubError:
        """Return the hub error for an exception of the HTTP library."""
        return map_http_failure(error, "the payment hub")

    @property
    def mapper(self) -> Mapper:
        """The deployment's account mapper; raises `Unavailable` before `open`."""
        return Mapper(self._opened(), self._replies)

    @property
    def vouchers(self) -> Vouchers:
        """The deployment's vouchers; raises `Unavailable` before `open`."""
        return Vouchers(self._opened(), self._replies)

    async def open(self, ctx: Context) -> None:
        """Take the ledger from the hub's services and prove that bulk processor and operations app answer.

        Raises `ConfigError` for a process without a ledger, unusable keys or a refused login; `Unavailable` while one is away.
        """
        await self.close()
        self._target = ctx.target
        orders = Orders.of(ctx)
        self._client = client = PaymentHubClient(self._settings)
        try:
            health = await self._ask_services(client)
        except BaseException:
            await self.close()
            raise
        if not health.ok:
            await self.close()
            raise Unavailable(
                health.detail, code="target-unavailable", remedy="Check the addresses of the target."
            )
        self._orders = orders
        self._ledger = ledger = orders.ledger.transfers(ctx.target)
        self._rail = Rail(self._settings, ledger, client)
        self._authorizer = Authorizer(self._settings, ledger, client)

    async def close(self) -> None:
        """Break off requests and close all connections; safe to call twice, the ledger knows where everything is."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        rail, self._rail = self._rail, None
        if rail is not None:
            await rail.close()
        client, self._client = self._client, None
        self._orders = self._ledger = self._authorizer = None
        if client is not None:
            await client.close()

    async def probe(self) -> Health:
        """Ask whether the services and the login work; nothing is created."""
        if self._client is None:
            return Health(False, f"Target {self._target} is not open.")
        try:
            return await self._ask_services(self._client)
        except HubError as error:
            return Health(False, error.detail)

    async def answer(self, callback: Callback) -> CallbackAnswer:
        """Take a callback at `…/KIND/SECRET` (`batch`, `mapper`, `vouchers`) or the question `…/funds/SECRET/batches/ID`.

        The deployment signs nothing, so the secret in the path is what proves it, and a batch's callback is a hint only.
        """
        parts = callback.path.strip("/").split("/")
        if len(parts) >= 4 and parts[-4] == "funds" and parts[-2] == "batches":
            return self._authorization(parts[-3], parts[-1], callback)
        if len(parts) < 2 or not self._is_secret(parts[-1]):
            return _NOBODY
        try:
            body = orjson.loads(callback.raw)
        except orjson.JSONDecodeError:
            body = callback.raw.decode("utf-8", "replace")
        if parts[-2] == "batch":
            return await self._batch_told(body)
        ids = _ids(body)
        if parts[-2] not in _KINDS and len(parts) > 2:
            ids.insert(0, parts.pop(-2))
        if parts[-2] not in _KINDS:
            return _NOBODY
        return _TAKEN if self._replies.deliver(parts[-2], ids, body) else _NOBODY

    async def _batch_told(self, body: Any) -> CallbackAnswer:
        if not isinstance(body, dict) or self._ledger is None:
            return CallbackAnswer(400)
        for kind, name in (("order", "clientCorrelationId"), ("batch", "batchId")):
            value = body.get(name)
            rows = await self._ledger.find(kind, value) if isinstance(value, str) and value else []
            if rows:
                self.rail.hint(rows[0].references["order"])
                return _TAKEN
        return _NOBODY

    def _authorization(self, secret: str, batch_id: str, callback: Callback) -> CallbackAnswer:
        if self._authorizer is None or not self._settings.authorizes or not self._is_secret(secret):
            return _NOBODY
        address = self._authorizer.callback_of(callback.headers)
        if callback.query.get("command") != "authorize" or address is None:
            return CallbackAnswer(400)
        if len(self._tasks) >= _MOST_AUTHORIZING:
            return CallbackAnswer(503)
        try:
            asked = orjson.loads(callback.raw)
        except orjson.JSONDecodeError:
            return CallbackAnswer(400)
        headers = {name.lower(): value for name, value in callback.headers.items()}
        correlation_id = headers.get("x-client-correlation-id", "")
        work = self._authorizer.answer(batch_id, asked, correlation_id, address)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return _TAKEN

    def _is_secret(self, text: str) -> bool:
        known = self._settings.callback_secret
        return known is not None and hmac.compare_digest(text.encode(), known.get_secret_value().encode())

    def _opened(self) -> PaymentHubClient:
        if self._client is None:
            raise self._closed()
        return self._client

    async def _ask_services(self, client: PaymentHubClient) -> Health:
        began = time.monotonic()
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                await client.token(deadline)
                for service in ("bulk", "operations"):
                    answer = await client.health(service, deadline)
                    # A gateway may keep the health page to itself; what counts is that somebody answers.
                    if answer.status >= 500:
                        return Health(
                            False, f"The {service} service of {self._target} answered {answer.status}."
                        )
        except TimeoutError:
            return Health(False, f"The payment hub of {self._target} gave no answer in time.", _OPEN_SECONDS)
        except Unavailable as error:
            if error.code in {"address-not-allowed", "token-refused"}:
                raise ConfigError(error.detail, code=error.code, remedy=error.remedy) from None
            raise
        except Unknown as error:
            return Health(False, error.detail)
        return Health(True, "Bulk processor and operations app answer.", time.monotonic() - began)


def _ids(body: Any) -> list[str]:
    """Return the ids a callback may be waited for by, the sender's own request id first."""
    if not isinstance(body, dict):
        return []
    names = ("registerRequestID", "requestID", "requestId", "serialNumber")
    return [str(body[name]) for name in names if body.get(name)]
