"""The people store: who is known, by which identifiers, and what happened to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import orjson
from pydantic import BaseModel, ValidationError

from canonical_model.civil_event import CivilEvent
from canonical_model.errors import HubError, Refused, Unavailable
from canonical_model.message import uuid7_time
from canonical_model.person import Person
from registry.audit import AuditEvent, insert_many
from registry.people.apply import Applied, KeysNeeded, Task, apply, identifiers_of, subject_of
from registry.people.identity import identifier_hash, known
from registry.people.record import Record
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from registry.vault import BlindIndex, DataKey, Vault, aad

_ROUNDS: Final = 5
_KEYS_HELD: Final = 512
_WAIT: Final = 10.0
_AGAIN: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ForeignKeyViolationError,
)
_ISOLATE: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError, HubError)
_SUMMARY: Final = """
SELECT p.id, p.status, p.sex, p.birthdate, p.birthdate_not_exact, p.deathdate, p.marital_status,
       p.version, p.source, p.updated_at
FROM person_identifier i JOIN person p ON p.id = i.person_id WHERE i.value_hash = $1
"""
_M = TypeVar("_M", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class PersonResult:
    """What became of a person record; `id` is None only for a repeat whose identifiers were withdrawn since."""

    id: UUID | None
    created: bool
    changed: bool
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of a civil event; `id` is that of its message, `created` says it made the person known."""

    id: UUID
    person_id: UUID | None
    created: bool
    changed: bool
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class PersonSummary:
    """What rules need of a person, without identity data."""

    id: UUID
    status: str
    sex: str | None
    birthdate: date | None
    birthdate_not_exact: bool
    deathdate: date | None
    marital_status: str | None
    version: int
    source: str
    updated_at: datetime


class PeopleStore:
    """Persons by identifier and the vital events recorded of them; identity data lies sealed.

    Concurrent calls are collected for `delay` seconds and applied in one transaction; each message is applied once,
    however often it is handed in. Every method raises `Unavailable` (`database-unavailable`, `people-busy`) when the
    database cannot do it now.
    """

    def __init__(
        self, pool: asyncpg.Pool, vault: Vault, blind: BlindIndex, *, delay: float = 0.003, group: int = 128
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._blind = blind
        self._keys: dict[int, DataKey] = {}
        self._groups: GroupCommit[Task, Applied] = GroupCommit(
            self._write, delay=delay, most=group, parallel=2
        )

    async def upsert(
        self, person: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> PersonResult:
        """Create or update the person a canonical `Person` describes, found by any of its identifiers.

        `at` is the time of the facts (default: when the hub accepted the message); a value is replaced only by a later
        one. Raises `Refused`: `person-invalid`, `identifier-missing`, `identifier-ambiguous`, `identifiers-too-many`.
        """
        given = _checked(Person, person, message_id)
        said = given.last_updated or at
        task = Task(
            message_id, source, _bounded(said, message_id), given, known(self._blind, given.identifiers)
        )
        done = await self._groups.submit(task)
        return PersonResult(done.person_id, done.created, done.changed, done.repeated)

    async def record_event(
        self, event: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> EventResult:
        """Record a canonical `CivilEvent` and what it means for its subject, who becomes known by it when they were not.

        Raises `Refused` as `upsert` does, with `civil-event-invalid` for data of another shape.
        """
        given = _checked(CivilEvent, event, message_id)
        task = Task(
            message_id,
            source,
            _bounded(at, message_id),
            subject_of(given),
            known(self._blind, identifiers_of(given)),
            given,
            given.model_dump_json(exclude_none=True).encode(),
        )
        done = await self._groups.submit(task)
        return EventResult(message_id, done.person_id, done.created, done.changed, done.repeated)

    async def find_by_identifier(self, type_: str, value: str) -> PersonSummary | None:
        """Return who has this identifier, without identity data; `type_` is its namespace, else its type."""
        hashed = identifier_hash(self._blind, type_, value)
        async with database_errors("looking a person up"), asyncio.timeout(_WAIT):
            row = await self._pool.fetchrow(_SUMMARY, hashed)
        return None if row is None else PersonSummary(**dict(row))

    async def reveal(
        self, person_id: UUID, purpose: str, actor: str, *, request_id: str | None = None
    ) -> Person | None:
        """Return a person with identity data, None when there is none; the audit trail has it before the caller does.

        `purpose` says in up to 200 characters why; raises `Refused` (`purpose-missing`) without one.
        """
        if not purpose.strip() or len(purpose) > 200 or not actor.strip():
            raise Refused(
                f"Identity data of person {person_id} was asked for without a purpose; nothing was shown.",
                code="purpose-missing",
                remedy="Say in one to 200 characters what the data is needed for; it goes into the audit trail.",
            )
        async with database_errors("reading a person"), asyncio.timeout(_WAIT):
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(
                    "SELECT id, source, version, key_id, sealed FROM person WHERE id = $1", person_id
                )
                trace = AuditEvent(
                    actor=actor,
                    action="person.reveal",
                    object_type="person",
                    object_id=str(person_id),
                    outcome="ok" if row else "absent",
                    request_id=request_id,
                    details={"purpose": purpose},
                )
                await insert_many(connection, [trace])
            if row is None:
                return None
            key = await self._vault.key(row["key_id"])
        opened = key.open(row["sealed"], aad("person", "sealed", row["id"].bytes))
        return Record.from_bytes(row["id"], row["source"], row["version"], opened).person()

    async def was_applied(self, message_id: UUID) -> bool:
        """Say whether a message was applied here."""
        async with database_errors("asking about a message"), asyncio.timeout(_WAIT):
            found = await self._pool.fetchval(
                "SELECT EXISTS (SELECT 1 FROM applied_message WHERE message_id = $1)", message_id
            )
        return bool(found)

    async def probe(self) -> None:
        """Prove that the store can be read; raises `Unavailable`."""
        async with database_errors("probing the people store"), asyncio.timeout(_WAIT):
            await self._pool.fetchval("SELECT EXISTS (SELECT 1 FROM person)")

    async def close(self) -> None:
        """Apply what was handed in and return; the pool stays the caller's."""
        await self._groups.drain()

    async def _write(self, tasks: Sequence[Task]) -> Sequence[Applied | Exception]:
        try:
            return await self._transact(tasks)
        except Unavailable:
            raise
        except _ISOLATE:
            if len(tasks) == 1:
                raise
        # One of them cannot be applied; alone each gets its own answer.
        answers: list[Applied | Exception] = []
        for task in tasks:
            try:
                answers += await self._transact([task])
            except Exception as error:  # handed to the caller of this task
                answers.append(error)
        return answers

    async def _transact(self, tasks: Sequence[Task]) -> Sequence[Applied | Exception]:
        for _ in range(_ROUNDS):
            person_key = await self._vault.current_key("person")
            event_key = await self._vault.current_key("civil_event")
            self._keys[person_key.id] = person_key
            try:
                async with (
                    database_errors("applying facts about people"),
                    self._pool.acquire(timeout=_WAIT) as connection,
                    connection.transaction(),
                ):
                    return await apply(connection, tasks, self._keys, person_key, event_key)
            except KeysNeeded as needed:
                for each in needed.ids:
                    if len(self._keys) >= _KEYS_HELD:
                        self._keys.pop(next(iter(self._keys)))
                    self._keys[each] = await self._vault.key(each)
            except _AGAIN:
                # Another writer was faster; what it wrote is found in the next round.
                continue
        raise Unavailable(
            f"{len(tasks)} messages about people met other writers {_ROUNDS} times; nothing of them was applied.",
            code="people-busy",
            retry_after=1,
            remedy="Nothing: they are tried again. If it goes on, look for long transactions in the database.",
        )


def _bounded(at: datetime | None, message_id: UUID) -> datetime:
    """Return the time of a fact, never later than the hub had it: a partner's fast clock must not lock values."""
    had = uuid7_time(message_id)
    return had if at is None else min(at.astimezone(UTC), had)


def _checked(model: type[_M], data: Mapping[str, Any], message_id: UUID) -> _M:
    try:
        return model.model_validate(orjson.loads(orjson.dumps(dict(data))))
    except (ValidationError, orjson.JSONEncodeError) as error:
        places = (
            sorted(
                {"/".join(_step(each) for each in item["loc"]) for item in error.errors(include_input=False)}
            )[:10]
            if isinstance(error, ValidationError)
            else []
        )
        name = "civil event" if model is CivilEvent else "person"
        raise Refused(
            f"The data of message {message_id} is no canonical {name}: {', '.join(places) or 'not JSON'}. "
            "Nothing was changed.",
            code=f"{name.replace(' ', '-')}-invalid",
            pointer=f"/data/{places[0]}" if places else None,
            remedy="Correct the mapping that made the message, then replay it.",
        ) from None


def _step(place: Any) -> str:
    """Return one step of a path; a name the model does not know may be somebody's and is not repeated."""
    return str(place) if isinstance(place, int) or place in _NAMES else "?"


def _names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    return {
        name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", ())
    }


_NAMES: Final = _names(CivilEvent)
