"""The folder a bank's files come back to: each read whole, applied, and put aside."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from connectors.bank_file.reports import invalid, read
from connectors.bank_file.results import ReadBack, take
from connectors.bank_file.settings import BankFileSettings
from connectors.errors import HubError, Refused
from connectors.payments.contract import Ledger
from registry.logs import log

DONE: Final = "done"
REFUSED: Final = "refused"
_MOST_FILES: Final = 1000
_LOG = logging.getLogger("openspp.payments")


async def read_back(ledger: Ledger, data: bytes, settings: BankFileSettings, *, dry_run: bool) -> ReadBack:
    """Read a file of the bank and apply it; raises `Refused` (`bank-file-invalid`), and then nothing of it counts."""
    said = await asyncio.to_thread(read, data, settings)
    return await take(ledger, said, dry_run=dry_run)


class PickUp:
    """Looks into the folder again and again until it is stopped."""

    def __init__(self, target: str, folder: Path, ledger: Ledger, settings: BankFileSettings) -> None:
        self._target, self._folder, self._ledger, self._settings = target, folder, ledger, settings
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look in a task of its own, unless it does."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"pick-up-{self._target}")

    async def stop(self) -> None:
        """Look no more; a file under way is read again, and a repeat changes nothing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.turn()
            except (HubError, OSError) as error:
                # Names of files stay out: a bank may put a person's name into one.
                log(
                    _LOG, logging.WARNING, "bank-files-wait", target=self._target,
                    code=getattr(error, "code", "target-unavailable"),
                )  # fmt: skip
            except Exception as error:  # one bad file must not end the reading of all that follow
                log(_LOG, logging.ERROR, "bank-files-wait", target=self._target, error=error)
            await asyncio.sleep(self._settings.poll)

    async def turn(self) -> int:
        """Read what lies in the folder, the oldest first; return how many files were put aside."""
        count = 0
        for path in await asyncio.to_thread(lambda: sorted(self._files(), key=lambda one: one[0])):
            try:
                data = await asyncio.to_thread(_bytes, path[1], self._settings.most_bytes)
                done = await read_back(self._ledger, data, self._settings, dry_run=False)
            except Refused as error:
                log(_LOG, logging.WARNING, "bank-file-refused", target=self._target, code=error.code)
                await asyncio.to_thread(_aside, path[1], self._folder / REFUSED)
            except FileNotFoundError:
                continue  # another process had it
            else:
                log(_LOG, logging.INFO, "bank-file-read", target=self._target, count=done.moved)
                await asyncio.to_thread(_aside, path[1], self._folder / DONE)
            count += 1
        return count

    def _files(self) -> Iterator[tuple[float, Path]]:
        with os.scandir(self._folder) as entries:
            for number, one in enumerate(entries):
                if number >= _MOST_FILES:
                    return
                if one.is_file(follow_symlinks=False) and not one.name.startswith("."):
                    yield one.stat().st_mtime, Path(one.path)


def _bytes(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise invalid(f"it has more than {most} bytes")
    return data


def _aside(path: Path, folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    target = folder / path.name
    for number in range(1, 1000):
        if not target.exists():
            break
        target = folder / f"{path.name}.{number}"
    path.replace(target)
