"""The commands of the partners' page work as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "partners.md"


async def test_the_commands_of_the_partners_page_run_in_order(hub: Any) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed, and the page is about curl")
    script = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.S))
    process = await asyncio.create_subprocess_exec(
        "sh",
        "-euc",
        script,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={
            "PATH": os.environ["PATH"],
            "NO_PROXY": "*",
            "HUB": str(hub.client.make_url("")).rstrip("/"),
            "CLIENT_ID": "civil-registry",
            "CLIENT_SECRET": "correct horse battery staple",
        },
    )
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    text = out.decode()
    assert (process.returncode, err) == (0, b"")
    assert text.count('"duplicate":false') == 2
    assert text.count('"duplicate":true') == 2
    assert "Le CloudEvent" in text
    assert await hub.stored() == 2
