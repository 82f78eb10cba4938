"""A hub's payment desk for tests: the connector over a ledger in memory, driven, with a real callback address, and a deployment."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from aiohttp import ClientSession, web

from canonical_model.payment import PaymentInstruction
from connectors.contract import Callback, Context
from connectors.payment_hub_ee import PaymentHubConnector
from connectors.payment_hub_ee.sandbox import PaymentHubSandbox
from connectors.payment_hub_ee.sandbox_books import Books, Fault
from connectors.payment_hub_ee.sandbox_http import DeploymentSandbox
from connectors.payments.driver import Driver, Opened
from connectors.payments.memory import MemoryLedger

QUICK = {"first_ask": 0.05, "sweep_seconds": 0.1, "lost_asks": 3, "missing_asks": 3, "request_timeout": 2.0}


class Desk:
    """Open it with `async with`; `restart` is what a killed process does: everything in memory is gone but the ledger."""

    def __init__(
        self, *faults: Fault, authorizes: bool = False, change: Any = None, **deployment: Any
    ) -> None:
        self.hub = PaymentHubSandbox()
        self.hub.peer = self.deployment = DeploymentSandbox(**deployment)
        self.books.every |= set(faults)
        self._authorizes = authorizes
        self._change = change or {}
        self.answers: list[int] = []

    @property
    def books(self) -> Books:
        return self.deployment.books

    @property
    def ledger(self) -> MemoryLedger:
        return self.hub.ledger

    async def __aenter__(self) -> Desk:
        app = web.Application()
        app.router.add_route("*", "/callbacks/payment-hub/{tail:.*}", self._callback)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        address = f"http://127.0.0.1:{self._runner.addresses[0][1]}/callbacks/payment-hub"
        self.deployment.callbacks = address
        if self._authorizes:
            self.deployment.authorize_at = f"{address}/funds/{self.deployment.secret}"
        await self.hub.start()
        self._http = ClientSession()
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._shut()
        await self._http.close()
        await self.hub.stop()
        await self._runner.cleanup()

    async def open(self) -> None:
        """Open the connector as a process does that starts, over the ledger as it is."""
        settings = {**self.hub.settings(), **QUICK, "authorizes": self._authorizes, **self._change}
        model = PaymentHubConnector.settings_model
        self.connector = PaymentHubConnector(model.model_validate(settings))
        await self.connector.open(Context("payment-hub", self._http, self.hub.services()))
        self.rail = self.connector.rail
        self.driver = Driver("payment-hub", self.ledger, Opened(self.rail))
        self.driver.start()

    async def restart(self) -> None:
        await self._shut()
        await self.open()

    async def pay(
        self, orders: Iterable[PaymentInstruction], batch_id: str | None = "B-1", within: float = 45.0
    ) -> None:
        """Enter orders and drive until nothing moves by itself."""
        self.ledger.order(orders, batch_id)
        await self.run(within)

    async def run(self, within: float = 45.0) -> None:
        async with asyncio.timeout(within):
            while self.ledger.moving() or self.rail.under_way:
                await asyncio.sleep(0.01)
            await self.deployment.settled()

    def state(self, payment_id: str) -> tuple[str, str | None]:
        row = self.ledger.of(payment_id)
        return row.state, row.reason

    @property
    def balance(self) -> dict[str, int]:
        """Minor units by state; their sum is what was ordered."""
        found: dict[str, int] = {}
        for row in self.ledger.rows.values():
            found[row.state] = found.get(row.state, 0) + row.instruction.amount.minor_units
        return found

    @property
    def moved(self) -> int:
        """Minor units that left the payer's account at the deployment (two decimals)."""
        return sum(round(float(amount) * 100) for _, _, amount, _ in self.books.moved)

    async def _shut(self) -> None:
        await self.driver.stop()
        await self.connector.close()

    async def _callback(self, request: web.Request) -> web.Response:
        raw = await request.read()
        callback = Callback(
            request.rel_url.raw_path, dict(request.headers), raw, dict(request.query), request.method
        )
        answer = await self.connector.answer(callback)
        self.answers.append(answer.status)
        return web.Response(status=answer.status, body=answer.body)


def order(
    number: int = 1, *, phone: str | None = None, units: int = 85_000, **change: Any
) -> PaymentInstruction:
    return PaymentInstruction.model_validate(
        {
            "payment_id": f"P-{number}",
            "payee": {"identifiers": [{"id_type": "NID", "value": f"ZM-{number}"}]},
            "payee_account": {"kind": "mobile_money", "account_number": phone or f"+2547{number:08d}"},
            "amount": {"minor_units": units, "currency": "KES"},
            "note": "Cycle 2026-11",
        }
        | change
    )


def payee(number: int) -> str:
    return f"2547{number:08d}"
