"""Replacing the key-encryption key, and sealing registrants' documents anew, while the hub runs.

Both go on where they stopped: what is left to do is told by the rows themselves, so a break at any instant loses nothing,
and two who rotate at once only share the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect
from registry.storage.database import database_errors
from registry.vault.cipher import FORMAT, DataKey, sealed_place
from registry.vault.keys import Vault
from registry.vault.service import KeyRing, Wrapped

DOCUMENTS: Final = "registrant_vault"
"""The table whose data key seals registrants' documents."""
_KEYS_A_TIME: Final = 100
_BROKEN_NAMED: Final = 20
_PASSES: Final = 20
_IDLE: Final = 3
_SLOW: Final = 300.0
_ABOUT: Final = """
SELECT kek, count(*) FILTER (WHERE wrapped IS NOT NULL) AS live, count(*) FILTER (WHERE wrapped IS NULL) AS destroyed
FROM data_key GROUP BY kek ORDER BY kek
"""
_SEALED: Final = """
SELECT v.key_id, k.scope, v.format, v.documents
FROM (SELECT key_id, format, count(*) AS documents FROM registrant_vault GROUP BY key_id, format) v
LEFT JOIN data_key k ON k.id = v.key_id ORDER BY v.key_id, v.format
"""
_LEFT: Final = "SELECT count(*) FROM data_key WHERE wrapped IS NOT NULL AND kek <> $1"
_OLD: Final = """
SELECT id, kek, wrapped FROM data_key WHERE wrapped IS NOT NULL AND kek <> $1 ORDER BY id LIMIT $2
"""
# A key that was destroyed or rewrapped meanwhile stays as it is.
_REWRAP: Final = """
UPDATE data_key d SET wrapped = n.wrapped, kek = n.kek
FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[]) AS n (id, before, wrapped, kek)
WHERE d.id = n.id AND d.kek = n.before AND d.wrapped IS NOT NULL RETURNING d.id
"""
_STALE: Final = """
SELECT count(*) FROM registrant_vault WHERE (key_id <> $1 OR format <> $2) AND registrant_id <> ALL ($3::uuid[])
"""
# Rows that somebody is writing just now are left for the next pass: waiting for them here could make others wait in a circle.
_TAKE: Final = """
SELECT registrant_id, key_id, format, sealed FROM registrant_vault
WHERE registrant_id > $1 AND (key_id <> $2 OR format <> $3) ORDER BY registrant_id LIMIT $4 FOR UPDATE SKIP LOCKED
"""
_RESEAL: Final = """
UPDATE registrant_vault v SET key_id = $3, format = $4, sealed = n.sealed
FROM unnest($1::uuid[], $2::bytea[]) AS n (id, sealed) WHERE v.registrant_id = n.id
"""

Progress = Callable[[int, int], None]
"""Called with how many are done and how many there are."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Which keys wrap and seal what."""

    kek: str
    """The key-encryption key in use."""
    wrapped: dict[str, int]
    """Live data keys by the key-encryption key that wraps them."""
    destroyed: int
    """Data keys whose retention has ended."""
    documents: tuple[dict[str, Any], ...]
    """Registrants' documents by data key (`key`, `scope`) and `format`: how many."""

    @property
    def left(self) -> int:
        """Data keys that another key-encryption key still wraps."""
        return sum(number for kek, number in self.wrapped.items() if kek != self.kek)


@dataclass(slots=True)
class Resealed:
    """What sealing anew came to."""

    done: int = 0
    left: int = 0
    """Documents that others held locked all the time."""
    broken: list[UUID] = field(default_factory=list)
    """Registrants whose document cannot be opened; it stays as it is."""


async def standing(pool: asyncpg.Pool, keys: KeyRing) -> Standing:
    """Return which keys wrap and seal what; counts every document, so it takes about a second for some millions."""
    current = await keys.current()
    async with database_errors("counting keys"):
        rows = await pool.fetch(_ABOUT)
        documents = await pool.fetch(_SEALED, timeout=_SLOW)
    return Standing(
        current,
        {row["kek"]: row["live"] for row in rows if row["live"]},
        sum(row["destroyed"] for row in rows),
        tuple(
            {
                "key": row["key_id"],
                "scope": row["scope"],
                "format": row["format"],
                "documents": row["documents"],
            }
            for row in documents
        ),
    )


async def rewrap(pool: asyncpg.Pool, keys: KeyRing, progress: Progress = lambda _done, _all: None) -> int:
    """Have every live data key wrapped by the key-encryption key in use; return how many were.

    No connection is held while a key service is asked. Raises `ConfigError` (`key-file-wrong`) at a key that none of the
    keys at hand opens; those before it are done.
    """
    current = await keys.current()
    done = idle = 0
    async with database_errors("rewrapping data keys"):
        total = await pool.fetchval(_LEFT, current)
        while rows := await pool.fetch(_OLD, current, _KEYS_A_TIME):
            made = [await keys.rewrap(Wrapped(row["kek"], row["wrapped"])) for row in rows]
            if any(each.kek != current for each in made):
                current = await keys.current()  # the service turned to a newer version meanwhile
            changed = await pool.fetch(
                _REWRAP,
                [row["id"] for row in rows],
                [row["kek"] for row in rows],
                [each.sealed for each in made],
                [each.kek for each in made],
            )
            done += len(changed)
            idle = 0 if changed else idle + 1
            if idle == _IDLE:
                raise Defect(f"{len(rows)} data keys stay as they are after {_IDLE} tries to rewrap them.")
            progress(done, max(done, total))
    return done


async def reseal(
    pool: asyncpg.Pool, vault: Vault, progress: Progress = lambda _done, _all: None, *, chunk: int = 1000
) -> Resealed:
    """Seal every registrant's document with this month's data key, in the newest format; `chunk` rows are locked at a time.

    A document that cannot be opened is left as it is and named by id in the result.
    """
    key = await vault.current_key(DOCUMENTS)
    result = Resealed()
    async with database_errors("sealing documents anew"):
        total = await pool.fetchval(_STALE, key.id, FORMAT, [], timeout=_SLOW)
        for number in range(_PASSES):
            await _pass(pool, vault, key, result, chunk, lambda: progress(result.done, total))
            result.left = await pool.fetchval(_STALE, key.id, FORMAT, result.broken, timeout=_SLOW)
            if not result.left:
                break
            await asyncio.sleep(min(0.1 * 2**number, 5))
    return result


async def _pass(
    pool: asyncpg.Pool, vault: Vault, key: DataKey, result: Resealed, chunk: int, told: Callable[[], None]
) -> None:
    """Go once through all documents in the order of ids, telling at most once a second."""
    after = UUID(int=0)
    last = 0.0
    while True:
        async with pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_TAKE, after, key.id, FORMAT, chunk, timeout=_SLOW)
            ids, sealed = [], []
            for row in rows:
                id_ = row["registrant_id"]
                try:
                    used = await vault.key(row["key_id"])
                    opened = used.open(row["sealed"], sealed_place(row["format"], id_))
                except Defect:
                    if id_ not in result.broken:
                        result.broken.append(id_)
                    continue
                ids.append(id_)
                sealed.append(key.seal(opened, sealed_place(FORMAT, id_)))
            await connection.execute(_RESEAL, ids, sealed, key.id, FORMAT)
        result.done += len(ids)
        if not rows:
            told()
            return
        after = rows[-1]["registrant_id"]
        if time.monotonic() - last >= 1:
            last = time.monotonic()
            told()
