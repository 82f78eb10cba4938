"""The functions of the dialect: what each takes and what it results in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from registry.attributes import ValueType

_NUMBER: Final = frozenset({ValueType.INTEGER, ValueType.NUMBER})
_TEXT: Final = frozenset({ValueType.TEXT})
_DATE: Final = frozenset({ValueType.DATE})


class Function(NamedTuple):
    """A function over values: the types each argument may have, and that of the result (None: a number as wide as they)."""

    takes: tuple[frozenset[ValueType], ...]
    gives: ValueType | None
    says: str


FUNCTIONS: Final[Mapping[str, Function]] = {
    "age_years": Function((_DATE,), ValueType.INTEGER, "age_years(r.birthdate)"),
    "year": Function((_DATE,), ValueType.INTEGER, "year(r.birthdate)"),
    "month": Function((_DATE,), ValueType.INTEGER, "month(r.birthdate)"),
    "abs": Function((_NUMBER,), None, "abs(r.balance)"),
    "floor": Function((_NUMBER,), ValueType.INTEGER, "floor(r.income * 0.1)"),
    "ceil": Function((_NUMBER,), ValueType.INTEGER, "ceil(r.income * 0.1)"),
    "round": Function((_NUMBER,), ValueType.INTEGER, "round(r.income * 0.1)"),
    "int": Function((_NUMBER,), ValueType.INTEGER, "int(r.share * 100)"),
    "double": Function((_NUMBER,), ValueType.NUMBER, "double(r.rooms) / members.size()"),
    "cap": Function((_NUMBER, _NUMBER), None, "cap(members.count(m, true) * 500, 3000)"),
    "max": Function((_NUMBER, _NUMBER), None, "max(r.rooms, 1)"),
    "min": Function((_NUMBER, _NUMBER), None, "min(r.rooms, 5)"),
}
"""Functions over numbers and dates, called as `name(…)`; `round` rounds halves away from nought."""

METHODS: Final[Mapping[str, Function]] = {
    "startsWith": Function((_TEXT, _TEXT), ValueType.BOOLEAN, "r.occupation.startsWith('farm')"),
    "endsWith": Function((_TEXT, _TEXT), ValueType.BOOLEAN, "r.occupation.endsWith('er')"),
    "contains": Function((_TEXT, _TEXT), ValueType.BOOLEAN, "r.occupation.contains('rm')"),
    "matches": Function((_TEXT, _TEXT), ValueType.BOOLEAN, "r.occupation.matches('^[a-z]+$')"),
    "size": Function((_TEXT,), ValueType.INTEGER, "r.occupation.size()"),
}
"""Functions over texts, called as `text.name(…)`."""

AGGREGATES: Final = ("exists", "all", "count", "sum", "avg", "min", "max")
EVENTS: Final = ("event", "has_event", "events_count")
WINDOWS: Final = ("within_days", "within_months", "within_years")
OTHERS: Final = ("date", "today", "has", "size", "in_area")
EVERY: Final = (*FUNCTIONS, *EVENTS, *OTHERS)
