"""The hub as funding side: a batch is authorised when it is one of ours and asks for no more than we ordered."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import orjson
from yarl import URL

from canonical_model.money import MINOR_UNIT_DIGITS
from connectors.errors import HubError
from connectors.payment_hub_ee.client import PaymentHubClient
from connectors.payment_hub_ee.operations import Operations
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payments.contract import CANCELLED, FAILED, Ledger, Transfer

_TRIES: Final = 6
_PAUSE: Final = 2.0


class Authorizer:
    """Answers the bulk processor's question whether a batch may be paid: `Y` or `N`, to the address it names."""

    def __init__(self, settings: PaymentHubSettings, ledger: Ledger, client: PaymentHubClient) -> None:
        self._settings, self._ledger, self._client = settings, ledger, client
        self._operations = Operations(client, settings.page_size)
        self._origins = {str(URL(address).origin()) for address in settings.addresses().values()}

    def callback_of(self, headers: Mapping[str, str]) -> str | None:
        """Return the address the answer goes to; None unless it belongs to this deployment."""
        known = {name.lower(): value for name, value in headers.items()}
        text = known.get("x-callbackurl", "")
        try:
            url = URL(text)
            return text if url.host and str(url.origin()) in self._origins else None
        except ValueError:
            return None

    async def decide(self, batch_id: str, asked: Any) -> tuple[bool, str | None]:
        """Say whether a batch may be paid, and why not."""
        rows = await self._rows(batch_id)
        if not rows:
            return False, "The batch is not known to the payer."
        if not isinstance(asked, dict) or asked.get("batchId") != batch_id:
            return False, "The request names another batch."
        currency = rows[0].instruction.amount.currency
        ordered = sum(row.instruction.amount.minor_units for row in rows)
        units = _minor_units(asked.get("amount"), currency)
        if asked.get("currency") != currency or units is None or not 0 < units <= ordered:
            return False, "Amount or currency is not what the payer ordered."
        if self._settings.payer_id is not None and asked.get("payerIdentifier") != self._settings.payer_id:
            return False, "The payer's account is not the one ordered from."
        return True, None

    async def answer(self, batch_id: str, asked: Any, correlation_id: str, callback: str) -> bool:
        """Decide and tell the deployment, three times at most; a decision that fails is a no. Return the decision."""
        try:
            granted, reason = await self.decide(batch_id, asked)
        except HubError:
            granted, reason = False, "The payer cannot check the batch now."
        body = orjson.dumps(
            {"clientCorrelationId": correlation_id, "status": "Y" if granted else "N", "reason": reason}
        )
        for _ in range(3):
            deadline = asyncio.get_running_loop().time() + self._settings.request_timeout
            try:
                if 200 <= (await self._client.tell(callback, body, deadline)).status < 300:
                    break
            except (HubError, TimeoutError):
                continue
        return granted

    async def _rows(self, batch_id: str) -> list[Transfer]:
        for attempt in range(_TRIES):
            rows = await self._ledger.find("batch", batch_id)
            if not rows:
                # The question may come before the answer to our own request; the operations app knows whose batch it is.
                deadline = asyncio.get_running_loop().time() + self._settings.request_timeout
                order_id = await self._operations.request_of(batch_id, deadline)
                rows = await self._ledger.find("order", order_id) if order_id else []
            rows = [row for row in rows if row.state not in {FAILED, CANCELLED}]
            if rows:
                return rows
            if attempt + 1 < _TRIES:
                await asyncio.sleep(min(_PAUSE, self._settings.first_ask))
        return []


def _minor_units(amount: Any, currency: str) -> int | None:
    try:
        scaled = Decimal(str(amount)).scaleb(MINOR_UNIT_DIGITS[currency])
    except (InvalidOperation, KeyError):
        return None
    return int(scaled) if scaled.is_finite() and scaled == scaled.to_integral_value() else None
