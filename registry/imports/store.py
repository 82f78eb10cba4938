"""What imports keep in the database: saved mappings, and the rows that were not taken, sealed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from registry.imports.columns import ColumnMapping
from registry.imports.files import Problem
from registry.imports.templates import TEMPLATES
from registry.storage.database import database_errors
from registry.vault import Vault, aad

Connection = asyncpg.Connection | PoolConnectionProxy
_PAGE: Final = 500
_SAVE: Final = """
INSERT INTO import_mapping (name, mapping, actor) VALUES ($1, $2, $3)
ON CONFLICT (name) DO UPDATE SET mapping = excluded.mapping, actor = excluded.actor, updated_at = now()
"""
_KEEP: Final = """
INSERT INTO import_problem (job_id, row_number, key_id, sealed, problems)
SELECT $1, n, $2, s, p::jsonb FROM unnest($3::int[], $4::bytea[], $5::text[]) AS t (n, s, p)
ON CONFLICT (job_id, row_number) DO UPDATE SET key_id = excluded.key_id, sealed = excluded.sealed,
    problems = excluded.problems
"""


@dataclass(frozen=True, slots=True)
class Untaken:
    """One row that was not taken: its number, its cells as the file has them, and why."""

    number: int
    cells: Sequence[Any]
    problems: Sequence[Problem]


class ImportStore:
    """Saved mappings by name and the rows of a job that were not taken."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault

    async def save(self, mapping: ColumnMapping, actor: str) -> None:
        """Keep a mapping by its name; raises `Refused` (`import-mapping-builtin`) for a name that comes with the hub."""
        if mapping.name in TEMPLATES:
            raise Refused(
                f"The mapping {mapping.name} comes with the hub and cannot be replaced. Nothing was saved.",
                code="import-mapping-builtin",
                remedy="Save it under another name.",
            )
        async with database_errors("saving a mapping"):
            await self._pool.execute(_SAVE, mapping.name, mapping.model_dump(mode="json"), actor)

    async def get(self, name: str) -> ColumnMapping:
        """Return a mapping by name; raises `Refused` (`import-mapping-missing`)."""
        if name in TEMPLATES:
            return TEMPLATES[name]
        async with database_errors("reading a mapping"):
            found = await self._pool.fetchval("SELECT mapping FROM import_mapping WHERE name = $1", name)
        if found is None:
            raise Refused(
                f"There is no mapping {name[:63]}. Nothing was read.",
                code="import-mapping-missing",
                remedy="See `hub import mappings`, or let `hub import suggest FILE --save NAME` make one.",
            )
        return ColumnMapping.model_validate_json(orjson.dumps(found))

    async def names(self) -> list[tuple[str, str, bool]]:
        """Return name, kind and whether it comes with the hub, of every mapping."""
        async with database_errors("listing mappings"):
            rows = await self._pool.fetch(
                "SELECT name, mapping->>'kind' AS kind FROM import_mapping ORDER BY name LIMIT 1000"
            )
        return [
            *((one.name, one.kind.value, True) for one in TEMPLATES.values()),
            *((row["name"], row["kind"], False) for row in rows),
        ]

    async def remove(self, name: str) -> bool:
        """Forget a saved mapping; say whether there was one."""
        async with database_errors("removing a mapping"):
            done = await self._pool.execute("DELETE FROM import_mapping WHERE name = $1", name)
        return bool(done.endswith("1"))

    async def keep(self, connection: Connection, job_id: UUID, rows: Sequence[Untaken]) -> None:
        """Keep rows that were not taken, in the caller's transaction."""
        if not rows:
            return
        key = await self._vault.current_key("import_problem")
        await connection.execute(
            _KEEP,
            job_id,
            key.id,
            [row.number for row in rows],
            [
                key.seal(orjson.dumps(list(row.cells), default=str), _bound(job_id, row.number))
                for row in rows
            ],
            [
                orjson.dumps(
                    [{"code": one.code, "column": one.column, "detail": one.detail} for one in row.problems]
                ).decode()
                for row in rows
            ],
        )

    async def kept(self, job_id: UUID) -> AsyncIterator[Untaken]:
        """Yield the rows of a job that were not taken, in the order of the file."""
        after = 0
        while True:
            async with database_errors("reading rows that were not taken"):
                rows = await self._pool.fetch(
                    "SELECT row_number, key_id, sealed, problems FROM import_problem WHERE job_id = $1 AND row_number > $2 "
                    f"ORDER BY row_number LIMIT {_PAGE}",
                    job_id,
                    after,
                )
            for row in rows:
                after = row["row_number"]
                key = await self._vault.key(row["key_id"])
                cells = orjson.loads(key.open(row["sealed"], _bound(job_id, after)))
                yield Untaken(
                    after,
                    cells,
                    [Problem(one["code"], one["detail"], one["column"]) for one in row["problems"]],
                )
            if len(rows) < _PAGE:
                return


def _bound(job_id: UUID, number: int) -> bytes:
    return aad("import_problem", "sealed", job_id.bytes + number.to_bytes(4, "big"))
