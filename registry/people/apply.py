"""Applying a group of messages to the people store in one transaction.

The order of locks is fixed: message ids, then identifiers, then persons, each sorted. Two transactions can wait for
one another only in that order, so they never wait in a circle, and two facts about one new identifier follow each
other: the second finds the person the first made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.civil_event import CivilEvent, CivilEventType
from canonical_model.errors import Refused
from canonical_model.identifiers import Identifier
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.people.identity import Known
from registry.people.record import IDENTIFIER_LIMIT, Record, clock_of
from registry.vault import DataKey, aad

Connection = asyncpg.Connection | PoolConnectionProxy

_CLAIM: Final = """
INSERT INTO applied_message (message_id) SELECT id FROM unnest($1::uuid[]) AS t (id) ORDER BY id
ON CONFLICT DO NOTHING RETURNING message_id
"""
_LOCK: Final = "SELECT count(pg_advisory_xact_lock(1347568462, key)) FROM unnest($1::int[]) AS t (key)"
_FIND: Final = "SELECT value_hash, person_id FROM person_identifier WHERE value_hash = ANY($1::bytea[])"
_READ: Final = """
SELECT id, source, version, key_id, sealed FROM person WHERE id = ANY($1::uuid[]) ORDER BY id FOR UPDATE
"""
_WRITE: Final = """
INSERT INTO person (id, status, sex, birthdate, birthdate_not_exact, deathdate, marital_status,
                    key_id, sealed, version, source, message_id)
SELECT id, status, sex, birthdate, birthdate_not_exact, deathdate, marital_status, $8, sealed, version, source, message_id
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::date[], $5::bool[], $6::date[], $7::text[],
            $9::bytea[], $10::int[], $11::text[], $12::uuid[])
     AS t (id, status, sex, birthdate, birthdate_not_exact, deathdate, marital_status, sealed, version, source, message_id)
ON CONFLICT (id) DO UPDATE SET status = excluded.status, sex = excluded.sex, birthdate = excluded.birthdate,
    birthdate_not_exact = excluded.birthdate_not_exact, deathdate = excluded.deathdate,
    marital_status = excluded.marital_status, key_id = excluded.key_id, sealed = excluded.sealed,
    version = excluded.version, source = excluded.source, message_id = excluded.message_id, updated_at = now()
"""
_NAME: Final = """
INSERT INTO person_identifier (value_hash, person_id, type)
SELECT * FROM unnest($1::bytea[], $2::uuid[], $3::text[])
"""
_RECORD: Final = """
INSERT INTO civil_event (id, person_id, event_type, event_date, source, key_id, sealed)
SELECT id, person_id, event_type, event_date, source, $7, sealed
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::date[], $5::text[], $6::bytea[])
     AS t (id, person_id, event_type, event_date, source, sealed)
"""


@dataclass(frozen=True, slots=True)
class Task:
    """One message to apply, checked and with its identifiers already hashed."""

    message_id: UUID
    source: str
    at: datetime
    person: Person
    identifiers: Mapping[str, tuple[Known, Identifier]]
    event: CivilEvent | None = None
    sealed_event: bytes = b""

    @property
    def hashes(self) -> list[bytes]:
        """Blind indexes of all identifiers, live or not."""
        return [known.hash for known, _ in self.identifiers.values()]


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of one message."""

    person_id: UUID | None
    created: bool = False
    changed: bool = False
    repeated: bool = False


class KeysNeeded(Exception):
    """Rows are sealed with data keys not at hand; fetch them outside the transaction and begin again."""

    def __init__(self, ids: set[int]) -> None:
        super().__init__()
        self.ids = ids


@dataclass(slots=True)
class _State:
    owners: dict[bytes, UUID] = field(default_factory=dict)
    records: dict[UUID, Record] = field(default_factory=dict)
    touched_by: dict[UUID, UUID] = field(default_factory=dict)
    added: dict[bytes, tuple[UUID, str]] = field(default_factory=dict)
    removed: set[bytes] = field(default_factory=set)
    events: list[tuple[Task, UUID]] = field(default_factory=list)


async def apply(
    connection: Connection,
    tasks: Sequence[Task],
    keys: Mapping[int, DataKey],
    person_key: DataKey,
    event_key: DataKey,
) -> list[Applied | Refused]:
    """Apply messages inside the caller's transaction; return one answer each, in order. Raises `KeysNeeded`."""
    claimed = {
        row["message_id"] for row in await connection.fetch(_CLAIM, [task.message_id for task in tasks])
    }
    hashes = sorted({each for task in tasks for each in task.hashes})
    # Four bytes of the hash are enough: two identifiers that share a lock merely wait for each other.
    await connection.execute(_LOCK, sorted({int.from_bytes(each[:4], "big", signed=True) for each in hashes}))
    state = _State()
    for row in await connection.fetch(_FIND, hashes):
        state.owners[row["value_hash"]] = row["person_id"]
    wanted = set(state.owners.values()) | {task.person.person_id for task in tasks if task.person.person_id}
    rows = await connection.fetch(_READ, sorted(wanted)) if wanted else []
    missing = {row["key_id"] for row in rows} - keys.keys()
    if missing:
        raise KeysNeeded(missing)
    for row in rows:
        opened = keys[row["key_id"]].open(row["sealed"], aad("person", "sealed", row["id"].bytes))
        state.records[row["id"]] = Record.from_bytes(row["id"], row["source"], row["version"], opened)
    answers: list[Applied | Refused] = []
    released = []
    for task in tasks:
        # A repeat within the group is told apart by the first one having taken the claim away.
        fresh = task.message_id in claimed
        claimed.discard(task.message_id)
        answer = _apply_one(state, task, fresh)
        if isinstance(answer, Refused) and fresh:
            released.append(task.message_id)
            claimed.add(task.message_id)
        answers.append(answer)
    await _write(connection, state, person_key, event_key)
    if released:
        await connection.execute("DELETE FROM applied_message WHERE message_id = ANY($1::uuid[])", released)
    return answers


def _apply_one(state: _State, task: Task, fresh: bool) -> Applied | Refused:
    owners = {
        state.owners[known.hash]
        for known, _ in task.identifiers.values()
        if known.live and known.hash in state.owners
    }
    if task.person.person_id in state.records:
        owners.add(task.person.person_id)
    if not fresh:
        return Applied(next(iter(owners)) if len(owners) == 1 else None, repeated=True)
    if len(owners) > 1:
        return Refused(
            f"The identifiers of message {task.message_id} belong to {len(owners)} persons "
            f"({', '.join(sorted(map(str, owners)))}); nothing was changed.",
            code="identifier-ambiguous",
            remedy="Find out which identifier is wrong, correct it at its source, then replay the message.",
        )
    if not owners and not any(known.live for known, _ in task.identifiers.values()):
        return Refused(
            f"Message {task.message_id} names no valid identifier of its person; nothing was changed.",
            code="identifier-missing",
            remedy="Have the partner send an identifier, or map one in the partner's dialect, then send again.",
        )
    if owners:
        record = state.records[owners.pop()]
    else:
        record = Record(uuid7(), f"civil-event:{task.source}" if task.event else task.source)
    if not record.room_for(task.identifiers):
        return Refused(
            f"Person {record.id} would have more than {IDENTIFIER_LIMIT} identifiers with message {task.message_id}; "
            "nothing was changed.",
            code="identifiers-too-many",
            remedy="Check whether the source gives one identifier to several people.",
        )
    return _merge(state, task, record)


def _merge(state: _State, task: Task, record: Record) -> Applied:
    created = record.created
    changed = record.merge_person(task.person, task.identifiers, clock_of(task.at, task.message_id))
    if task.event is not None:
        changed = record.merge_event(task.event, task.at, task.message_id) or changed
        state.events.append((task, record.id))
    elif record.source.startswith("civil-event:"):
        # From here on a registry vouches for the person, not only an event that named them.
        record.source = task.source
        record.touched = True
    record.created = False
    state.records[record.id] = record
    if created or record.touched:
        record.version += changed or created
        state.touched_by[record.id] = task.message_id
    record.touched = False
    for key, (known, _) in task.identifiers.items():
        live, owner = record.is_live(key), state.owners.get(known.hash)
        if live and owner is None:
            state.owners[known.hash] = record.id
            state.added[known.hash] = (record.id, known.type)
        elif not live and owner == record.id:
            del state.owners[known.hash]
            if state.added.pop(known.hash, None) is None:
                state.removed.add(known.hash)
    return Applied(record.id, created, changed or created)


async def _write(connection: Connection, state: _State, person_key: DataKey, event_key: DataKey) -> None:
    records = [state.records[each] for each in state.touched_by]
    if records:
        columns = list(zip(*(record.columns for record in records), strict=True))
        await connection.execute(
            _WRITE,
            [record.id for record in records],
            *columns,
            person_key.id,
            [person_key.seal(each.to_bytes(), aad("person", "sealed", each.id.bytes)) for each in records],
            [record.version for record in records],
            [record.source for record in records],
            list(state.touched_by.values()),
        )
    if state.removed:
        await connection.execute(
            "DELETE FROM person_identifier WHERE value_hash = ANY($1::bytea[])", list(state.removed)
        )
    if state.added:
        owners, types = zip(*state.added.values(), strict=True)
        await connection.execute(_NAME, list(state.added), owners, types)
    if state.events:
        await _write_events(connection, state.events, event_key)


async def _write_events(connection: Connection, events: list[tuple[Task, UUID]], key: DataKey) -> None:
    said = [(task, person_id, task.event) for task, person_id in events if task.event is not None]
    await connection.execute(
        _RECORD,
        [task.message_id for task, _, _ in said],
        [person_id for _, person_id, _ in said],
        [event.event_type.value for _, _, event in said],
        [event.event_date.first if event.event_date else None for _, _, event in said],
        [task.source for task, _, _ in said],
        [
            key.seal(task.sealed_event, aad("civil_event", "sealed", task.message_id.bytes))
            for task, _, _ in said
        ],
        key.id,
    )


def subject_of(event: CivilEvent) -> Person:
    """Return what an event says of its subject besides the event itself, whose meaning is merged on its own."""
    subject = event.subject
    kind = event.event_type
    if kind in (CivilEventType.DEATH, CivilEventType.FETAL_DEATH):
        return subject.model_copy(update={"death_date": None})
    if kind in (CivilEventType.MARRIAGE, CivilEventType.DIVORCE):
        return subject.model_copy(update={"marital_status": None})
    return subject


def identifiers_of(event: CivilEvent) -> tuple[Identifier, ...]:
    """Return the identifiers of an event's subject; the registry's number of a birth is one of them."""
    number = event.registration_number
    if number is not None and event.event_type in (CivilEventType.BIRTH, CivilEventType.FETAL_DEATH):
        return (*event.subject.identifiers, number)
    return event.subject.identifiers
