"""Replacing the key-encryption key, and sealing every value anew with a fresh data key, while the hub runs.

Both go on where they stopped: what is left to do is told by the rows themselves, so a break at any instant loses nothing,
and two who rotate at once only share the work.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from canonical_model.errors import Defect
from registry.storage.database import database_errors
from registry.vault.cipher import FORMAT, DataKey
from registry.vault.keys import Vault
from registry.vault.sealed import SEALED, SealedColumn
from registry.vault.service import KeyRing, Wrapped

_KEYS_A_TIME: Final = 100
_PASSES: Final = 20
_IDLE: Final = 3
_SLOW: Final = 300.0
_ABOUT: Final = """
SELECT kek, count(*) FILTER (WHERE wrapped IS NOT NULL) AS live, count(*) FILTER (WHERE wrapped IS NULL) AS destroyed
FROM data_key GROUP BY kek ORDER BY kek
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
_COUNT: Final = """
SELECT v.key_id, k.scope, v.format, v.number, k.wrapped IS NULL AND k.id IS NOT NULL AS destroyed
FROM (SELECT {key} AS key_id, {form} AS format, count(*) AS number FROM {table} WHERE {column} IS NOT NULL GROUP BY 1, 2) v
LEFT JOIN data_key k ON k.id = v.key_id ORDER BY v.key_id, v.format
"""
# Rows that somebody is writing just now are left for the next pass: waiting for them here could make others wait in a circle.
_TAKE: Final = """
SELECT {primary}, {key} AS sealed_key, {column} AS sealed_value{form} FROM {table}
WHERE {column} IS NOT NULL AND ({key} = ANY ($1::bigint[]){old_form}){after} ORDER BY {primary} LIMIT {limit}
FOR UPDATE SKIP LOCKED
"""
_WRITE: Final = """
UPDATE {table} v SET {key} = n.sealed_key, {column} = n.sealed_value{form}
FROM unnest({arrays}) AS n ({primary}, sealed_key, sealed_value) WHERE {same}
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
    sealed: tuple[dict[str, Any], ...]
    """Sealed values by `column` (with its table), data key (`key`, `scope`) and `format`: how many (`values`), and whether
    `hub keys rotate --data` would seal them anew (`stale`)."""

    @property
    def left(self) -> int:
        """Data keys that another key-encryption key still wraps."""
        return sum(number for kek, number in self.wrapped.items() if kek != self.kek)

    @property
    def stale(self) -> int:
        """Values that are not sealed with this month's data key."""
        return sum(each["values"] for each in self.sealed if each["stale"])


@dataclass(slots=True)
class Resealed:
    """What sealing anew came to."""

    done: int = 0
    left: int = 0
    """Values that others held locked all the time."""
    broken: list[str] = field(default_factory=list)
    """Values that cannot be opened, as `table.column key`; they stay as they are."""
    columns: dict[str, int] = field(default_factory=dict)
    """How many were sealed anew of each column."""


async def standing(pool: asyncpg.Pool, keys: KeyRing) -> Standing:
    """Return which keys wrap and seal what; counts every value, so it takes about a second for some millions."""
    current = await keys.current()
    sealed = []
    async with database_errors("counting keys"):
        rows = await pool.fetch(_ABOUT)
        for column in SEALED:
            for row in await pool.fetch(_count(column), timeout=_SLOW):
                sealed.append(
                    {
                        "column": column.name,
                        "key": row["key_id"],
                        "scope": row["scope"],
                        "format": row["format"],
                        "values": row["number"],
                        "stale": not row["destroyed"]
                        and (not Vault.is_current(row["scope"], column.table) or row["format"] != FORMAT),
                    }
                )
    return Standing(
        current,
        {row["kek"]: row["live"] for row in rows if row["live"]},
        sum(row["destroyed"] for row in rows),
        tuple(sealed),
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
    pool: asyncpg.Pool,
    vault: Vault,
    progress: Progress = lambda _done, _all: None,
    *,
    chunk: int = 1000,
    columns: Sequence[SealedColumn] = SEALED,
) -> Resealed:
    """Seal every value of every sealed column with this month's data key; `chunk` rows are locked at a time.

    What is sealed with a key that has a retention gets one that is destroyed on the same day. A value that cannot be
    opened is left as it is and named in the result; one whose key was destroyed is gone already.
    """
    result = Resealed()
    async with database_errors("sealing values anew"):
        total = sum([await _stale(pool, column) for column in columns])
        for column in columns:
            work = _Column(pool, vault, column, result, chunk, lambda: progress(result.done, total))
            await work.run()
        progress(result.done, max(total, result.done))
    return result


async def _stale(pool: asyncpg.Pool, column: SealedColumn) -> int:
    return sum(
        row["number"]
        for row in await pool.fetch(_count(column), timeout=_SLOW)
        if not row["destroyed"]
        and (not Vault.is_current(row["scope"], column.table) or row["format"] != FORMAT)
    )


def _count(column: SealedColumn) -> str:
    return _COUNT.format(
        key=column.key, form=column.form or f"{FORMAT}", table=column.table, column=column.column
    )


class _Column:
    """Seals the values of one column anew."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        column: SealedColumn,
        result: Resealed,
        chunk: int,
        told: Callable[[], None],
    ) -> None:
        self._pool, self._vault, self._column = pool, vault, column
        self._result, self._chunk, self._told = result, chunk, told
        self._broken: set[tuple[Any, ...]] = set()
        self._last = 0.0

    async def run(self) -> None:
        """Go over the column until nothing is left but what others hold."""
        left = 0
        for number in range(_PASSES):
            keys = await self._keys()
            await self._pass(keys)
            left = await _stale(self._pool, self._column) - len(self._broken)
            if left <= 0:
                break
            await asyncio.sleep(min(0.1 * 2**number, 5))
        self._result.left += max(left, 0)

    async def _keys(self) -> Mapping[int, DataKey | None]:
        """Return the key that takes the place of each one in use, None for one that is lost; destroyed ones are not named."""
        found: dict[int, DataKey | None] = {}
        for row in await self._pool.fetch(_count(self._column), timeout=_SLOW):
            if row["scope"] is None:
                found[row["key_id"]] = None
            elif not row["destroyed"]:
                found[row["key_id"]] = await self._vault.successor(row["key_id"], self._column.table)
        return found

    async def _pass(self, keys: Mapping[int, DataKey | None]) -> None:
        """Go once through all values in the order of the primary key, telling at most once a second."""
        column = self._column
        names = list(column.primary)
        listed = ", ".join(names)
        take = {
            "primary": listed,
            "key": column.key,
            "column": column.column,
            "table": column.table,
            "limit": self._chunk,
            "form": f", {column.form}" if column.form else "",
            "old_form": f" OR {column.form} <> {FORMAT}" if column.form else "",
        }
        bounds = ", ".join(f"${place + 2}::{kind}" for place, kind in enumerate(column.primary.values()))
        first = _TAKE.format(**take, after="")
        next_ = _TAKE.format(**take, after=f" AND ({listed}) > ({bounds})")
        kinds = [*column.primary.values(), "bigint", "bytea"]
        write = _WRITE.format(
            table=column.table,
            key=column.key,
            column=column.column,
            primary=listed,
            form=f", {column.form} = {FORMAT}" if column.form else "",
            arrays=", ".join(f"${place + 1}::{kind}[]" for place, kind in enumerate(kinds)),
            same=" AND ".join(f"v.{name} = n.{name}" for name in names),
        )
        stale = [old for old, new in keys.items() if new is None or new.id != old]
        after: tuple[Any, ...] = ()
        while True:
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(next_ if after else first, stale, *after, timeout=_SLOW)
                made = []
                for row in rows:
                    primary = tuple(row[name] for name in names)
                    value = await self._again(row, primary, keys)
                    if value is not None:
                        made.append((*primary, *value))
                if made:
                    await connection.execute(write, *(list(each) for each in zip(*made, strict=True)))
            self._result.done += len(made)
            self._result.columns[column.name] = self._result.columns.get(column.name, 0) + len(made)
            if not rows:
                self._told()
                return
            after = tuple(rows[-1][name] for name in names)
            if time.monotonic() - self._last >= 1:
                self._last = time.monotonic()
                self._told()

    async def _again(
        self, row: asyncpg.Record, primary: tuple[Any, ...], keys: Mapping[int, DataKey | None]
    ) -> tuple[int, bytes] | None:
        key = keys.get(row["sealed_key"])
        try:
            if key is None:
                raise Defect(f"Data key {row['sealed_key']} is not there.")
            used = await self._vault.key(row["sealed_key"])
            opened = used.open(row["sealed_value"], self._column.place(dict(row)))
        except Defect:
            if primary not in self._broken:
                self._broken.add(primary)
                self._result.broken.append(f"{self._column.name} {' '.join(map(_shown, primary))}")
            return None
        return key.id, key.seal(opened, self._column.new_place(dict(row)))


def _shown(part: object) -> str:
    return part.hex() if isinstance(part, bytes) else str(part)
