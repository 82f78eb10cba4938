"""A folder on a disk that can be full, slow, gone, or break off just when a file was put in its place."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from connectors.file.client import PART, Folder
from connectors.testing.sandbox import Mode, Seen


class FileSandbox(Folder):
    """A real folder with the faults of a bad disk; hand `services()` to the connector's context."""

    def __init__(self) -> None:
        super().__init__(Path(tempfile.gettempdir()))
        self.received: list[Seen] = []
        self.busiest = 0
        self._inside = 0
        self._mode, self._seconds = Mode.OK, 0.0
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Make the folder."""
        self.path = Path(tempfile.mkdtemp(prefix="hub-files-"))
        self._stopping = asyncio.Event()

    async def stop(self) -> None:
        """Take the folder away, like a share that is no longer there; safe to call twice."""
        self._stopping.set()
        shutil.rmtree(self.path, ignore_errors=True)

    def settings(self) -> dict[str, Any]:
        """Return the settings of this folder."""
        return {"folder": str(self.path)}

    def services(self) -> Mapping[str, Any]:
        """Return the services a target finds this sandbox in."""
        return {"folder": self}

    def secrets(self) -> Sequence[str]:
        """Return nothing: a folder has no secrets."""
        return ()

    def effects(self) -> Sequence[str]:
        """Return the ids of the messages whose files lie in the folder."""
        return [one.stem for one in sorted(self.path.iterdir()) if not one.name.startswith(PART)]

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next files in this way; a disk has neither status nor a word for when to come back."""
        self._mode, self._seconds = mode, seconds

    async def land(self, part: Path, name: str) -> None:
        """Put a file in its place, or fail as the mode says."""
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            await asyncio.sleep(0)
            await self._land_as_told(part, name)
        finally:
            self._inside -= 1

    async def _land_as_told(self, part: Path, name: str) -> None:
        mode = self._mode
        if mode in (Mode.STATUS, Mode.REFUSE):
            number = errno.ENOSPC if mode is Mode.STATUS else errno.EFBIG
            raise OSError(number, os.strerror(number))
        self.received.append(Seen(Path(name).stem, await asyncio.to_thread(part.read_bytes), {}))
        await super().land(part, name)
        if mode in (Mode.SLOW, Mode.HANG):
            try:
                async with asyncio.timeout(self._seconds if mode is Mode.SLOW else None):
                    await self._stopping.wait()
            except TimeoutError:
                return
        if mode in (Mode.CLOSE_AFTER_BODY, Mode.GARBAGE):
            number = errno.EIO if mode is Mode.CLOSE_AFTER_BODY else errno.ESTALE
            raise OSError(number, os.strerror(number))
