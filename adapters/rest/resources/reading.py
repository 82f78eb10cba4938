"""Reading a resource: one entry by its key, pages by keyset, the whole as a stream."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from pydantic import BaseModel

from adapters.http.problems import RequestRefused
from adapters.rest.resources.cursor import read_cursor, write_cursor
from adapters.rest.resources.declaration import Args, Connection, Resource, Viewer, value_of
from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.storage.database import database_errors
from registry.vault import BlindIndex

LIMIT: Final = 200
CHUNK: Final = 1000
"""Rows a stream holds at once."""
_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a list is wanted: filters by name, the sort key and its direction, how many, from where."""

    filters: Mapping[str, Any]
    sort: str
    down: bool
    limit: int
    cursor: str | None
    elements: tuple[str, ...] | None


def wanted(resource: Resource, query: BaseModel | None) -> Wanted:
    """Return what a checked query asks for; raises `RequestRefused` (`query-parameter-invalid`)."""
    given = {} if query is None else query.model_dump(exclude_none=True)
    sort = str(given.pop("sort_", next(iter(resource.sorts))))
    down = sort.startswith("-")
    name = sort.removeprefix("-")
    if name not in resource.sorts:
        raise _wrong(
            "_sort", f"sort by one of {', '.join(sorted(resource.sorts))}, with - before it for descending"
        )
    return Wanted(
        filters={name: value for name, value in given.items() if name in resource.filters},
        sort=name,
        down=down,
        limit=int(given.get("limit", 50)),
        cursor=given.get("cursor"),
        elements=elements_of(resource, given.get("elements_")),
    )


def elements_of(resource: Resource, text: str | None) -> tuple[str, ...] | None:
    """Return the members an answer shall hold, its key always among them."""
    if text is None:
        return None
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in resource.members]:
        raise _wrong(
            "_elements", f"{len(unknown)} of them do not exist; there are {', '.join(resource.members)}"
        )
    return ("id", *(name for name in names if name != "id"))


class Reading:
    """Reads resources from one database."""

    def __init__(self, pool: asyncpg.Pool, blind: BlindIndex) -> None:
        self._pool, self._blind = pool, blind

    async def one(
        self,
        resource: Resource,
        viewer: Viewer,
        text: str,
        *,
        connection: Connection | None = None,
        lock: bool = False,
        written: bool = False,
    ) -> dict[str, Any]:
        """Return one entry a viewer may see; raises `Refused` with the resource's own code.

        Of an entry just `written` the trace of the write tells, and what it is seen under is the resource's `stays`.
        """
        key = self.key(resource, text)
        args = Args(key)
        parts = [f"{resource.key} = $1"]
        visible = resource.stays if written and resource.stays is not None else resource.visible
        condition = visible(viewer, args) if visible is not None else None
        if condition is not None:
            parts.append(f"({condition})")
        held = f" FOR UPDATE OF {resource.locks}" if lock and resource.locks else ""
        statement = f"{resource.select} WHERE {' AND '.join(parts)}{held}"
        async with database_errors(f"reading {resource.name}"):
            try:
                row = await (connection or self._pool).fetchrow(statement, *args.values, timeout=_SECONDS)
            except asyncpg.DataError:
                # No value of the database's type can be meant.
                raise not_found(resource) from None
        # Within a write the pool's other connections are left to others: the trace of the write tells what was read.
        if resource.witness is not None and not written and not lock:
            await resource.witness(
                self._pool, viewer, [key] if row is None else [row[resource.person]], row is not None
            )
        if row is None:
            raise not_found(resource)
        return _shaped(resource, dict(row))

    async def seen(
        self, resource: Resource, viewer: Viewer, keys: Sequence[UUID], connection: Connection
    ) -> list[UUID]:
        """Return keys for a deed over a list: those a viewer may not see become keys of nothing, and count as such."""
        args = Args(list(keys))
        condition = resource.visible(viewer, args) if resource.visible is not None else None
        if condition is None:
            return list(keys)
        _, _, rest = resource.select.partition("\nFROM ")
        rows = await connection.fetch(
            f"SELECT {resource.key} AS key FROM {rest} WHERE {resource.key} = ANY ($1) AND ({condition})",
            *args.values,
            timeout=_SECONDS,
        )
        known = {row["key"] for row in rows}
        return [key if key in known else uuid7() for key in keys]

    def key(self, resource: Resource, text: str) -> Any:
        """Return a key as the driver takes it; a text that is none is answered like one that is not there."""
        try:
            return value_of(resource.key_kind, text)
        except ValueError:
            raise not_found(resource) from None

    async def page(
        self, resource: Resource, viewer: Viewer, asked: Wanted
    ) -> tuple[Sequence[dict[str, Any]], str | None]:
        """Return one page and the cursor of the next, None at the end."""
        about = _about(resource, viewer, asked)
        place = None if asked.cursor is None else read_cursor(self._blind, about, asked.cursor)
        rows, following = await self._rows(resource, viewer, asked, place, asked.limit)
        if resource.witness is not None and rows:
            await resource.witness(self._pool, viewer, [row[resource.person] for row in rows], True)
        cursor = None if following is None else write_cursor(self._blind, about, following)
        return [_shown(resource, row, asked.elements) for row in rows], cursor

    async def stream(
        self, resource: Resource, viewer: Viewer, asked: Wanted
    ) -> AsyncIterator[Sequence[dict[str, Any]]]:
        """Yield every entry that fits, a thousand at a time; each chunk is a short statement of its own."""
        place = None
        if asked.cursor is not None:
            place = read_cursor(self._blind, _about(resource, viewer, asked), asked.cursor)
        while True:
            rows, place = await self._rows(resource, viewer, asked, place, CHUNK)
            if rows:
                if resource.witness is not None:
                    await resource.witness(self._pool, viewer, [row[resource.person] for row in rows], True)
                yield [_shown(resource, row, asked.elements) for row in rows]
            if place is None:
                return

    async def _rows(
        self, resource: Resource, viewer: Viewer, asked: Wanted, place: Sequence[Any] | None, limit: int
    ) -> tuple[list[dict[str, Any]], list[Any] | None]:
        """Return rows of the list after a place, and the place of the last where more follow."""
        args = Args()
        parts = []
        for name, value in asked.filters.items():
            each = resource.filters[name]
            parts.append(each.sql.format(args.add(value if each.convert is None else each.convert(value))))
        condition = resource.visible(viewer, args) if resource.visible is not None else None
        if condition is not None:
            parts.append(f"({condition})")
        sort, turn = resource.sorts[asked.sort], "<" if asked.down else ">"
        if place is not None:
            first = args.add(value_of(sort.kind, place[0]), sort.kind)
            second = args.add(value_of(resource.key_kind, place[1]), resource.key_kind)
            parts.append(f"({sort.sql}, {resource.key}) {turn} ({first}, {second})")
        direction = "DESC" if asked.down else "ASC"
        where = f" WHERE {' AND '.join(parts)}" if parts else ""
        columns, _, rest = resource.select.partition("\nFROM ")
        statement = (
            f"{columns}, {sort.sql} AS sort_place, {resource.key} AS key_place FROM {rest}{where} "
            f"ORDER BY {sort.sql} {direction}, {resource.key} {direction} LIMIT {limit + 1}"
        )
        async with database_errors(f"listing {resource.name}"):
            try:
                rows = await self._pool.fetch(statement, *args.values, timeout=_SECONDS)
            except asyncpg.DataError:
                raise RequestRefused(
                    "A filter has a value the database cannot hold. Nothing was searched.",
                    code="filter-invalid",
                    remedy="Correct the filter; /openapi.json says what each takes.",
                ) from None
        found = [dict(row) for row in rows]
        places = [[row.pop("sort_place"), row.pop("key_place")] for row in found]
        more = len(found) > limit
        return found[:limit], places[limit - 1] if more else None


def not_found(resource: Resource) -> Refused:
    """Return the one answer about what is not there and what a viewer may not see."""
    return Refused(
        f"There is no such {resource.one} that you may see.",
        code=resource.not_found,
        remedy="Check the id; if it is right, ask the operator of the hub what you may see.",
    )


def _about(resource: Resource, viewer: Viewer, asked: Wanted) -> bytes:
    """Return what makes a list this one: who asks for what, by which filters, in which order."""
    text = orjson.dumps(
        [
            resource.name, viewer.name, viewer.purpose,
            # As text: a number may be longer than JSON has them here.
            {name: str(value) for name, value in asked.filters.items()},
            asked.sort, asked.down,
        ],
        option=orjson.OPT_SORT_KEYS,
    )  # fmt: skip
    return hashlib.sha256(text).digest()


def _shaped(resource: Resource, row: dict[str, Any]) -> dict[str, Any]:
    return row if resource.shape is None else resource.shape(row)


def _shown(resource: Resource, row: dict[str, Any], elements: tuple[str, ...] | None) -> dict[str, Any]:
    whole = _shaped(resource, row)
    return whole if elements is None else {name: whole[name] for name in elements}


def _wrong(name: str, rule: str) -> RequestRefused:
    return RequestRefused(
        f"The query parameter {name} is wrong: {rule}. Nothing was done.",
        code="query-parameter-invalid",
        remedy="Correct the parameter; /openapi.json says what it takes.",
        places=({"parameter": name, "detail": rule},),
    )
