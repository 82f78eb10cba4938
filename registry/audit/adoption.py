"""Taking the history from before into the trail: rows that no event holds yet, after an upgrade."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.message import uuid7
from registry.audit.values import ADOPTED, DIGEST
from registry.storage.database import database_errors

_CHUNK: Final = 1000
_SECONDS: Final = 300.0
_LEFT: Final = "SELECT count(*) FROM registrant_change WHERE event_id IS NULL"
_ADOPT: Final = f"""
WITH part AS (
    SELECT registrant_id, version FROM registrant_change
    WHERE event_id IS NULL AND (registrant_id, version) > ($2, $3) ORDER BY registrant_id, version LIMIT {_CHUNK}
    FOR UPDATE
), theirs AS (
    UPDATE registrant_change c SET event_id = $1 FROM part s
    WHERE c.registrant_id = s.registrant_id AND c.version = s.version RETURNING c.*
), told AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, details)
    SELECT $1, 'hub', '{ADOPTED}', 'registrant', '*', 'ok', jsonb_build_object('count', count(*), 'digest', {DIGEST})
    FROM theirs HAVING count(*) > 0
)
SELECT registrant_id, version FROM part ORDER BY registrant_id DESC, version DESC
"""


async def adopt(pool: asyncpg.Pool, progress: Callable[[int, int], None] = lambda _done, _all: None) -> int:
    """Write an event for each thousand rows of the history that have none, and return how many rows there were.

    Each chunk is a transaction of its own; safe to break off and to repeat. Raises `Unavailable`.
    """
    done, registrant_id, version = 0, UUID(int=0), 0
    async with database_errors("taking the history into the audit trail"):
        total = await pool.fetchval(_LEFT, timeout=_SECONDS)
        while total:
            rows = await pool.fetch(_ADOPT, uuid7(), registrant_id, version, timeout=_SECONDS)
            if not rows:
                break
            registrant_id, version = rows[0]["registrant_id"], rows[0]["version"]
            done += len(rows)
            progress(done, max(done, total))
    return done
