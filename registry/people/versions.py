"""Writing versions: a row of the history for each, held by an event of the audit trail, in one statement."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.household import Household
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.audit.values import CHANGED, CREATED, DIGEST, change_place, marks, sides
from registry.people.drafts import Change
from registry.vault import DataKey

Connection = asyncpg.Connection | PoolConnectionProxy

_APART: Final = "\x1f"
# One statement for rows and events, so that the digest is over what the server has made of the rows.
_CHANGES: Final = f"""
WITH made AS (
    INSERT INTO registrant_change (registrant_id, version, at, actor, source, message_id, request_id, fields, clear, key_id,
        sealed, event_id)
    SELECT id, version, $1, actor, source, message_id, request_id, string_to_array(fields, E'\\x1f'), clear, key_id, sealed, event_id
    FROM unnest($2::uuid[], $3::int[], $4::text[], $5::text[], $6::uuid[], $7::text[], $8::text[], $9::jsonb[], $10::bigint[],
            $11::bytea[], $12::uuid[])
        AS t (id, version, actor, source, message_id, request_id, fields, clear, key_id, sealed, event_id)
    RETURNING *
), told AS (
    SELECT event_id, count(*) AS number, {DIGEST} AS digest FROM made GROUP BY event_id
)
INSERT INTO audit_event (id, at, actor, action, object_type, object_id, outcome, request_id, details)
SELECT e.id, $1, e.actor, e.action, 'registrant', e.object_id, 'ok', e.request_id,
    e.details || jsonb_build_object('count', t.number, 'digest', t.digest)
FROM unnest($13::uuid[], $14::text[], $15::text[], $16::text[], $17::text[], $18::jsonb[])
    AS e (id, actor, action, object_id, request_id, details) JOIN told t ON t.event_id = e.id
"""

_CREATED: Final = f"""
WITH made AS (
    INSERT INTO registrant_change (registrant_id, version, at, actor, source, fields, event_id)
    SELECT id, 1, $1, $2, $3, '{{}}', $4 FROM unnest($5::uuid[]) AS t (id)
    RETURNING *
), told AS (
    SELECT event_id, count(*) AS number, {DIGEST} AS digest FROM made GROUP BY event_id
)
INSERT INTO audit_event (id, at, actor, action, object_type, object_id, outcome, details)
SELECT $4, $1, $2, $6, 'registrant', $7, 'ok', jsonb_build_object('source', $3::text, 'count', t.number, 'digest', t.digest)
FROM told t
"""


async def write_created(
    connection: Connection, ids: Sequence[UUID], source: str, actor: str, at: datetime
) -> None:
    """Write the first versions of registrants that one caller made, held by one event."""
    if ids:
        told = str(ids[0]) if len(ids) == 1 else "*"
        await connection.execute(_CREATED, at, actor, source, uuid7(), ids, CREATED, told)


async def write(connection: Connection, changes: Sequence[Change], key: DataKey, at: datetime) -> None:
    """Write rows of the history, each held by an event: its own for a change, one for all that one caller made."""
    events: dict[Any, list[Any]] = {}
    told: list[UUID] = []
    for each in changes:
        draft = each.task.draft
        place: Any = (draft.actor, draft.request_id, draft.source) if each.created else len(told)
        event = events.get(place)
        if event is None:
            details: dict[str, Any] = {"source": draft.source}
            if not each.created:
                both = sides(each.clear, each.sealed)
                model = Household if isinstance(draft.value, Household) else Person
                details |= {"version": each.version, "changed": each.fields, **marks(model, both)}
            event = events[place] = [
                uuid7(), draft.actor, CREATED if each.created else CHANGED, str(each.registrant_id),
                draft.request_id, details,
            ]  # fmt: skip
        else:
            event[3] = "*"
        told.append(event[0])
    await connection.execute(
        _CHANGES,
        at,
        *zip(
            *(
                (
                    each.registrant_id, each.version, each.task.draft.actor, each.task.draft.source,
                    each.task.draft.message_id, each.task.draft.request_id, _APART.join(each.fields), each.clear,
                    key.id if each.sealed else None,
                    key.seal(each.sealed, change_place(each.registrant_id, each.version)) if each.sealed else None,
                    event_id,
                )
                for each, event_id in zip(changes, told, strict=True)
            ),
            strict=True,
        ),
        *zip(*events.values(), strict=True),
    )  # fmt: skip
