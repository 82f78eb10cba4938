"""The file connector: canonical message in, file out."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

import orjson

from canonical_model.message import Message
from connectors.contract import Callback, Context, Exchange, Health, Manifest, Receipt, Settings
from connectors.errors import ConfigError, HubError, Refused, Unavailable, Unknown
from connectors.file.cells import cell
from connectors.file.client import Folder, FolderOpen
from connectors.file.settings import FileSettings
from connectors.manifests import manifest_beside

BATCH: Final = "org.openspp.payment.batch_instructed.v1"
_FOR_GOOD: Final = frozenset({errno.EFBIG, errno.ENAMETOOLONG, errno.EINVAL})
_ROWS_OF_PIECE: Final = 500


@runtime_checkable
class Rows(Protocol):
    """The service `rows`: exchanges the claim of a bulk message for its rows."""

    def stream(self, claim: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of a claim, in an order that never changes; raises `Refused` for one that is not known."""
        ...


class FileConnector:
    """Writes each message as a file of its own, and a batch of payments as a file of rows; the file's name tells a repeat."""

    manifest: ClassVar[Manifest] = manifest_beside(__file__)
    settings_model: ClassVar[type[Settings]] = FileSettings
    library_errors: ClassVar[tuple[type[BaseException], ...]] = (OSError, FolderOpen)

    def __init__(self, settings: FileSettings) -> None:
        self._settings = settings
        self._target = "file"
        self._folder: Folder | None = None
        self._rows: Rows | None = None

    @staticmethod
    def map_error(error: BaseException) -> HubError:
        """Return the hub error for what the file system raised, met while the file was put in its place."""
        return mapped(error, "the file", handed=True)

    async def open(self, ctx: Context) -> None:
        """Prove that files can be put into the folder; raises `ConfigError` or `Unavailable`."""
        self._target = ctx.target
        lent = ctx.services.get("folder")
        folder = lent if isinstance(lent, Folder) else Folder(self._settings.folder)
        rows = ctx.services.get("rows")
        self._rows = rows if isinstance(rows, Rows) else None
        try:
            await folder.check()
        except FolderOpen as error:
            raise ConfigError(
                f"The folder of target {ctx.target} may be read by other users of the machine; nothing was written.",
                code="folder-open",
                remedy="Take their rights away: chmod o-rwx FOLDER.",
            ) from error
        except OSError as error:
            raise mapped(error, f"target {ctx.target}", handed=False) from None
        self._folder = folder

    async def close(self) -> None:
        """Let go of the folder; safe to call twice."""
        self._folder = None

    async def probe(self) -> Health:
        """Look whether the folder still takes files."""
        began = time.monotonic()
        try:
            await self._ready().check()
        except HubError as error:
            return Health(False, error.detail, time.monotonic() - began)
        except (OSError, FolderOpen) as error:
            found = mapped(error, f"target {self._target}", handed=False)
            return Health(False, found.detail, time.monotonic() - began)
        return Health(True, "The folder takes files.", time.monotonic() - began)

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Write one file; one of its name that is there already is the receipt of an earlier send."""
        folder, name = self._ready(), self._name(message)
        started_at, began = datetime.now(UTC), time.monotonic()
        size, state = 0, "exists"
        handed = False
        try:
            async with asyncio.timeout_at(deadline):
                if not await folder.has(name):
                    handed = True
                    size, state = await folder.put(name, self._content(message)), "written"
        except TimeoutError:
            raise Unknown(
                f"The folder of target {self._target} did not take the file of message {message.id} in time.",
                code="outcome-unknown",
                remedy="Nothing: the hub looks whether the file is there, and writes it again where it is not.",
            ) from None
        except OSError as error:
            raise mapped(error, f"message {message.id} on target {self._target}", handed=handed) from None
        exchange = Exchange("PUT", "folder", state, started_at, time.monotonic() - began, size)
        return Receipt(name, (exchange,))

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Say whether the file of a message is there."""
        folder, name = self._ready(), self._name(message)
        try:
            async with asyncio.timeout_at(deadline):
                return Receipt(name) if await folder.has(name) else None
        except (TimeoutError, OSError):
            raise Unknown(
                f"The folder of target {self._target} does not say what became of message {message.id}.",
                code="outcome-unknown",
            ) from None

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Return nothing: a folder has no callbacks."""
        return ()

    def _ready(self) -> Folder:
        if self._folder is None:
            raise Unavailable(f"Target {self._target} is not open; nothing was sent.", code="target-closed")
        return self._folder

    def _name(self, message: Message) -> str:
        # Only ids of the hub: whatever a partner chose could lead out of the folder.
        kind = ("csv" if self._settings.format == "csv" else "ndjson") if message.type == BATCH else "json"
        return f"{self._settings.prefix}{message.id}.{kind}"

    async def _content(self, message: Message) -> AsyncIterator[bytes]:
        if message.type != BATCH:
            yield message.to_json()
            return
        count = int(message.data.get("count", 0))
        if count > self._settings.most_rows:
            raise Refused(
                f"Message {message.id} is a batch of {count} rows; target {self._target} takes {self._settings.most_rows}.",
                code="batch-too-large",
                remedy="Raise most_rows of the target, or have the program make smaller batches.",
            )
        if self._rows is None:
            raise ConfigError(
                f"Target {self._target} needs the rows of message {message.id}, which this process cannot fetch.",
                code="rows-service-missing",
                remedy="Start the worker with `hub serve`.",
            )
        seen = 0
        lines = _Lines(self._settings)
        if (header := lines.header()) is not None:
            yield header
        async for row in self._rows.stream(str(message.data["rows_claim"])):
            seen += 1
            if (piece := lines.add(row)) is not None:
                yield piece
        if (piece := lines.rest()) is not None:
            yield piece
        if seen != count:
            raise Refused(
                f"The batch of message {message.id} says {count} rows and has {seen}; no file was written.",
                code="batch-count-differs",
                remedy="Find out why: rows of a batch must not change after it was instructed.",
            )


class _Lines:
    """Rows on their way to bytes, some hundred at a time."""

    def __init__(self, settings: FileSettings) -> None:
        self._columns = settings.columns if settings.format == "csv" else None
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._waiting = 0

    def header(self) -> bytes | None:
        if self._columns is None:
            return None
        self._writer.writerow([column.name for column in self._columns])
        return self._taken()

    def add(self, row: dict[str, Any]) -> bytes | None:
        if self._columns is None:
            self._text.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE).decode())
        else:
            self._writer.writerow([cell(row, column.path) for column in self._columns])
        self._waiting += 1
        return self._taken() if self._waiting >= _ROWS_OF_PIECE else None

    def rest(self) -> bytes | None:
        return self._taken() if self._waiting else None

    def _taken(self) -> bytes:
        piece = self._text.getvalue().encode()
        self._text.seek(0)
        self._text.truncate()
        self._waiting = 0
        return piece


def mapped(error: BaseException, what: str, *, handed: bool) -> HubError:
    """Return the hub error of a failure of the file system; its text, which may name paths, stays out."""
    number = error.errno if isinstance(error, OSError) else None
    name = errno.errorcode.get(number or 0, type(error).__name__)
    if number in _FOR_GOOD:
        return Refused(f"The file system refused {what} for good ({name}).", code="target-refused")
    if handed and number in {errno.EIO, errno.ESTALE, None}:
        # Seen when a file is moved to its place on a disk or share that goes away: it may be there.
        return Unknown(
            f"The file system broke off at {what} ({name}).",
            code="outcome-unknown",
            remedy="Nothing: the hub looks whether the file is there, and writes it again where it is not.",
        )
    return Unavailable(
        f"The file system does not take {what} now ({name}).",
        code="target-unavailable",
        remedy="Check that the folder is there, that the hub may write to it, and that its disk has room.",
    )
