"""The same tree evaluated in the process for one registrant, with the value of every part on the way."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from math import ceil, floor, trunc
from typing import Any, Final
from uuid import UUID

from registry.attributes import ValueType
from registry.rules.facts import Event, Facts, Somebody, read, read_json
from registry.rules.tree import (
    MAX_DAYS,
    SCALE,
    Aggregate,
    Arithmetic,
    Call,
    Choice,
    Compare,
    Contains,
    EventCount,
    EventFact,
    Fact,
    InArea,
    Known,
    Literal,
    Logic,
    Node,
    Not,
    OneOf,
    Owner,
    Value,
)

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a rule with the value it has for somebody, and the parts below it with theirs."""

    node: Node
    value: Value
    steps: tuple[Step, ...] = ()
    member: UUID | None = None
    """The member whose value it is, below an aggregate."""


class Evaluation:
    """Evaluates trees over the facts of one registrant as of a day; nothing in it raises."""

    def __init__(self, facts: Facts, as_of: date) -> None:
        self._facts = facts
        self._as_of = as_of
        self._member: Somebody | None = None

    def step(self, node: Node) -> Step:
        """Return the value of a part and of everything below it."""
        found: Step = getattr(self, f"_{type(node).__name__.lower()}")(node)
        return found

    def _somebody(self, owner: Owner) -> Somebody | None:
        if owner is Owner.MEMBER:
            return self._member
        return self._facts.registrant if owner is Owner.REGISTRANT else self._facts.household

    def _literal(self, node: Literal) -> Step:
        return Step(node, Fraction(node.value) if isinstance(node.value, Decimal) else node.value)

    def _fact(self, node: Fact) -> Step:
        somebody = self._somebody(node.owner)
        return Step(node, None if somebody is None else read(node.attribute, somebody))

    def _logic(self, node: Logic) -> Step:
        steps = tuple(self.step(one) for one in node.parts)
        values = [one.value for one in steps]
        deciding = node.operator == "||"
        value: Value = deciding if deciding in values else None if None in values else not deciding
        return Step(node, value, steps)

    def _not(self, node: Not) -> Step:
        below = self.step(node.part)
        return Step(node, None if below.value is None else not below.value, (below,))

    def _known(self, node: Known) -> Step:
        below = self.step(node.part)
        return Step(node, (below.value is None) == node.negated, (below,))

    def _compare(self, node: Compare) -> Step:
        left, right = self.step(node.left), self.step(node.right)
        unknown = left.value is None or right.value is None
        return Step(
            node, None if unknown else _COMPARE[node.operator](left.value, right.value), (left, right)
        )

    def _oneof(self, node: OneOf) -> Step:
        below = self.step(node.part)
        options = [self._literal(one).value for one in node.options]
        return Step(node, None if below.value is None else below.value in options, (below,))

    def _contains(self, node: Contains) -> Step:
        below = self.step(node.part)
        return Step(
            node, node.option.value in below.value if isinstance(below.value, frozenset) else None, (below,)
        )

    def _arithmetic(self, node: Arithmetic) -> Step:
        left, right = self.step(node.left), self.step(node.right)
        return Step(node, _calculated(node, left.value, right.value), (left, right))

    def _choice(self, node: Choice) -> Step:
        steps = tuple(self.step(one) for one in (node.condition, node.yes, node.no))
        condition, yes, no = (one.value for one in steps)
        return Step(node, None if condition is None else yes if condition else no, steps)

    def _call(self, node: Call) -> Step:
        steps = tuple(self.step(one) for one in node.parts)
        values = [one.value for one in steps]
        return Step(node, None if None in values else _called(node.name, values, self._as_of), steps)

    def _inarea(self, node: InArea) -> Step:
        somebody = self._somebody(node.owner)
        areas = somebody.areas if somebody else None
        return Step(node, None if areas is None else node.code in areas)

    def _happened(self, node: EventFact | EventCount) -> list[Event]:
        somebody = self._somebody(node.owner)
        return [
            one
            for one in (somebody.events if somebody else ())
            if one.type == node.event and node.window.first <= one.collected_on <= node.window.last
        ]

    def _eventfact(self, node: EventFact) -> Step:
        holding = [
            one for one in self._happened(node) if one.expires_on is None or one.expires_on >= self._as_of
        ]
        if node.attribute is None:
            return Step(node, bool(holding))
        if not holding:
            return Step(node, None)
        latest = max(holding, key=lambda one: (one.collected_on, one.id))
        if node.attribute.column is not None:
            return Step(node, latest.collected_on)
        return Step(node, read_json(node.attribute.type, latest.data.get(node.attribute.name)))

    def _eventcount(self, node: EventCount) -> Step:
        return Step(node, len(self._happened(node)))

    def _aggregate(self, node: Aggregate) -> Step:
        steps: list[Step] = []
        predicates: list[Value] = []
        values: list[Value] = []
        for one in self._facts.members:
            self._member = one
            predicate = self.step(node.predicate) if node.predicate else None
            value = self.step(node.value) if node.value else None
            below = tuple(each for each in (value, predicate) if each is not None)
            steps.append(Step(node, predicate.value if predicate else True, below, one.id))
            predicates.append(predicate.value if predicate else True)
            values.append(value.value if value else None)
        self._member = None
        return Step(node, _aggregated(node, predicates, values), tuple(steps))


def _aggregated(node: Aggregate, predicates: Sequence[Value], values: Sequence[Value]) -> Value:
    if node.name in {"exists", "all"}:
        deciding = node.name == "exists"
        return deciding if deciding in predicates else None if None in predicates else not deciding
    if node.name == "count":
        return sum(1 for one in predicates if one is True)
    kept: list[Any] = [
        value for value, held in zip(values, predicates, strict=True) if held is True and value is not None
    ]
    if node.name == "sum":
        total: Value = sum(kept)
        return total
    if not kept:
        return None
    if node.name == "avg":
        return _quotient(Fraction(sum(kept)), Fraction(len(kept)))
    found: Value = max(kept) if node.name == "max" else min(kept)
    return found


def _calculated(node: Arithmetic, left: Any, right: Any) -> Any:
    if left is None or right is None:
        return None
    if node.left.type is ValueType.DATE:
        return _dated(node, left, right)
    match node.operator:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if right == 0:
        return None
    if node.operator == "%":
        return left - right * trunc(Fraction(left, right))
    whole = node.type is ValueType.INTEGER
    return trunc(Fraction(left, right)) if whole else _quotient(Fraction(left), Fraction(right))


def _quotient(left: Fraction, right: Fraction) -> Fraction:
    """Return an exact quotient cut to twelve decimals."""
    return Fraction(trunc(left * SCALE / right), SCALE)


def _dated(node: Arithmetic, left: date, right: Any) -> Any:
    if node.type is ValueType.INTEGER:
        return (left - right).days
    days = -right if node.operator == "-" else right
    if abs(days) > MAX_DAYS:
        return None
    try:
        return left + timedelta(days=int(days))
    except OverflowError:
        return None


def _called(name: str, values: list[Any], as_of: date) -> Any:
    first = values[0]
    match name:
        case "age_years":
            return _years(first, as_of)
        case "year":
            return first.year
        case "month":
            return first.month
        case "abs":
            return abs(first)
        case "floor":
            return floor(first)
        case "ceil":
            return ceil(first)
        case "round":
            half = floor(abs(Fraction(first)) + Fraction(1, 2))
            return -half if first < 0 else half
        case "int":
            return trunc(first)
        case "double":
            return Fraction(first)
        case "cap" | "min":
            return min(values)
        case "max":
            return max(values)
    return _of_text(name, first, values[1] if len(values) > 1 else "")


def _of_text(name: str, text: str, other: str) -> Value:
    match name:
        case "startsWith":
            return text.startswith(other)
        case "endsWith":
            return text.endswith(other)
        case "contains":
            return other in text
        case "matches":
            return _matches(text, other)
    return len(text)


def _matches(text: str, pattern: str) -> bool:
    import re2

    options = re2.Options()
    options.dot_nl = True
    return re2.compile(pattern, options).search(text) is not None


def _years(born: date, as_of: date) -> int:
    """Return full years between two days, negative when the second lies before the first."""
    if born > as_of:
        return -_years(as_of, born)
    return as_of.year - born.year - ((as_of.month, as_of.day) < (born.month, born.day))
