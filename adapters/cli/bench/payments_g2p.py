"""`hub bench payments --rail g2p_connect`: payments ordered and told by signed messages, beside the raw cost of those signatures.

The system is the sandbox in a process of its own, the ledger the one in memory: what is measured is the connector, from the order to
the callback. With a database the same is done once more by the ledger in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import aiohttp
import orjson
import psutil
import yaml
from aiohttp import web

from adapters.cli.bench import books
from adapters.cli.bench.books import Kept
from canonical_model.payment import PaymentInstruction
from connectors.contract import Callback, Context
from connectors.g2p_connect import DisburseSettings, G2pConnectConnector
from connectors.g2p_connect.disburse_messages import Envelopes, disbursement_of
from connectors.payments.contract import LedgerService
from connectors.payments.driver import Driver, Opened
from connectors.payments.memory import MemoryLedger
from registry.signing import SigningKey, VerifyKey

ITEMS: Final = 100
"""Payments in one message of a batch, the default of the connector."""
_NAME: Final = "g2p-connect"
_WARM: Final = 200
_CHUNK: Final = 1000
_WAIT: Final = 1800.0


@dataclass(slots=True)
class Run:
    """What one way of paying took: messages of the hub, seconds, milliseconds of CPU per payment, and of it the signatures."""

    payments: int
    messages: int
    questions: int
    seconds: float
    cpu: float
    signatures: float
    growth: float
    wrong: int


@dataclass(slots=True)
class Figures:
    """The runs, and the raw milliseconds of a message signed and a callback checked, by how they pay."""

    runs: dict[str, Run] = field(default_factory=dict)
    raw: dict[str, tuple[float, float]] = field(default_factory=dict)
    kept: dict[str, Kept] = field(default_factory=dict)
    """The same by the ledger in the database, where one was named."""


class _Memory(MemoryLedger):
    """A ledger in memory as the service `ledger`."""

    async def enter(
        self, target: str, message_id: UUID, batch_id: str | None, orders: Sequence[PaymentInstruction]
    ) -> int:
        """Enter payments as queued and return how many are new."""
        return self.order(orders, batch_id)

    async def complete(
        self, target: str, message_id: UUID, batch_id: str | None, totals: Mapping[str, int]
    ) -> None:
        """Take the totals of a message, which nobody here asks for."""

    async def entered(self, target: str, message_id: UUID) -> bool:
        """Say that a message is not known: each is entered once."""
        return False

    def transfers(self, target: str) -> MemoryLedger:
        """Return itself, whose one target is the benchmark's."""
        return self


async def measure(payments: int, database: str | None, say: Callable[[str], None]) -> Figures:
    """Pay so many people one by one and in a batch; with a database once more by the ledger in it."""
    figures = Figures()
    for name, batch in (("single", None), ("batch", books.TARGET)):
        async with _system() as (settings, office):
            figures.raw[name] = _raw(settings, 1 if batch is None else min(ITEMS, payments))
            say(f"g2p_connect, {name}: {payments} payments")
            ledger = _Memory()
            async with office.of(settings, ledger):
                figures.runs[name] = await _pay(ledger, office, payments, batch, figures.raw[name])
    if database is not None:
        for name, batch in (("single", None), ("batch", books.TARGET)):
            say(f"g2p_connect, {name}, the ledger in the database: {payments} payments")
            async with (
                _system() as (settings, office),
                books.books(database) as (held, pool),
                office.of(settings, held) as rail,
            ):
                kept = await books.pay(held, pool, rail, map(_order, range(payments)), batch)
                kept.wrong += (await office.state())["twice"]
                figures.kept[f"{name}.ledger"] = kept
    return figures


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the figures as rows of the bench's document."""
    for name, (sign, verify) in figures.raw.items():
        yield row(f"raw.{name}.sign", sign, "ms")
        yield row(f"raw.{name}.verify", verify, "ms")
    for name, run in figures.runs.items():
        yield row(f"{name}.messages", run.messages, "messages")
        yield row(f"{name}.questions", run.questions, "messages")
        yield row(f"{name}.seconds", run.seconds, "s")
        yield row(f"{name}.rate", run.payments / run.seconds, "1/s")
        yield row(f"{name}.cpu", run.cpu, "ms/payment", run.signatures)
        yield row(f"{name}.cpu_own", run.cpu - run.signatures, "ms/payment")
        yield row(f"{name}.memory_growth", run.growth, "KiB/payment")
        yield row(f"{name}.wrong", run.wrong, "payments", None, 0)
    for name, kept in figures.kept.items():
        yield from books.rows(name, kept, row)


class _Office:
    """The hub's side: the connector, and the address at which it is called back."""

    def __init__(self, system: str) -> None:
        self.system = system
        self.connector: G2pConnectConnector | None = None
        self.callbacks = 0

    async def take(self, request: web.Request) -> web.Response:
        """Answer a callback as the hub's endpoint does."""
        assert self.connector is not None  # nobody calls back before something was ordered
        self.callbacks += 1
        callback = Callback(request.path, dict(request.headers), await request.read())
        answer = await self.connector.answer(callback)
        return web.Response(status=answer.status, body=answer.body, headers=dict(answer.headers))

    @asynccontextmanager
    async def of(self, settings: DisburseSettings, ledger: LedgerService) -> AsyncIterator[Any]:
        """Open the connector over a ledger and give its rail."""
        self.connector = connector = G2pConnectConnector(settings)
        async with aiohttp.ClientSession() as http:
            await connector.open(Context(books.TARGET, http, {"ledger": ledger}))
            try:
                yield connector.rail
            finally:
                await connector.close()

    async def state(self) -> dict[str, int]:
        """Return what is in the books of the system."""
        async with (
            asyncio.timeout(60),
            aiohttp.ClientSession() as http,
            http.get(f"{self.system}/sandbox/state") as answer,
        ):
            found: dict[str, int] = await answer.json()
            return found


async def _pay(
    ledger: _Memory, office: _Office, payments: int, batch: str | None, raw: tuple[float, float]
) -> Run:
    assert office.connector is not None
    rail = office.connector.rail

    async def all_of(numbers: range, batch: str | None) -> None:
        for start in range(numbers.start, numbers.stop, _CHUNK):
            ledger.order((_order(n) for n in range(start, min(start + _CHUNK, numbers.stop))), batch)
            await asyncio.sleep(0)
        async with asyncio.timeout(_WAIT):
            await ledger.still()

    async with Driver(books.TARGET, ledger, Opened(rail)):
        await all_of(range(-_WARM, 0), None if batch is None else f"{batch}-warm")
        before, office.callbacks = await office.state(), 0
        memory, cpu, began = psutil.Process().memory_info().rss, time.process_time(), time.perf_counter()
        await all_of(range(payments), batch)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    after = await office.state()
    messages = after["orders"] - before["orders"]
    signatures = messages * raw[0] + office.callbacks * raw[1]
    wrong = payments + _WARM - ledger.totals().get("paid", 0)
    return Run(
        payments,
        messages,
        after["asked"] - before["asked"],
        seconds,
        cpu / payments * 1000,
        signatures / payments,
        (psutil.Process().memory_info().rss - memory) / 1024 / payments,
        wrong + after["twice"],
    )


def _raw(settings: DisburseSettings, items: int, times: int = 300) -> tuple[float, float]:
    """Return the milliseconds of one message of so many payments signed, and of one like it checked."""
    unsigned = settings.model_copy(update={"signing_key": None})
    disbursements = [disbursement_of(_order(number), settings) for number in range(items)]
    body = orjson.loads(Envelopes(unsigned).order("bench", "bench", disbursements))
    del body["signature"]
    payload, key = orjson.dumps(body), SigningKey.generate()
    verifier = VerifyKey(dict(key.public))
    began = time.process_time()
    for _ in range(times):
        signed = key.sign(payload, typ="JWS")
    middle = time.process_time()
    for _ in range(times):
        verifier.verify(signed, "ES256")
    return (middle - began) / times * 1000, (time.process_time() - middle) / times * 1000


@asynccontextmanager
async def _system() -> AsyncIterator[tuple[DisburseSettings, _Office]]:
    """Start the system in a process of its own, and the address at which it calls the hub back."""
    office = _Office("")
    app = web.Application(client_max_size=8 << 20)
    app.router.add_post(f"/callbacks/{_NAME}/{{tail:.*}}", office.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/callbacks"
    with tempfile.TemporaryDirectory() as folder:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connectors.g2p_connect", folder, "--port", "0", "--callbacks", address,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None  # it is a pipe
            async with asyncio.timeout(60):
                await process.stdout.readline()
                await process.stdout.readline()
            settings = await asyncio.to_thread(_settings, Path(folder))
            office.system = settings.url
            yield settings, office
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            await runner.cleanup()


def _settings(folder: Path) -> DisburseSettings:
    document = yaml.safe_load((folder / f"{_NAME}.yaml").read_text(encoding="utf-8"))
    settings = document["settings"]
    for name in ("signing_key", "client_secret"):
        settings[name] = (folder / settings[name]["file"]).read_text(encoding="utf-8")
    change = {"message_items": ITEMS, "first_ask": 300.0, "request_timeout": 60.0}
    return DisburseSettings.model_validate(settings | change)


def _order(number: int) -> PaymentInstruction:
    account = {"kind": "mobile_money", "provider": "m-pay", "account_number": f"+2547{number % 10**8:08d}"}
    return PaymentInstruction.model_validate(
        {
            "payment_id": f"bench-{number}",
            "payee": {"identifiers": [{"id_type": "UIN", "value": f"N-{number}"}]},
            "payee_account": account,
            "amount": {"minor_units": 85_000, "currency": "KES"},
        }
    )
