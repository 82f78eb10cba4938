"""`hub payments` on a real database: where a payment is, taking it back, what it comes to."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest
from services.payments import instruction, payee
from typer.testing import CliRunner

from adapters.cli import payments as payments_cli
from adapters.hub import Hub
from canonical_model.message import uuid7
from canonical_model.payment import PaymentInstruction
from registry.settings import load_settings


def run(*words: str) -> str:
    result = CliRunner().invoke(payments_cli.app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def parsed(*words: str) -> Any:
    return orjson.loads(run(*words, "--json"))


@pytest.fixture
def books(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two payments in the ledger, one batch of them stopped."""
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")

    async def enter() -> None:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            orders = [PaymentInstruction.model_validate(instruction(n)) for n in (1, 2)]
            await hub.books.enter("peer", uuid7(), "B-1", orders)
            await hub.books.stop("peer", "B-1", "4001")
        finally:
            await hub.close()

    asyncio.run(enter())


def test_staff_find_a_payment_take_it_back_and_export_without_naming_anybody(books: None) -> None:
    assert "4001" in run("batches")
    assert "stopped (4001)" in run("show", "P-1")
    assert parsed("resume", "--target", "peer", "--dry-run")["resumed"] == 1
    assert parsed("resume", "--target", "peer", "--batch", "B-1")["resumed"] == 1
    assert parsed("cancel", "P-1", "--target", "peer")["state"] == "cancelled"
    assert [one["state"] for one in parsed("list")["payments"]] == ["cancelled", "queued"]
    assert parsed("review", "list")["payments"] == []
    assert {one["state"]: one["units"] for one in parsed("settlement")["settlement"]} == {
        "cancelled": 101,
        "queued": 102,
    }
    rows = run("export", "--cycle", "C-1").splitlines()
    assert len(rows) == 3
    assert payee(1) not in "\n".join(rows)
    assert len(run("export", "--format", "ndjson").splitlines()) == 2
