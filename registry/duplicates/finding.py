"""Finding pairs that may be one: chosen in SQL by what they share, scored by their opened names.

What two people may share are keys of 64 bits: a contact point or account, an identifier one of them had, a word of the name
with the birth date or with area and year of birth, the whole name. A key that a crowd shares says nothing and chooses
nobody. Keys are looked at part by part, so that memory stays bounded however many people there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg

from registry.audit import AuditEvent, insert_many
from registry.duplicates.scoring import Likeness, Traits, compare, spelled
from registry.people.rows import Connection
from registry.people.search import names_of
from registry.storage.database import database_errors
from registry.vault import Vault, sealed_place

THRESHOLD: Final = 75.0
"""Score from which a pair is shown to somebody."""
CROWD: Final = 50
"""A key that more registrants share says nothing: an agent's telephone, a name half the village has."""
NAMESAKES: Final = 10
"""A whole name that more registrants share says nothing without the birth date."""
FEW: Final = 4
"""A key that no more registrants share says as much as two others."""
PART: Final = 200_000
"""Registrants to one part of the keys."""
PAIRS: Final = 5000
"""Pairs compared in one step."""
_KEPT: Final = 40_000
"""Registrants whose opened names are held at once."""
_LONG: Final = 900.0
"""Seconds one part of the keys may take."""

_COUNT: Final = """
SELECT count(*) FROM registrant r {within} WHERE r.kind = 'individual' AND r.status IN ('active', 'inactive')
"""
_PROGRAM: Final = """
JOIN enrollment e ON e.registrant_id = r.id AND e.program_id = $1 AND e.state IN ('draft', 'enrolled', 'paused')
"""
_WITHIN: Final = "JOIN (SELECT DISTINCT id FROM unnest($1::uuid[]) AS g (id)) AS given ON given.id = r.id"
_CROWDS: Final = """
SELECT t.token FROM registrant_search s CROSS JOIN LATERAL unnest(s.contacts) AS t (token)
GROUP BY t.token HAVING count(*) > $1
"""
# Day and month are put in order, so that swapped ones meet. Kinds of keys: 0 says enough by itself; of 1, a word with the
# birth date, and 2, a word with area and year of birth, it takes two, or one that few share; 3 is the whole name. Pairs come by birth date, since
# those of one day meet each other often and their names are held while they do.
_PAIRS: Final = """
WITH who AS MATERIALIZED (
    SELECT r.id, s.names, s.contacts,
        (extract(year FROM r.birthdate) * 10000
            + least(extract(month FROM r.birthdate), extract(day FROM r.birthdate)) * 100
            + greatest(extract(month FROM r.birthdate), extract(day FROM r.birthdate)))::bigint AS born,
        (r.area_id::bigint << 16) + extract(year FROM r.birthdate)::bigint AS place
    FROM registrant r {within} LEFT JOIN registrant_search s ON s.registrant_id = r.id
    WHERE r.kind = 'individual' AND r.status IN ('active', 'inactive')
), whole AS MATERIALIZED (
    SELECT id, 0 AS kind, t.token AS key FROM who CROSS JOIN LATERAL unnest(contacts) AS t (token)
    UNION ALL
    SELECT id, 0, hash_array_extended(names, born) FROM who WHERE cardinality(names) > 0 AND born IS NOT NULL
    UNION ALL
    SELECT id, 3, hash_array_extended(names, 0) FROM who WHERE cardinality(names) > 0
    UNION ALL
    SELECT i.registrant_id, 0, ('x' || encode(substr(i.hash, 1, 8), 'hex'))::bit(64)::bigint
    FROM registrant_identifier i JOIN who ON who.id = i.registrant_id
), key AS (
    SELECT id, kind, key FROM whole WHERE ((key % {parts}) + {parts}) % {parts} = {part}
    UNION ALL
    SELECT id, 1, hashint8extended(t.token, born) FROM who CROSS JOIN LATERAL unnest(names) AS t (token)
    WHERE born % {parts} = {part}
    UNION ALL
    SELECT id, 2, hashint8extended(t.token, place) FROM who CROSS JOIN LATERAL unnest(names) AS t (token)
    WHERE place % {parts} = {part}
), block AS MATERIALIZED (
    SELECT kind, array_agg(id) AS ids, CASE WHEN kind IN (0, 3) OR count(*) <= {few} THEN 2 ELSE 1 END AS weight
    FROM key GROUP BY kind, key HAVING count(*) BETWEEN 2 AND CASE kind WHEN 3 THEN {namesakes} ELSE {crowd} END
), pair AS (
    SELECT a.id AS first, b.id AS second
    FROM block CROSS JOIN LATERAL unnest(block.ids) AS a (id) CROSS JOIN LATERAL unnest(block.ids) AS b (id)
    WHERE a.id < b.id GROUP BY a.id, b.id, block.kind HAVING sum(block.weight) >= 2
)
SELECT DISTINCT who.born, pair.first, pair.second FROM pair JOIN who ON who.id = pair.first
LEFT JOIN duplicate_pair d ON d.first_id = pair.first AND d.second_id = pair.second
WHERE d.state IS NULL OR d.state = 'open' ORDER BY who.born, pair.first, pair.second
"""
_TRAITS: Final = """
SELECT r.id, r.birthdate, r.birthdate_not_exact, r.sex, r.area_id, s.contacts, v.key_id, v.format, v.sealed,
    ARRAY(SELECT m.group_id FROM membership m WHERE m.member_id = r.id AND m.start_date <= $2
        AND (m.ended_date IS NULL OR m.ended_date > $2)) AS groups,
    ARRAY(SELECT i.hash FROM registrant_identifier i WHERE i.registrant_id = r.id) AS identifiers
FROM unnest($1::uuid[]) AS t (id) JOIN registrant r ON r.id = t.id JOIN registrant_vault v ON v.registrant_id = r.id
LEFT JOIN registrant_search s ON s.registrant_id = r.id
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

    registrants: int = 0
    parts: int = 0
    """How many parts the keys are looked at in."""
    done: int = 0
    """How many of them are."""
    compared: int = 0
    opened: int = 0
    found: int = 0
    """Pairs that are shown to somebody and were not known before."""


Save = Callable[[Connection, Tally], Any]


class DuplicateFinder:
    """Looks for individuals who may be registered twice; each part is one transaction, and a search can be gone on from one.

    Names are opened to be compared; the trail says how many and for whom.
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
        within: Sequence[UUID] | None = None,
        program: UUID | None = None,
        start: int = 0,
        parts: int | None = None,
        keep: bool = True,
        told: Callable[[int, int], None] = lambda _done, _all: None,
        save: Save | None = None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> Tally:
        """Look at everybody, or only `within` these, or who takes part in a `program`, and keep the pairs that may be one.

        Goes on from part `start` of `parts` (default: one for every `PART` registrants); `save(connection, tally)` is
        awaited in each part's transaction. With `keep=False` nothing is kept: the tally says what would be found. Raises
        `Unavailable` when the database is away.
        """
        given: list[Any] = [program] if program is not None else [] if within is None else [list(within)]
        scope = _PROGRAM if program is not None else "" if within is None else _WITHIN
        tally = Tally(done=start)
        async with database_errors("looking for duplicates"), self._pool.acquire(timeout=30) as connection:
            tally.registrants = await connection.fetchval(_COUNT.format(within=scope), *given, timeout=_LONG)
            crowds = await connection.fetch(_CROWDS, CROWD, timeout=_LONG)
            crowded = frozenset(row["token"] for row in crowds)
        tally.parts = parts or max(1, -(-tally.registrants // PART))
        while tally.done < tally.parts and not stopped():
            async with (
                database_errors("looking for duplicates"),
                self._pool.acquire(timeout=30) as connection,
                connection.transaction(),
            ):
                statement = _PAIRS.format(
                    within=scope,
                    parts=tally.parts,
                    part=tally.done,
                    crowd=CROWD,
                    few=FEW,
                    namesakes=NAMESAKES,
                )
                opened = tally.opened
                await self._part(
                    connection, statement, given, _Names(self._vault, today, crowded), tally, keep
                )
                tally.done += 1
                details = {"purpose": "duplicates", "opened": tally.opened - opened, "part": tally.done}
                await insert_many(
                    connection, [AuditEvent(actor, "registrant.compare", "registrant", "*", details=details)]
                )
                if save is not None:
                    await save(connection, tally)
            told(tally.done, tally.parts)
        return tally

    async def _part(
        self,
        connection: Connection,
        statement: str,
        given: Sequence[Any],
        names: _Names,
        tally: Tally,
        keep: bool,
    ) -> None:
        cursor = await connection.cursor(statement, *given, timeout=_LONG)
        while rows := await cursor.fetch(PAIRS, timeout=_LONG):
            pairs = [(row["first"], row["second"]) for row in rows]
            tally.opened += await names.open(connection, {one for pair in pairs for one in pair})
            found: list[tuple[UUID, UUID, Likeness]] = []
            for first, second in pairs:
                one, other = names.held.get(first), names.held.get(second)
                if one is not None and other is not None:
                    tally.compared += 1
                    likeness = compare(one, other)
                    if likeness.score >= self._threshold:
                        found.append((first, second, likeness))
            if found:
                tally.found += await _keep(connection, found) if keep else len(found)


class _Names:
    """What people are compared by, opened when first needed; a bounded number is held."""

    def __init__(self, vault: Vault, today: date, crowded: frozenset[int]) -> None:
        self._vault = vault
        self._today = today
        self._crowded = crowded
        self.held: dict[UUID, Traits] = {}

    async def open(self, connection: Connection, ids: Iterable[UUID]) -> int:
        """Hold these, and return how many had to be opened."""
        wanted = [each for each in ids if each not in self.held]
        if len(self.held) + len(wanted) > _KEPT:
            kept = set(ids) & self.held.keys()
            self.held = {each: self.held[each] for each in kept}
        rows = await connection.fetch(_TRAITS, wanted, self._today) if wanted else ()
        for row in rows:
            key = await self._vault.key(row["key_id"])
            opened = key.open(row["sealed"], sealed_place(row["format"], row["id"]))
            self.held[row["id"]] = Traits(
                [each for name in names_of(opened) for each in spelled(name)],
                row["birthdate"],
                row["birthdate_not_exact"],
                row["sex"],
                row["area_id"],
                frozenset(row["contacts"] or ()) - self._crowded,
                frozenset(row["identifiers"]),
                frozenset(row["groups"]),
            )
        return len(rows)


async def _keep(connection: Connection, found: Sequence[tuple[UUID, UUID, Likeness]]) -> int:
    kept = await connection.fetch(
        _KEEP,
        [one[0] for one in found],
        [one[1] for one in found],
        [one[2].score for one in found],
        [" ".join(one[2].reasons) for one in found],
    )
    return sum(row["new"] for row in kept)
