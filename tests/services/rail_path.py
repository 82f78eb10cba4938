"""The payment path of a hub whose one target is a real connector that pays, over the real ledger and the real callback endpoint."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, TypeVar

from aiohttp import web
from services.payments import PayPath, Peer

from adapters.http.callbacks import extension
from canonical_model.message import Message
from connectors.discovery import discover
from connectors.payments.driver import Driver
from connectors.payments.sandbox import PeerSandbox
from connectors.runtime import ConnectorRuntime
from connectors.targets import TargetConfig
from routing.ledger_results import Results
from routing.outbox import HubOutbox

MOJALOOP_QUICK: Final = {"ask_seconds": 0.5, "lookup_seconds": 5.0, "asks": 2, "request_timeout": 5.0}
PAYMENT_HUB_QUICK: Final = {
    "first_ask": 0.2, "sweep_seconds": 0.4, "lost_asks": 3, "missing_asks": 3, "open_asks": 3, "request_timeout": 5.0,
}  # fmt: skip
G2P_CONNECT_QUICK: Final = {"first_ask": 0.3, "longest_ask": 0.3, "request_timeout": 5.0}
_SECRETS: Final = ("signing_key", "client_secret", "callback_secret", "password")
PeerT = TypeVar("PeerT", bound=PeerSandbox)


def phone(number: int) -> str:
    """Return the account of payment `number`."""
    return f"+2547{number:08d}"


def instruction(
    number: int, *, provider: str | None = None, minor_units: int | None = None, **change: Any
) -> dict[str, Any]:
    """Return the data of a payment to a person the rail is to look up by phone."""
    account = {"kind": "mobile_money", "account_number": phone(number)}
    return {
        "payment_id": f"P-{number}",
        "payee": {"identifiers": [{"id_type": "NID", "value": f"ZM-{number}"}]},
        "payee_account": account if provider is None else {**account, "provider": provider},
        "amount": {"minor_units": minor_units or 1000 + number, "currency": "KES"},
    } | change


def single(number: int = 1, **change: Any) -> Message:
    """Return the order to pay one person."""
    data = instruction(number, **change)
    return Message(source="hub", type="org.openspp.payment.instructed.v1", data=data)


@asynccontextmanager
async def running(peer: PeerT) -> AsyncIterator[PeerT]:
    """Let a peer be there for as long."""
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


class RailPath(PayPath):
    """Drives `peer`, a target of the connector named; `settings` is asked once the address of callbacks is told."""

    def __init__(
        self, database_url: str, folder: Path, connector: str, settings: Callable[[], dict[str, Any]], quick: dict[str, Any],
        call_back: Callable[[str], Any],
    ) -> None:  # fmt: skip
        super().__init__(database_url, folder, Peer())
        self._folder, self._connector, self._settings = folder, connector, settings
        self._quick, self.call_back = quick, call_back
        self.address = ""

    async def open_targets(self) -> None:
        hub = SimpleNamespace(targets=None)
        app = web.Application()
        extension(app, SimpleNamespace(hub=hub, intake=self.intake))  # type: ignore[arg-type]
        runner = web.AppRunner(app)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks/peer"
        self.call_back(self.address)
        config = TargetConfig("peer", self._connector, self._kept(self._settings() | self._quick))
        services = {"ledger": self.books, "rows": self.rows}
        hub.targets = runtime = ConnectorRuntime([config], services, connectors=discover())
        await runtime.open()
        self._stack.push_async_callback(runtime.close)
        self.target = runtime.get("peer")
        self.results = Results(self.pool, HubOutbox(self.intake))
        self.driver = Driver("peer", self.books, self.target, settle=self.results.settle)
        self.driver.start()
        self._stack.push_async_callback(self.driver.stop)

    async def leave(self) -> None:
        """Drive no more and close the target, as a process that stops: what is under way is in the ledger."""
        await self.driver.stop()
        await self.target.close()

    async def stopped(self, batch_id: str, **states: int) -> str:
        """Wait until a batch is stopped with its transfers in these states, and return why."""
        async with asyncio.timeout(45):
            while True:
                row = await self.pool.fetchrow(
                    "SELECT state, reason FROM transfer_batch WHERE batch_id = $1", batch_id
                )
                if row is not None and row["state"] == "stopped" and await self.states() == states:
                    return str(row["reason"])
                await asyncio.sleep(0.05)

    def _kept(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Keep secrets in files, as a target must have them."""
        for name in set(_SECRETS) & set(settings):
            (self._folder / name).write_text(settings[name])
            settings[name] = {"file": str(self._folder / name)}
        return settings


async def work(database_url: str, folder: str, connector: str, settings: str) -> None:
    """Drive payments until killed, and say where callbacks are taken."""
    given = json.loads(Path(settings).read_text())
    async with RailPath(database_url, Path(folder), connector, lambda: given, {}, lambda _: None) as path:
        print(path.address, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:5]))
