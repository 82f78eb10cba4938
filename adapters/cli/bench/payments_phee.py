"""`hub bench payments --rail payment_hub_ee`: a batch cut, signed, handed over and reconciled, beside its raw signatures.

The deployment is the sandbox in a process of its own, the ledger the one in memory: what is measured is the rail.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from adapters.cli.bench import books
from adapters.cli.bench.books import Kept
from canonical_model.payment import PaymentInstruction
from connectors.payment_hub_ee.client import PaymentHubClient
from connectors.payment_hub_ee.rail import Rail
from connectors.payment_hub_ee.sandbox_http import TENANT, key_pair
from connectors.payment_hub_ee.settings import PaymentHubSettings
from connectors.payment_hub_ee.signing import Signer
from connectors.payments.driver import Driver, Opened
from connectors.payments.memory import MemoryLedger

GOAL_SECONDS: Final = 60.0
"""For 100,000 payments, prepared, signed and reconciled."""
GOAL_PAYMENTS: Final = 100_000
_WAIT: Final = 1800.0
_CHUNK: Final = 1000


@dataclass(slots=True)
class Figures:
    """What a batch took: seconds by the clock and of CPU, files, and milliseconds of one raw signature over a file's size."""

    payments: int
    seconds: float
    cpu: float
    files: int
    signature: float
    growth: float
    wrong: int
    steps: dict[str, float]
    kept: Kept | None = None
    """The same by the ledger in the database, where one was named."""


async def measure(payments: int, database: str | None, say: Callable[[str], None]) -> Figures:
    """Pay so many people in one batch; with a database once more by the ledger in it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "connectors.payment_hub_ee", name, "--port", "0", "--sub-batch-size", "0",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            assert process.stdout is not None  # it is a pipe
            async with asyncio.timeout(60):
                await process.stdout.readline()
                await process.stdout.readline()
            settings = await asyncio.to_thread(_settings, folder)
            say(f"payment_hub_ee: {payments} payments")
            figures = await _pay(settings, payments)
            if database is not None:
                say(f"payment_hub_ee, the ledger in the database: {payments} payments")
                figures.kept = await _keep(settings, payments, database)
            return figures
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Return the figures as rows of the bench's document; the goal holds for 100,000 payments and is scaled for others."""
    goal = GOAL_SECONDS * figures.payments / GOAL_PAYMENTS
    yield row("raw.signature", figures.signature, "ms")
    yield row("batch.files", figures.files, "files")
    yield row("batch.entered", figures.steps["entered"], "s")
    yield row("batch.paid", figures.seconds, "s", None, goal)
    yield row("batch.rate", figures.payments / figures.seconds, "1/s")
    raw = figures.files * figures.signature / figures.payments
    yield row("batch.cpu", figures.cpu / figures.payments * 1000, "ms/payment", raw)
    yield row("batch.memory_growth", figures.growth, "KiB/payment")
    yield row("batch.wrong", figures.wrong, "payments", None, 0)
    if figures.kept is not None:
        yield from books.rows("ledger", figures.kept, row)


async def _pay(settings: PaymentHubSettings, payments: int) -> Figures:
    ledger, client = MemoryLedger(), PaymentHubClient(settings)
    rail = Rail(settings, ledger, client)
    memory, cpu, began = psutil.Process().memory_info().rss, time.process_time(), time.perf_counter()
    for start in range(0, payments, _CHUNK):
        ledger.order((_order(n) for n in range(start, min(start + _CHUNK, payments))), "bench")
        await asyncio.sleep(0)
    entered = time.perf_counter() - began
    try:
        async with asyncio.timeout(_WAIT), Driver("bench", ledger, Opened(rail)):
            await ledger.still()
    finally:
        await rail.close()
        await client.close()
    files = {row.references.get("order") for row in ledger.rows.values()}
    return Figures(
        payments,
        time.perf_counter() - began,
        time.process_time() - cpu,
        len(files),
        _raw(settings.max_file_bytes),
        (psutil.Process().memory_info().rss - memory) / 1024 / payments,
        payments - ledger.totals().get("paid", 0),
        {"entered": entered},
    )


async def _keep(settings: PaymentHubSettings, payments: int, database: str) -> Kept:
    async with books.books(database) as (held, pool):
        client = PaymentHubClient(settings)
        rail = Rail(settings, books.ledger_of(held), client)
        try:
            return await books.pay(held, pool, rail, map(_order, range(payments, 2 * payments)))
        finally:
            await rail.close()
            await client.close()


def _raw(size: int, times: int = 50) -> float:
    signer, text = Signer(key_pair(0)[0]), "x" * size
    headers = {"X-CorrelationID": "0d3c1a52-77e0-4a0e-9b7e-0a9a52d80f10", "Platform-TenantId": TENANT}
    began = time.process_time()
    for _ in range(times):
        signer.sign(headers, text)
    return (time.process_time() - began) / times * 1000


def _settings(folder: Path) -> PaymentHubSettings:
    document = yaml.safe_load((folder / "payment-hub.yaml").read_text(encoding="utf-8"))
    found = document["settings"]
    for name in ("signing_key", "callback_secret", "password"):
        found[name] = (folder / found[name]["file"]).read_text(encoding="utf-8")
    change = {"first_ask": 0.5, "window": 20_000, "callback_url": None, "request_timeout": 60.0}
    return PaymentHubSettings.model_validate(found | change)


def _order(number: int) -> PaymentInstruction:
    return PaymentInstruction.model_validate(
        {
            "payment_id": f"bench-{number}",
            "payee": {"identifiers": [{"id_type": "NID", "value": f"N-{number}"}]},
            "payee_account": {"kind": "mobile_money", "account_number": f"+2547{number:08d}"},
            "amount": {"minor_units": 85_000, "currency": "KES"},
            "note": "Cycle 2026-11",
        }
    )
