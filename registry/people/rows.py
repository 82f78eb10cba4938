"""The statements of the writer: what a chunk reads and locks, and how its rows go back, each with one round trip.

The order of locks is fixed: message ids, then identifiers, then registrants, each sorted. Two transactions can wait for
one another only in that order, so they never wait in a circle, and two facts about one new identifier follow each
other: the second finds the registrant the first made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.civil_event import CivilEvent
from canonical_model.household import Household
from canonical_model.message import uuid7
from canonical_model.person import Person
from canonical_model.redaction import redact
from registry.people import versions
from registry.people.chunk import Chunk
from registry.people.drafts import Task, Tokens
from registry.people.members import Members
from registry.people.record import Record
from registry.people.tables import IDENTIFIER, MEMBERSHIP, REGISTRANT, SEARCH, VAULT
from registry.people.tokens import facets_of
from registry.vault import FORMAT, DataKey, aad, sealed_place

Connection = asyncpg.Connection | PoolConnectionProxy
Found = asyncpg.Record | Mapping[str, Any]
"""Who has an identifier: hash, id, kind, merged_into."""

LOCKED_IDENTIFIERS: Final = 500
"""Most identifiers locked one by one: the server's table of locks is shared and small."""
_CLAIM: Final = """
INSERT INTO applied_message (message_id) SELECT id FROM unnest($1::uuid[]) AS t (id) ORDER BY id
ON CONFLICT DO NOTHING RETURNING message_id
"""
_RELEASE: Final = "DELETE FROM applied_message WHERE message_id = ANY($1::uuid[])"
_LOCK: Final = "SELECT count(pg_advisory_xact_lock(1347568462, key)) FROM unnest($1::int[]) AS t (key)"
_FIND: Final = """
SELECT i.hash, r.id, r.kind, r.merged_into FROM registrant_identifier i JOIN registrant r ON r.id = i.registrant_id
WHERE i.hash = ANY($1::bytea[]) AND i.live
"""
_NAMED: Final = "SELECT id, kind, merged_into FROM registrant WHERE id = ANY($1::uuid[])"
# Locked first and opened by the next statement: one that did both could lock a new row and read an old document.
_HOLD: Final = """
SELECT id, kind, source, version, merged_into FROM registrant WHERE id = ANY($1::uuid[]) ORDER BY id FOR NO KEY UPDATE
"""
_OPEN: Final = (
    "SELECT registrant_id, key_id, format, sealed FROM registrant_vault WHERE registrant_id = ANY($1::uuid[])"
)
_REFERRED: Final = "SELECT registrant_id FROM registrant_reference WHERE registrant_id = ANY($1::uuid[])"
_FACETS: Final = """
UPDATE registrant_search s SET facets = t.facets::int[]
FROM unnest($1::uuid[], $2::text[]) AS t (id, facets) WHERE s.registrant_id = t.id
"""
_MEMBERS: Final = """
SELECT id, group_id, member_id, roles, start_date, ended_date, start_said_at, end_said_at, roles_said_at FROM membership
WHERE group_id = ANY($1::uuid[]) ORDER BY id
"""
_AREAS: Final = "SELECT code, id FROM area WHERE code = ANY($1::text[])"
_UPDATE: Final = """
UPDATE registrant r SET status = t.status, group_kind = t.group_kind, is_partial_group = t.is_partial_group,
    group_size = t.group_size, sex = t.sex, birthdate = t.birthdate, birthdate_not_exact = t.birthdate_not_exact,
    deathdate = t.deathdate, marital_status = t.marital_status, area_id = t.area_id,
    registration_date = t.registration_date, language = t.language, attributes = t.attributes, version = t.version,
    source = t.source, message_id = t.message_id, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bool[], $5::int[], $6::text[], $7::date[], $8::bool[], $9::date[],
        $10::text[], $11::int[], $12::date[], $13::text[], $14::jsonb[], $15::int[], $16::text[], $17::uuid[])
     AS t (id, status, group_kind, is_partial_group, group_size, sex, birthdate, birthdate_not_exact, deathdate,
        marital_status, area_id, registration_date, language, attributes, version, source, message_id)
WHERE r.id = t.id
"""
_SEAL: Final = """
INSERT INTO registrant_vault (registrant_id, key_id, format, sealed)
SELECT id, $1, $2, sealed FROM unnest($3::uuid[], $4::bytea[]) AS t (id, sealed)
ON CONFLICT (registrant_id) DO UPDATE SET key_id = excluded.key_id, format = excluded.format, sealed = excluded.sealed
"""
_IDENTIFIERS: Final = """
WITH given AS (
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::bytea[], $5::bool[], $6::date[], $7::date[], $8::text[])
        AS t (id, registrant_id, type, hash, live, valid_from, expiry_date, verification_method)
), there AS (
    UPDATE registrant_identifier i SET live = g.live, valid_from = g.valid_from, expiry_date = g.expiry_date,
        verification_method = g.verification_method
    FROM given g WHERE i.registrant_id = g.registrant_id AND i.hash = g.hash
    RETURNING i.registrant_id, i.hash
)
INSERT INTO registrant_identifier (id, registrant_id, type, hash, live, valid_from, expiry_date, verification_method)
SELECT * FROM given g
WHERE NOT EXISTS (SELECT FROM there WHERE there.registrant_id = g.registrant_id AND there.hash = g.hash) ORDER BY g.hash
"""
_SEARCH: Final = """
INSERT INTO registrant_search (registrant_id, names, contacts, facets)
SELECT id, names::bigint[], contacts::bigint[], facets::int[]
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]) AS t (id, names, contacts, facets)
ON CONFLICT (registrant_id) DO UPDATE SET names = excluded.names, contacts = excluded.contacts, facets = excluded.facets
"""
_MOVE: Final = """
UPDATE membership m SET roles = t.roles::text[], start_date = t.start_date, ended_date = t.ended_date,
    start_said_at = t.start_said_at, end_said_at = t.end_said_at, roles_said_at = t.roles_said_at,
    version = m.version + 1, updated_at = now()
FROM unnest($1::uuid[], $2::text[], $3::date[], $4::date[], $5::timestamptz[], $6::timestamptz[], $7::timestamptz[])
     AS t (id, roles, start_date, ended_date, start_said_at, end_said_at, roles_said_at)
WHERE m.id = t.id
"""
_CYCLE: Final = """
WITH RECURSIVE inner_groups AS (
    SELECT o.top, o.id FROM unnest($1::uuid[], $2::uuid[]) AS o (top, id)
    UNION
    SELECT i.top, m.member_id FROM inner_groups i JOIN membership m ON m.group_id = i.id
    JOIN registrant r ON r.id = m.member_id AND r.kind = 'group'
)
SELECT DISTINCT top FROM inner_groups WHERE top = id
"""
_NEST_LOCK: Final = "SELECT pg_advisory_xact_lock(1347568463)"
_EVENT: Final = ("id", "person_id", "event_type", "event_date", "source", "key_id", "sealed")


@dataclass(frozen=True, slots=True)
class Keys:
    """The data keys that seal this month's rows; the event's only where there are events."""

    vault: DataKey
    change: DataKey
    event: DataKey | None = None


async def claim(connection: Connection, ids: Collection[UUID]) -> set[UUID]:
    """Note messages as applied; return those that were not before."""
    if not ids:
        return set()
    return {row["message_id"] for row in await connection.fetch(_CLAIM, list(ids))}


async def release(connection: Connection, ids: Collection[UUID]) -> None:
    """Forget messages that were refused, so that they can be sent again."""
    if ids:
        await connection.execute(_RELEASE, list(ids))


async def find(connection: Connection, tasks: Iterable[Task]) -> list[Found]:
    """Lock every identifier that tasks name, their own and their members', and return who has them."""
    hashes = {known.hash for task in tasks for known, _ in task.identifiers.values()}
    hashes |= {
        known.hash for task in tasks for _, identifiers in task.members for known, _ in identifiers.values()
    }
    await _lock(connection, hashes)
    return list(await connection.fetch(_FIND, list(hashes))) if hashes else []


async def taken(connection: Connection, hashes: Collection[bytes]) -> set[bytes]:
    """Lock identifiers and return those that somebody has."""
    await _lock(connection, hashes)
    return {row["hash"] for row in await connection.fetch(_FIND, list(hashes))} if hashes else set()


async def read(
    connection: Connection, chunk: Chunk, tasks: Sequence[Task], found: Iterable[Found]
) -> Sequence[asyncpg.Record]:
    """Lock and read everything that tasks may concern into the chunk; return the sealed documents, still closed.

    `found` is what `find` returned for them, and whoever was written since.
    """
    own = {known.hash for task in tasks for known, _ in task.identifiers.values()}
    members = [each for task in tasks for each in task.members]
    hashes = own | {known.hash for _, identifiers in members for known, _ in identifiers.values()}
    wanted = {task.given_id for task in tasks if task.given_id is not None}
    for row in found:
        if row["hash"] not in hashes:
            continue
        chunk.owners[row["hash"]] = row["id"]
        _name(chunk, row)
        if row["hash"] in own:
            wanted.add(row["id"])
    named = {said.person_id for said, _ in members if said.person_id is not None} - wanted
    for row in await connection.fetch(_NAMED, list(named)) if named else ():
        _name(chunk, row)
    documents = await _hold(connection, chunk, wanted) if wanted else ()
    if chunk.referring is not None and chunk.records:
        found = await connection.fetch(_REFERRED, list(chunk.records))
        chunk.referred |= {row["registrant_id"] for row in found}
    for hash_ in own & chunk.owners.keys():
        if chunk.resolve(chunk.owners[hash_]) not in chunk.records:
            del chunk.owners[hash_]  # deleted between the two statements
    groups = [each.id for each in chunk.records.values() if each.kind == "group"]
    if groups and any("memberships" in task.draft.value.model_fields_set for task in tasks):
        chunk.groups = {group_id: Members(group_id) for group_id in groups}
        for row in await connection.fetch(_MEMBERS, groups):
            chunk.groups[row["group_id"]].take(dict(row))
    return documents


async def hold(
    connection: Connection, hashes: Collection[bytes], ids: Collection[UUID]
) -> list[asyncpg.Record]:
    """Lock identifiers, then registrants, in the order all writers keep; return id, kind, source, version, merged_into."""
    await _lock(connection, hashes)
    return list(await connection.fetch(_HOLD, list(ids)))


async def documents(connection: Connection, ids: Collection[UUID]) -> list[asyncpg.Record]:
    """Read sealed documents, still closed: registrant_id, key_id, format, sealed."""
    return list(await connection.fetch(_OPEN, list(ids)))


async def _lock(connection: Connection, hashes: Collection[bytes]) -> None:
    if 0 < len(hashes) <= LOCKED_IDENTIFIERS:
        # Four bytes of the hash are enough: two identifiers that share a lock merely wait for each other.
        await connection.execute(
            _LOCK, sorted({int.from_bytes(each[:4], "big", signed=True) for each in hashes})
        )


def _name(chunk: Chunk, row: Found) -> None:
    """Note the kind of a registrant, and of the one it was merged into, which is of the same kind."""
    chunk.kinds[row["id"]] = row["kind"]
    if row["merged_into"] is not None:
        chunk.moved[row["id"]] = row["merged_into"]
        chunk.kinds[row["merged_into"]] = row["kind"]


async def _hold(connection: Connection, chunk: Chunk, wanted: set[UUID]) -> Sequence[asyncpg.Record]:
    while wanted:
        survivors = set()
        for row in await connection.fetch(_HOLD, list(wanted)):
            _name(chunk, row)
            if row["merged_into"] is not None:
                survivors.add(row["merged_into"])
                continue
            chunk.records[row["id"]] = Record(
                row["id"], row["source"], {}, row["version"], kind=row["kind"], declared=chunk.declared
            )
        wanted = survivors - chunk.records.keys()
    return await connection.fetch(_OPEN, list(chunk.records)) if chunk.records else ()


async def write(
    connection: Connection, chunk: Chunk, keys: Keys, tokens: Tokens | None, at: datetime
) -> None:
    """Write what became of a chunk."""
    areas = await area_ids(connection, {chunk.records[each].columns.area_code for each in chunk.touched})
    records = [chunk.records[each] for each in chunk.touched]
    made = {change.registrant_id for change in chunk.changes if change.created}
    new = [record for record in records if record.id in made]
    old = [record for record in records if record.id not in made]
    if new:
        await _insert(connection, chunk, new, areas, keys.vault)
    if old:
        await _update(connection, chunk, old, areas, keys.vault)
    await _write_identifiers(connection, chunk, made)
    if tokens is not None and chunk.resaid:
        await _write_search(connection, chunk, made, tokens, areas)
    if chunk.groups:
        await _write_members(connection, chunk)
    if chunk.changes:
        await versions.write(connection, chunk.changes, keys.change, at)
    if chunk.events and keys.event is not None:
        await _write_events(connection, chunk, keys.event)


async def cycles(connection: Connection, chunk: Chunk) -> set[UUID]:
    """Return the groups that would be members of themselves; whoever nests groups waits for others who do."""
    if not chunk.nestings:
        return set()
    await connection.execute(_NEST_LOCK)
    tops, inner = zip(*((top, inner) for _, top, inner in chunk.nestings), strict=True)
    return {row["top"] for row in await connection.fetch(_CYCLE, tops, inner)}


async def area_ids(connection: Connection, codes: Collection[str | None]) -> dict[str, int]:
    """Return the ids of areas by their codes."""
    given = set(codes) - {None}
    rows = await connection.fetch(_AREAS, list(given)) if given else ()
    return {row["code"]: row["id"] for row in rows}


async def _insert(
    connection: Connection, chunk: Chunk, records: Sequence[Record], areas: Mapping[str, int], key: DataKey
) -> None:
    touched = chunk.touched
    await connection.copy_records_to_table(
        "registrant",
        records=[
            (
                each.id, each.kind, *each.columns[:9], areas.get(each.columns.area_code or ""),
                *each.columns[10:], each.attributes, each.version, each.source, touched[each.id].draft.message_id,
            )
            for each in records
        ],
        columns=REGISTRANT,
    )  # fmt: skip
    await connection.copy_records_to_table(
        "registrant_vault",
        records=[
            (each.id, key.id, FORMAT, key.seal(each.to_bytes(), sealed_place(FORMAT, each.id)))
            for each in records
        ],
        columns=VAULT,
    )


async def _update(
    connection: Connection, chunk: Chunk, records: Sequence[Record], areas: Mapping[str, int], key: DataKey
) -> None:
    columns = [list(each) for each in zip(*(record.columns for record in records), strict=True)]
    columns[9] = [None if code is None else areas.get(code) for code in columns[9]]
    await connection.execute(
        _UPDATE,
        [record.id for record in records],
        *columns,
        [record.attributes for record in records],
        [record.version for record in records],
        [record.source for record in records],
        [chunk.touched[record.id].draft.message_id for record in records],
    )
    await connection.execute(
        _SEAL,
        key.id,
        FORMAT,
        [record.id for record in records],
        [key.seal(each.to_bytes(), sealed_place(FORMAT, each.id)) for each in records],
    )


async def _write_identifiers(connection: Connection, chunk: Chunk, made: set[UUID]) -> None:
    added: list[tuple[Any, ...]] = []
    given: list[tuple[Any, ...]] = []
    taken: list[tuple[Any, ...]] = []
    for (owner, hash_), (known, identifier, live) in chunk.identifiers.items():
        row = (
            uuid7(), owner, known.type, hash_, live,
            identifier.issue_date.first if identifier.issue_date else None,
            identifier.expiry_date.last if identifier.expiry_date else None,
            identifier.verification_method.value if identifier.verification_method else None,
        )  # fmt: skip
        (added if owner in made else given if live else taken).append(row)
    # What is taken from one may be given to another by the same chunk.
    for rows in (taken, given):
        if rows:
            await connection.execute(_IDENTIFIERS, *zip(*rows, strict=True))
    if added:
        added.sort(key=lambda row: row[3])
        await connection.copy_records_to_table("registrant_identifier", records=added, columns=IDENTIFIER)


async def _write_search(
    connection: Connection, chunk: Chunk, made: set[UUID], tokens: Tokens, areas: Mapping[str, int]
) -> None:
    new: list[tuple[UUID, list[int], list[int], list[int]]] = []
    old: list[tuple[UUID, list[int], list[int], list[int]]] = []
    narrowed: list[tuple[UUID, str]] = []
    names: Sequence[int]
    contacts: Sequence[int]
    for each in chunk.resaid:
        columns = chunk.records[each].columns
        facets = facets_of(columns.birthdate, areas.get(columns.area_code or ""))
        if each in chunk.referred and not _may_search(chunk, each):
            if each not in made:
                narrowed.append((each, _array(facets)))
                continue
            names, contacts = [], []
        else:
            names, contacts = tokens(_said(chunk, each))
        (new if each in made else old).append((each, list(names), list(contacts), facets))
    if new:
        await connection.copy_records_to_table("registrant_search", records=new, columns=SEARCH)
    if old:
        ids, *arrays = zip(*old, strict=True)
        await connection.execute(_SEARCH, ids, *([_array(one) for one in many] for many in arrays))
    if narrowed:
        await connection.execute(_FACETS, *zip(*narrowed, strict=True))


def _may_search(chunk: Chunk, registrant_id: UUID) -> bool:
    """Say whether somebody kept by reference may be found by what a draft said of names and contacts."""
    rules = chunk.referring
    return rules is not None and rules.indexes == "names" and registrant_id in chunk.spoken


def _said(chunk: Chunk, registrant_id: UUID) -> Person | Household:
    """Return what a registrant is found by; for a new one that is what its only draft says."""
    if registrant_id in chunk.spoken:
        return chunk.spoken[registrant_id]
    task = chunk.only.get(registrant_id)
    return chunk.records[registrant_id].canonical() if task is None else task.draft.value


async def _write_members(connection: Connection, chunk: Chunk) -> None:
    source = {
        each: chunk.touched[each].draft.source if each in chunk.touched else "" for each in chunk.groups
    }
    changed = [(group.group_id, row) for group in chunk.groups.values() for row in group.rows if row.changed]
    # A role or a time is given up before another row takes it.
    for gains in (False, True):
        rows = [row for _, row in changed if row.held is not None and row.gains is gains]
        if rows:
            await connection.execute(
                _MOVE,
                [row.id for row in rows],
                [_array(row.roles) for row in rows],
                [row.start for row in rows],
                [row.end for row in rows],
                *zip(*(row.said for row in rows), strict=True),
            )
    new = [
        (row.id, group_id, row.member_id, row.roles, row.start, row.end, source[group_id], *row.said)
        for group_id, row in changed
        if row.held is None
    ]
    if new:
        await connection.copy_records_to_table("membership", records=new, columns=MEMBERSHIP)


async def _write_events(connection: Connection, chunk: Chunk, key: DataKey) -> None:
    said = [(task, each, task.draft.event) for task, each in chunk.events if task.draft.event is not None]
    await connection.copy_records_to_table(
        "civil_event",
        records=[
            (
                task.fact_id, person_id, event.event_type.value, event.event_date.first if event.event_date else None,
                task.draft.source, key.id,
                key.seal(_told(chunk, task, person_id), aad("civil_event", "sealed", task.fact_id.bytes)),
            )
            for task, person_id, event in said
            if task.fact_id is not None
        ],
        columns=_EVENT,
    )  # fmt: skip


def _told(chunk: Chunk, task: Task, person_id: UUID) -> bytes:
    """Return an event as it is kept: of people kept by reference without anybody's identity, marks in its place."""
    if person_id not in chunk.referred:
        return task.event
    return orjson.dumps(redact(CivilEvent, orjson.loads(task.event)))


def _array(values: Iterable[object]) -> str:
    """Return numbers or plain words as an array literal."""
    return f"{{{','.join(map(str, values))}}}"
