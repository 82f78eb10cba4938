"""The object store: sealed bodies too large for a database row, on disk or in a bucket."""

from __future__ import annotations

import asyncio
import os
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar
from urllib.parse import unquote, urlsplit
from uuid import uuid4

import obstore
from obstore import exceptions as faults

from canonical_model.errors import ConfigError, Defect, Unavailable
from registry.settings import HubSettings

OBJECT_LIMIT: Final = 64 * 1024 * 1024
"""Largest object in bytes; the hub keeps messages here, not archives."""
DEADLINE_SECONDS: Final = 20.0
PAGE: Final = 1000
"""Objects of one page of a listing, as many as S3 gives in one answer."""
LITTER_SECONDS: Final = 86400.0
"""Age from which an unfinished file is nobody's: no write takes a day."""
_KEY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.=-]{0,127}){0,7}")
_THREADS: Final = 4
_UNFINISHED: Final = ".new-"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Listed:
    """One object of a listing: its key, and when it was written by the store's clock."""

    key: str
    written_at: datetime


class ObjectStore(Protocol):
    """Keeps sealed bytes under a key; what it is given must already be encrypted.

    Keys are one to eight segments of letters, digits and `_ . = -`, joined by `/`; a segment never begins with a dot.
    Every call raises `Unavailable` (`object-store-unavailable`) when the store does not answer in time and `Defect`
    (`object-key-invalid`) for a key of another shape.
    """

    async def put(self, key: str, body: bytes) -> None:
        """Store the bytes; durable when this returns. A repeat with the same key replaces the object as a whole."""
        ...

    async def get(self, key: str, limit: int | None = None) -> bytes:
        """Return the bytes; raises `Defect` when they are absent (`object-missing`) or above `limit` (`object-too-large`)."""
        ...

    async def delete(self, key: str) -> None:
        """Remove the object; removing an absent one is no error."""
        ...

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        ...

    async def listing(self, folder: str, after: str = "", limit: int = PAGE) -> list[Listed]:
        """Return at most `limit` objects whose keys begin with the segments of `folder`, those that come behind `after`.

        They come in an order of the store's own which never changes, so the last key of a page leads to the next one; a
        page that is not full is the last.
        """
        ...

    async def probe(self) -> None:
        """Write, read and remove a small object; raises when any of it fails."""
        ...

    async def close(self) -> None:
        """Release threads and connections; safe to call twice."""
        ...


def checked_key(key: str) -> str:
    """Return the key unchanged; raises `Defect` when it could leave the store's own folder."""
    if not _KEY.fullmatch(key):
        raise Defect(
            "An object key has a shape the object store does not take; nothing was read or written.",
            code="object-key-invalid",
            remedy="Report it: keys are made by the hub alone.",
        )
    return key


def _checked_body(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> Defect:
    return Defect(
        f"An object is larger than the {limit} bytes the caller allows; it was not handed on.",
        code="object-too-large",
        remedy="Lower HUB_BODY_LIMIT, or split what is sent into smaller messages.",
    )


def _missing(key: str) -> Defect:
    return Defect(
        f"The object {key} is not in the object store.",
        code="object-missing",
        remedy="Restore the object store from the backup taken with the database.",
    )


def _unavailable(reason: str) -> Unavailable:
    return Unavailable(
        f"The object store could not do what was asked: {reason}.",
        code="object-store-unavailable",
        remedy="Check the disk or the bucket behind HUB_OBJECT_STORE: space, permissions, network.",
    )


class FileObjectStore:
    """Objects as files below one folder, in 256 subfolders by the hash of the key; files 0600, folders 0700.

    A write goes to a temporary file, is flushed to disk, renamed over the key and the folder flushed, so that a crash
    leaves either the old object or the new one.
    """

    def __init__(self, root: Path, *, deadline: float = DEADLINE_SECONDS) -> None:
        self._root = root
        self._deadline = deadline
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    async def put(self, key: str, body: bytes) -> None:
        """Store the bytes; they survive a power cut once this returns."""
        path, body = self._path(key), _checked_body(body, OBJECT_LIMIT)
        try:
            await self._run(lambda: self._write(path, body))
        except FileNotFoundError:
            raise _unavailable("its folder was removed while it was written") from None

    async def get(self, key: str, limit: int | None = None) -> bytes:
        """Return the bytes of the object, at most `limit` (64 MiB unless told)."""
        path, most = self._path(key), OBJECT_LIMIT if limit is None else limit
        try:
            body = await self._run(lambda: _read(path, most + 1))
        except FileNotFoundError:
            raise _missing(key) from None
        return _checked_body(body, most)

    async def delete(self, key: str) -> None:
        """Remove the object, and make the removal durable."""
        path = self._path(key)

        def remove() -> None:
            with suppress(FileNotFoundError):
                path.unlink()
                _sync_folder(path.parent)

        await self._run(remove)

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        return await self._run(self._path(key).is_file)

    async def listing(self, folder: str, after: str = "", limit: int = PAGE) -> list[Listed]:
        """Return a page of the objects below `folder`, by the hash of the key and then the key.

        What a write that was cut off left behind is removed on the way once it is a day old.
        """
        checked_key(folder)
        return await self._run(lambda: list(islice(self._below(folder, after), limit)))

    async def probe(self) -> None:
        """Write, read and remove a small object."""
        await _round_trip(self)

    async def close(self) -> None:
        """End the threads; a call still waiting for the disk is left to it."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _path(self, key: str) -> Path:
        return self._root / _shard(checked_key(key)) / key

    def _below(self, folder: str, after: str) -> Iterator[Listed]:
        first = _shard(after) if after else ""
        for shard in (f"{number:02x}" for number in range(256)):
            if shard < first:
                continue
            root = self._root / shard
            found: list[Listed] = []
            for place, _, names in os.walk(root / folder):
                for name in names:
                    path = Path(place) / name
                    with suppress(FileNotFoundError):  # removed since it was seen
                        written = path.stat().st_mtime
                        if not name.startswith(_UNFINISHED):
                            at = datetime.fromtimestamp(written, UTC)
                            found.append(Listed(path.relative_to(root).as_posix(), at))
                        elif written < time.time() - LITTER_SECONDS:
                            path.unlink()
            for one in sorted(found, key=lambda one: one.key):
                if shard > first or one.key > after:
                    yield one

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            async with asyncio.timeout(self._deadline):
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except FileNotFoundError:
            raise
        except TimeoutError:
            raise _unavailable(f"no answer within {self._deadline:g} seconds") from None
        except OSError as error:
            raise _unavailable(os.strerror(error.errno) if error.errno else type(error).__name__) from None
        except RuntimeError:
            raise _unavailable("it is closed") from None

    def _write(self, path: Path, body: bytes) -> None:
        new_root = not self._root.exists()
        folders = [each for each in (path.parent, *path.parent.parents) if each.is_relative_to(self._root)]
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in reversed(folders):
            folder.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_UNFINISHED)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        # All of them, not only the new ones: another writer may have made a folder and not flushed it yet.
        for folder in folders:
            _sync_folder(folder)
        if new_root:
            _sync_folder(self._root.parent)


def _shard(key: str) -> str:
    return sha256(key.encode()).hexdigest()[:2]


def _read(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        return file.read(most)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class BucketObjectStore:
    """Objects in a bucket (S3, Azure Blob, Google Cloud Storage) through obstore; a put is durable when confirmed."""

    def __init__(self, store: Any, *, deadline: float = DEADLINE_SECONDS) -> None:
        self._store = store
        self._deadline = deadline

    async def put(self, key: str, body: bytes) -> None:
        """Store the bytes; the bucket has confirmed them when this returns."""
        body = _checked_body(body, OBJECT_LIMIT)
        async with self._guard(checked_key(key)):
            await obstore.put_async(self._store, key, body)

    async def get(self, key: str, limit: int | None = None) -> bytes:
        """Return the bytes of the object, at most `limit` (64 MiB unless told)."""
        most = OBJECT_LIMIT if limit is None else limit
        async with self._guard(checked_key(key)):
            answer = await obstore.get_async(self._store, key)
            if int(answer.meta["size"]) > most:
                raise _too_large(most)
            return bytes(await answer.bytes_async())

    async def delete(self, key: str) -> None:
        """Remove the object; removing an absent one is no error."""
        with suppress(_Absent):
            async with self._guard(checked_key(key), _Absent()):
                await obstore.delete_async(self._store, key)

    async def exists(self, key: str) -> bool:
        """Say whether the object is there."""
        try:
            async with self._guard(checked_key(key), _Absent()):
                await obstore.head_async(self._store, key)
        except _Absent:
            return False
        return True

    async def listing(self, folder: str, after: str = "", limit: int = PAGE) -> list[Listed]:
        """Return a page of the objects below `folder`, by the key."""
        found: list[Listed] = []
        async with self._guard(checked_key(folder)):
            async for chunk in obstore.list(self._store, folder, offset=after or None, chunk_size=limit):
                found += [Listed(one["path"], one["last_modified"]) for one in chunk]
                if len(found) >= limit:
                    break
        return found[:limit]

    async def probe(self) -> None:
        """Write, read and remove a small object."""
        await _round_trip(self)

    async def close(self) -> None:
        """Do nothing: the client frees its connections with the store object."""

    @asynccontextmanager
    async def _guard(self, key: str, absent: Exception | None = None) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline):
                yield
        except (FileNotFoundError, faults.NotFoundError):
            raise absent or _missing(key) from None
        except TimeoutError:
            raise _unavailable(f"no answer within {self._deadline:g} seconds") from None
        except (faults.BaseError, OSError) as error:
            # The client's own text holds the request's URL and headers; only the class of the fault is passed on.
            raise _unavailable(type(error).__name__) from None


class _Absent(Exception):
    """A signal between two methods: the object asked for is not there."""


async def _round_trip(store: ObjectStore) -> None:
    """Write, read and remove one object under a name no other process uses."""
    key, body = f"probe/{uuid4().hex}", b"sealed bytes go here"
    await store.put(key, body)
    try:
        if await store.get(key, 1024) != body:
            raise _unavailable("it returned other bytes than were written")
    finally:
        await store.delete(key)


def open_object_store(settings: HubSettings) -> ObjectStore:
    """Return the store the settings name; `file://` and no setting mean files below `data_dir`.

    Raises `ConfigError` (`object-store-invalid`) for a URL that names no durable store. Credentials come from the
    environment as the provider documents them (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, …), never from the URL.
    """
    url = settings.object_store
    if url is None:
        return FileObjectStore(settings.data_dir / "objects")
    parts = urlsplit(url)
    if parts.scheme == "file" and not parts.netloc and parts.path not in ("", "/"):
        return FileObjectStore(Path(unquote(parts.path)))
    if (
        parts.scheme not in ("s3", "s3a", "gs", "az", "abfs", "abfss")
        or not parts.netloc
        or parts.password
        or parts.query
    ):
        raise _wrong_url()
    try:
        return BucketObjectStore(
            obstore.store.from_url(
                url,
                client_options={"timeout": f"{DEADLINE_SECONDS:g}s", "connect_timeout": "5s"},
                retry_config={"max_retries": 3},
            )
        )
    except (faults.BaseError, ValueError, TypeError):
        raise _wrong_url() from None


def _wrong_url() -> ConfigError:
    return ConfigError(
        "HUB_OBJECT_STORE names no durable object store. Nothing was started.",
        code="object-store-invalid",
        remedy="Use s3://bucket/prefix (or gs://, az://, file:///folder) and give credentials by the provider's variables.",
    )
