"""What a new schema would break: counted in the data before it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from registry.attributes.attribute import Attribute
from registry.attributes.catalog import Catalog, json_sql
from registry.attributes.schema import LARGEST, LONGEST, Subject

Connection = asyncpg.Connection | PoolConnectionProxy
SECONDS: Final = 600.0
"""How long counting in the data may take."""


@dataclass(frozen=True, slots=True)
class Break:
    """One way in which stored records differ from a new schema."""

    attribute: str
    rule: str
    """`type`, `enum`, `minimum`, `maximum`, `maxLength`, `required` or `removed`."""
    records: int
    safe: bool
    """Whether `--force` may pass it: the values stay readable, and are held to the schema when they are next written."""


def clashes(subject: Subject, catalog: Catalog) -> list[str]:
    """Return the names of a schema that another subject of the same registrants has already."""
    if subject.registrant is None:
        return []
    taken: dict[str, str] = {}
    for name, other in catalog.subjects.items():
        if name != subject.name and other.registrant == subject.registrant:
            taken |= dict.fromkeys(other.attributes, name)
    return [f"`{name}` is declared by {taken[name]}" for name in subject.attributes if name in taken]


async def breaks(connection: Connection, old: Subject | None, new: Subject) -> list[Break]:
    """Count, in one pass over the records of the subject, what differs from the new schema."""
    checks = list(_checks(old, new))
    if not checks:
        return []
    counts = ", ".join(f"count(*) FILTER (WHERE {sql})" for _, _, sql, _, _ in checks)
    arguments: list[Any] = []
    for number, (*_, values) in enumerate(checks):
        places = [f"${len(arguments) + place}" for place in range(1, len(values) + 1)]
        counts = counts.replace(f"⟨{number}⟩", places[0] if places else "")
        arguments += values
    source = f"FROM registrant r WHERE r.kind = ${len(arguments) + 1}"
    if new.name.startswith("event:"):
        source = f"FROM registrant_event r WHERE r.type = ${len(arguments) + 1}"
    tail = new.name.removeprefix("event:") if new.registrant is None else new.registrant
    rows = await connection.fetch(f"SELECT {counts} {source}", *arguments, tail, timeout=SECONDS)
    return [
        Break(name, rule, int(count), safe)
        for (name, rule, _, safe, _), count in zip(checks, rows[0], strict=True)
        if count
    ]


def _checks(old: Subject | None, new: Subject) -> list[tuple[str, str, str, bool, list[Any]]]:
    """Return (attribute, rule, SQL condition of a record that breaks it, safe, arguments); `⟨n⟩` stands for the place."""
    document = "r.data" if new.name.startswith("event:") else "r.attributes"
    found: list[tuple[str, str, str, bool, list[Any]]] = []

    def add(name: str, rule: str, sql: str, safe: bool, *values: Any) -> None:
        found.append((name, rule, sql.replace("⟨⟩", f"⟨{len(found)}⟩"), safe, list(values)))

    for name, rule in new.document["properties"].items():
        attribute = new.attributes[name]
        value = json_sql(attribute, document)
        present = f"jsonb_typeof({document}->'{name}') <> 'null'"
        add(name, "type", f"{present} AND {value} IS NULL", False)
        if attribute.codes is not None:
            add(name, "enum", f"{value} <> ALL (⟨⟩::text[])", True, list(attribute.codes))
        for key, sign in (("minimum", "<"), ("maximum", ">")):
            if key in rule and abs(rule[key]) <= LARGEST:
                add(name, key, f"{value} {sign} ⟨⟩::text::numeric", True, str(rule[key]))
        if rule["type"] == "string" and attribute.codes is None and "format" not in rule:
            add(name, "maxLength", f"length({value}) > ⟨⟩", True, rule.get("maxLength", LONGEST))
        if attribute.required and new.registrant == new.name:
            add(name, "required", f"{value} IS NULL", True)
    for name in old.document["properties"] if old else ():
        if name not in new.document["properties"]:
            add(name, "removed", f"{document} ? '{name}'", True)
    return found


def changes(old: Mapping[str, Attribute], new: Mapping[str, Attribute]) -> list[str]:
    """Return in words what differs between two versions."""
    said = [f"{name} is new" for name in new if name not in old]
    said += [f"{name} is taken away" for name in old if name not in new]
    for name in new:
        if name in old and old[name] != new[name]:
            one, other = old[name], new[name]
            if one.type is not other.type:
                said.append(f"{name} becomes {other.type.value} (it was {one.type.value})")
            elif one.codes != other.codes:
                said.append(f"{name} has other codes")
            else:
                said.append(f"{name} changes")
    return said
