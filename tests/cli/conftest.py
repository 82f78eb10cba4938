"""The command line as a user has it: words in, exit code and two streams out, in a folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from adapters.cli import main
from adapters.embedded import write_config
from connectors.email.sandbox import EmailSandbox
from connectors.webhook.sandbox import WebhookSandbox


@dataclass
class Ran:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)


Hub = Callable[..., Ran]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory whose `.hub` is the data folder, with none of the machine's own settings."""
    import os

    for name in [name for name in os.environ if name.startswith("HUB_") and not name.startswith("HUB_TEST")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path / ".hub"))
    monkeypatch.setenv("HUB_PORT", "0")
    monkeypatch.setenv("HUB_PUBLIC_URL", "http://127.0.0.1:8080")
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path


@pytest.fixture
async def config(folder: Path) -> Path:
    """The configuration `hub serve` writes at its first start."""
    ministry, mailbox = WebhookSandbox(), EmailSandbox()
    await ministry.start()
    await mailbox.start()
    try:
        return write_config(folder / ".hub", webhook=ministry.settings(), email=mailbox.settings())
    finally:
        await ministry.stop()
        await mailbox.stop()


@pytest.fixture
def hub(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hub:
    """Run `hub WORDS`."""

    def run(*words: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["hub", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run
