"""Relationships between registrants, other than membership: guardian, parent, neighbour, and what each is the other way."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, Literal, Self
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from canonical_model.errors import Refused
from canonical_model.localized import LocalizedText, best_text
from canonical_model.message import uuid7
from canonical_model.types import pointer_of
from registry.audit import AuditEvent, insert_many
from registry.people.reading import WAIT
from registry.storage.database import database_errors

_TYPES: Final = """
SELECT code, names, inverse_names, bidirectional, source_kind, destination_kind, active FROM relationship_type ORDER BY code
"""
_PUT_TYPE: Final = """
INSERT INTO relationship_type (code, names, inverse_names, bidirectional, source_kind, destination_kind, active)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (code) DO UPDATE SET names = excluded.names, inverse_names = excluded.inverse_names,
    bidirectional = excluded.bidirectional, source_kind = excluded.source_kind,
    destination_kind = excluded.destination_kind, active = excluded.active
"""
_TYPE: Final = (
    "SELECT bidirectional, source_kind, destination_kind, active FROM relationship_type WHERE code = $1"
)
_KINDS: Final = (
    "SELECT id, kind FROM registrant WHERE id = ANY($1::uuid[]) AND status <> 'merged' FOR KEY SHARE"
)
_HELD: Final = """
SELECT id FROM relationship WHERE type = $1 AND end_date IS NULL
AND (source_id = $2 AND destination_id = $3 OR $4 AND source_id = $3 AND destination_id = $2)
"""
_RELATE: Final = """
INSERT INTO relationship (id, type, source_id, destination_id, start_date, end_date, actor, source)
VALUES ($1, $2, $3, $4, coalesce($5::date, '-infinity'), $6::date, $7, $8)
"""
_END: Final = """
UPDATE relationship SET end_date = greatest($2, start_date), updated_at = now()
WHERE id = $1 AND (end_date IS NULL OR end_date > $2) RETURNING source_id, destination_id
"""
_OF: Final = """
SELECT r.id, r.type, r.source_id = $1 AS forward, CASE WHEN r.source_id = $1 THEN r.destination_id ELSE r.source_id END AS other_id,
    CASE WHEN r.source_id = $1 THEN t.names ELSE t.inverse_names END AS names,
    nullif(r.start_date, '-infinity') AS start_date, r.end_date, r.source,
    r.start_date <= $2 AND (r.end_date IS NULL OR $2 < r.end_date) AS active
FROM relationship r JOIN relationship_type t ON t.code = r.type
WHERE (r.source_id = $1 OR r.destination_id = $1)
    AND ($3 OR r.start_date <= $2 AND (r.end_date IS NULL OR $2 < r.end_date))
ORDER BY r.id LIMIT 1000
"""


class RelationshipType(BaseModel):
    """A type of relationship: what the source is to the destination, and what it is the other way round."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    code: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")
    names: LocalizedText
    """What the source is to the destination, such as guardian."""
    inverse_names: LocalizedText
    """What the destination is to the source, such as ward."""
    bidirectional: bool = False
    """Both are the same to each other, such as neighbours; then both names are the same too."""
    source_kind: Literal["individual", "group"] | None = None
    destination_kind: Literal["individual", "group"] | None = None
    active: bool = True

    @model_validator(mode="after")
    def _is_the_same_both_ways(self) -> Self:
        if self.bidirectional and (
            self.names != self.inverse_names or self.source_kind != self.destination_kind
        ):
            raise ValueError("what holds both ways has one name and one kind")
        return self


@dataclass(frozen=True, slots=True)
class Relationship:
    """One relationship seen from one of its two: `names` is what that one is to the other; `active` is of the day asked."""

    id: UUID
    type: str
    forward: bool
    other_id: UUID
    names: Mapping[str, str]
    start_date: date | None
    end_date: date | None
    source: str
    active: bool

    def display(self, *languages: str) -> str:
        """Return the name in the first of these languages there is."""
        return best_text(self.names, languages)


class Relationships:
    """Types and relationships; every method raises `Unavailable` when the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def types(self) -> Sequence[RelationshipType]:
        """Return every type."""
        async with database_errors("reading relationship types"), asyncio.timeout(WAIT):
            return [RelationshipType(**dict(row)) for row in await self._pool.fetch(_TYPES)]

    async def put_type(self, given: Mapping[str, Any]) -> RelationshipType:
        """Make or change a type; raises `Refused` (`relationship-invalid`)."""
        try:
            made = RelationshipType.model_validate(dict(given))
        except ValidationError as error:
            place = pointer_of(error.errors(include_input=False)[0]["loc"])
            raise _invalid(f"The relationship type is not well-formed at {place or '/'}.", place) from None
        async with database_errors("writing a relationship type"), asyncio.timeout(WAIT):
            await self._pool.execute(_PUT_TYPE, *made.model_dump().values())
        return made

    async def relate(
        self,
        type_: str,
        source_id: UUID,
        destination_id: UUID,
        *,
        source: str,
        actor: str,
        start: date | None = None,
        end: date | None = None,
    ) -> UUID:
        """Say that two registrants are related, and return the relationship's id; one that holds already is returned.

        Raises `Refused`: `relationship-invalid` (unknown or inactive type, the same registrant twice, another kind than the
        type's, reversed dates), `registrant-unknown`.
        """
        if source_id == destination_id:
            raise _invalid("Nobody is related to themselves.")
        if start is not None and end is not None and end < start:
            raise _invalid("The relationship would end before it begins.")
        async with (
            database_errors("relating registrants"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            rule = await connection.fetchrow(_TYPE, type_)
            if rule is None or not rule["active"]:
                raise _invalid("There is no relationship type of this code in use.")
            kinds = {
                row["id"]: row["kind"] for row in await connection.fetch(_KINDS, [source_id, destination_id])
            }
            for each, wanted in (
                (source_id, rule["source_kind"]),
                (destination_id, rule["destination_kind"]),
            ):
                if each not in kinds:
                    raise registrant_unknown(each)
                if wanted is not None and kinds[each] != wanted:
                    raise _invalid(
                        f"Registrant {each} is no {wanted}, as the relationship type {type_} wants."
                    )
            held = await connection.fetchval(_HELD, type_, source_id, destination_id, rule["bidirectional"])
            if held is not None and end is None:
                return UUID(str(held))
            made = uuid7()
            await connection.execute(
                _RELATE, made, type_, source_id, destination_id, start, end, actor, source
            )
            await insert_many(
                connection, [_trace("relationship.made", made, actor, source_id, destination_id)]
            )
        return made

    async def end(self, relationship_id: UUID, *, actor: str, on: date | None = None) -> bool:
        """End a relationship on a day (default: today, UTC), from which on it no longer holds; False when it had ended."""
        day = on or datetime.now(UTC).date()
        async with (
            database_errors("ending a relationship"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(_END, relationship_id, day)
            if row is not None:
                await insert_many(connection, [_trace("relationship.ended", relationship_id, actor, *row)])
        return row is not None

    async def of(
        self, registrant_id: UUID, on: date | None = None, *, past: bool = False
    ) -> Sequence[Relationship]:
        """Return somebody's relationships on a day (default: today, UTC), from either side; with `past` all of them."""
        async with database_errors("reading relationships"), asyncio.timeout(WAIT):
            rows = await self._pool.fetch(_OF, registrant_id, on or datetime.now(UTC).date(), past)
        return [Relationship(**dict(row)) for row in rows]


def registrant_unknown(registrant_id: UUID) -> Refused:
    """Return the refusal of an id that is nobody's."""
    return Refused(
        f"There is no registrant {registrant_id}; nothing was changed.",
        code="registrant-unknown",
        remedy="Look the registrant up by an identifier, then use the id found.",
    )


def _trace(action: str, made: UUID, actor: str, source_id: UUID, destination_id: UUID) -> AuditEvent:
    return AuditEvent(
        actor,
        action,
        "relationship",
        str(made),
        details={"source": str(source_id), "destination": str(destination_id)},
    )


def _invalid(what: str, place: str | None = None) -> Refused:
    return Refused(
        f"{what} Nothing was changed.",
        code="relationship-invalid",
        pointer=place,
        remedy="docs/people.md shows types and relationships with every field.",
    )
