"""Finding registrants by name: keyed tokens choose candidates, their names are opened, ranked, and the trail says so.

Candidates are chosen in steps, each only when the one before brought too few: every word whole; every word whole, by
sound or by beginning; all words but one. Each step opens a bounded number.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.errors import Refused
from registry.audit import AuditEvent, record
from registry.people.ranking import Wanted
from registry.people.reading import check_purpose
from registry.people.referring import Referring
from registry.people.tokens import Sought, sought
from registry.storage.database import database_errors
from registry.vault import BlindIndex, ReferenceVault, Vault, sealed_place

Names = Callable[[bytes], Sequence[Mapping[str, str]]]
Sight = Callable[[list[Any]], str | None]
"""Adds its values to the arguments of a statement and returns the condition over `registrant r`; None for everybody."""

LIMIT: Final = 100
TEXT_LIMIT: Final = 200
OPENED: Final = 300
"""Candidates one step opens."""
SIFTED: Final = 20_000
"""Candidates one step holds against the filters."""
_RELAXED: Final = 200
_WORDS: Final = 5
_LEAST: Final = 45.0
"""Score below which a candidate is no answer."""
_GOOD: Final = 88.0
_WAIT: Final = 10.0
_STATUS: Final = {"active", "deceased", "inactive", "merged"}
_YEARS: Final = 20
_AREAS: Final = 2000
"""Birth years and areas that are looked up in the index; a wider filter is held against what the names alone bring."""
_REFERRED: Final = 20
"""People kept by reference the ID system is asked about in one search."""
_AREA: Final = """
SELECT a.id, ARRAY(SELECT -i.id FROM area i WHERE i.path @> ARRAY[a.id] LIMIT $2) AS inside FROM area a WHERE a.code = $1
"""
# The hits are a step of their own, so that the planner counts on all of them and takes the index; reading stops at the limit.
_CHOOSE: Final = """
WITH hit AS MATERIALIZED (SELECT registrant_id FROM registrant_search WHERE {words}),
near AS MATERIALIZED (SELECT hit.registrant_id FROM hit{sight} WHERE hit.registrant_id <> ALL ($1::uuid[]){seen} LIMIT {sifted})
SELECT r.id, r.birthdate, v.key_id, v.format, v.sealed, {sifting} AS sifted,
    EXISTS (SELECT FROM registrant_reference f WHERE f.registrant_id = r.id) AS referred
FROM near JOIN registrant r ON r.id = near.registrant_id JOIN registrant_vault v ON v.registrant_id = r.id
WHERE ($2::text IS NULL OR r.kind = $2) AND CASE WHEN $3::text IS NULL THEN r.status <> 'merged' ELSE r.status = $3 END
  AND ($4::int IS NULL OR r.area_id IN (SELECT id FROM area WHERE path @> ARRAY[$4]))
  AND ($5::date IS NULL OR r.birthdate >= $5) AND ($6::date IS NULL OR r.birthdate <= $6)
LIMIT {opened}
"""


@dataclass(frozen=True, slots=True)
class Candidate:
    """Somebody who may be meant: the hub's id, 0 to 100 how well they fit, and their names, nothing else."""

    id: UUID
    score: float
    names: tuple[Mapping[str, str], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates, best first; `complete` is False when more people fit than were looked at: narrow the search."""

    candidates: tuple[Candidate, ...]
    complete: bool
    opened: int


@dataclass(slots=True)
class _Hunt:
    """One search under way."""

    wanted: Wanted
    filters: tuple[Any, ...]
    facets: list[list[int]]
    """What the index narrows by: each list is one filter."""
    sifts: bool
    """Whether a filter is left that only the rows tell."""
    visible: Sight | None = None
    opened: dict[UUID, Candidate] = field(default_factory=dict)
    asked: int = 0
    """People the ID system was asked about."""
    complete: bool = True

    def best(self) -> float:
        return max((each.score for each in self.opened.values()), default=0.0)

    def fitting(self) -> int:
        return sum(each.score >= _LEAST for each in self.opened.values())


class Search:
    """Finds registrants by name without the database ever reading one.

    Every method raises `Unavailable` (`database-unavailable`) when the database cannot answer now. `names` reads the
    names out of an opened document.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        blind: BlindIndex,
        *,
        names: Names | None = None,
        referring: Referring | None = None,
        references: ReferenceVault | None = None,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._blind = blind
        self._names = names or names_of
        self._referring = referring
        self._references = references

    async def by_name(
        self,
        text: str,
        *,
        purpose: str,
        actor: str,
        kind: str | None = None,
        area: str | None = None,
        status: str | None = None,
        born: date | None = None,
        born_from: date | None = None,
        born_to: date | None = None,
        limit: int = 20,
        request_id: str | None = None,
        visible: Sight | None = None,
    ) -> Found:
        """Return who may be meant by a name or a part of it, in any script and order of words; the trail has it first.

        `kind`, `status` (default: all but merged), `area` (P-code; with all areas in it) and `born_from`, `born_to` leave
        others out; `born` only ranks. Whom `visible` leaves out is neither opened nor counted, and takes nobody's place.
        One audit event tells actor, purpose, how many records were opened and whose names
        were shown, never the text. Of people kept by reference the ID system is asked for names, of 20 at most, where the
        country allows tokens of names; without them they are not found and the answer is not `complete`. Raises `Refused`:
        `purpose-missing`, `search-invalid`, `name-search-unavailable` where nobody's names are here.
        """
        check_purpose(purpose, actor, "A search by name")
        rules = self._referring
        hidden = rules is not None and rules.indexes != "names" and kind != "group"
        if rules is not None and hidden and rules.everybody:
            raise _elsewhere(rules)
        groups = self._groups(text, kind, status, limit)
        async with database_errors("searching by name"), asyncio.timeout(_WAIT):
            place, inside = await self._area(area)
            years = _years(born_from, born_to)
            facets = [each for each in (inside, years) if each]
            filters = (kind, status, place, born_from, born_to)
            given = sum((place is not None, born_from is not None or born_to is not None))
            sifts = kind is not None or status is not None or given > len(facets)
            hunt = _Hunt(Wanted.of(text, born), filters, facets, sifts, visible)
            if hidden:
                hunt.complete = False
            await self._hunt(hunt, groups, limit)
            ranked = sorted(
                (each for each in hunt.opened.values() if each.score >= _LEAST),
                key=lambda each: (-each.score, each.id),
            )[:limit]
            details = {
                "purpose": purpose,
                "opened": len(hunt.opened),
                "shown": [str(each.id) for each in ranked],
            }
            trace = AuditEvent(
                actor=actor,
                action="registrant.search",
                object_type="registrant",
                object_id="*",
                request_id=request_id,
                details=details,
            )
            await record(self._pool, trace)
        return Found(tuple(ranked), hunt.complete, len(hunt.opened))

    def _groups(self, text: str, kind: str | None, status: str | None, limit: int) -> list[Sought]:
        wrong = None
        if len(text) > TEXT_LIMIT:
            wrong = f"the text has more than {TEXT_LIMIT} characters"
        elif not 1 <= limit <= LIMIT:
            wrong = f"the limit is not between 1 and {LIMIT}"
        elif kind not in {None, "individual", "group"}:
            wrong = "the kind is neither individual nor group"
        elif status is not None and status not in _STATUS:
            wrong = f"the status is none of {', '.join(sorted(_STATUS))}"
        all_words = [] if wrong else sought(self._blind, text)
        if not wrong and not all_words:
            wrong = "the text holds no letter"
        if wrong:
            raise _invalid(wrong)
        # A particle is asked for only where nothing else is; initials say less than whole words.
        needed = [each for each in all_words if not each.optional] or list(all_words)
        return sorted(needed, key=lambda each: -len(each.loose))[:_WORDS]

    async def _area(self, code: str | None) -> tuple[int | None, list[int]]:
        """Return an area's id, and the facets of it and all areas in it where they are few enough."""
        if code is None:
            return None, []
        row = await self._pool.fetchrow(_AREA, code, _AREAS + 1)
        if row is None:
            raise _invalid("there is no such area")
        return row["id"], row["inside"] if len(row["inside"]) <= _AREAS else []

    async def _hunt(self, hunt: _Hunt, groups: Sequence[Sought], limit: int) -> None:
        await self._step(hunt, [each.exact for each in groups], OPENED)
        if hunt.fitting() < limit:
            await self._step(hunt, [each.loose for each in groups], OPENED)
        if len(groups) > 1 and hunt.best() < _GOOD:
            for left_out in range(len(groups)):
                rest = [each for place, each in enumerate(groups) if place != left_out]
                tokens = [each.loose if len(rest) > 1 else each.exact for each in rest]
                await self._step(hunt, tokens, _RELAXED)

    async def _step(self, hunt: _Hunt, groups: Sequence[Sequence[int]], most: int) -> None:
        # The index knows the year of birth only, and rows that the first days of it do not fit are sifted out.
        sifted = SIFTED if hunt.sifts or hunt.facets else most
        last = 7 + len(groups)
        words = [f"names && ${7 + place}::bigint[]" for place in range(len(groups))]
        words += [f"facets && ${last + place}::int[]" for place in range(len(hunt.facets))]
        given = [list(hunt.opened), *hunt.filters, *(list(each) for each in groups), *hunt.facets]
        condition = None if hunt.visible is None else hunt.visible(given)
        # Held against the hits themselves, so that nobody else's names use up the bounds.
        statement = _CHOOSE.format(
            sight=" JOIN registrant r ON r.id = hit.registrant_id" if condition else "",
            seen=f" AND ({condition})" if condition else "",
            words=" AND ".join(words),
            sifted=sifted,
            sifting="(SELECT count(*) FROM near)" if sifted > most else "0",
            opened=most,
        )
        rows = await self._pool.fetch(statement, *given)
        if len(rows) == most or (rows and rows[0]["sifted"] == sifted):
            hunt.complete = False
        referred = [row for row in rows if row["referred"]]
        await self._ask(hunt, referred)
        for row in rows:
            if row["referred"]:
                continue
            key = await self._vault.key(row["key_id"])
            opened = key.open(row["sealed"], sealed_place(row["format"], row["id"]))
            names = tuple(self._names(opened))
            hunt.opened[row["id"]] = Candidate(row["id"], hunt.wanted.score(names, row["birthdate"]), names)

    async def _ask(self, hunt: _Hunt, rows: Sequence[asyncpg.Record]) -> None:
        """Have the ID system tell the names of people kept by reference, a bounded number of them."""
        room = max(_REFERRED - hunt.asked, 0) if self._references is not None else 0
        if len(rows) > room:
            hunt.complete = False
        asked = {row["id"]: row for row in rows[:room]}
        if not asked or self._references is None:
            return
        hunt.asked += len(asked)
        for id_, document in (await self._references.get(list(asked))).items():
            names = tuple(orjson.loads(document).get("names") or ())
            score = hunt.wanted.score(names, asked[id_]["birthdate"])
            hunt.opened[id_] = Candidate(id_, score, names)


def _elsewhere(rules: Referring) -> Refused:
    return Refused(
        f"Names are kept at the ID system {rules.system} and no tokens of them here, so nobody can be found by name. "
        "Nothing was searched.",
        code="name-search-unavailable",
        remedy="Search by an identifier, or by name at the ID system; HUB_REFERENCE_INDEXES=names allows tokens of names.",
    )


def _years(born_from: date | None, born_to: date | None) -> list[int]:
    """Return the years of birth from one day to another, none where they are many or one side is open."""
    if born_from is None or born_to is None or not 0 <= born_to.year - born_from.year < _YEARS:
        return []
    return list(range(born_from.year, born_to.year + 1))


def names_of(opened: bytes) -> Sequence[Mapping[str, str]]:
    """Return the names in a registrant's opened document: a person's names, or the one name of a group."""
    values = orjson.loads(opened)["values"]
    held = values.get("names") or values.get("name")
    if held is None:
        return []
    return [{"full_name": held[0]}] if isinstance(held[0], str) else held[0]


def _invalid(what: str) -> Refused:
    return Refused(
        f"The search cannot be made: {what}. Nothing was searched.",
        code="search-invalid",
        remedy="Give a name of at least one letter and filters as docs/vault.md lists them.",
    )
