"""Deriving anew what of registrants lies in clear, after areas were imported or attributes declared."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect
from registry.people.record import Record
from registry.people.rows import Connection
from registry.people.tokens import facets_of
from registry.storage.database import database_errors
from registry.vault import Vault, sealed_place

FIRST: Final = UUID(int=0)
_SLOW: Final = 300.0
# Locked first and opened by the next statement, as the writer does, so that no older document is read.
_TAKE: Final = """
SELECT id, kind, source, version, birthdate, area_id, attributes FROM registrant
WHERE id > $1 AND status <> 'merged' ORDER BY id LIMIT $2 FOR NO KEY UPDATE
"""
_OPEN: Final = (
    "SELECT registrant_id, key_id, format, sealed FROM registrant_vault WHERE registrant_id = ANY($1::uuid[])"
)
_AREAS: Final = "SELECT code, id FROM area WHERE code = ANY($1::text[])"
_WRITE: Final = """
UPDATE registrant r SET area_id = t.area_id, attributes = t.attributes, updated_at = now()
FROM unnest($1::uuid[], $2::int[], $3::jsonb[]) AS t (id, area_id, attributes) WHERE r.id = t.id
"""
_FACETS: Final = """
UPDATE registrant_search s SET facets = t.facets::int[]
FROM unnest($1::uuid[], $2::text[]) AS t (id, facets) WHERE s.registrant_id = t.id
"""


@dataclass(frozen=True, slots=True)
class Refreshed:
    """How far a refresh is."""

    seen: int = 0
    changed: int = 0
    unreadable: int = 0
    """Registrants whose document could not be opened; they stay as they were."""
    last: UUID = FIRST
    """Whom to go on behind after a break."""


async def refresh(
    pool: asyncpg.Pool,
    vault: Vault,
    declared: Collection[str],
    told: Callable[[Refreshed], None] = lambda _: None,
    *,
    after: UUID = FIRST,
    chunk: int = 1000,
    dry_run: bool = False,
) -> Refreshed:
    """Set area and declared attributes of every registrant behind `after` to what its document says; safe to break off.

    Each chunk is a transaction of its own. Nothing was said anew, so no version is made.
    """
    state = Refreshed(last=after)
    while True:
        async with (
            database_errors("deriving what lies in clear"),
            pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            rows = await connection.fetch(_TAKE, state.last, chunk, timeout=_SLOW)
            if not rows:
                return state
            records, unreadable = await _open(connection, vault, rows, declared)
            changed = await _differing(connection, rows, records)
            if changed and not dry_run:
                await connection.execute(_WRITE, *(list(each) for each in zip(*changed, strict=True)))
                born = {row["id"]: row["birthdate"] for row in rows}
                facets = [facets_of(born[id_], area_id) for id_, area_id, _ in changed]
                literals = [f"{{{','.join(map(str, each))}}}" for each in facets]
                await connection.execute(_FACETS, [id_ for id_, _, _ in changed], literals)
        state = replace(
            state,
            seen=state.seen + len(rows),
            changed=state.changed + len(changed),
            unreadable=state.unreadable + unreadable,
            last=rows[-1]["id"],
        )
        told(state)


async def _open(
    connection: Connection, vault: Vault, rows: list[asyncpg.Record], declared: Collection[str]
) -> tuple[dict[UUID, Record], int]:
    held = {row["id"]: row for row in rows}
    found: dict[UUID, Record] = {}
    unreadable = 0
    for row in await connection.fetch(_OPEN, list(held)):
        id_ = row["registrant_id"]
        try:
            key = await vault.key(row["key_id"])
            opened = key.open(row["sealed"], sealed_place(row["format"], id_))
        except Defect:
            unreadable += 1
            continue
        of = held[id_]
        found[id_] = Record.from_bytes(
            id_, of["source"], of["version"], opened, kind=of["kind"], declared=declared
        )
    return found, unreadable


async def _differing(
    connection: Connection, rows: list[asyncpg.Record], records: dict[UUID, Record]
) -> list[tuple[UUID, int | None, dict[str, Any]]]:
    codes = {record.columns.area_code for record in records.values()} - {None}
    areas = {row["code"]: row["id"] for row in await connection.fetch(_AREAS, list(codes))} if codes else {}
    found = []
    for row in rows:
        record = records.get(row["id"])
        if record is None:
            continue
        area_id, attributes = areas.get(record.columns.area_code), dict(record.attributes)
        if (row["area_id"], row["attributes"]) != (area_id, attributes):
            found.append((row["id"], area_id, attributes))
    return found
