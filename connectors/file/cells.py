"""The cells of a CSV file of rows: one field of a row as text."""

from __future__ import annotations

from typing import Any, Final

import orjson

from canonical_model.money import Money
from canonical_model.names import PersonName

_NAMES: Final = frozenset({"full_name", "given_name", "family_name"})
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def cell(row: dict[str, Any], path: str) -> str:
    """Return the text of one field; what a spreadsheet would take for a formula gets a quote before it."""
    value: Any = row
    for step in path.split("."):
        if isinstance(value, list):
            value = value[int(step)] if step.isdigit() and int(step) < len(value) else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    if value is None:
        return ""
    if isinstance(value, dict):
        if value.keys() == {"minor_units", "currency"}:
            return Money.model_validate(value).decimal()
        if not _NAMES.isdisjoint(value):
            return text_of(PersonName.model_validate(value).display)
        return orjson.dumps(value).decode()
    return text_of(str(value))


def text_of(value: str) -> str:
    """Return a text as a cell: what a spreadsheet would take for a formula gets a quote before it."""
    return f"'{value}" if value.startswith(_FORMULA) else value
