"""The tree of a rule with its types: what both the database statement and the evaluation in the process are made from.

A value is a boolean, an exact number, a text, a date, or unknown (None, NULL). Every operation on something unknown is
unknown, but `&&`, `||`, `exists` and `all`, which are decided as soon as what is known decides them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import Final, TypeAlias

from registry.attributes import Attribute, ValueType
from registry.rules.source import Span

Value: TypeAlias = "bool | int | Fraction | str | date | frozenset[str] | None"
DECIMALS: Final = 12
"""To how many decimals a division of numbers is carried; the rest is cut off."""
SCALE: Final = 10**DECIMALS
MAX_RESULT: Final = 10**15
"""The largest amount, in minor units, and the largest whole number a rule may result in."""
MAX_DAYS: Final = 1_000_000
"""How many days may be added to a date."""
NUMBERS: Final = frozenset({ValueType.INTEGER, ValueType.NUMBER})


class Owner(StrEnum):
    """Whose facts are read; each is the alias of its table in the statement."""

    REGISTRANT = "r"
    MEMBER = "m"
    HOUSEHOLD = "h"


@dataclass(frozen=True, slots=True)
class Node:
    """One part of a rule: where it stands in the text and what its value is."""

    span: Span
    type: ValueType


@dataclass(frozen=True, slots=True)
class Literal(Node):
    """A value written in the rule."""

    value: bool | int | Decimal | str | date


@dataclass(frozen=True, slots=True)
class Fact(Node):
    """An attribute of the registrant, the household or a member."""

    owner: Owner
    attribute: Attribute


@dataclass(frozen=True, slots=True)
class Logic(Node):
    """`&&` or `||` over two or more parts."""

    operator: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Not(Node):
    """`!` of a condition."""

    part: Node


@dataclass(frozen=True, slots=True)
class Compare(Node):
    """A comparison: `==`, `!=`, `<`, `<=`, `>`, `>=`."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Known(Node):
    """`x != null`, `has(x)`; with `negated`, `x == null`. Never unknown itself."""

    part: Node
    negated: bool


@dataclass(frozen=True, slots=True)
class OneOf(Node):
    """`x in [a, b]`."""

    part: Node
    options: tuple[Literal, ...]


@dataclass(frozen=True, slots=True)
class Contains(Node):
    """`'head' in m.roles`: a literal in a fact that holds several texts."""

    option: Literal
    part: Fact


@dataclass(frozen=True, slots=True)
class Arithmetic(Node):
    """`+ - * / %` over numbers, and over a date and days."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Choice(Node):
    """`condition ? yes : no`; unknown when the condition is."""

    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Call(Node):
    """A function of the dialect over values of one row."""

    name: str
    parts: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Aggregate(Node):
    """`members.exists|all|count|sum|avg|min|max`: over the active members of the group."""

    name: str
    variable: str
    value: Node | None
    predicate: Node | None


@dataclass(frozen=True, slots=True)
class InArea(Node):
    """Whether somebody lives in an area or below it; unknown without an area."""

    owner: Owner
    code: str


@dataclass(frozen=True, slots=True)
class Window:
    """The days whose events count, both included."""

    first: date
    last: date


@dataclass(frozen=True, slots=True)
class EventFact(Node):
    """An attribute of somebody's latest event of a type, or with `attribute` None whether there is one."""

    owner: Owner
    event: str
    window: Window
    attribute: Attribute | None


@dataclass(frozen=True, slots=True)
class EventCount(Node):
    """How many events of a type somebody has."""

    owner: Owner
    event: str
    window: Window


def children(node: Node) -> Iterator[Node]:
    """Yield the parts directly below a node, in the order of the text."""
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, Node):
            yield value
        elif isinstance(value, tuple):
            yield from (one for one in value if isinstance(one, Node))


def walk(node: Node) -> Iterator[Node]:
    """Yield a node and everything below it."""
    yield node
    for child in children(node):
        yield from walk(child)


def owners(node: Node) -> set[Owner]:
    """Return whose facts a part of a rule reads; members read by an aggregate inside are its own affair."""
    found: set[Owner] = set()
    for one in walk(node):
        if isinstance(one, Fact | InArea | EventFact | EventCount):
            found.add(one.owner)
    return found
