"""Verifying: reads the whole trail beside the chain of checkpoints and names what does not fit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from registry.audit.checkpoint import LEAF, META, Checkpoint, read_signed
from registry.audit.clock import next_number
from registry.audit.history import misfits
from registry.audit.keys import AuditKeys
from registry.audit.sealer import leaves_of
from registry.audit.trail import id_floor
from registry.audit.witness import Witness
from registry.storage.database import database_errors
from registry.vault import Vault

MOST: Final = 20
"""Most breaks that are named; the first is what matters, the rest show how far it goes."""
_GROUP: Final = 50_000
"""Events of small windows that are read with one query."""
_SECONDS: Final = 600.0
_PAGE: Final = 1_000
_LAST: Final = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class Break:
    """One place where the trail is not what was sealed: which kind, at which checkpoint, which event.

    Kinds: `event-changed`, `event-missing`, `event-inserted`; `checkpoint-missing`, `checkpoint-changed` (its columns or
    leaves), `checkpoint-reordered`, `checkpoint-unlinked` (it follows another one than it says), `signature-wrong`;
    `change-changed`, `change-missing`, `change-inserted` for the history of registrants, beside the event that tells of it;
    `window-gap` (transactions no checkpoint holds); `witness-missing` and `witness-differs` for an outside witness.
    """

    kind: str
    checkpoint: int
    event: UUID | None = None

    def __str__(self) -> str:
        place = f"checkpoint {self.checkpoint}"
        return f"{self.kind}: {place}" if self.event is None else f"{self.kind}: event {self.event}, {place}"


@dataclass(slots=True)
class Report:
    """What a verification found; `breaks` is empty for a whole trail."""

    checkpoints: int = 0
    events: int = 0
    late: int = 0
    """Events that came after later ids were sealed, and were sealed in the next window."""
    unsealed: int = 0
    """Events since the last checkpoint: not yet sealed, so nothing can be said of them."""
    unsealed_since: datetime | None = None
    breaks: list[Break] = field(default_factory=list)
    more: bool = False
    """Whether more breaks were found than are named."""

    @property
    def whole(self) -> bool:
        """Whether nothing was found."""
        return not self.breaks

    def as_dict(self) -> dict[str, Any]:
        """Return the report with `first`, the first broken link."""
        found = asdict(self)
        return {"whole": self.whole, "first": found["breaks"][0] if self.breaks else None, **found}

    def as_json(self) -> dict[str, Any]:
        """Return the report in JSON values, as the result of a job holds it."""
        read: dict[str, Any] = orjson.loads(orjson.dumps(self.as_dict(), option=orjson.OPT_UTC_Z))
        return read

    def add(self, kind: str, checkpoint: int, event: UUID | None = None) -> None:
        """Name one more break, up to a bound."""
        if len(self.breaks) < MOST:
            self.breaks.append(Break(kind, checkpoint, event))
        else:
            self.more = True


class Verifier:
    """Compares events, leaves, checkpoints and signatures in one snapshot; memory stays bounded."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault
        self._keys = AuditKeys(pool, vault)

    async def verify(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        against: Witness | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Return what does not fit, first things first; `since` and `until` choose the checkpoints of that time.

        `progress` is called with the events done and their number. Raises `Unavailable`.
        """
        report = Report()
        async with (
            database_errors("verifying the audit trail"),
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            await connection.execute("SET LOCAL work_mem = '32MB'")
            low, high, total = await _bounds(connection, since, until)
            previous = None
            if low > 1:
                row = await connection.fetchrow(
                    f"SELECT {META} FROM audit_checkpoint WHERE number < $1 ORDER BY number DESC LIMIT 1", low
                )
                previous = None if row is None else Checkpoint.of(row)
            last = previous
            async for group in _groups(connection, low, high):
                last = await self._group(connection, group, last, report)
                if progress is not None:
                    progress(min(report.events, total), total)
            if against is not None:
                await _compare(connection, against, report)
            if high is None:
                await _tail(connection, last, report)
            lowest = UUID(int=0) if since is None else id_floor(since)
            highest = _LAST if until is None else id_floor(until)
            async for each in misfits(connection, self._vault, lowest, highest, MOST + 1):
                report.add(*each)
        return report

    async def _group(
        self,
        connection: PoolConnectionProxy,
        group: Sequence[Checkpoint],
        last: Checkpoint | None,
        report: Report,
    ) -> Checkpoint:
        """Verify consecutive whole windows; return the last checkpoint."""
        start, before = group[0], last
        lower = start.lower
        if last is not None and start.number == last.number + 1:
            # Between two links nothing can have been, so what lies there now is compared with nothing.
            lower = min(last.upper if last.closed else last.lower, start.lower)
        if len({each.lower for each in group}) == 1:
            expected = self._streamed(connection, group, last, report)
        else:
            expected = self._gathered(connection, group, last, report)
        ended = group[-1]
        await _merge(
            expected,
            leaves_of(connection, lower, ended.upper),
            report,
            group,
            _holes(before, group),
        )
        report.checkpoints += len(group)
        report.late += sum(each.late for each in group)
        return ended

    async def _streamed(
        self,
        connection: PoolConnectionProxy,
        group: Sequence[Checkpoint],
        last: Checkpoint | None,
        report: Report,
    ) -> AsyncIterator[bytes]:
        """Yield the leaves of one window, whose parts follow each other in the order of ids."""
        for each in group:
            yield await self._link(connection, each, last, report)
            last = each

    async def _gathered(
        self,
        connection: PoolConnectionProxy,
        group: Sequence[Checkpoint],
        last: Checkpoint | None,
        report: Report,
    ) -> AsyncIterator[bytes]:
        """Yield the leaves of several small windows in the order of ids."""
        found: list[bytes] = []
        for each in group:
            leaves = await self._link(connection, each, last, report)
            found += [leaves[at : at + LEAF] for at in range(0, len(leaves), LEAF)]
            last = each
        found.sort()
        yield b"".join(found)

    async def _link(
        self, connection: PoolConnectionProxy, each: Checkpoint, last: Checkpoint | None, report: Report
    ) -> bytes:
        """Verify one checkpoint and how it follows the one before; return its leaves."""
        leaves: bytes = (
            await connection.fetchval(
                "SELECT leaves FROM audit_checkpoint WHERE number = $1", each.number, timeout=_SECONDS
            )
            or b""
        )
        expected_number = 1 if last is None else last.number + 1
        for lost in range(expected_number, min(each.number, expected_number + MOST)):
            report.add("checkpoint-missing", lost)
        follows = each.number == expected_number
        read = read_signed(each.signed)
        key = None if read is None else await self._keys.verifying(read.kid)
        if read is None or key is None or not key.verify(each.signed, "ES256"):
            report.add("signature-wrong", each.number)
        elif read.claims.get("number") != each.number:
            report.add("checkpoint-reordered", each.number)
        else:
            previous = None if last is None else last.digest
            claims = each.claims(leaves, previous if follows else read.claims.get("previous"))
            if {**claims, "previous": read.claims.get("previous")} != read.claims:
                report.add("checkpoint-changed", each.number)
            elif claims["previous"] != read.claims.get("previous"):
                report.add("checkpoint-unlinked", each.number)
            elif follows and last is not None and not _joins(last, each):
                report.add("window-gap", each.number)
        return leaves[: len(leaves) // LEAF * LEAF]


def _joins(last: Checkpoint, each: Checkpoint) -> bool:
    if last.closed:
        return each.lower == last.upper
    return (each.lower, each.upper) == (last.lower, last.upper) and each.first_id > last.last_id


async def _bounds(
    connection: PoolConnectionProxy, since: datetime | None, until: datetime | None
) -> tuple[int, int | None, int]:
    """Return the numbers of the checkpoints to verify, whole windows only, and how many events they hold."""
    low, high = 1, None
    if since is not None or until is not None:
        row = await connection.fetchrow(
            "SELECT min(c.number) AS low, max(c.number) AS high FROM audit_checkpoint c WHERE (c.lower, c.upper) IN "
            "(SELECT lower, upper FROM audit_checkpoint WHERE last_id >= $1 AND first_id < $2)",
            UUID(int=0) if since is None else id_floor(since),
            UUID(int=(1 << 128) - 1) if until is None else id_floor(until),
            timeout=_SECONDS,
        )
        assert row is not None  # an aggregate has one row
        low = row["low"] if row["low"] is not None else 1 << 62
        high = None if until is None else row["high"] or 0
    total = await connection.fetchval(
        "SELECT coalesce(sum(count), 0)::bigint FROM audit_checkpoint WHERE number >= $1 AND number <= $2",
        low,
        (1 << 62) if high is None else high,
        timeout=_SECONDS,
    )
    return low, high, int(total)


async def _groups(
    connection: PoolConnectionProxy, low: int, high: int | None
) -> AsyncIterator[list[Checkpoint]]:
    """Yield the checkpoints in runs: one large window each, or several small ones of up to 50,000 events together."""
    group: list[Checkpoint] = []
    size = 0
    after = low - 1
    while rows := await connection.fetch(
        f"SELECT {META} FROM audit_checkpoint WHERE number > $1 AND number <= $2 ORDER BY number LIMIT {_PAGE}",
        after,
        (1 << 62) if high is None else high,
        timeout=_SECONDS,
    ):
        for each in map(Checkpoint.of, rows):
            after = each.number
            same = bool(group) and (each.lower, each.upper) == (group[-1].lower, group[-1].upper)
            if group and not same and (_large(group, size, each) or each.number != group[-1].number + 1):
                yield group
                group, size = [], 0
            group.append(each)
            size += each.count
    if group:
        yield group


def _large(group: Sequence[Checkpoint], size: int, each: Checkpoint) -> bool:
    """Say whether a checkpoint is not to be read together with the windows before it."""
    several = len(group) > 1 and group[-1].lower == group[-2].lower
    return several or size + each.count > _GROUP or not (each.closed and group[-1].closed)


def _holes(last: Checkpoint | None, group: Sequence[Checkpoint]) -> list[tuple[bytes, bytes]]:
    """Return the ids no checkpoint speaks of within a window of several: parts that are missing, or not sealed yet."""
    holes = []
    number, start = (0 if last is None else last.number), b""
    for each in group:
        if each.number != number + 1 and len(group) > 1:
            holes.append((start, each.first_id.bytes))
        number, start = each.number, each.last_id.bytes
    if not group[-1].closed:
        holes.append((start, b"\xff" * 17))
    return holes


async def _next(leaves: AsyncIterator[bytes]) -> bytes:
    """Return the next leaves, nothing at their end."""
    async for some in leaves:
        if some:
            return some
    return b""


async def _merge(
    expected: AsyncIterator[bytes],
    actual: AsyncIterator[bytes],
    report: Report,
    group: Sequence[Checkpoint],
    holes: Sequence[tuple[bytes, bytes]],
) -> None:
    """Compare leaves that should be there with those that are, both in the order of ids."""
    wanted, there = b"", b""
    wanted_left = there_left = True
    while True:
        if not wanted and wanted_left:
            wanted = await _next(expected)
            wanted_left = bool(wanted)
            report.events += len(wanted) // LEAF
        if not there and there_left:
            there = await _next(actual)
            there_left = bool(there)
        if not wanted and not there:
            return
        shared = min(len(wanted), len(there))
        if shared and wanted[:shared] == there[:shared]:
            wanted, there = wanted[shared:], there[shared:]
            continue
        wanted, there = _walk(wanted, there, report, group, holes)


def _walk(
    wanted: bytes,
    there: bytes,
    report: Report,
    group: Sequence[Checkpoint],
    holes: Sequence[tuple[bytes, bytes]],
) -> tuple[bytes, bytes]:
    """Compare leaf by leaf until one side is used up; a side that is empty has ended."""
    at = on = 0
    while at < len(wanted) or on < len(there):
        if (at == len(wanted) and wanted) or (on == len(there) and there):
            break
        mine, other = wanted[at : at + 16], there[on : on + 16]
        if mine == other:
            if wanted[at + 16 : at + LEAF] != there[on + 16 : on + LEAF]:
                report.add("event-changed", _home(mine, group), UUID(bytes=mine))
            at, on = at + LEAF, on + LEAF
        elif mine and (not other or mine < other):
            report.add("event-missing", _home(mine, group), UUID(bytes=mine))
            at += LEAF
        else:
            if not any(low < other < high for low, high in holes):
                report.add("event-inserted", _home(other, group), UUID(bytes=other))
            on += LEAF
    return wanted[at:], there[on:]


def _home(id_: bytes, group: Sequence[Checkpoint]) -> int:
    """Return the number of the checkpoint whose ids an event lies among, else of the last one."""
    event = UUID(bytes=id_)
    return next((each.number for each in group if each.first_id <= event <= each.last_id), group[-1].number)


async def _compare(connection: PoolConnectionProxy, against: Witness, report: Report) -> None:
    signed = await connection.fetchval(
        "SELECT signed FROM audit_checkpoint WHERE number = $1", against.number, timeout=_SECONDS
    )
    if signed is None:
        report.add("witness-missing", against.number)
    elif signed != against.signed:
        report.add("witness-differs", against.number)


async def _tail(connection: PoolConnectionProxy, last: Checkpoint | None, report: Report) -> None:
    """Count what no checkpoint holds yet, and find events whose number of transaction cannot be."""
    upper = -(1 << 63) if last is None else last.upper
    open_part = ""
    if last is not None and not last.closed:
        open_part = f"OR (transaction >= '{last.lower}'::bigint AND transaction < '{upper}'::bigint AND id > '{last.last_id}')"
    row = await connection.fetchrow(
        f"SELECT count(*) AS number, min(at) AS since FROM audit_event WHERE transaction >= '{upper}'::bigint {open_part}",
        timeout=_SECONDS,
    )
    assert row is not None  # an aggregate has one row
    report.unsealed, report.unsealed_since = row["number"], row["since"]
    forged = await connection.fetch(
        f"SELECT id FROM audit_event WHERE transaction IS NULL OR transaction >= $1 ORDER BY id LIMIT {MOST}",
        await next_number(connection),
        timeout=_SECONDS,
    )
    for each in forged:
        report.add("event-inserted", 0 if last is None else last.number, each["id"])
