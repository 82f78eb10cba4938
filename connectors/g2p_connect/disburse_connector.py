"""The G2P Connect connector: payment orders into the ledger, the rail that takes them on, and callbacks of the other system."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import aiohttp
import orjson

from canonical_model.message import uuid7
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
from connectors.g2p_connect.disburse_client import DisburseClient
from connectors.g2p_connect.disburse_messages import NOT_KNOWN, entries_of
from connectors.g2p_connect.disburse_rail import DisburseRail
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.g2p_connect.mapper import ENDINGS, Mapper
from connectors.http import map_http_failure
from connectors.manifests import manifest_beside
from connectors.payments.connector import Paying
from connectors.payments.orders import Orders

_OPEN_SECONDS: Final = 10.0
_MOST: Final = 1000
_ENDINGS: Final = ("/on-disburse", "/on-status")


class G2pConnectConnector(Paying[DisburseRail]):
    """Takes payment orders into the ledger; `rail` moves them, `answer` takes callbacks."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = DisburseSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (aiohttp.ClientError,)
    fields: ClassVar[dict[type[Any], tuple[set[str], dict[str, str]]]] = {
        PaymentInstruction: (
            {
                "payment_id", "batch_id", "payee", "payee_name", "payee_account", "payer_account", "amount", "purpose",
                "note", "expires_at",
            },
            {
                "program_id": "no member of a disbursement says it",
                "cycle_id": "stays in the hub's books",
                "entitlement_id": "stays in the hub's books",
                "area": "chooses the target before the order comes here",
                "preferred_rail": "chooses the target before the order comes here",
                "execution_date": "the hub sends when the order comes, to be paid at once",
            },
        )
    }  # fmt: skip

    def __init__(self, settings: DisburseSettings) -> None:
        super().__init__("g2p-connect")
        self._settings = settings
        self._client: DisburseClient | None = None
        self._mapper: Mapper | None = None
        self._payees: Mapper | None = None
        self._payee_client: DisburseClient | None = None

    @staticmethod
    def map_error(error: Exception) -> HubError:
        """Return the hub error for an exception of the HTTP library."""
        return map_http_failure(error, "the payment system")

    @property
    def mapper(self) -> Mapper:
        """The account mapper of the system; raises `Unavailable` before `open`."""
        if self._mapper is None:
            raise self._closed()
        return self._mapper

    async def open(self, ctx: Context) -> None:
        """Take the ledger from the hub's services and prove that the system answers.

        Raises `ConfigError` for a process without a ledger, an unusable key or a refused login; `Unavailable` while it is away.
        """
        await self.close()
        self._target = ctx.target
        orders = Orders.of(ctx)
        self._client = client = DisburseClient(self._settings)
        try:
            if (resolving := self._settings.resolving()) is not None:
                self._payee_client = DisburseClient(resolving)
                self._payees = Mapper(resolving, self._payee_client)
            rail = DisburseRail(self._settings, orders.ledger.transfers(ctx.target), client, self._payees)
            health = await self._greet(client)
        except BaseException:
            await self.close()
            raise
        if not health.ok:
            await self.close()
            raise Unavailable(health.detail, code="target-unavailable", remedy="Check the url of the target.")
        self._orders, self._rail, self._mapper = orders, rail, Mapper(self._settings, client)

    async def close(self) -> None:
        """Break off requests and close all connections; safe to call twice, the ledger knows where everything is."""
        rail, self._rail = self._rail, None
        if rail is not None:
            await rail.close()
        clients = (self._client, self._payee_client)
        self._client = self._payee_client = self._orders = self._mapper = self._payees = None
        for client in clients:
            if client is not None:
                await client.close()

    async def probe(self) -> Health:
        """Ask whether the system and the login work; nothing is created."""
        if self._client is None:
            return Health(False, f"Target {self._target} is not open.")
        try:
            return await self._greet(self._client)
        except HubError as error:
            return Health(False, error.detail)

    async def answer(self, callback: Callback) -> CallbackAnswer:
        """Take callbacks: what is signed by the system's keys is believed, other words of payments make the hub ask.

        Paths end in `/on-disburse` and `/on-status`, for the account mapper in `/on-link`, `/on-resolve` and so on.
        """
        if callback.path.rstrip("/").endswith(ENDINGS):
            return self._mapped(callback.raw)
        if not callback.path.rstrip("/").endswith(_ENDINGS):
            return _acknowledge("ERR", 404, "err.request.not_found")
        try:
            body = orjson.loads(callback.raw)
        except orjson.JSONDecodeError:
            body = None
        message = body.get("message") if isinstance(body, dict) else None
        if not isinstance(body, dict) or not isinstance(message, dict):
            return _acknowledge("ERR", 400, "err.request.bad")
        entries = entries_of(message)
        if callback.path.rstrip("/").endswith("/on-status"):
            # That a reference is not known is no refusal of it; whoever wants to know that asks.
            entries = [told for told in entries if told.code not in NOT_KNOWN]
        if len(entries) > _MOST:
            return _acknowledge("ERR", 400, "err.request.bad")
        rail = self.rail
        believed = rail.envelopes.believed(body)
        if body.get("signature") and self._settings.peer_jwks and not believed:
            return _acknowledge("ERR", 400, "err.signature.invalid")
        if entries and not await rail.told(entries, believed=believed):
            return _acknowledge("ERR", 404, "err.request.not_found")
        return _acknowledge("ACK", 200)

    def _mapped(self, raw: bytes) -> CallbackAnswer:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if not isinstance(body, dict) or not isinstance(body.get("message"), dict):
            return _acknowledge("ERR", 400, "err.request.bad")
        code = self.mapper.deliver(body)
        if code is not None and self._payees is not None:
            # Each of the two has keys of its own and knows its own questions; what either expects is taken.
            code = self._payees.deliver(body)
        if code is None:
            return _acknowledge("ACK", 200)
        return _acknowledge("ERR", 404 if code.endswith("not_found") else 400, code)

    async def _greet(self, client: DisburseClient) -> Health:
        began = time.monotonic()
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                status = await client.probe(deadline)
        except TimeoutError:
            return Health(False, f"The system of {self._target} gave no answer in time.", _OPEN_SECONDS)
        except Unavailable as error:
            if error.code in {"address-not-allowed", "token-refused"}:
                raise ConfigError(error.detail, code=error.code, remedy=error.remedy) from None
            raise
        except Unknown as error:
            return Health(False, error.detail)
        # The base address need not be a page; what counts is that somebody answers.
        if status >= 500:
            return Health(False, f"The system of {self._target} answered {status}.")
        return Health(True, "The system answers.", time.monotonic() - began)


def _acknowledge(status: str, http: int, code: str | None = None) -> CallbackAnswer:
    message: dict[str, Any] = {
        "ack_status": status,
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "correlation_id": str(uuid7()),
    }
    if code is not None:
        message["error"] = {"code": code}
    return CallbackAnswer(http, orjson.dumps({"message": message}), {"Content-Type": "application/json"})
