"""A hub's payment desk that pays in bulk transactions through a sandbox adapter; the ledger is the one in memory."""

import asyncio
from collections import defaultdict

from connectors.mojaloop.adapter_bulk_rail import AdapterBulkRail
from connectors.mojaloop.adapter_callbacks import AdapterReader
from connectors.mojaloop.flow import Flow
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from tests.connectors.mojaloop_desk import Desk, order

QUICK = {"bulk": True, "bulk_seconds": 3.0, "ask_seconds": 0.3, "asks": 2, "request_timeout": 5.0}
CALM = {"bulk": True, "bulk_seconds": 60.0, "ask_seconds": 2.0, "request_timeout": 20.0}


class BulkDesk(Desk):
    target = "adapter"
    quick = CALM
    peer = AdapterSandbox

    def __init__(self, sandbox: AdapterSandbox | None = None, **settings) -> None:
        super().__init__(sandbox, **settings)
        self.bulk, self.scheme = self.sandbox.bulk, self.sandbox.scheme

    def make_rail(self, flow: Flow) -> AdapterBulkRail:
        return AdapterBulkRail(self.settings, self.ledger, self.client, flow, AdapterReader(self.settings))

    async def pay(self, *orders, within: float = 60.0) -> None:
        await super().pay(*orders, within=within)

    async def quiet(self) -> None:
        """Wait until nobody is doing anything any more."""
        while self.rail.under_way or self.bulk._tasks:
            await asyncio.gather(*self.rail.under_way, return_exceptions=True)
            await self.sandbox.settled()

    async def until(self, holds, within: float = 30.0) -> None:
        async with asyncio.timeout(within):
            while not holds():
                await asyncio.sleep(0.01)

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
