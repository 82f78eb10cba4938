"""Indexes for the attributes that rules use, made and dropped while everybody goes on working.

An index lies on the very expression a rule reads, so nothing is stored twice and the table is never rewritten: a stored
generated column would lock and rewrite it, and a column filled by trigger would write every row once more. Reading the
value out of the document costs a scan of a million registrants about a tenth of a second (docs/attributes.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Unavailable
from registry.attributes.attribute import Attribute
from registry.attributes.catalog import KINDS, Catalog, Kind, json_sql

PREFIX: Final = "registrant_attr_"
SECONDS: Final = 6 * 3600.0
"""How long one index may take to be made."""
_LOCK: Final = 0x6174_7470
_THERE: Final = """
SELECT c.relname AS name, i.indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = 'registrant'::regclass AND starts_with(c.relname, $1)
"""


@dataclass(frozen=True, slots=True)
class Promotion:
    """One attribute of a kind of registrant, and the index that is kept for it."""

    kind: Kind
    attribute: Attribute

    @property
    def index(self) -> str:
        """The index's name; the type is in it, since another type is another expression."""
        told = f"{self.kind} {self.attribute.name} {self.attribute.type}"
        mark = hashlib.sha256(told.encode()).hexdigest()[:8]
        return f"{PREFIX}{self.kind[:1]}_{self.attribute.name[:30]}_{mark}"

    @property
    def statement(self) -> str:
        """The statement that makes the index without stopping writers."""
        value = json_sql(self.attribute, "attributes")
        return (
            f"CREATE INDEX CONCURRENTLY \"{self.index}\" ON registrant (({value})) WHERE kind = '{self.kind}'"
        )


def wanted(catalog: Catalog, used: Iterable[tuple[Kind, str]] = ()) -> list[Promotion]:
    """Return what is to be promoted: the attributes marked `x-rule`, and those `used` by stored rules (kind, name)."""
    also = set(used)
    return [
        Promotion(kind, one)
        for kind in KINDS
        for subject in catalog.subjects.values()
        if subject.registrant == kind
        for one in subject.attributes.values()
        if one.rule or (kind, one.name) in also
    ]


async def promote(
    connection: asyncpg.Connection | PoolConnectionProxy,
    catalog: Catalog,
    used: Iterable[tuple[Kind, str]] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> tuple[list[str], list[str]]:
    """Make the indexes that are missing and drop those nothing wants any more; return the names of both.

    Not inside a transaction. After a break, run it again: an index left half made is dropped and made anew. Raises
    `Unavailable` `attributes-busy` while another process does the same.
    """
    if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
        raise Unavailable(
            "Another process is making indexes for attributes.",
            code="attributes-busy",
            remedy="Wait until it has ended, then run the command again; what is there is left as it is.",
            retry_after=60,
        )
    try:
        there = {row["name"]: row["valid"] for row in await connection.fetch(_THERE, PREFIX)}
        plan = {one.index: one for one in wanted(catalog, used)}
        made: list[str] = []
        dropped = [name for name in there if name not in plan]
        for name in [*dropped, *(name for name in plan if there.get(name) is False)]:
            progress(f"dropping {name}")
            await connection.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"', timeout=SECONDS)
        for number, (name, one) in enumerate(plan.items(), 1):
            if there.get(name):
                continue
            progress(f"making {name} ({number} of {len(plan)})")
            await connection.execute(one.statement, timeout=SECONDS)
            made.append(name)
        if made:
            # The planner knows nothing of an expression before its index was looked at.
            await connection.execute("ANALYZE registrant", timeout=SECONDS)
        return made, dropped
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
