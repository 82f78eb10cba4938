"""A route that chooses between two payment systems, with their rails, drivers and one ledger."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

from aiohttp import web
from services.payments import PayPath, Peer, PeerConnector

from adapters.http.callbacks import extension
from connectors.payments.driver import Driver
from connectors.payments.rails import SERVICE, with_rails
from connectors.runtime import ConnectorRuntime
from connectors.targets import TargetConfig
from routing.ledger_rails import RailsBooks
from routing.ledger_results import Results
from routing.outbox import HubOutbox
from routing.routes import parse_route

WALLETS_FIRST = """
route: pay
when: {type: [org.openspp.payment.instructed.v1, org.openspp.payment.batch_instructed.v1]}
rails:
  - to: wallets
    when: data.payee_account.kind == "mobile_money" && data.amount.minor_units < 100000
    next_after: ["5105"]
    never_after: ["sanctions-*"]
  - to: banks
"""


class RailsPath(PayPath):
    """The ledger with two rails, `wallets` and `banks`, behind the route `pay`."""

    dies: str | None = None
    """Where the process kills itself: `before` or `after` the commit that orders a payment at its next rail."""
    kinds: ClassVar[dict[str, type[Any]]] = {"peer": PeerConnector}
    """The connectors of its targets."""

    def __init__(
        self, database_url: str, folder: Path, wallets: Peer, banks: Peer, route: str = WALLETS_FIRST
    ) -> None:
        super().__init__(database_url, folder, wallets, due=0.5)
        self.banks = banks
        self._route = parse_route(route, "pay.yaml")
        self.drivers: list[Driver] = []

    def configs(self) -> list[TargetConfig]:
        """Return how the two rails are configured."""
        return [self.of_peer(self.peer), self.of_peer(self.banks)]

    @staticmethod
    def of_peer(peer: Peer) -> TargetConfig:
        """Return the configuration of a rail that pays through a small payment system."""
        return TargetConfig(peer.target, "peer", {"url": peer.url, "due": 0.5})

    async def open_targets(self) -> None:
        """Open both rails, the choice between them, the endpoint of callbacks and the drivers."""
        configs, connectors = with_rails([self._route], self.configs(), self.kinds)
        assert self._route.rails is not None
        self.rails = RailsBooks(self.pool, self.books, {"pay": self._route.rails})
        services = {"ledger": self.books, "rows": self.rows, SERVICE: self.rails}
        runtime = ConnectorRuntime(configs, services, connectors=connectors)
        await runtime.open()
        self._stack.push_async_callback(runtime.close)
        self.target = runtime.get("pay")
        app = web.Application()
        extension(app, SimpleNamespace(hub=SimpleNamespace(targets=runtime), intake=self.intake))  # type: ignore[arg-type]
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        self.callback_url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        self.peer.callback_url = self.banks.callback_url = self.callback_url
        self.results = Results(self.pool, HubOutbox(self.intake), self.rails)
        if self.dies is not None:
            self._die(self.dies)
        for name in ("wallets", "banks", "pay"):
            driver = Driver(name, self.books, runtime.get(name), settle=self.results.settle)
            driver.start()
            self.drivers.append(driver)
            self._stack.push_async_callback(driver.stop)
        self.driver = self.drivers[0]

    def _die(self, when: str) -> None:
        inner, settle = self.rails.go_on, self.results.settle

        async def go_on(connection: Any, rows: Any) -> Any:
            quiet = await inner(connection, rows)
            if quiet and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            self.moved = bool(quiet)
            return quiet

        async def settling(target: str) -> bool:
            self.moved = False
            more = await settle(target)
            if self.moved:
                os.kill(os.getpid(), signal.SIGKILL)
            return more

        cast("Any", self.rails).go_on = go_on
        if when == "after":
            cast("Any", self.results).settle = settling

    async def attempts(self, payment_id: str = "P-1") -> list[tuple[str, str, str | None]]:
        """Return target, state and code of each attempt of a payment, in order."""
        rows = await self.pool.fetch(
            "SELECT target, state, reason FROM transfer WHERE payment_id = $1 ORDER BY attempt", payment_id
        )
        return [(row["target"], row["state"], row["reason"]) for row in rows]

    async def until(self, payment_id: str, *wanted: tuple[str, str, str | None]) -> None:
        """Wait until the attempts of a payment are these."""
        deadline = asyncio.get_running_loop().time() + 45
        while (found := await self.attempts(payment_id)) != list(wanted):
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(0.02)

    async def whole(self, batch_id: str = "B-1") -> Any:
        """Wait until the batch over all rails is closed and return it."""
        deadline = asyncio.get_running_loop().time() + 45
        while True:
            row = await self.pool.fetchrow(
                "SELECT * FROM transfer_batch WHERE batch_id = $1 AND over_rails", batch_id
            )
            if row is not None and row["state"] == "closed":
                return row
            assert asyncio.get_running_loop().time() < deadline, row and dict(row)
            await asyncio.sleep(0.02)

    async def told(self, *payment_ids: str) -> dict[str, list[dict[str, Any]]]:
        """Wait until a result of each payment came to the programs; return all that did, by payment."""
        deadline = asyncio.get_running_loop().time() + 45
        while True:
            found: dict[str, list[dict[str, Any]]] = {}
            for message in self.bank.sent:
                for result in message.data["results"]:
                    found.setdefault(result["payment_id"], []).append(result)
            if found.keys() >= set(payment_ids):
                return found
            assert asyncio.get_running_loop().time() < deadline, found
            await asyncio.sleep(0.05)


async def work(database_url: str, folder: str, wallets: str, banks: str, dies: str) -> None:
    """Drive payments until killed at the moment named."""
    peers = [
        cast("Peer", SimpleNamespace(url=url, callback_url="", target=target))
        for url, target in ((wallets, "wallets"), (banks, "banks"))
    ]
    RailsPath.dies = dies
    async with RailsPath(database_url, Path(folder), *peers) as path:
        print(path.callback_url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:6]))
