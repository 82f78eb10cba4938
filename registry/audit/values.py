"""Old and new values of a change of a registrant: marks of their privacy class in the trail, whole in the history.

The history (`registrant_change`) is the one place that keeps them: what lies in clear beside the registrant anyway, and the
rest sealed. Its rows are part of the chain: the event of a change holds a digest of the row, as the server writes it, and
what is sealed is bound to its row by the seal itself, so that it may get another data key and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import orjson

from canonical_model.base import CanonicalModel
from canonical_model.redaction import redact
from registry.vault import DataKey, aad

TABLE: Final = "registrant_change"
"""The table that keeps values, whose data key seals them: `vault.current_key(TABLE)`."""
CREATED: Final = "registrant.create"
CHANGED: Final = "registrant.change"
ADOPTED: Final = "registrant.adopt"
"""Rows from before changes were part of the trail: taken into it as they were then."""
HISTORY: Final = (CREATED, CHANGED, ADOPTED)
DIGEST: Final = (
    "encode(sha256(convert_to(string_agg(jsonb_build_array(registrant_id, version, at AT TIME ZONE 'UTC', actor, source, "
    "message_id, request_id, to_jsonb(fields), clear, sealed IS NOT NULL)::text, ',' ORDER BY registrant_id, version), "
    "'UTF8')), 'hex')"
)
"""SQL of the digest over the rows of one event."""
_NAMES: Final = {"area": "area_code", "deathdate": "death_date", "group_kind": "kind"}
_ATTRIBUTE: Final = "attributes."

Sides = tuple[dict[str, Any], dict[str, Any]]


def change_place(registrant_id: UUID, version: int) -> bytes:
    """Return what the sealed values of one change are bound to."""
    return aad(TABLE, "sealed", registrant_id.bytes + version.to_bytes(4, "big"))


def sides(clear: Mapping[str, Any] | None, sealed: bytes | None) -> Sides:
    """Return old and new values by field of the canonical model; identifiers and vital facts stand as lists."""
    # What lies in clear may hold dates, which JSON does not.
    pairs = dict(orjson.loads(orjson.dumps(clear or {}))) | (orjson.loads(sealed) if sealed else {})
    old: dict[str, Any] = {}
    new: dict[str, Any] = {}
    for name, (before, after) in pairs.items():
        part, _, inner = name.partition("\x00")
        for side, value in ((old, before), (new, after)):
            if value is None:
                continue
            if inner:
                side.setdefault(part, []).append(value)
            elif part.startswith(_ATTRIBUTE):
                side.setdefault("attributes", {})[part[len(_ATTRIBUTE) :]] = value
            else:
                side[_NAMES.get(part, part)] = value
    return old, new


def marks(model: type[CanonicalModel], both: Sides) -> dict[str, Any]:
    """Return what the trail shows of old and new values: those of public fields, and marks for all others."""
    return {"old": redact(model, both[0]), "new": redact(model, both[1])}


def opened(key: DataKey | None, row: Mapping[str, Any]) -> Sides:
    """Return old and new values of a row of the history; raises `Defect` (`sealed-value-broken`)."""
    sealed = None
    if key is not None and row["sealed"] is not None:
        sealed = key.open(row["sealed"], change_place(row["registrant_id"], row["version"]))
    return sides(row["clear"], sealed)
