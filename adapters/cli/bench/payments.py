"""`hub bench payments`: payments through a rail's sandbox in a process of its own, beside the raw cost of their signatures.

The ledger is one in memory: what is measured is the rail itself (requests, signatures, checks, callbacks). With a database the same
is done once more by the ledger in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml
from aiohttp import web

from adapters.cli.bench import books
from adapters.cli.bench.books import Kept
from adapters.cli.bench.load import percentile
from canonical_model.payment import PaymentInstruction
from connectors.mojaloop.bulk import rail_class
from connectors.mojaloop.callbacks import Reader
from connectors.mojaloop.client import MojaloopClient
from connectors.mojaloop.flow import Flow
from connectors.mojaloop.ledger import QUOTE
from connectors.mojaloop.sandbox_http import key_pair
from connectors.mojaloop.settings import MojaloopSettings
from connectors.mojaloop.signing import Received, Signer, Verifier
from connectors.payments.contract import LOOKUP, QUEUED, Ledger, Step
from connectors.payments.driver import Driver, Opened
from connectors.payments.memory import MemoryLedger

GOAL_SINGLE_MS: Final = 2.0
GOAL_BULK_MS: Final = 0.3
WINDOW: Final = 32
"""Transfers under way at one institution at a time, in single mode."""
_WARM: Final = 100
_BODY: Final = b'{"transferId":"' + b"x" * 1400 + b'"}'
"""Bytes of about the size of a transfer request."""
_WAIT: Final = 1800.0


@dataclass(slots=True)
class Run:
    """What one way of paying took: milliseconds of CPU per payment, of it the signatures, and milliseconds of latency."""

    name: str
    payments: int
    cpu: float
    signatures: float
    rate: float
    latency: dict[str, float]
    in_flight: int
    allowed: int
    growth: float
    wrong: int


@dataclass(slots=True)
class Figures:
    """The runs, and the raw milliseconds of one signature made and checked, by algorithm."""

    runs: list[Run] = field(default_factory=list)
    raw: dict[str, tuple[float, float]] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    """The same by the ledger in the database, where one was named."""


async def measure(payments: int, database: str | None, say: Callable[[str], None]) -> Figures:
    """Pay so many people singly and in bulk, with RS256 and ES256; with a database once more by the ledger in it."""
    figures = Figures()
    for algorithm in ("RS256", "ES256"):
        figures.raw[algorithm] = _raw(algorithm)
        for mode in ("single", "bulk", "bulk-known"):
            say(f"{algorithm}, {mode}: {payments} payments")
            async with _desk(algorithm, bulk=mode != "single") as desk:
                figures.runs.append(
                    await desk.run(f"{algorithm}.{mode}", payments, figures.raw[algorithm], mode)
                )
    if database is not None:
        for mode in ("single", "bulk"):
            say(f"ES256, {mode}, the ledger in the database: {payments} payments")
            async with (
                books.books(database) as (held, pool),
                _desk("ES256", bulk=mode == "bulk", ledger=books.ledger_of(held)) as desk,
            ):
                orders = map(_order, range(payments))
                figures.kept[f"ES256.{mode}.ledger"] = await books.pay(held, pool, desk.rail, orders)
    return figures


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the figures as rows of the bench's document."""
    for algorithm, (sign, verify) in figures.raw.items():
        yield row(f"raw.{algorithm}.sign", sign, "ms")
        yield row(f"raw.{algorithm}.verify", verify, "ms")
    for run in figures.runs:
        goal = GOAL_SINGLE_MS if run.name.endswith("single") else GOAL_BULK_MS
        own = run.cpu - run.signatures
        yield row(f"{run.name}.cpu", run.cpu, "ms/payment", run.signatures)
        yield row(f"{run.name}.cpu_own", own, "ms/payment", None, goal)
        yield row(f"{run.name}.rate", run.rate, "1/s")
        for name, value in run.latency.items():
            yield row(f"{run.name}.{name}", value, "ms")
        yield row(f"{run.name}.in_flight", run.in_flight, "transfers", None, run.allowed)
        yield row(f"{run.name}.memory_growth", run.growth, "KiB/payment")
        yield row(f"{run.name}.wrong", run.wrong, "payments", None, 0)
    for name, kept in figures.kept.items():
        yield from books.rows(name, kept, row)


def _raw(algorithm: str, times: int = 300) -> tuple[float, float]:
    private, public = key_pair(algorithm, "bench")
    signer, verifier = Signer(private, "payerfsp"), Verifier({"payerfsp": [public]})
    date = "Sun, 22 Nov 2026 15:00:00 GMT"
    began = time.process_time()
    for _ in range(times):
        made = signer.headers("POST", "/transfers", _BODY, "payeefsp", date)
    signed = time.process_time()
    headers = {name.lower(): value for name, value in made.items()}
    headers |= {"fspiop-source": "payerfsp", "fspiop-destination": "payeefsp", "date": date}
    message = Received("POST", "/transfers", headers, _BODY)
    for _ in range(times):
        verifier.check(message)
    verified = time.process_time()
    return (signed - began) / times * 1000, (verified - signed) / times * 1000


class _Desk:
    """A payment desk over the sandbox of another process."""

    def __init__(self, settings: MojaloopSettings, ledger: Ledger | None = None) -> None:
        flow = Flow(settings)
        key = settings.signing_key
        signer = Signer(key.get_secret_value(), settings.payer_fsp) if key is not None else None
        self.settings = settings
        self.ledger = MemoryLedger()
        self.client = MojaloopClient(settings, flow.dialect, signer)
        reader = Reader(settings, Verifier(settings.public_keys))
        self.rail = rail_class(flow)(settings, ledger or self.ledger, self.client, flow, reader)
        self.window = self.rail.bounds.window

    async def run(self, name: str, payments: int, raw: tuple[float, float], mode: str) -> Run:
        await self._pay([_order(n) for n in range(_WARM)], mode)
        orders = [_order(n) for n in range(_WARM, _WARM + payments)]
        self.ledger.most_in_flight.clear()
        self.ledger.moments.clear()
        before, memory = time.process_time(), psutil.Process().memory_info().rss
        began = time.perf_counter()
        await self._pay(orders, mode)
        seconds, cpu = time.perf_counter() - began, time.process_time() - before
        growth = (psutil.Process().memory_info().rss - memory) / 1024 / payments
        bulks = max(1, payments / self.settings.bulk_items) if self.settings.bulk else payments
        looked = 0 if mode == "bulk-known" else payments
        signatures = 2 * bulks * raw[0] + (2 * bulks + looked) * raw[1]
        taken = [(end - start) * 1000 for start, end in self.ledger.moments.values() if end]
        return Run(
            name,
            payments,
            cpu / payments * 1000,
            signatures / payments,
            payments / seconds,
            {"p50": percentile(taken, 0.5), "p99": percentile(taken, 0.99)},
            max(self.ledger.most_in_flight.values(), default=0),
            self.window,
            growth,
            payments + _WARM - self.ledger.totals().get("paid", 0),
        )

    async def _pay(self, orders: Sequence[PaymentInstruction], mode: str) -> None:
        self.ledger.order(orders)
        if mode == "bulk-known":
            await self._know(orders)
        async with asyncio.timeout(_WAIT), Driver("bench", self.ledger, Opened(self.rail)):
            await self.ledger.still()

    async def _know(self, orders: Sequence[PaymentInstruction]) -> None:
        """Let the institution of these transfers be known, as after an earlier look-up."""
        ids = [self.ledger.of(order.payment_id).id for order in orders]
        await self.ledger.apply([Step(id_, (LOOKUP, QUEUED), QUOTE, QUEUED, "bluebank") for id_ in ids])


@asynccontextmanager
async def _desk(algorithm: str, *, bulk: bool, ledger: Ledger | None = None) -> AsyncIterator[_Desk]:
    app = web.Application(client_max_size=8 << 20)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    found: list[_Desk] = []

    async def callback(request: web.Request) -> web.Response:
        uri = request.raw_path.removeprefix("/callbacks/national-switch")
        answer = await found[0].rail.receive(request.method, uri, request.headers, await request.read())
        return web.Response(status=answer.status, body=answer.body)

    app.router.add_route("*", "/callbacks/national-switch/{tail:.*}", callback)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks"
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connectors.mojaloop", folder, "--port", "0", "--callbacks", address,
            "--algorithm", algorithm, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None  # it is a pipe
            async with asyncio.timeout(60):
                await process.stdout.readline()
                await process.stdout.readline()
            settings = await asyncio.to_thread(_settings, Path(folder))
            desk = _Desk(settings.model_copy(update={"bulk": bulk}), ledger)
            found.append(desk)
            yield desk
            await desk.rail.close()
            await desk.client.close()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await runner.cleanup()


def _settings(folder: Path) -> MojaloopSettings:
    document = yaml.safe_load((folder / "national-switch.yaml").read_text(encoding="utf-8"))
    settings = document["settings"]
    for name in ("signing_key", "client_secret"):
        settings[name] = (folder / settings[name]["file"]).read_text(encoding="utf-8")
    return MojaloopSettings.model_validate(
        settings
        | {
            "window": WINDOW,
            "lookups": WINDOW,
            "lookup_seconds": 120.0,
            "ask_seconds": 300.0,
            "request_timeout": 60.0,
        }
    )


def _order(number: int) -> PaymentInstruction:
    return PaymentInstruction.model_validate(
        {
            "payment_id": f"bench-{number}",
            "payee": {"identifiers": [{"id_type": "NID", "value": f"N-{number}"}]},
            "payee_account": {"kind": "mobile_money", "account_number": f"+2771{number:07d}"},
            "amount": {"minor_units": 10_000 + number % 500, "currency": "USD"},
        }
    )
