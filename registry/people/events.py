"""Facts of a day about a registrant, from surveys or systems, typed by the country and used by rules; append-only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg
import jsonschema_rs
import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from canonical_model.errors import Refused
from canonical_model.localized import LocalizedText
from canonical_model.message import uuid7
from canonical_model.types import pointer_of
from registry.people.reading import WAIT
from registry.people.relationships import registrant_unknown
from registry.storage.database import database_errors

DATA_LIMIT: Final = 32 * 1024
_TYPES: Final = "SELECT type, names, schema, lasts_days, active FROM event_type ORDER BY type"
_TYPE: Final = "SELECT schema, lasts_days FROM event_type WHERE type = $1 AND active"
_PUT_TYPE: Final = """
INSERT INTO event_type (type, names, schema, lasts_days, active) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (type) DO UPDATE SET names = excluded.names, schema = excluded.schema, lasts_days = excluded.lasts_days,
    active = excluded.active, updated_at = now()
"""
_RECORD: Final = """
INSERT INTO registrant_event (id, registrant_id, type, collected_on, expires_on, data, source)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING RETURNING id
"""
_OF: Final = """
SELECT id, registrant_id, type, collected_on, expires_on, data, source FROM registrant_event
WHERE registrant_id = $1 AND ($2::text IS NULL OR type = $2) ORDER BY collected_on DESC, id DESC LIMIT $3
"""


class EventType(BaseModel):
    """A type of facts: its names and the JSON Schema of its data, which lies in clear and so says nothing of who it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")
    names: LocalizedText
    schema_: dict[str, Any] = Field(alias="schema")
    lasts_days: int | None = Field(None, gt=0, le=36500)
    """How long such a fact is held true when it does not say so itself; None: until the next one."""
    active: bool = True

    @field_validator("schema_")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        try:
            jsonschema_rs.validator_for(schema, retriever=_no_other)
        except (jsonschema_rs.ValidationError, ValueError):
            raise ValueError("no JSON Schema, or one that refers to another") from None
        return schema


@dataclass(frozen=True, slots=True)
class EventFact:
    """One fact of a day."""

    id: UUID
    registrant_id: UUID
    type: str
    collected_on: date
    expires_on: date | None
    data: Mapping[str, Any]
    source: str


class Events:
    """Types of facts and the facts themselves; every method raises `Unavailable` when the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def types(self) -> Sequence[EventType]:
        """Return every type."""
        async with database_errors("reading event types"), asyncio.timeout(WAIT):
            return [EventType(**dict(row)) for row in await self._pool.fetch(_TYPES)]

    async def put_type(self, given: Mapping[str, Any]) -> EventType:
        """Make or change a type; raises `Refused` (`event-type-invalid`). Facts there are stay as they are."""
        try:
            made = EventType.model_validate(dict(given))
        except ValidationError as error:
            place = pointer_of(error.errors(include_input=False)[0]["loc"])
            raise Refused(
                f"The event type is not well-formed at {place}. Nothing was changed.",
                code="event-type-invalid",
                pointer=place,
                remedy="docs/people.md shows a type with every field.",
            ) from None
        async with database_errors("writing an event type"), asyncio.timeout(WAIT):
            await self._pool.execute(
                _PUT_TYPE, made.type, made.names, made.schema_, made.lasts_days, made.active
            )
        return made

    async def record_event_fact(
        self,
        registrant_id: UUID,
        type_: str,
        collected_on: date,
        data: Mapping[str, Any],
        *,
        source: str,
        expires_on: date | None = None,
        id: UUID | None = None,
    ) -> UUID:
        """Record a fact of a day and return its id; with an `id` given (of its message) it is recorded once.

        Raises `Refused`: `event-type-unknown`, `event-data-invalid` with the place, `registrant-unknown`.
        """
        made = id or uuid7()
        async with database_errors("recording a fact"), asyncio.timeout(WAIT):
            rule = await self._pool.fetchrow(_TYPE, type_)
            if rule is None:
                raise Refused(
                    "There is no event type of this name in use; nothing was recorded.",
                    code="event-type-unknown",
                    remedy="Declare the type with the schema of its data first; docs/people.md shows how.",
                )
            _check(rule["schema"], dict(data), expires_on is not None and expires_on < collected_on)
            if expires_on is None and rule["lasts_days"] is not None:
                expires_on = collected_on + timedelta(days=rule["lasts_days"])
            try:
                await self._pool.execute(
                    _RECORD, made, registrant_id, type_, collected_on, expires_on, dict(data), source
                )
            except asyncpg.ForeignKeyViolationError:
                raise registrant_unknown(registrant_id) from None
        return made

    async def of(
        self, registrant_id: UUID, type_: str | None = None, *, limit: int = 100
    ) -> Sequence[EventFact]:
        """Return somebody's facts, newest first, of one type or of all."""
        async with database_errors("reading facts"), asyncio.timeout(WAIT):
            rows = await self._pool.fetch(_OF, registrant_id, type_, limit)
        return [EventFact(**dict(row)) for row in rows]


def _no_other(uri: str) -> Any:
    """Refuse to fetch what a schema refers to: it has to hold all of it."""
    raise ValueError("schemas refer to nothing outside")


def _check(schema: Mapping[str, Any], data: Mapping[str, Any], reversed_: bool) -> None:
    place: str | None = None
    if reversed_:
        place = "/expires_on"
    elif len(orjson.dumps(data)) > DATA_LIMIT:
        place = "/data"
    else:
        # The library's own sentence quotes the value, so only the place is told.
        for error in jsonschema_rs.validator_for(dict(schema), retriever=_no_other).iter_errors(data):
            place = "/data" + pointer_of(tuple(error.instance_path))
            break
    if place is not None:
        raise Refused(
            f"The data of the fact does not fit its type at {place}; nothing was recorded.",
            code="event-data-invalid",
            pointer=place,
            remedy="Correct the value, or the schema of the event type.",
        )
