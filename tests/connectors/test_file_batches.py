"""Batches of payments as files: whole or not at all, each row once, nothing a spreadsheet would run."""

from __future__ import annotations

import asyncio
import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from canonical_model.message import Message, new_traceparent
from connectors.contract import Context
from connectors.errors import ConfigError, Refused, Unavailable
from connectors.file import FileConnector
from connectors.file.settings import FileSettings


class Stored:
    """Rows of one claim, as the program core gives them."""

    def __init__(self, count: int, note: str = "AC0001") -> None:
        self.count, self.note = count, note
        self.name = {"full_name": "Amina Barasa"}

    async def stream(self, claim: str) -> AsyncIterator[dict[str, Any]]:
        for number in range(self.count):
            yield {
                "payment_id": f"p-{number}",
                "payee_name": self.name,
                "payee_account": {"provider": "bank-a", "account_number": self.note},
                "amount": {"minor_units": 125050, "currency": "KES"},
            }


def _batch(count: int) -> Message:
    data = {
        "batch_id": "b-1", "rows_claim": "batch/b-1", "count": count,
        "total": {"minor_units": 125050 * count, "currency": "KES"},
    }  # fmt: skip
    return Message(
        source="hub", type="org.openspp.payment.batch_instructed.v1", traceparent=new_traceparent(), data=data
    )


async def _sent(folder: Path, rows: Stored | None, message: Message, **settings: Any) -> Path:
    connector = FileConnector(FileSettings(folder=folder, **settings))
    async with aiohttp.ClientSession() as http:
        await connector.open(Context("bank", http, {} if rows is None else {"rows": rows}))
        receipt = await connector.send(message, asyncio.get_running_loop().time() + 10)
        await connector.close()
    return folder / (receipt.reference or "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "bank"
    path.mkdir(mode=0o700)
    return path


async def test_a_batch_becomes_one_csv_file_with_every_row(folder: Path) -> None:
    path = await _sent(folder, Stored(1234), _batch(1234), format="csv")
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 1234
    assert len({row["payment_id"] for row in rows}) == 1234
    assert rows[0] == {
        "payment_id": "p-0", "payee_name": "Amina Barasa", "provider": "bank-a", "account_number": "AC0001",
        "amount": "1250.50", "currency": "KES", "purpose": "",
    }  # fmt: skip
    assert path.stat().st_mode & 0o077 == 0


async def test_a_name_kept_in_parts_is_written_whole(folder: Path) -> None:
    rows = Stored(1)
    rows.name = {"given_name": "Amina", "family_name": "Barasa"}
    path = await _sent(folder, rows, _batch(1), format="csv")
    assert next(csv.DictReader(path.read_text().splitlines()))["payee_name"] == "Amina Barasa"


async def test_a_batch_becomes_one_object_a_line(folder: Path) -> None:
    path = await _sent(folder, Stored(3), _batch(3))
    assert [json.loads(line)["payment_id"] for line in path.read_text().splitlines()] == ["p-0", "p-1", "p-2"]


async def test_a_batch_whose_rows_are_not_as_many_as_it_says_leaves_no_file(folder: Path) -> None:
    with pytest.raises(Refused) as refused:
        await _sent(folder, Stored(2), _batch(3), format="csv")
    assert refused.value.code == "batch-count-differs"
    assert list(folder.iterdir()) == []


async def test_a_cell_that_is_a_formula_is_written_as_text(folder: Path) -> None:
    path = await _sent(folder, Stored(1, "=1+1"), _batch(1), format="csv")
    assert next(csv.DictReader(path.read_text().splitlines()))["account_number"] == "'=1+1"


async def test_a_batch_above_the_bound_is_refused(folder: Path) -> None:
    with pytest.raises(Refused) as refused:
        await _sent(folder, Stored(3), _batch(3), most_rows=2)
    assert refused.value.code == "batch-too-large"


async def test_without_the_rows_a_batch_is_not_sent(folder: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        await _sent(folder, None, _batch(1))
    assert refused.value.code == "rows-service-missing"


async def test_a_folder_others_may_read_is_refused_and_an_absent_one_is_awaited(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(ConfigError) as refused:
        await _sent(folder, None, _batch(1))
    assert refused.value.code == "folder-open"
    with pytest.raises(Unavailable):
        await _sent(folder / "absent", None, _batch(1))
