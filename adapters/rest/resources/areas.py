"""Areas: the tree of places with their codes (P-codes)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import asyncpg
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Connection, Filter, Resource, Sort, Viewer
from adapters.rest.resources.writing import there_already
from canonical_model.errors import Refused
from registry.people.areas import LOCK

_LEVELS: Final = 20
Code = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s/|#?%]+$")]
Names = Annotated[dict[Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*$")], Annotated[str, Field(min_length=1, max_length=200)]], Field(min_length=1, max_length=50)]  # fmt: skip


class AreaEntry(BaseModel):
    """An area as it is written."""

    model_config = ConfigDict(extra="forbid")

    id: Code = Field(description="Its code (P-code); it cannot be changed.")
    parent: Code | None = Field(None, description="The code of the area it lies in.")
    kind: Annotated[str, Field(max_length=100)] | None = None
    names: Names = Field(description="Its name by language tag.")
    alt_names: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=50)] = []
    area_sqkm: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] | None = None
    active: bool = True


class Area(BaseModel):
    """An area."""

    id: str
    parent: str | None
    level: int = Field(description="0 for a root.")
    kind: str | None
    names: dict[str, str]
    alt_names: list[str]
    area_sqkm: float | None
    active: bool
    version: int
    updated_at: datetime


class _Areas:
    async def create(self, connection: Connection, viewer: Viewer, entry: AreaEntry) -> str:
        parent = await _parent(connection, entry)
        try:
            async with connection.transaction():
                number = await connection.fetchval("SELECT nextval(pg_get_serial_sequence('area', 'id'))")
                await connection.execute(
                    "INSERT INTO area (id, code, parent_id, path, level, kind, names, alt_names, area_sqkm, active) "
                    "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
                    number, entry.id, parent["id"] if parent else None,
                    [*(parent["path"] if parent else ()), number], parent["level"] + 1 if parent else 0,
                    entry.kind, entry.names, entry.alt_names, entry.area_sqkm, entry.active,
                )  # fmt: skip
        except asyncpg.UniqueViolationError:
            raise there_already("area") from None
        return entry.id

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: AreaEntry, seen: Mapping[str, Any]
    ) -> None:
        if entry.id != key:
            raise _wrong("/id", "The code of an area cannot be changed")
        # Moves of two branches at once could make a circle; they are rare, so they follow each other.
        await connection.execute(LOCK)
        row = await connection.fetchrow("SELECT id, path, level FROM area WHERE code = $1", key)
        assert row is not None  # its row is locked
        parent = await _parent(connection, entry)
        if parent is not None and row["id"] in parent["path"]:
            raise _wrong("/parent", "An area cannot lie in itself or in an area within it")
        level = parent["level"] + 1 if parent else 0
        below = await connection.fetchval(
            "SELECT max(level) FROM area WHERE path @> ARRAY[$1::int]", row["id"]
        )
        if below - row["level"] + level > _LEVELS:
            raise _wrong("/parent", f"The tree would have more than {_LEVELS} levels")
        await connection.execute(
            "UPDATE area SET parent_id = $2, kind = $3, names = $4, alt_names = $5, area_sqkm = $6, active = $7 "
            "WHERE id = $1",
            row["id"], parent["id"] if parent else None, entry.kind, entry.names, entry.alt_names,
            entry.area_sqkm, entry.active,
        )  # fmt: skip
        await connection.execute(
            "UPDATE area SET path = $2::int[] || path[$3:], level = level + $4 WHERE path @> ARRAY[$1::int]",
            row["id"],
            list(parent["path"]) if parent else [],
            row["level"] + 1,
            level - row["level"],
        )

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        try:
            async with connection.transaction():
                await connection.execute("DELETE FROM area WHERE code = $1", key)
        except asyncpg.ForeignKeyViolationError:
            raise Refused(
                "The area is still needed: other areas or registrants lie in it. Nothing was changed.",
                code="resource-in-use",
                remedy="Move what lies in it, or set active to false.",
            ) from None


async def _parent(connection: Connection, entry: AreaEntry) -> asyncpg.Record | None:
    if entry.parent is None:
        return None
    found = await connection.fetchrow(
        "SELECT id, path, level FROM area WHERE code = $1 FOR SHARE", entry.parent
    )
    if found is None:
        raise _wrong("/parent", "There is no area with this code")
    if found["level"] >= _LEVELS:
        raise _wrong("/parent", f"The tree would have more than {_LEVELS} levels")
    return found


def _wrong(pointer: str, what: str) -> RequestRefused:
    return RequestRefused(f"{what}. Nothing was changed.", code="request-invalid", pointer=pointer)


AREAS: Final = Resource(
    name="areas",
    one="area",
    tag="areas",
    model=Area,
    select="""SELECT a.code AS id, p.code AS parent, a.level, a.kind, a.names, a.alt_names, a.area_sqkm, a.active, a.version,
    a.updated_at
FROM area a LEFT JOIN area p ON p.id = a.parent_id""",
    key="a.code",
    key_kind="text",
    version="a.version",
    locks="a",
    not_found="area-not-found",
    read=Scope.AREAS_READ,
    write=Scope.AREAS_WRITE,
    filters={
        "parent": Filter("p.code = {}", str, "Areas that lie directly in this one."),
        "within": Filter(
            "a.path @> (SELECT ARRAY[w.id] FROM area w WHERE w.code = {})",
            str,
            "This area and all within it.",
        ),
        "level": Filter("a.level = {}", int, "Areas of this level."),
        "kind": Filter("a.kind = {}", str, "Areas of this kind."),
        "active": Filter("a.active = {}", bool, "Whether they are in use."),
    },
    sorts={"id": Sort("a.code", "text"), "updated_at": Sort("a.updated_at", "timestamptz")},
    entry=AreaEntry,
    store=_Areas(),
    refusals=("resource-in-use",),
    deletable=True,
)
