"""Reading the trail: one event with where it is sealed, lists by filter, and who saw a registrant's record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect, Refused
from canonical_model.message import uuid7_floor
from registry.audit.values import CHANGED, opened
from registry.audit.writer import AuditEvent, record
from registry.storage.database import database_errors
from registry.vault import Vault

LIMIT: Final = 200
PURPOSE_LIMIT: Final = 200
_COLUMNS: Final = "id, at, actor, action, object_type, object_id, outcome, request_id, details"
_SECONDS: Final = 20.0
_LOOK: Final = r"\.(read|reveal|find|export|history|opened)$"
"""Actions that show somebody a record, or a part of it."""
# A registrant that was merged into another is part of what is known of that one. A search has one event for all it showed,
# a batch of payments one for all its rows, and a chunk of an import one for all it made.
_WHO: Final = rf"""
WITH self AS (SELECT $1::uuid::text AS id UNION ALL SELECT id::text FROM registrant WHERE merged_into = $1),
found AS (
    (SELECT {_COLUMNS} FROM audit_event
     WHERE object_type IN ('registrant', 'person', 'group') AND object_id = ANY (ARRAY(SELECT id FROM self)) AND id < $2
        AND (NOT $3 OR action ~ '{_LOOK}')
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT {_COLUMNS} FROM audit_event
     WHERE object_type = 'document' AND id < $2 AND (NOT $3 OR action ~ '{_LOOK}')
        AND object_id = ANY (ARRAY(SELECT d.id::text FROM document d JOIN self s ON s.id::uuid = d.registrant_id))
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT {_COLUMNS} FROM audit_event
     WHERE object_type = 'payment_batch' AND action = 'payment_batch.fetch' AND id < $2
        AND object_id = ANY (ARRAY(SELECT DISTINCT p.batch_id::text FROM payment p JOIN self s ON s.id::uuid = p.recipient_id))
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT {_COLUMNS} FROM audit_event
     WHERE NOT $3 AND object_id = '*' AND id < $2 AND id = ANY (ARRAY(
        SELECT c.event_id FROM registrant_change c JOIN self s ON s.id::uuid = c.registrant_id))
     ORDER BY id DESC LIMIT $4)
    UNION ALL
    (SELECT {_COLUMNS} FROM audit_event
     WHERE action = 'registrant.search' AND details -> 'shown' ?| ARRAY(SELECT id FROM self) AND id < $2
     ORDER BY id DESC LIMIT $4)
)
SELECT * FROM found ORDER BY id DESC LIMIT $4
"""
_SEALED: Final = """
SELECT c.number FROM audit_event e JOIN audit_checkpoint c
    ON c.lower <= e.transaction AND e.transaction < c.upper AND c.first_id <= e.id AND e.id <= c.last_id
WHERE e.id = $1
"""
_VALUES: Final = (
    "SELECT registrant_id, version, clear, key_id, sealed FROM registrant_change "
    "WHERE registrant_id = $1 AND version = $2 AND event_id = $3"
)
_LAST: Final = UUID(int=(1 << 128) - 1)


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """One event as it stands in the trail."""

    id: UUID
    at: datetime
    actor: str
    action: str
    object_type: str
    object_id: str
    outcome: str
    request_id: str | None
    details: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class TrailFilter:
    """Which events are meant; every part given must hold, and `since` and `until` bound the time of their ids."""

    actor: str | None = None
    action: str | None = None
    object_type: str | None = None
    object_id: str | None = None
    outcome: str | None = None
    since: datetime | None = None
    until: datetime | None = None


def id_floor(at: datetime) -> UUID:
    """Return the smallest id of an instant; no event is older than 1970."""
    return uuid7_floor(max(at, datetime(1970, 1, 1, tzinfo=UTC)))


def check_purpose(purpose: str | None) -> str:
    """Return the purpose of a look at identity data; raises `Refused` (`purpose-missing`) for none or a long one."""
    text = (purpose or "").strip()
    if not text or len(text) > PURPOSE_LIMIT or "\x00" in text:
        raise Refused(
            "Identity data was asked for without a purpose; nothing was shown.",
            code="purpose-missing",
            remedy="Say in one to 200 characters what the data is needed for; it goes into the audit trail.",
        )
    return text


class AuditTrail:
    """Reads the trail of one hub."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault) -> None:
        self._pool, self._vault = pool, vault

    async def event(self, id_: UUID) -> TrailEvent:
        """Return one event; raises `Refused` (`audit-event-not-found`)."""
        async with database_errors("reading the audit trail"):
            row = await self._pool.fetchrow(f"SELECT {_COLUMNS} FROM audit_event WHERE id = $1", id_)
        if row is None:
            raise Refused(
                "There is no audit event with this id.",
                code="audit-event-not-found",
                remedy="`hub audit list` shows the newest; ids are UUIDs.",
            )
        return TrailEvent(**dict(row))

    async def checkpoint_of(self, id_: UUID) -> int | None:
        """Return the number of the checkpoint that seals an event, None while it is not sealed."""
        async with database_errors("reading the audit trail"):
            number: int | None = await self._pool.fetchval(_SEALED, id_)
        return number

    async def events(
        self, filter_: TrailFilter, *, before: UUID | None = None, limit: int = 50
    ) -> Sequence[TrailEvent]:
        """Return the newest events a filter finds, at most 200, with ids below `before`."""
        parts, given = ["id < $1"], [before or _LAST]
        if filter_.until is not None:
            given[0] = min(given[0], id_floor(filter_.until))
        values: list[Any] = list(given)
        if filter_.since is not None:
            values.append(id_floor(filter_.since))
            parts.append(f"id >= ${len(values)}")
        for name in ("actor", "action", "object_type", "object_id", "outcome"):
            if (value := getattr(filter_, name)) is not None:
                values.append(value)
                parts.append(f"{name} = ${len(values)}")
        async with database_errors("reading the audit trail"):
            rows = await self._pool.fetch(
                f"SELECT {_COLUMNS} FROM audit_event WHERE {' AND '.join(parts)} ORDER BY id DESC "
                f"LIMIT {min(limit, LIMIT)}",
                *values,
                timeout=_SECONDS,
            )
        return [TrailEvent(**dict(row)) for row in rows]

    async def who(
        self, registrant_id: UUID, *, looks: bool = False, before: UUID | None = None, limit: int = 50
    ) -> Sequence[TrailEvent]:
        """Return who dealt with a registrant's record, newest first; with `looks` only those who read it."""
        async with database_errors("reading the audit trail"):
            rows = await self._pool.fetch(
                _WHO, registrant_id, before or _LAST, looks, min(limit, LIMIT), timeout=_SECONDS
            )
        return [_alone(TrailEvent(**dict(row))) for row in rows]

    async def reveal(
        self, id_: UUID, *, purpose: str, actor: str, request_id: str | None = None
    ) -> Mapping[str, Any]:
        """Return `old` and `new` of a change; the trail has the look before the caller has the values.

        Raises `Refused` (`purpose-missing`, `audit-event-not-found`, `audit-values-none`) and `Defect`
        (`sealed-value-broken`).
        """
        why = check_purpose(purpose)
        event = await self.event(id_)
        async with database_errors("reading sealed values"):
            row = (
                await self._pool.fetchrow(
                    _VALUES, UUID(event.object_id), (event.details or {}).get("version"), id_
                )
                if event.action == CHANGED
                else None
            )
        if event.action != CHANGED:
            raise Refused(
                f"No values were sealed with audit event {id_}.",
                code="audit-values-none",
                remedy="Only changes of records have values; the event shows everything else.",
            )
        await record(
            self._pool,
            AuditEvent(
                actor,
                "audit.reveal",
                event.object_type,
                event.object_id,
                "ok" if row else "absent",
                request_id,
                {"purpose": why, "event": str(id_)},
            ),
        )
        if row is None:
            raise Defect(
                f"The values of the change that audit event {id_} tells of are not in the history.",
                code="sealed-value-broken",
                remedy="Run `hub audit verify`; the table registrant_change was changed outside the hub.",
            )
        old, new = opened(None if row["key_id"] is None else await self._vault.key(row["key_id"]), dict(row))
        return {"old": old, "new": new}


def _alone(event: TrailEvent) -> TrailEvent:
    """Return a search's event without the others it showed: who saw one person is no list of who else was seen."""
    shown = (event.details or {}).get("shown")
    if not isinstance(shown, list):
        return event
    return replace(event, details={**(event.details or {}), "shown": len(shown)})
