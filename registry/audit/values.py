"""Old and new values of a change: shown by privacy class in the trail, whole under the vault for an auditor."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.base import CanonicalModel
from canonical_model.errors import Defect
from canonical_model.redaction import redact
from registry.audit.writer import AuditEvent, insert_many
from registry.vault import DataKey, aad

TABLE: Final = "audit_sealed"
"""The table whose data key seals values: `vault.current_key(TABLE)`."""


@dataclass(frozen=True, slots=True)
class Change:
    """An event with what changed: JSON values by field of a canonical model, before (None for new) and after."""

    event: AuditEvent
    model: type[CanonicalModel]
    old: Mapping[str, Any] | None
    new: Mapping[str, Any] | None


async def insert_changes(
    connection: asyncpg.Connection | PoolConnectionProxy, key: DataKey, changes: Sequence[Change]
) -> None:
    """Write events with their values in the caller's transaction, two statements for any number of them.

    The trail shows which fields changed, with the values of public ones; everything else is a mark of its class there
    and whole only in the sealed document, whose SHA-256 stands in the event and so in the chain.
    """
    if not changes:
        return
    events, sealed = zip(*(_sealed(key, change) for change in changes), strict=True)
    await insert_many(connection, events)
    await connection.execute(
        "INSERT INTO audit_sealed (event_id, key_id, sealed) SELECT id, $2, sealed "
        "FROM unnest($1::uuid[], $3::bytea[]) AS t (id, sealed)",
        [event.id for event in events],
        key.id,
        list(sealed),
    )


def open_values(key: DataKey, event_id: UUID, sealed: bytes, digest: str | None) -> Mapping[str, Any]:
    """Return `old` and `new` of a sealed document; raises `Defect` (`sealed-value-broken`) for another than was written."""
    if digest != hashlib.sha256(sealed).hexdigest():
        raise Defect(
            f"The values sealed for audit event {event_id} are not those that were written with it.",
            code="sealed-value-broken",
            remedy="Run `hub audit verify`; the table audit_sealed was changed outside the hub.",
        )
    opened: Mapping[str, Any] = orjson.loads(key.open(sealed, aad(TABLE, "sealed", event_id.bytes)))
    return opened


def _sealed(key: DataKey, change: Change) -> tuple[AuditEvent, bytes]:
    old, new = dict(change.old or {}), dict(change.new or {})
    names = [name for name in (old | new) if old.get(name) != new.get(name)]
    old, new = ({name: side[name] for name in names if name in side} for side in (old, new))
    sealed = key.seal(
        orjson.dumps({"old": old, "new": new}, option=orjson.OPT_UTC_Z),
        aad(TABLE, "sealed", change.event.id.bytes),
    )
    shown = {
        "changed": sorted(name for name in names if name in change.model.model_fields),
        "old": redact(change.model, old),
        "new": redact(change.model, new),
        "sealed": hashlib.sha256(sealed).hexdigest(),
    }
    return replace(change.event, details={**(change.event.details or {}), **shown}), sealed
