"""A hub's payment desk that pays in bulk transactions through a sandbox adapter; the ledger is the one in memory."""

import asyncio
from collections import defaultdict

from aiohttp import web

from connectors.mojaloop.adapter_bulk_rail import AdapterBulkRail
from connectors.mojaloop.adapter_callbacks import AdapterReader
from connectors.mojaloop.client import MojaloopClient
from connectors.mojaloop.flow import Flow
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.settings import MojaloopSettings
from connectors.payments.driver import Driver, Opened
from connectors.payments.memory import MemoryLedger
from tests.connectors.mojaloop_desk import LOOK, order

QUICK = {"bulk": True, "bulk_seconds": 3.0, "ask_seconds": 0.3, "asks": 2, "request_timeout": 5.0}
CALM = {"bulk": True, "bulk_seconds": 60.0, "ask_seconds": 2.0, "request_timeout": 20.0}


class BulkDesk:
    def __init__(self, sandbox: AdapterSandbox | None = None, **settings) -> None:
        self.sandbox = sandbox or AdapterSandbox()
        self.bulk, self.scheme = self.sandbox.bulk, self.sandbox.scheme
        self.ledger = MemoryLedger()
        self._settings = CALM | settings

    async def __aenter__(self) -> "BulkDesk":
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/callbacks/adapter/{tail:.*}", self._callback)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}/callbacks/adapter"
        self.sandbox.calls_back_to(self.address)
        await self.sandbox.start()
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self.sandbox.stop()
        await self._runner.cleanup()

    def open(self) -> None:
        """Make a rail as a process does that starts (again) over the same ledger."""
        settings = MojaloopSettings.model_validate(self.sandbox.settings() | self._settings)
        flow = Flow(settings)
        self.client = MojaloopClient(settings, flow.dialect, None)
        self.rail = AdapterBulkRail(settings, self.ledger, self.client, flow, AdapterReader(settings))
        self.driver = Driver("adapter", self.ledger, Opened(self.rail), poll=LOOK)

    async def drive(self) -> None:
        """Drive until nothing can move by itself."""
        async with self.driver:
            await self.ledger.still()

    async def close(self) -> None:
        await self.rail.close()
        await self.client.close()

    async def pay(self, *orders, within: float = 60.0) -> None:
        self.ledger.order(orders)
        async with asyncio.timeout(within):
            await self.drive()
            await self.quiet()

    async def quiet(self) -> None:
        """Wait until nobody is doing anything any more."""
        while self.rail.under_way or self.bulk._tasks:
            await asyncio.gather(*self.rail.under_way, return_exceptions=True)
            await self.sandbox.settled()

    async def until(self, holds, within: float = 30.0) -> None:
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.01)

    async def _callback(self, request: web.Request) -> web.Response:
        uri = request.raw_path.removeprefix("/callbacks/adapter")
        answer = await self.rail.receive(request.method, uri, request.headers, await request.read())
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    def state(self, payment_id: str) -> tuple[str, str | None]:
        row = self.ledger.of(payment_id)
        return row.state, row.reason

    @property
    def moved(self) -> int:
        return sum(paid.amount for paid in self.scheme.committed())

    def sums(self) -> dict[str, int]:
        """Return the minor units of the orders in each state."""
        found: dict[str, int] = defaultdict(int)
        for row in self.ledger.rows.values():
            found[row.state] += row.instruction.amount.minor_units
        return dict(found)


def phones(count: int) -> list[str]:
    return [f"+27713{n:06d}" for n in range(count)]


def orders(count: int, **change):
    return [order(f"P-{n}", phone, 1000 + n, **change) for n, phone in enumerate(phones(count))]
