"""A hub in a folder of its own, to type the commands of a page at."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import documents
import pytest

SECONDS = 90
WORDS = [sys.executable, "-m", "adapters.cli"]


def plain(text: str) -> str:
    """Return a text with single spaces: how wide a table is drawn is not what a page promises."""
    return " ".join(text.split())


def wait(holds: Callable[[], bool], what: Path) -> None:
    """Wait until something holds; `what` is shown when it does not."""
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        if holds():
            return
        time.sleep(0.1)
    pytest.fail(f"nothing came: {what.name}: {what.read_text()[-3000:] if what.is_file() else ''}")


class Desk:
    """A folder in which the hub is run as a page says, with settings of its own only."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder, self.settings = folder, settings

    @property
    def environment(self) -> dict[str, str]:
        """What the commands find: nothing of the hub that runs the tests."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        return kept | {"PYTHONPATH": str(documents.ROOT), "COLUMNS": "200", **self.settings}

    def run(self, *words: str) -> str:
        """Run a command of the hub and return what it says, with single spaces."""
        done = subprocess.run(
            [*WORDS, *words], cwd=self.folder, env=self.environment, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        return plain(done.stdout + done.stderr)

    @contextmanager
    def background(self, *words: str, until: str) -> Iterator[str]:
        """Run a process until the block ends, from the moment it says so; yield the address that it names."""
        log = self.folder / f"{words[-1]}.log".replace("/", "-")
        with log.open("w") as out:
            process = subprocess.Popen(words, cwd=self.folder, env=self.environment, stdout=out, stderr=out)
        try:
            wait(lambda: until in log.read_text() or process.poll() is not None, log)
            found = re.search(r"https?://[\d.]+:\d+", log.read_text())
            assert found, log.read_text()
            yield found[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)

    @contextmanager
    def serving(self) -> Iterator[str]:
        """Run `hub serve`; yield its address."""
        with self.background(*WORDS, "serve", until="listens") as url:
            yield url
