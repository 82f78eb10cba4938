"""Reading registrants: what rules need of one, in clear; the identity only through `reveal`, which leaves a trace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from canonical_model.household import Household
from canonical_model.person import Person
from registry.audit import AuditEvent, insert_many, record
from registry.people.history import Version, shown, versions
from registry.people.identity import identifier_hash
from registry.people.record import Record
from registry.people.referring import joined, unconfigured, unknown
from registry.storage.database import database_errors
from registry.vault import BlindIndex, ReferenceVault, Vault, sealed_place

WAIT: Final = 10.0
FIELDS: Final = """
r.id, r.kind, r.status, r.group_kind, r.is_partial_group, r.group_size, r.sex, r.birthdate, r.birthdate_not_exact,
r.deathdate, r.marital_status, a.code AS area_code, r.registration_date, r.language, r.attributes, r.merged_into, r.version,
r.source, r.created_at, r.updated_at
"""
# The id of a merged registrant leads to the one it was merged into.
_WHO: Final = "(SELECT coalesce(n.merged_into, n.id) FROM registrant n WHERE n.id = $1)"
_GET: Final = f"SELECT {FIELDS} FROM registrant r LEFT JOIN area a ON a.id = r.area_id WHERE r.id = {_WHO}"
_FIND: Final = f"""
SELECT {FIELDS} FROM registrant_identifier i JOIN registrant r ON r.id = i.registrant_id
LEFT JOIN area a ON a.id = r.area_id WHERE i.hash = $1 AND i.live
"""
_MEMBERS: Final = """
SELECT m.id, m.group_id, m.member_id, m.roles, nullif(m.start_date, '-infinity') AS start_date, m.ended_date, m.version,
       m.source, m.start_date <= $2 AND (m.ended_date IS NULL OR $2 < m.ended_date) AS active
FROM membership m WHERE m.{side} = (SELECT coalesce(n.merged_into, n.id) FROM registrant n WHERE n.id = $1)
    AND ($3 OR m.start_date <= $2 AND (m.ended_date IS NULL OR $2 < m.ended_date))
ORDER BY m.start_date, m.id LIMIT 2000
"""
_OPEN: Final = f"""
SELECT r.id, r.kind, r.source, r.version, v.key_id, v.format, v.sealed,
    EXISTS (SELECT FROM registrant_reference f WHERE f.registrant_id = r.id) AS referred
FROM registrant r JOIN registrant_vault v ON v.registrant_id = r.id WHERE r.id = {_WHO}
"""

_OPEN_OWN: Final = """
SELECT r.id, r.kind, r.source, r.version, v.key_id, v.format, v.sealed
FROM registrant r JOIN registrant_vault v ON v.registrant_id = r.id WHERE r.id = $1
"""
_OPEN_MANY: Final = """
SELECT r.id, r.kind, r.source, r.version, v.key_id, v.format, v.sealed,
    EXISTS (SELECT FROM registrant_reference f WHERE f.registrant_id = r.id) AS referred
FROM registrant r JOIN registrant_vault v ON v.registrant_id = r.id WHERE r.id = ANY ($1::uuid[])
"""
_MEMBERS_OF: Final = """
SELECT m.group_id, m.member_id, m.roles, nullif(m.start_date, '-infinity') AS start_date, m.ended_date
FROM membership m WHERE m.group_id = ANY ($1::uuid[]) ORDER BY m.group_id, m.start_date, m.id
"""
MANY: Final = 500
"""Most registrants revealed at once."""
Connection = asyncpg.Connection | PoolConnectionProxy


@dataclass(frozen=True, slots=True)
class Registrant:
    """What rules need of an individual or a group, without identity data."""

    id: UUID
    kind: str
    status: str
    group_kind: str | None
    is_partial_group: bool | None
    group_size: int | None
    sex: str | None
    birthdate: date | None
    birthdate_not_exact: bool
    deathdate: date | None
    marital_status: str | None
    area_code: str | None
    registration_date: date | None
    language: str | None
    attributes: Mapping[str, Any]
    merged_into: UUID | None
    version: int
    source: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Member:
    """One membership, seen from a day: `active` says whether it holds then; `start_date` is None when nobody knows it."""

    id: UUID
    group_id: UUID
    member_id: UUID
    roles: list[str]
    start_date: date | None
    ended_date: date | None
    version: int
    source: str
    active: bool


class Reader:
    """Reads registrants of both kinds; every method raises `Unavailable` when the database is away."""

    def __init__(
        self, pool: asyncpg.Pool, vault: Vault, blind: BlindIndex, references: ReferenceVault | None = None
    ) -> None:
        self._pool = pool
        self._references = references
        self._vault = vault
        self._blind = blind

    async def get(self, registrant_id: UUID) -> Registrant | None:
        """Return a registrant without identity data, None when there is none.

        The id of one that was merged leads to its survivor, whose id the answer has.
        """
        async with database_errors("reading a registrant"), asyncio.timeout(WAIT):
            row = await self._pool.fetchrow(_GET, registrant_id)
        return None if row is None else Registrant(**dict(row))

    async def find_by_identifier(self, type_: str, value: str) -> Registrant | None:
        """Return who has this identifier, without identity data; `type_` is its namespace, else its type."""
        hashed = identifier_hash(self._blind, type_, value)
        async with database_errors("looking a registrant up"), asyncio.timeout(WAIT):
            row = await self._pool.fetchrow(_FIND, hashed)
        return None if row is None else Registrant(**dict(row))

    async def history(
        self, registrant_id: UUID, *, limit: int = 100, before: int | None = None
    ) -> list[Version]:
        """Return the versions of a registrant, newest first, with old and new value of what lies in clear.

        `before` is a version to go on below. A registrant made before history was kept begins later than version 1.
        """
        async with database_errors("reading a history"), asyncio.timeout(WAIT):
            rows = await versions(self._pool, registrant_id, limit, before)
        return [shown(row) for row in rows]

    async def reveal_history(
        self,
        registrant_id: UUID,
        purpose: str,
        actor: str,
        *,
        limit: int = 100,
        before: int | None = None,
        request_id: str | None = None,
    ) -> list[Version]:
        """Return the versions of a registrant with what lies sealed; the audit trail has it before the caller does.

        Raises `Refused` (`purpose-missing`) without a purpose of up to 200 characters.
        """
        check_purpose(purpose, actor, f"The history of registrant {registrant_id}")
        async with database_errors("reading a history"), asyncio.timeout(WAIT):
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await versions(connection, registrant_id, limit, before)
                trace = AuditEvent(
                    actor=actor,
                    action="person.history",
                    object_type="person",
                    object_id=str(registrant_id),
                    outcome="ok" if rows else "absent",
                    request_id=request_id,
                    details={"purpose": purpose, "versions": len(rows)},
                )
                await insert_many(connection, [trace])
            keys = {row["key_id"]: await self._vault.key(row["key_id"]) for row in rows if row["key_id"]}
        return [shown(row, keys.get(row["key_id"])) for row in rows]

    async def witnessed(self, ids: Sequence[UUID], actor: str, *, request_id: str | None = None) -> None:
        """Leave the trace of a read without identity data, before it is shown: one event for all it shows."""
        if not ids:
            return
        one = len(ids) == 1
        trace = AuditEvent(
            actor=actor,
            action="registrant.read" if one else "registrant.search",
            object_type="registrant",
            object_id=str(ids[0]) if one else "*",
            request_id=request_id,
            details=None if one else {"shown": [str(each) for each in ids]},
        )
        await record(self._pool, trace)

    async def opened(self, connection: Connection, registrant_id: UUID) -> Record | None:
        """Return a registrant's own record, for a change that has to know the whole; whoever shows it leaves the trace."""
        row = await connection.fetchrow(_OPEN_OWN, registrant_id)
        if row is None:
            return None
        key = await self._vault.key(row["key_id"])
        opened = key.open(row["sealed"], sealed_place(row["format"], row["id"]))
        return Record.from_bytes(row["id"], row["source"], row["version"], opened, kind=row["kind"])

    async def members(self, group_id: UUID, on: date | None = None, *, past: bool = False) -> list[Member]:
        """Return who belongs to a group on a day (default: today, UTC); with `past` all who ever did or will."""
        return await self._memberships("group_id", group_id, on, past)

    async def groups_of(self, member_id: UUID, on: date | None = None, *, past: bool = False) -> list[Member]:
        """Return the groups somebody belongs to on a day (default: today, UTC); with `past` all they ever did or will."""
        return await self._memberships("member_id", member_id, on, past)

    async def _memberships(self, side: str, of: UUID, on: date | None, past: bool) -> list[Member]:
        day = on or datetime.now(UTC).date()
        async with database_errors("reading memberships"), asyncio.timeout(WAIT):
            rows = await self._pool.fetch(_MEMBERS.format(side=side), of, day, past)
        return [Member(**dict(row)) for row in rows]

    async def reveal(
        self, registrant_id: UUID, purpose: str, actor: str, *, request_id: str | None = None
    ) -> Person | Household | None:
        """Return a registrant with identity data, None when there is none; the audit trail has it before the caller does.

        A group comes with its memberships, past ones included, the latest 1000. `purpose` says in up to 200 characters why; raises `Refused` (`purpose-missing`) without one.

        Of somebody kept by reference the ID system is asked; raises `Unavailable` when it does not answer in time, and
        `Refused` (`identity-unknown`) when it does not know them any more.
        """
        check_purpose(purpose, actor, f"Identity data of registrant {registrant_id}")
        async with database_errors("reading a registrant"), asyncio.timeout(WAIT):
            async with self._pool.acquire() as connection, connection.transaction():
                row = await connection.fetchrow(_OPEN, registrant_id)
                trace = AuditEvent(
                    actor=actor,
                    action="person.reveal",
                    object_type="person" if row is None or row["kind"] == "individual" else "group",
                    object_id=str(registrant_id),
                    outcome="ok" if row else "absent",
                    request_id=request_id,
                    details={"purpose": purpose},
                )
                await insert_many(connection, [trace])
            if row is None:
                return None
            key = await self._vault.key(row["key_id"])
        opened = key.open(row["sealed"], sealed_place(row["format"], row["id"]))
        record = Record.from_bytes(row["id"], row["source"], row["version"], opened, kind=row["kind"])
        if record.kind == "individual":
            return await self._whole(record.person(), record.id) if row["referred"] else record.person()
        return record.household([_said(each) for each in await self.members(record.id, past=True)][-1000:])

    async def reveal_many(
        self, ids: Sequence[UUID], purpose: str, actor: str, *, request_id: str | None = None
    ) -> dict[UUID, Person | Household]:
        """Return registrants with their identity, at most 500; one event of the trail names all of them before they are shown.

        Who is not there, or merged into another, is left out. Raises `Refused` (`purpose-missing`, `identity-unknown`).
        """
        check_purpose(purpose, actor, "An export of registrants")
        if len(ids) > MANY:
            raise ValueError(f"at most {MANY} registrants are revealed at once")
        async with database_errors("revealing registrants"), asyncio.timeout(WAIT):
            async with self._pool.acquire() as connection, connection.transaction():
                rows = await connection.fetch(_OPEN_MANY, list(ids))
                groups = [row["id"] for row in rows if row["kind"] == "group"]
                members: dict[UUID, list[dict[str, Any]]] = {each: [] for each in groups}
                for one in await connection.fetch(_MEMBERS_OF, groups) if groups else ():
                    members[one["group_id"]].append(_said_of(dict(one)))
                details = {"purpose": purpose, "revealed": True, "shown": [str(row["id"]) for row in rows]}
                if rows:
                    trace = AuditEvent(
                        actor, "registrant.search", "registrant", "*", request_id=request_id, details=details
                    )
                    await insert_many(connection, [trace])
            keys = {key_id: await self._vault.key(key_id) for key_id in {row["key_id"] for row in rows}}
        found: dict[UUID, Person | Household] = {}
        referred = [row["id"] for row in rows if row["referred"]]
        told = await self._told(referred) if referred else {}
        for row in rows:
            opened = keys[row["key_id"]].open(row["sealed"], sealed_place(row["format"], row["id"]))
            record = Record.from_bytes(row["id"], row["source"], row["version"], opened, kind=row["kind"])
            if record.kind == "group":
                found[record.id] = record.household(members[record.id][-1000:])
            elif self._references is not None and row["referred"]:
                found[record.id] = joined(
                    record.id, record.person(), told[record.id], self._references.system
                )
            else:
                found[record.id] = record.person()
        return found

    async def _told(self, ids: Sequence[UUID]) -> Mapping[UUID, bytes]:
        """Have the ID system tell of people kept by reference; whom it does not know ends the export there."""
        if self._references is None:
            raise unconfigured(ids[0])
        told = await self._references.get(ids)
        for registrant_id in ids:
            if registrant_id not in told:
                raise unknown(registrant_id, self._references.system)
        return told

    async def _whole(self, here: Person, registrant_id: UUID) -> Person:
        """Return somebody kept by reference with what the ID system tells of them, which is kept nowhere."""
        if self._references is None:
            raise unconfigured(registrant_id)
        found = await self._references.get([registrant_id])
        if registrant_id not in found:
            raise unknown(registrant_id, self._references.system)
        return joined(registrant_id, here, found[registrant_id], self._references.system)


def _said(member: Member) -> dict[str, Any]:
    return _said_of(asdict(member))


def _said_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "person_id": row["member_id"],
        "roles": row["roles"],
        "start_date": None if row["start_date"] is None else row["start_date"].isoformat(),
        "ended_date": None if row["ended_date"] is None else row["ended_date"].isoformat(),
    }


def check_purpose(purpose: str, actor: str, what: str) -> None:
    """Refuse to show identity data without a purpose or to nobody; raises `Refused` (`purpose-missing`)."""
    if not purpose.strip() or len(purpose) > 200 or not actor.strip():
        raise Refused(
            f"{what} was asked for without a purpose; nothing was shown.",
            code="purpose-missing",
            remedy="Say in one to 200 characters what the data is needed for; it goes into the audit trail.",
        )
