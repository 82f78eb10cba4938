"""A hub's payment desk for tests: rail, ledger in memory, a real callback endpoint, and a sandbox scheme."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, Self

from aiohttp import web

from canonical_model.payment import PaymentInstruction
from connectors.mojaloop.bulk import rail_class
from connectors.mojaloop.callbacks import Reader
from connectors.mojaloop.client import MojaloopClient
from connectors.mojaloop.flow import Flow
from connectors.mojaloop.rail import Rail
from connectors.mojaloop.sandbox_http import PAYER, SchemeSandbox
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Signer, Verifier
from connectors.payments.driver import Driver, Opened
from connectors.payments.memory import MemoryLedger

QUICK = {"ask_seconds": 0.4, "lookup_seconds": 0.6, "asks": 2, "request_timeout": 1.0}
LOOK = 0.02
"""Seconds after which a desk's driver looks for what is overdue, so that a test waits for no other clock than the rail's."""


class Desk:
    target = "switch"
    quick: ClassVar[dict[str, Any]] = QUICK
    peer: ClassVar[Callable[[], Any]] = SchemeSandbox

    def __init__(self, sandbox: Any = None, **settings) -> None:
        self.sandbox = sandbox or type(self).peer()
        self.ledger = MemoryLedger()
        self._settings = self.quick | settings
        self.answers: list[int] = []

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", f"/callbacks/{self.target}/{{tail:.*}}", self._callback)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.address = f"http://127.0.0.1:{self._runner.addresses[0][1]}/callbacks/{self.target}"
        self.sandbox.calls_back_to(self.address)
        await self.sandbox.start()
        self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self.sandbox.stop()
        await self._runner.cleanup()

    async def close(self) -> None:
        await self.rail.close()
        await self.client.close()

    def open(self) -> None:
        """Make a rail as a process does that starts (again) over the same ledger."""
        self.settings = MojaloopSettings.model_validate(self.sandbox.settings() | self._settings)
        flow = Flow(self.settings)
        key = self.settings.signing_key
        signer = Signer(key.get_secret_value(), PAYER) if key else None
        self.client = MojaloopClient(self.settings, flow.dialect, signer)
        self.rail = self.make_rail(flow)
        self.driver = Driver(self.target, self.ledger, Opened(self.rail), poll=LOOK)

    def make_rail(self, flow: Flow) -> Rail:
        reader = Reader(self.settings, Verifier(self.settings.public_keys))
        return rail_class(flow)(self.settings, self.ledger, self.client, flow, reader)

    async def drive(self) -> None:
        """Drive until nothing can move by itself."""
        async with self.driver:
            await self.ledger.still()

    async def pay(self, *orders: PaymentInstruction, within: float = 45.0) -> None:
        self.ledger.order(orders)
        async with asyncio.timeout(within):
            await self.drive()
            await self.quiet()

    async def quiet(self) -> None:
        """Wait until the scheme has told all it has to tell."""
        await self.sandbox.settled()

    async def _callback(self, request: web.Request) -> web.Response:
        uri = request.raw_path.removeprefix(f"/callbacks/{self.target}")
        answer = await self.rail.receive(request.method, uri, request.headers, await request.read())
        self.answers.append(answer.status)
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    def state(self, payment_id: str) -> tuple[str, str | None]:
        row = self.ledger.of(payment_id)
        return row.state, row.reason

    @property
    def moved(self) -> int:
        return sum(paid.amount for paid in self.sandbox.scheme.committed())


def order(
    payment_id="P-1", phone="+27713803912", minor_units=10150, currency="USD", **change
) -> PaymentInstruction:
    return PaymentInstruction.model_validate(
        {
            "payment_id": payment_id,
            "payee": {"identifiers": [{"id_type": "NID", "value": f"ZM-{payment_id}"}]},
            "payee_account": {"kind": "mobile_money", "account_number": phone},
            "amount": {"minor_units": minor_units, "currency": currency},
            "note": "Child grant",
        }
        | change
    )
