"""Redaction by privacy class, for everything that leaves the path of the message: logs, traces, console, exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson
from pydantic import TypeAdapter, ValidationError

from canonical_model.base import CanonicalModel, Privacy
from canonical_model.types import MESSAGE_TYPES
from canonical_model.walk import nested_model, privacy_of

MARK: Final = "•"
"""What every replaced value begins with; the class follows: `•personal`."""
UNKNOWN: Final = f"{MARK}unknown"
INVALID: Final = f"{MARK}invalid"
_MAX_DEPTH: Final = 64
PUBLIC_ONLY: Final = frozenset({Privacy.PUBLIC})


class _Leaf(NamedTuple):
    mark: str
    privacy: Privacy
    adapter: TypeAdapter[Any]


@dataclass(frozen=True, slots=True)
class _Plan:
    """How the fields of one model are redacted: leaves by their class, nested models by their own plan."""

    leaves: Mapping[str, _Leaf]
    nested: Mapping[str, type[CanonicalModel]]


def redact(
    type_or_model: str | type[CanonicalModel],
    data: Mapping[str, Any],
    allowed: frozenset[Privacy] = PUBLIC_ONLY,
) -> dict[str, Any]:
    """Return the data with every value outside the allowed privacy classes replaced by a mark such as `•personal`.

    `data` holds JSON values. Its shape stays: nested objects and the length of their lists. Fields the model does not
    know are dropped with their names, and their number stands under `•unknown`; a value an allowed field cannot hold
    becomes `•invalid`, since it may be anything; data of an unknown message type is redacted as a whole. Never raises.
    """
    model = MESSAGE_TYPES.get(type_or_model) if isinstance(type_or_model, str) else type_or_model
    if model is None:
        return {UNKNOWN: len(data)} if data else {}
    return _redact(model, data, allowed, 0)


def _redact(
    model: type[CanonicalModel], data: Mapping[str, Any], allowed: frozenset[Privacy], depth: int
) -> dict[str, Any]:
    plan = _plan(model)
    shown: dict[str, Any] = {}
    unknown = 0
    for name, value in data.items():
        if name in plan.nested:
            shown[name] = _redact_nested(plan.nested[name], value, allowed, depth + 1)
        elif name not in plan.leaves:
            unknown += 1
        elif value is None:
            shown[name] = None
        else:
            leaf = plan.leaves[name]
            if leaf.privacy not in allowed:
                shown[name] = leaf.mark
            else:
                shown[name] = value if _holds(leaf.adapter, value) else INVALID
    if unknown:
        shown[UNKNOWN] = unknown
    return shown


def _redact_nested(model: type[CanonicalModel], value: Any, allowed: frozenset[Privacy], depth: int) -> Any:
    if value is None:
        return None
    if depth <= _MAX_DEPTH:
        if isinstance(value, Mapping):
            return _redact(model, value, allowed, depth)
        if isinstance(value, list | tuple):
            return [
                _redact(model, item, allowed, depth) if isinstance(item, Mapping) else INVALID
                for item in value
            ]
    return INVALID


def _holds(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_json(orjson.dumps(value), strict=True)
    except (ValidationError, TypeError):
        return False
    return True


@lru_cache(maxsize=256)
def _plan(model: type[CanonicalModel]) -> _Plan:
    leaves: dict[str, _Leaf] = {}
    nested: dict[str, type[CanonicalModel]] = {}
    for name, field in model.model_fields.items():
        inner = nested_model(field.annotation)
        if inner is not None:
            nested[name] = inner
            continue
        # A field without a class is treated as the strictest one.
        privacy = privacy_of(field) or Privacy.SENSITIVE
        adapter: TypeAdapter[Any] = TypeAdapter(field.rebuild_annotation())
        leaves[name] = _Leaf(f"{MARK}{privacy.value}", privacy, adapter)
    return _Plan(leaves, nested)
