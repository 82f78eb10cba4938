"""Areas: the tree of a country's provinces, districts and so on, by P-code, and the file it is loaded from."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from registry.people.reading import WAIT
from registry.storage.database import database_errors

DEPTH_LIMIT: Final = 21
ROWS_LIMIT: Final = 500_000
LOCK: Final = "SELECT pg_advisory_xact_lock(1347568464)"
_ALL: Final = "SELECT id, code, parent_id, path, level, kind, names, alt_names, area_sqkm, active FROM area"
_IDS: Final = "SELECT nextval(pg_get_serial_sequence('area', 'id'))::int FROM generate_series(1, $1)"
_COLUMNS: Final = "$1::int[], $2::text[], $3::int[], $4::text[], $5::int[], $6::text[], $7::jsonb[], $8::text[], $9::float8[], $10::bool[]"
_NAMES: Final = "id, code, parent_id, path, level, kind, names, alt_names, area_sqkm, active"
_INSERT: Final = f"""
INSERT INTO area ({_NAMES})
SELECT id, code, parent_id, path::int[], level, kind, names, alt_names::text[], area_sqkm, active
FROM unnest({_COLUMNS}) AS t ({_NAMES})
"""
_UPDATE: Final = f"""
UPDATE area a SET parent_id = t.parent_id, path = t.path::int[], level = t.level, kind = t.kind, names = t.names,
    alt_names = t.alt_names::text[], area_sqkm = t.area_sqkm, active = t.active, updated_at = now()
FROM unnest({_COLUMNS}) AS t ({_NAMES}) WHERE a.id = t.id
"""
_GET: Final = f"SELECT {', '.join('a.' + each for each in _NAMES.split(', '))}, p.code AS parent_code FROM area a LEFT JOIN area p ON p.id = a.parent_id"
_SUBTREE: Final = "SELECT id FROM area WHERE path @> ARRAY[(SELECT id FROM area WHERE code = $1)]"

Connection = asyncpg.Connection | PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class AreaRow:
    """One area as a file or a caller describes it; what is None stays as it was."""

    code: str
    names: Mapping[str, str] = field(default_factory=dict)
    parent_code: str | None = None
    level: int | None = None
    kind: str | None = None
    alt_names: tuple[str, ...] | None = None
    area_sqkm: float | None = None
    active: bool | None = None
    row: int | None = None
    """The line of the file, for problems."""


@dataclass(frozen=True, slots=True)
class Area:
    """One area in the tree; `path` are the ids from the root to the area itself."""

    id: int
    code: str
    parent_id: int | None
    path: tuple[int, ...]
    level: int
    kind: str | None
    names: Mapping[str, str]
    alt_names: tuple[str, ...]
    area_sqkm: float | None
    active: bool
    parent_code: str | None = None


@dataclass(frozen=True, slots=True)
class AreaChanges:
    """What an import does to the tree."""

    created: int = 0
    changed: int = 0
    moved: int = 0
    """Of the changed ones, those that lie elsewhere now, with everything in them."""
    unchanged: int = 0


class Areas:
    """The tree of areas; every method raises `Unavailable` when the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def get(self, code: str) -> Area | None:
        """Return the area with this P-code, None when there is none."""
        async with database_errors("reading an area"), asyncio.timeout(WAIT):
            row = await self._pool.fetchrow(f"{_GET} WHERE a.code = $1", code)
        return None if row is None else _area(row)

    async def list(
        self,
        *,
        within: str | None = None,
        level: int | None = None,
        after: str = "",
        limit: int = 200,
        inactive: bool = False,
    ) -> Sequence[Area]:
        """Return areas by code, at most `limit` behind the code `after`; `within` keeps those in one area, itself included.

        Raises `Refused` (`area-unknown`) when there is no area `within`.
        """
        async with database_errors("reading areas"), asyncio.timeout(WAIT):
            place = None if within is None else await _id(self._pool, within)
            rows = await self._pool.fetch(
                f"{_GET} WHERE a.code > $1 AND ($2::int IS NULL OR a.path @> ARRAY[$2]) AND ($3::int IS NULL OR a.level = $3) "
                "AND (a.active OR $5) ORDER BY a.code LIMIT $4",
                after, place, level, limit, inactive,
            )  # fmt: skip
        return [_area(row) for row in rows]

    async def subtree(self, code: str) -> Sequence[int]:
        """Return the ids of an area and of all areas in it; none when there is no such area."""
        async with database_errors("reading areas"), asyncio.timeout(WAIT):
            return [row["id"] for row in await self._pool.fetch(_SUBTREE, code)]

    async def move(self, code: str, parent_code: str | None) -> AreaChanges:
        """Put an area with everything in it under another parent, or at the root.

        Raises `Refused`: `area-unknown`, `areas-invalid` when it would lie in itself.
        """
        async with (
            database_errors("moving an area"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            tree = await _Tree.read(connection)
            for each in (code, parent_code):
                if each is not None and each not in tree.areas:
                    raise unknown(each)
            tree.place(code, parent_code)
            return await tree.write(connection)

    async def put(self, rows: Sequence[AreaRow], *, dry_run: bool = False) -> AreaChanges:
        """Make and change areas in any order of rows; all of them are taken, or none.

        A row's parent is one of the rows or an area there is. Raises `Refused` (`areas-invalid`) that names up to ten
        rows and what is wrong with each.
        """
        if len(rows) > ROWS_LIMIT:
            raise invalid([f"there are more than {ROWS_LIMIT} rows"])
        async with (
            database_errors("writing areas"),
            self._pool.acquire(timeout=WAIT) as connection,
            connection.transaction(),
        ):
            tree = await _Tree.read(connection)
            tree.merge(rows)
            return await tree.write(connection, dry_run=dry_run)


def unknown(code: str) -> Refused:
    """Return the refusal of a code no area has."""
    return Refused(
        f"There is no area with the code {code!r}.",
        code="area-unknown",
        remedy="`hub areas list` shows the codes; `hub areas import` loads a file of them.",
    )


def invalid(problems: Iterable[str]) -> Refused:
    """Return the refusal of a tree that cannot be."""
    found = list(problems)
    more = f"; and {len(found) - 10} more" if len(found) > 10 else ""
    return Refused(
        f"The areas cannot be taken: {'; '.join(found[:10])}{more}. Nothing was changed.",
        code="areas-invalid",
        remedy="Correct the rows named, then import the file again; with --dry-run nothing is written.",
    )


class _Tree:
    """All areas in memory while some of them change; a country has some ten thousand."""

    def __init__(self, areas: dict[str, Area]) -> None:
        self.areas = areas
        self._held = dict(areas)
        self._parents = {area.code: area.parent_code for area in areas.values()}

    @classmethod
    async def read(cls, connection: Connection) -> _Tree:
        await connection.execute(LOCK)
        rows = await connection.fetch(_ALL)
        codes = {row["id"]: row["code"] for row in rows}
        return cls({row["code"]: _area(row, codes.get(row["parent_id"])) for row in rows})

    def merge(self, rows: Sequence[AreaRow]) -> None:
        """Take over rows; raises `Refused` for a tree that cannot be."""
        problems: list[str] = []
        seen: set[str] = set()
        for given in rows:
            if given.code in seen:
                problems.append(f"{_at(given)} has the code {given.code!r} a second time")
            seen.add(given.code)
            held = self.areas.get(given.code)
            if held is None and not given.names:
                problems.append(f"{_at(given)} has no name")
            self.areas[given.code] = _merged(given, held)
            if given.parent_code is not None or held is None:
                self._parents[given.code] = given.parent_code
        for given in rows:
            parent = self._parents[given.code]
            if parent is not None and parent not in self.areas:
                problems.append(f"{_at(given)} has a parent {parent!r} that is neither in the file nor there")
        if problems:
            raise invalid(problems)
        levels = {code: len(chain) - 1 for code, chain in self._chains().items()}
        problems = [
            f"{_at(given)} has level {given.level}, and its parents make it level {levels[given.code]}"
            for given in rows
            if given.level is not None and given.level != levels[given.code]
        ]
        if problems:
            raise invalid(problems)

    def place(self, code: str, parent_code: str | None) -> None:
        """Put an area under another parent."""
        self._parents[code] = parent_code

    def _chains(self) -> dict[str, list[str]]:
        """Return for each area the codes from the root to it; raises `Refused` for a circle or a tree too deep."""
        chains: dict[str, list[str]] = {}
        for code in self.areas:
            line: list[str] = []
            at: str | None = code
            while at is not None and at not in chains:
                if at in line or len(line) > DEPTH_LIMIT:
                    raise invalid([f"the area {code!r} would lie in itself, or too deep"])
                line.append(at)
                at = self._parents[at]
            for each in reversed(line):
                parent = self._parents[each]
                chains[each] = [*(chains[parent] if parent is not None else ()), each]
                if len(chains[each]) > DEPTH_LIMIT:
                    raise invalid([f"the area {each!r} would lie more than {DEPTH_LIMIT} levels deep"])
        return chains

    async def write(self, connection: Connection, *, dry_run: bool = False) -> AreaChanges:
        """Write what differs from what was read, and say what that is."""
        chains = self._chains()
        new = [code for code in self.areas if code not in self._held]
        ids = {code: area.id for code, area in self._held.items()}
        if new:
            # A dry run takes numbers of the sequence too, which may have gaps.
            ids |= dict(zip(new, (row[0] for row in await connection.fetch(_IDS, len(new))), strict=True))
        made, changed, moved = [], [], 0
        for code, area in self.areas.items():
            parent = self._parents[code]
            placed = replace(
                area,
                id=ids[code],
                parent_id=None if parent is None else ids[parent],
                parent_code=parent,
                path=tuple(ids[each] for each in chains[code]),
                level=len(chains[code]) - 1,
            )
            held = self._held.get(code)
            if held is None:
                made.append(placed)
            elif placed != held:
                changed.append(placed)
                moved += placed.parent_id != held.parent_id
        if not dry_run:
            for rows, statement in ((made, _INSERT), (changed, _UPDATE)):
                if rows:
                    await connection.execute(statement, *_columns(rows))
        return AreaChanges(len(made), len(changed), moved, len(self._held) - len(changed))


def _merged(given: AreaRow, held: Area | None) -> Area:
    base = held or Area(0, given.code, None, (), 0, None, {}, (), None, True)
    return replace(
        base,
        names={**base.names, **given.names},
        kind=base.kind if given.kind is None else given.kind,
        alt_names=base.alt_names if given.alt_names is None else given.alt_names,
        area_sqkm=base.area_sqkm if given.area_sqkm is None else given.area_sqkm,
        active=base.active if given.active is None else given.active,
    )


def _columns(rows: Sequence[Area]) -> tuple[list[Any], ...]:
    return (
        [row.id for row in rows],
        [row.code for row in rows],
        [row.parent_id for row in rows],
        [f"{{{','.join(map(str, row.path))}}}" for row in rows],
        [row.level for row in rows],
        [row.kind for row in rows],
        [dict(row.names) for row in rows],
        [_texts(row.alt_names) for row in rows],
        [row.area_sqkm for row in rows],
        [row.active for row in rows],
    )


def _texts(values: Iterable[str]) -> str:
    """Return texts as an array literal."""
    quoted = ('"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values)
    return f"{{{','.join(quoted)}}}"


def _at(given: AreaRow) -> str:
    return f"the area {given.code!r}" if given.row is None else f"row {given.row}"


def _area(row: asyncpg.Record, parent_code: str | None = None) -> Area:
    said = dict(row)
    return Area(
        **{
            **said,
            "path": tuple(said["path"]),
            "alt_names": tuple(said["alt_names"]),
            "parent_code": said.get("parent_code", parent_code),
        }
    )


async def _id(pool: asyncpg.Pool, code: str) -> int:
    found = await pool.fetchval("SELECT id FROM area WHERE code = $1", code)
    if found is None:
        raise unknown(code)
    return int(found)
