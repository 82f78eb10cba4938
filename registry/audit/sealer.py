"""Sealing: takes the events that are final, hashes them, and signs one checkpoint for each few thousand of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from registry.audit.checkpoint import CANONICAL, LEAF, META, Checkpoint, leaf, sign
from registry.audit.clock import ended
from registry.audit.keys import AuditKeys
from registry.signing import SigningKey
from registry.storage.database import database_errors
from registry.vault import Vault

LOCK: Final = 0x6F70_6571
SIZE: Final = 20_000
"""Most events of one checkpoint; two of them in memory are the most a sealer holds."""
_SECONDS: Final = 600.0
_READ: Final = 5_000
_FIRST: Final = -(1 << 63)
_WRITE: Final = """
INSERT INTO audit_checkpoint (number, lower, upper, closed, first_id, last_id, count, late, signed, made_at, leaves)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
"""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What one round sealed."""

    events: int = 0
    checkpoints: int = 0
    late: int = 0
    busy: bool = False
    """Whether another process was sealing, so that this one did nothing."""


class Sealer:
    """Seals what no open transaction can add to; one process at a time, whoever asks."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, *, size: int = SIZE) -> None:
        self._pool, self._size = pool, size
        self._key: SigningKey
        self.keys = AuditKeys(pool, vault)

    async def seal(self, progress: Callable[[int], None] | None = None) -> Sealed:
        """Seal every event whose transaction and all before it have ended, oldest ids first; memory stays bounded.

        Each checkpoint is committed by itself, and a round that was broken off is gone on with by the next. Raises
        `Unavailable`, and `Refused` (`audit-clock-behind`) for a database that was moved to another server.
        """
        async with database_errors("sealing the audit trail"):
            # Before a connection is held: in a small pool nothing may wait for a second one it cannot have.
            key = await self.keys.signing()
        async with (
            database_errors("sealing the audit trail"),
            self._pool.acquire() as reading,
            self._pool.acquire() as writing,
            reading.transaction(isolation="repeatable_read"),
        ):
            if not await reading.fetchval("SELECT pg_try_advisory_xact_lock($1)", LOCK):
                return Sealed(busy=True)
            upper = await ended(reading)
            # Read outside the snapshot, which may be older than the end of the sealer before.
            last = await latest(writing)
            done = Sealed()
            self._key = key
            if last is not None and not last.closed:
                last, done = await self._window(
                    reading, writing, last, (last.lower, last.upper, last.last_id), done, progress
                )
            lower = _FIRST if last is None else last.upper
            if lower < upper:
                _, done = await self._window(reading, writing, last, (lower, upper, None), done, progress)
        return done

    async def _window(
        self,
        reading: PoolConnectionProxy,
        writing: PoolConnectionProxy,
        last: Checkpoint | None,
        window: tuple[int, int, UUID | None],
        done: Sealed,
        progress: Callable[[int], None] | None,
    ) -> tuple[Checkpoint | None, Sealed]:
        lower, upper, after = window
        highest = await writing.fetchval(
            "SELECT last_id FROM audit_checkpoint WHERE upper <= $1 ORDER BY last_id DESC LIMIT 1", lower
        )
        waiting = bytearray()
        size = self._size * LEAF
        async for leaves in leaves_of(reading, lower, upper, after):
            waiting += leaves
            # A full part is written once it is known that another follows, so that the last one can say so.
            while len(waiting) > size:
                last = await self._write(writing, last, (lower, upper), bytes(waiting[:size]), False, highest)
                done = _counted(done, last)
                del waiting[:size]
                if progress is not None:
                    progress(done.events)
        if waiting:
            last = await self._write(writing, last, (lower, upper), bytes(waiting), True, highest)
            done = _counted(done, last)
        elif last is not None and not last.closed:
            # What followed is gone: the part before was the last after all, and `hub audit verify` finds the gap.
            last = replace(last, closed=True)
        return last, done

    async def _write(
        self,
        writing: PoolConnectionProxy,
        last: Checkpoint | None,
        window: tuple[int, int],
        leaves: bytes,
        closed: bool,
        highest: UUID | None,
    ) -> Checkpoint:
        late = 0
        if highest is not None and leaves[:16] < highest.bytes:
            late = sum(leaves[at : at + 16] < highest.bytes for at in range(0, len(leaves), LEAF))
        made = Checkpoint(
            number=1 if last is None else last.number + 1,
            lower=window[0],
            upper=window[1],
            closed=closed,
            first_id=UUID(bytes=leaves[:16]),
            last_id=UUID(bytes=leaves[-LEAF : -LEAF + 16]),
            count=len(leaves) // LEAF,
            late=late,
            signed="",
            made_at=datetime.now(UTC),
        )
        claims: Mapping[str, Any] = made.claims(leaves, None if last is None else last.digest)
        made = replace(made, signed=sign(claims, self._key))
        await writing.execute(
            _WRITE,
            *(getattr(made, name.strip()) for name in META.split(",")),
            leaves,
            timeout=_SECONDS,
        )
        return made


async def latest(connection: asyncpg.Connection | PoolConnectionProxy) -> Checkpoint | None:
    """Return the newest checkpoint."""
    row = await connection.fetchrow(f"SELECT {META} FROM audit_checkpoint ORDER BY number DESC LIMIT 1")
    return None if row is None else Checkpoint.of(row)


async def leaves_of(
    connection: PoolConnectionProxy, lower: int, upper: int, after: UUID | None = None
) -> AsyncIterator[bytes]:
    """Yield the leaves of the events of a window in the order of ids, a few thousand at a time; needs a transaction."""
    # The bounds stand in the text: the planner must see whether it reads a minute or years.
    condition = f"transaction >= '{lower}'::bigint AND transaction < '{upper}'::bigint"
    if after is not None:
        condition += f" AND id > '{after}'"
    cursor = await connection.cursor(
        f"SELECT id, {CANONICAL} AS raw FROM audit_event WHERE {condition} ORDER BY id", timeout=_SECONDS
    )
    while rows := await cursor.fetch(_READ, timeout=_SECONDS):
        yield b"".join([leaf(row[0], row[1]) for row in rows])


def _counted(done: Sealed, made: Checkpoint) -> Sealed:
    return Sealed(done.events + made.count, done.checkpoints + 1, done.late + made.late)
