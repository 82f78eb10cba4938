"""Verifying the history beside the trail: each event of a change holds a digest of its rows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final, NamedTuple
from uuid import UUID

from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Defect
from registry.audit.values import DIGEST, HISTORY, change_place
from registry.vault import DataKey, Vault

_SECONDS: Final = 600.0
_READ: Final = 2_000
_ACTIONS: Final = ", ".join(f"'{each}'" for each in HISTORY)
_COMPARE: Final = f"""
WITH told AS (
    SELECT event_id, count(*) AS number, {DIGEST} AS digest FROM registrant_change
    WHERE event_id IS NULL OR event_id >= $1 AND event_id < $2 GROUP BY event_id
), kept AS (
    SELECT id, details FROM audit_event WHERE action IN ({_ACTIONS}) AND id >= $1 AND id < $2
)
SELECT coalesce(t.event_id, k.id) AS id, CASE
    WHEN k.id IS NULL OR t.number > (k.details ->> 'count')::bigint THEN 'change-inserted'
    WHEN t.event_id IS NULL OR t.number < (k.details ->> 'count')::bigint THEN 'change-missing'
    ELSE 'change-changed' END AS kind
FROM told t FULL JOIN kept k ON k.id = t.event_id
WHERE k.id IS NULL OR t.number IS NULL OR t.digest IS DISTINCT FROM k.details ->> 'digest'
ORDER BY 1 NULLS LAST LIMIT $3
"""
_VALUES: Final = """
SELECT event_id, registrant_id, version, key_id, sealed FROM registrant_change
WHERE sealed IS NOT NULL AND (event_id IS NULL OR event_id >= $1 AND event_id < $2) ORDER BY event_id
"""
_SEALED_BY: Final = """
SELECT c.number FROM audit_event e JOIN audit_checkpoint c
    ON c.lower <= e.transaction AND e.transaction < c.upper AND c.first_id <= e.id AND e.id <= c.last_id
WHERE e.id = $1
"""


class Misfit(NamedTuple):
    """A row of the history that is not what its event says."""

    kind: str
    checkpoint: int
    """The checkpoint that seals the event, 0 for none."""
    event: UUID | None


async def misfits(
    connection: PoolConnectionProxy, vault: Vault, since: UUID, until: UUID, most: int
) -> AsyncIterator[Misfit]:
    """Yield what does not fit between two ids of events, at most `most` of each sort: rows first, then sealed values."""
    named: set[UUID | None] = set()
    for row in await connection.fetch(_COMPARE, since, until, most, timeout=_SECONDS):
        named.add(row["id"])
        yield Misfit(row["kind"], await _checkpoint(connection, row["id"]), row["id"])
    keys: dict[int, DataKey | None] = {}
    cursor = await connection.cursor(_VALUES, since, until, timeout=_SECONDS)
    while rows := await cursor.fetch(_READ, timeout=_SECONDS):
        for row in rows:
            event = row["event_id"]
            if event in named:
                continue
            if row["key_id"] not in keys:
                keys[row["key_id"]] = await _key(vault, row["key_id"])
            key = keys[row["key_id"]]
            try:
                if key is None:
                    raise Defect("The data key is not there.")
                key.open(row["sealed"], change_place(row["registrant_id"], row["version"]))
            except Defect:
                named.add(event)
                yield Misfit("change-changed", await _checkpoint(connection, event), event)
                if len(named) >= most:
                    return


async def _key(vault: Vault, key_id: int) -> DataKey | None:
    try:
        return await vault.key(key_id)
    except Defect:
        return None


async def _checkpoint(connection: PoolConnectionProxy, event: UUID | None) -> int:
    number = None if event is None else await connection.fetchval(_SEALED_BY, event, timeout=_SECONDS)
    return int(number or 0)
