"""`python -m connectors.g2p_connect` starts what it says and writes a target file that reaches it."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yaml

from connectors.g2p_connect import DisburseSettings
from connectors.g2p_connect.disburse_client import DisburseClient
from connectors.g2p_connect.disburse_messages import Envelopes, entries_of

ROOT = Path(__file__).parents[2]
ITEM = {
    "reference_id": "P-1", "payer_fa": "account:1@treasury", "payee_fa": "mobile:2547@m-pay", "amount": "1.00",
    "currency_code": "KES",
}  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "moved", "status"),
    [
        ((), 1, "succ"),
        (("--fault", "silent"), 1, "pdng"),
        (("--fault", "mobile:2547@m-pay=refused"), 0, "rjct"),
    ],
    ids=["as it should", "silent to all", "one refused"],
)
async def test_the_sandbox_takes_orders_by_the_file_it_writes_and_misbehaves_as_told(
    tmp_path: Path, fault: tuple[str, ...], moved: int, status: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.g2p_connect", str(tmp_path), "--port", "0", *fault,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            address = (await process.stdout.readline()).decode().split(" at ")[1].split(";")[0]
            await process.stdout.readline()
        settings = _settings(tmp_path)
        envelopes, client = Envelopes(settings), DisburseClient(settings)
        deadline = asyncio.get_running_loop().time() + 45
        taken = await client.post("/disburse", envelopes.order("1", "T-1", [ITEM]), deadline)
        asked = await client.post(
            "/disburse/sync/txn/status", envelopes.question("2", "T-1", ["P-1"]), deadline
        )
        await client.close()
        assert (taken.acknowledgement, asked.body is not None) == ("ACK", True)
        assert [told.status for told in entries_of((asked.body or {})["message"])] == [status]
        async with aiohttp.ClientSession() as http, http.get(f"{address}/sandbox/state") as answer:
            books = orjson.loads(await answer.read())
        assert books == {"orders": 1, "asked": 1, "moved": moved, "twice": 0}
    finally:
        process.terminate()
        async with asyncio.timeout(45):
            assert await process.wait() == 0


def _settings(folder: Path) -> DisburseSettings:
    target = yaml.safe_load((folder / "g2p-connect.yaml").read_text())
    settings: dict[str, Any] = target["settings"]
    for name, value in settings.items():
        if isinstance(value, dict) and "file" in value:
            kept = folder / value["file"]
            assert kept.stat().st_mode & 0o077 == 0, "a secret is for its owner alone"
            settings[name] = kept.read_text()
    return DisburseSettings.model_validate(settings)
