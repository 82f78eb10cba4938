"""What is known of one registrant, its household and its members: all that a rule can ask, read by one query."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from registry.attributes import LARGEST, Attribute, Kind, ValueType, sql_of
from registry.audit import AuditEvent, insert_many
from registry.rules.events import events_of
from registry.rules.tree import Value

Connection = asyncpg.Connection | PoolConnectionProxy | asyncpg.Pool
_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_COLUMNS: Final = (
    "status", "group_kind", "is_partial_group", "group_size", "sex", "birthdate", "birthdate_not_exact", "deathdate",
    "marital_status", "registration_date", "language",
)  # fmt: skip
_DATES: Final = frozenset({"birthdate", "deathdate", "registration_date"})


def _column(name: str) -> str:
    attribute = Attribute(name, ValueType.DATE if name in _DATES else ValueType.TEXT, column=name)
    return f"{sql_of(attribute, 'r')} AS {name}"


_LOAD: Final = f"""
WITH me AS (SELECT id, kind FROM registrant WHERE id = $1),
household AS (
    SELECT h.id FROM me JOIN membership hm ON hm.member_id = me.id JOIN registrant h ON h.id = hm.group_id
    WHERE me.kind = 'individual' AND h.kind = 'group' AND h.group_kind = 'household' AND h.status = 'active'
        AND hm.start_date <= $2 AND (hm.ended_date IS NULL OR hm.ended_date > $2)
    ORDER BY hm.start_date DESC, h.id LIMIT 1),
who AS (
    SELECT 'r' AS part, id, NULL::text[] AS roles FROM me
    UNION ALL SELECT 'h', id, NULL FROM household
    UNION ALL
    SELECT 'm', m.id, ms.roles FROM membership ms JOIN registrant m ON m.id = ms.member_id
    WHERE ms.group_id = (SELECT CASE me.kind WHEN 'group' THEN me.id ELSE (SELECT id FROM household) END FROM me)
        AND m.kind = 'individual' AND m.status = 'active'
        AND ms.start_date <= $2 AND (ms.ended_date IS NULL OR ms.ended_date > $2))
SELECT who.part, who.roles, r.id, r.kind, {", ".join(map(_column, _COLUMNS))}, r.attributes::text AS attributes,
    (SELECT array_agg(a.code) FROM area here JOIN area a ON a.id = ANY (here.path) WHERE here.id = r.area_id) AS areas,
    (SELECT json_agg(json_build_object('id', e.id, 'type', e.type, 'on', e.collected_on, 'expires', CASE WHEN e.expires_on <= DATE '9999-12-31' THEN e.expires_on END,
        'data', e.data))::text FROM registrant_event e WHERE {events_of("r.id")}
        AND e.collected_on BETWEEN DATE '0001-01-01' AND $2) AS events
FROM who JOIN registrant r ON r.id = who.id ORDER BY who.part, r.id
"""


@dataclass(frozen=True, slots=True)
class Event:
    """One event of somebody: its day, until when it holds, and what it says."""

    id: str
    type: str
    collected_on: date
    expires_on: date | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Somebody:
    """What is known of a registrant: columns, declared attributes, areas from the top down to their own, events."""

    id: UUID
    columns: Mapping[str, Any] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    areas: frozenset[str] | None = None
    events: tuple[Event, ...] = ()
    roles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Facts:
    """What a rule can ask about one registrant. For an individual the members are those of the household."""

    registrant: Somebody
    kind: Kind
    household: Somebody | None = None
    members: tuple[Somebody, ...] = ()


def read(attribute: Attribute, somebody: Somebody) -> Value:
    """Return the value of an attribute of somebody, None where it is missing or has not the declared form."""
    if attribute.type is ValueType.TEXTS:
        return somebody.roles
    if attribute.column is not None:
        value: Value = somebody.columns.get(attribute.column)
        return value
    return read_json(attribute.type, somebody.attributes.get(attribute.name))


def read_json(kind: ValueType, value: Any) -> Value:
    """Return a JSON value as the type declares it, None where it has not that form; as the functions of the database do."""
    match kind:
        case ValueType.BOOLEAN:
            return value if isinstance(value, bool) else None
        case ValueType.TEXT:
            return value if isinstance(value, str) else None
        case ValueType.DATE:
            if not isinstance(value, str) or not _DATE.fullmatch(value):
                return None
            try:
                return date.fromisoformat(value)
            except ValueError:
                return None
    if isinstance(value, bool) or not isinstance(value, int | Decimal | float):
        return None
    exact = Fraction(str(value)) if isinstance(value, float) else Fraction(value)
    if abs(exact) >= LARGEST + 1:
        return None
    if kind is ValueType.INTEGER:
        return int(exact) if exact.denominator == 1 else None
    return exact


async def load_facts(connection: Connection, registrant_id: UUID, as_of: date) -> Facts:
    """Read the facts of one registrant as of a day; raises `Refused` `resource-not-found`."""
    rows = await connection.fetch(_LOAD, registrant_id, as_of)
    found = {part: [_somebody(row) for row in rows if row["part"] == part] for part in "rhm"}
    if not found["r"]:
        raise Refused(
            f"There is no registrant {registrant_id}.",
            code="resource-not-found",
            remedy="Give the hub's own id of an individual or group.",
        )
    kind = next(row["kind"] for row in rows if row["part"] == "r")
    return Facts(found["r"][0], kind, found["h"][0] if found["h"] else None, tuple(found["m"]))


async def record_look(
    connection: asyncpg.Connection | PoolConnectionProxy, facts: Facts, actor: str, program: str | None = None
) -> None:
    """Write to the audit trail that somebody was shown these facts: of the registrant, the household and each member."""
    seen = [(facts.kind, facts.registrant), *((("group", facts.household),) if facts.household else ())]
    seen += [("individual", one) for one in facts.members if one.id != facts.registrant.id]
    details = {"purpose": "explain a rule", **({"program": program} if program else {})}
    await insert_many(
        connection,
        [
            AuditEvent(
                actor,
                "registrant.read",
                "group" if kind == "group" else "person",
                str(one.id),
                details=details,
            )
            for kind, one in seen
        ],
    )


def _somebody(row: asyncpg.Record) -> Somebody:
    return Somebody(
        id=row["id"],
        columns={name: row[name] for name in _COLUMNS},
        attributes=_parsed(row["attributes"]),
        areas=None if row["areas"] is None else frozenset(row["areas"]),
        events=tuple(_event(one) for one in _parsed(row["events"] or "[]")),
        roles=frozenset(row["roles"] or ()),
    )


def _event(one: Mapping[str, Any]) -> Event:
    expires = one["expires"]
    return Event(
        one["id"], one["type"], date.fromisoformat(one["on"]), date.fromisoformat(expires) if expires else None, one["data"]
    )  # fmt: skip


def _parsed(text: str) -> Any:
    # Numbers stay exact: as floating point, what the database reads as 0.1 would be another number here.
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)
