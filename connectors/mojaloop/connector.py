"""The Mojaloop connector: payment orders into the ledger, and the rail that takes them from there through the scheme."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar, Final

import aiohttp

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
from connectors.mojaloop.adapter_bulk_rail import AdapterBulkRail
from connectors.mojaloop.adapter_callbacks import AdapterReader
from connectors.mojaloop.bulk import rail_class
from connectors.mojaloop.callbacks import Reader, Reads
from connectors.mojaloop.client import MojaloopClient, checked_versions
from connectors.mojaloop.flow import Flow
from connectors.mojaloop.rail import Rail
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Signer, Verifier
from connectors.payments.connector import Paying
from connectors.payments.orders import Orders

_OPEN_SECONDS: Final = 10.0


class MojaloopConnector(Paying[Rail]):
    """Takes payment orders into the ledger; `rail` moves them, `answer` takes the scheme's callbacks."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = MojaloopSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (aiohttp.ClientError,)
    fields: ClassVar[dict[type[Any], tuple[set[str], dict[str, str]]]] = {
        PaymentInstruction: (
            {
                "payment_id",
                "batch_id",
                "payee",
                "payee_name",
                "payee_account",
                "amount",
                "note",
                "expires_at",
            },
            {
                "program_id": "the scheme knows one payer; set payer_sub_id to tell programs apart",
                "cycle_id": "stays in the hub's books",
                "entitlement_id": "stays in the hub's books",
                "payer_account": "the payer's institution is a setting of the target",
                "purpose": "sub_scenario is agreed for a target, not for a payment",
                "area": "chooses the target before the order comes here",
                "preferred_rail": "chooses the target before the order comes here",
                "execution_date": "a scheme pays at once; the hub sends when the order comes",
            },
        )
    }

    def __init__(self, settings: MojaloopSettings) -> None:
        checked_versions(settings)
        super().__init__("mojaloop")
        self._settings = settings
        self._flow = Flow(settings)
        key = settings.signing_key
        self._signer = Signer(key.get_secret_value(), settings.payer_fsp) if key is not None else None
        verifier = Verifier(settings.public_keys) if settings.public_keys else None
        self._reader: Reads = (
            AdapterReader(settings) if settings.mode == "adapter" else Reader(settings, verifier)
        )
        self._client: MojaloopClient | None = None

    @staticmethod
    def map_error(error: Exception) -> HubError:
        """Return the hub error for an exception of the HTTP library."""
        return map_http_failure(error, "the scheme")

    async def open(self, ctx: Context) -> None:
        """Take the ledger from the hub's services and prove that the scheme answers; raises `ConfigError` or `Unavailable`."""
        await self.close()
        self._target = ctx.target
        orders = Orders.of(ctx)
        self._client = client = MojaloopClient(self._settings, self._flow.dialect, self._signer)
        try:
            health = await self._ask_scheme(client)
        except BaseException:
            await self.close()
            raise
        if not health.ok:
            await self.close()
            raise Unavailable(health.detail, code="target-unavailable", remedy="Check the scheme's address.")
        self._orders = orders
        kind = AdapterBulkRail if self._settings.mode == "adapter" else rail_class(self._flow)
        self._rail = kind(
            self._settings, orders.ledger.transfers(ctx.target), client, self._flow, self._reader
        )

    async def close(self) -> None:
        """Break off requests and close all connections; safe to call twice, the ledger knows where everything is."""
        rail, self._rail = self._rail, None
        if rail is not None:
            await rail.close()
        client, self._client = self._client, None
        self._orders = None
        if client is not None:
            await client.close()

    async def probe(self) -> Health:
        """Ask whether the scheme and its token address answer; nothing is created."""
        if self._client is None:
            return Health(False, f"Target {self._target} is not open.")
        try:
            return await self._ask_scheme(self._client)
        except HubError as error:
            return Health(False, error.detail)

    async def answer(self, callback: Callback) -> CallbackAnswer:
        """Take a callback and say what the scheme is answered: 200, or 400 and 406 with the standard's error body."""
        # What is signed begins at the service's own segment, after the address the scheme was given.
        uri = callback.path.removeprefix(f"/callbacks/{self._target}")
        if callback.query:
            uri += "?" + "&".join(f"{name}={value}" for name, value in callback.query.items())
        return await self.rail.receive(callback.method, uri, callback.headers, callback.raw)

    async def _ask_scheme(self, client: MojaloopClient) -> Health:
        began = time.monotonic()
        deadline = asyncio.get_running_loop().time() + _OPEN_SECONDS
        try:
            async with asyncio.timeout_at(deadline):
                await client.token(deadline)
                # Every server answers an address it does not have; what counts is that somebody does.
                answer = await client.plain("GET", "transfers", "/health", b"", deadline)
        except TimeoutError:
            return Health(False, f"The scheme of {self._target} gave no answer in time.", _OPEN_SECONDS)
        except Unavailable as error:
            if error.code in {"address-not-allowed", "token-refused"}:
                raise ConfigError(error.detail, code=error.code, remedy=error.remedy) from None
            raise
        except Unknown as error:
            return Health(False, error.detail)
        seconds = time.monotonic() - began
        if answer.status in {502, 503, 504}:
            return Health(False, f"The scheme of {self._target} answered {answer.status}.", seconds)
        return Health(True, f"The scheme answered {answer.status}.", seconds)
