"""Writing the audit trail; the database itself refuses to change or remove what was written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.message import uuid7
from registry.storage.database import database_errors

_INSERT: Final = """
INSERT INTO audit_event (id, at, actor, action, object_type, object_id, outcome, request_id, details)
SELECT id, at, actor, action, object_type, object_id, outcome, request_id, details::jsonb
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[])
     AS t (id, at, actor, action, object_type, object_id, outcome, request_id, details)
"""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing somebody did: who, what, to which object, with which outcome.

    `object_id` and `details` name objects by the hub's own ids and never hold personal data: the trail outlives it.
    """

    actor: str
    action: str
    object_type: str
    object_id: str
    outcome: str = "ok"
    request_id: str | None = None
    details: Mapping[str, Any] | None = None
    id: UUID = field(default_factory=uuid7)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))


async def insert_many(
    connection: asyncpg.Connection | PoolConnectionProxy, events: Sequence[AuditEvent]
) -> None:
    """Write events with one statement, in the caller's own transaction, so that deed and trace are both there or neither."""
    if not events:
        return
    await connection.execute(
        _INSERT,
        [event.id for event in events],
        [event.at for event in events],
        [event.actor for event in events],
        [event.action for event in events],
        [event.object_type for event in events],
        [event.object_id for event in events],
        [event.outcome for event in events],
        [event.request_id for event in events],
        [None if event.details is None else orjson.dumps(dict(event.details)).decode() for event in events],
    )


async def record(pool: asyncpg.Pool, *events: AuditEvent) -> None:
    """Write events on a connection of their own; raises `Unavailable` when the database is away."""
    async with database_errors("writing the audit trail"), pool.acquire(timeout=10) as connection:
        await insert_many(connection, events)
