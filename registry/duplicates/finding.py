"""Finding pairs that may be one: chosen in SQL by what they share, scored by their opened names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from registry.audit import AuditEvent, insert_many
from registry.duplicates.scoring import Likeness, Traits, compare
from registry.people.search import names_of
from registry.people.spelling import fold, latin
from registry.storage.database import database_errors
from registry.vault import Vault, sealed_place

Connection = asyncpg.Connection | PoolConnectionProxy
THRESHOLD: Final = 75.0
"""Score from which a pair is shown to somebody."""
CROWD: Final = 50
"""A contact point, account or birth date with a name that more registrants share says nothing: an agent's telephone."""
CHUNK: Final = 2000
"""Registrants looked at in one step."""
FIRST: Final = UUID(int=0)
"""Before every registrant."""

# Each step takes the next registrants by id and looks at all others that share something with them.
_NEXT: Final = """
SELECT id FROM registrant WHERE kind = 'individual' AND status IN ('active', 'inactive') AND id > $1 ORDER BY id LIMIT $2
"""
_SHARING: Final = """
WITH mine AS MATERIALIZED (
    SELECT r.id, r.birthdate, r.area_id, s.names, s.contacts
    FROM registrant r JOIN registrant_search s ON s.registrant_id = r.id WHERE r.id = ANY ($1::uuid[])
), contact AS (
    SELECT m.id AS one, found.id AS other FROM mine m CROSS JOIN LATERAL unnest(m.contacts) AS t (token)
    CROSS JOIN LATERAL (
        SELECT s.registrant_id AS id FROM registrant_search s WHERE s.contacts @> ARRAY[t.token] LIMIT $2 + 1
    ) AS found
    WHERE found.id <> m.id
), birthdate AS (
    SELECT m.id AS one, r.id AS other FROM mine m
    JOIN registrant r ON r.birthdate = m.birthdate AND r.id <> m.id AND r.kind = 'individual'
    JOIN registrant_search s ON s.registrant_id = r.id AND s.names && m.names
    WHERE m.birthdate IS NOT NULL
), name AS (
    SELECT m.id AS one, found.id AS other FROM mine m CROSS JOIN LATERAL (
        SELECT s.registrant_id AS id FROM registrant_search s WHERE s.names @> m.names LIMIT $2 + 1
    ) AS found
    WHERE found.id <> m.id AND cardinality(m.names) > 0
)
SELECT DISTINCT least(one, other) AS first, greatest(one, other) AS second
FROM (SELECT * FROM contact UNION ALL SELECT * FROM birthdate UNION ALL SELECT * FROM name) AS pair
WHERE NOT EXISTS (
    SELECT FROM duplicate_pair d WHERE d.first_id = least(one, other) AND d.second_id = greatest(one, other)
    AND d.state <> 'open'
)
"""
_TRAITS: Final = """
SELECT r.id, r.birthdate, r.birthdate_not_exact, r.sex, r.area_id, s.contacts, v.key_id, v.format, v.sealed,
    ARRAY(SELECT m.group_id FROM membership m WHERE m.member_id = r.id AND m.start_date <= $2
        AND (m.ended_date IS NULL OR m.ended_date > $2)) AS groups
FROM registrant r JOIN registrant_vault v ON v.registrant_id = r.id
LEFT JOIN registrant_search s ON s.registrant_id = r.id
WHERE r.id = ANY ($1::uuid[]) AND r.kind = 'individual' AND r.status IN ('active', 'inactive')
"""
_KEEP: Final = """
INSERT INTO duplicate_pair (first_id, second_id, score, reasons)
SELECT f, s, c, string_to_array(w, ' ') FROM unnest($1::uuid[], $2::uuid[], $3::real[], $4::text[]) AS t (f, s, c, w)
ON CONFLICT (first_id, second_id) DO UPDATE SET score = excluded.score, reasons = excluded.reasons, found_at = now()
WHERE duplicate_pair.state = 'open'
RETURNING (xmax = 0) AS new
"""


@dataclass(slots=True)
class Tally:
    """What a search for duplicates did so far."""

    looked_at: int = 0
    compared: int = 0
    found: int = 0


class DuplicateFinder:
    """Looks for individuals who may be registered twice; each step is one transaction and can be gone on from.

    Chosen are pairs that share a contact point or account, a birth date with part of a name, or all of a name. Names are
    opened to be compared; the trail says how many and for whom.
    """

    def __init__(self, pool: asyncpg.Pool, vault: Vault, *, threshold: float = THRESHOLD) -> None:
        self._pool = pool
        self._vault = vault
        self._threshold = threshold

    async def run(
        self,
        actor: str,
        *,
        today: date,
        after: UUID = FIRST,
        told: Callable[[int], None] = lambda _: None,
        save: Callable[[Connection, UUID, Tally], Any] | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Go through everybody behind `after`; `save(connection, last id, tally)` is awaited in each step's transaction."""
        tally = Tally()
        while not stopped():
            async with (
                database_errors("looking for duplicates"),
                self._pool.acquire(timeout=30) as connection,
                connection.transaction(),
            ):
                ids = [row["id"] for row in await connection.fetch(_NEXT, after, CHUNK)]
                if not ids:
                    break
                await self._step(connection, ids, today, tally)
                await insert_many(
                    connection,
                    [
                        AuditEvent(
                            actor, "registrant.compare", "registrant", "*", details={"opened": tally.compared}
                        )
                    ],
                )
                after = ids[-1]
                if save is not None:
                    await save(connection, after, tally)
            told(tally.looked_at)
        return tally

    async def of(self, connection: Connection, ids: Sequence[UUID], today: date) -> int:
        """Look for duplicates of these registrants alone, in the caller's transaction; return how many pairs are new."""
        tally = Tally()
        for start in range(0, len(ids), CHUNK):
            await self._step(connection, ids[start : start + CHUNK], today, tally)
        return tally.found

    async def _step(self, connection: Connection, ids: Sequence[UUID], today: date, tally: Tally) -> None:
        tally.looked_at += len(ids)
        pairs = [(row["first"], row["second"]) for row in await connection.fetch(_SHARING, list(ids), CROWD)]
        crowded = _crowded(pairs)
        pairs = [pair for pair in pairs if crowded.isdisjoint(pair)]
        if not pairs:
            return
        traits = await self._traits(connection, {one for pair in pairs for one in pair}, today)
        found: list[tuple[UUID, UUID, Likeness]] = []
        for first, second in pairs:
            if first in traits and second in traits:
                tally.compared += 1
                likeness = compare(traits[first], traits[second])
                if likeness.score >= self._threshold:
                    found.append((first, second, likeness))
        if found:
            kept = await connection.fetch(
                _KEEP,
                [one[0] for one in found],
                [one[1] for one in found],
                [one[2].score for one in found],
                [" ".join(one[2].reasons) for one in found],
            )
            tally.found += sum(row["new"] for row in kept)

    async def _traits(self, connection: Connection, ids: Iterable[UUID], today: date) -> dict[UUID, Traits]:
        found = {}
        for row in await connection.fetch(_TRAITS, list(ids), today):
            key = await self._vault.key(row["key_id"])
            opened = key.open(row["sealed"], sealed_place(row["format"], row["id"]))
            found[row["id"]] = Traits(
                [_spelled(name) for name in names_of(opened)],
                row["birthdate"],
                row["birthdate_not_exact"],
                row["sex"],
                row["area_id"],
                frozenset(row["contacts"] or ()),
                frozenset(row["groups"]),
            )
        return found


def _crowded(pairs: Sequence[tuple[UUID, UUID]]) -> set[UUID]:
    """Return who shares something with so many that it says nothing."""
    seen: dict[UUID, int] = {}
    for pair in pairs:
        for one in pair:
            seen[one] = seen.get(one, 0) + 1
    return {one for one, times in seen.items() if times > 4 * CROWD}


def _spelled(name: Mapping[str, str]) -> str:
    whole = name.get("full_name") or " ".join(
        name[part] for part in ("given_name", "addl_name", "family_name") if name.get(part)
    )
    return " ".join(latin(word) or word for word in fold(whole).replace("-", " ").split())
