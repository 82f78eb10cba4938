"""The history of a registrant: each version, who made it, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from registry.audit.values import change_place
from registry.people.rows import Connection
from registry.vault import DataKey

_VERSIONS: Final = """
SELECT registrant_id, version, at, actor, source, message_id, request_id, fields, clear, key_id, sealed
FROM registrant_change WHERE registrant_id = $1 AND ($3::int IS NULL OR version < $3) ORDER BY version DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a registrant: who made it, why it came, and the fields it changed."""

    registrant_id: UUID
    version: int
    at: datetime
    actor: str
    source: str
    message_id: UUID | None
    request_id: str | None
    created: bool
    """Whether all of it was new; then no field is named."""
    fields: tuple[str, ...]
    changes: Mapping[str, Any] = field(repr=False)
    """Old and new value by field; of sealed fields only where they were revealed. An identifier, and a vital fact, stands
    by itself: a list of `[old, new]` pairs."""


async def versions(
    connection: Connection | asyncpg.Pool, registrant_id: UUID, limit: int, before: int | None
) -> list[asyncpg.Record]:
    """Read the newest versions of a registrant below `before`, at most `limit`, their sealed part still closed."""
    return list(await connection.fetch(_VERSIONS, registrant_id, limit, before))


def shown(row: asyncpg.Record, key: DataKey | None = None) -> Version:
    """Return a version as it is told; with the key, what lies sealed too."""
    changes: dict[str, Any] = dict(row["clear"] or {})
    if key is not None and row["sealed"] is not None:
        place = change_place(row["registrant_id"], row["version"])
        for name, pair in orjson.loads(key.open(row["sealed"], place)).items():
            part, _, inner = name.partition("\x00")
            if inner:
                changes.setdefault(part, []).append(pair)
            else:
                changes[name] = pair
    return Version(
        row["registrant_id"],
        row["version"],
        row["at"],
        row["actor"],
        row["source"],
        row["message_id"],
        row["request_id"],
        not row["fields"],
        tuple(row["fields"]),
        changes,
    )
