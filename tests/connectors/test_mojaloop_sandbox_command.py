"""`python -m connectors.mojaloop` starts what it says and writes a target file that reaches it."""

import asyncio
import sys
from pathlib import Path

import aiohttp
import pytest
import yaml

from connectors.mojaloop.settings import MojaloopSettings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("adapter", [False, True], ids=["switch", "adapter"])
async def test_the_sandbox_starts_shows_its_books_and_writes_a_target_file(tmp_path, adapter):
    given = ["--adapter"] if adapter else []
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "connectors.mojaloop", str(tmp_path), "--port", "0", *given,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(60):
            first = (await process.stdout.readline()).decode()
            await process.stdout.readline()
        address = first.split(" at ")[1].split(";")[0]
        async with aiohttp.ClientSession() as http, http.get(f"{address}/sandbox/state") as answer:
            assert (await answer.json())["committed"] == 0
        target = yaml.safe_load((tmp_path / "national-switch.yaml").read_text())
        settings = target["settings"]
        for name, value in settings.items():
            if isinstance(value, dict) and "file" in value:
                settings[name] = (tmp_path / value["file"]).read_text()
        found = MojaloopSettings.model_validate(settings)
        assert (found.mode, found.bulk) == ("adapter" if adapter else "scheme", True)
    finally:
        process.terminate()
        async with asyncio.timeout(30):
            assert await process.wait() == 0
