"""A folder that takes whole files: written beside their place, made durable, then moved there in one step."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Final

PART: Final = ".part-"
"""What the name of an unfinished file begins with; readers pass over it."""


class FolderOpen(Exception):
    """The folder may be read by other users of the machine."""


class Folder:
    """One folder; every call runs in a thread, and what fails raises `OSError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    async def check(self) -> None:
        """Prove that files can be put here, without leaving one; raises `OSError` or `FolderOpen`."""
        await asyncio.to_thread(self._check)

    async def has(self, name: str) -> bool:
        """Say whether a file of this name is there."""
        return await asyncio.to_thread((self.path / name).exists)

    async def put(self, name: str, pieces: AsyncIterator[bytes]) -> int:
        """Write a file and return its size in bytes; readers see it whole or not at all. Cut off, it leaves nothing."""
        handle, part = await asyncio.to_thread(tempfile.mkstemp, dir=self.path, prefix=PART)
        size = 0
        try:
            with os.fdopen(handle, "wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    await asyncio.to_thread(file.write, piece)
                await asyncio.to_thread(_flush, file.fileno(), file)
            await self.land(Path(part), name)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(part)  # noqa: PTH108 - one call, and the loop may be closing
            raise
        return size

    async def land(self, part: Path, name: str) -> None:
        """Move a finished file to its place, and make the move durable."""
        await asyncio.to_thread(self._land, part, name)

    def _land(self, part: Path, name: str) -> None:
        part.replace(self.path / name)
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _check(self) -> None:
        found = self.path.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if found.st_mode & 0o007:
            raise FolderOpen
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _flush(handle: int, file: object) -> None:
    file.flush()  # type: ignore[attr-defined]
    os.fsync(handle)
