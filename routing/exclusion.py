"""Routes that exclude each other: which of several takes a message, and which orders to pay two would take."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Final, Protocol

from pydantic import BaseModel, ConfigDict, Field

from canonical_model.errors import ConfigError, HubError, Refused
from registry.rules.syntax import Syntax, read

ORDERS: Final = ("org.openspp.payment.batch_instructed.v1", "org.openspp.payment.instructed.v1")
"""Message types that make the outside system that takes them pay."""
_BRANCHES: Final = 64
_GLOB: Final = frozenset("*?[")
Values = tuple[frozenset[tuple[bool, Any]] | None, frozenset[tuple[bool, Any]]]
"""What a field may be (None: anything), and what it may not be; each value with whether it is a truth value."""
Branch = Mapping[str, Values]
"""What is known of each field where one way of a condition holds."""


class Exclusive(BaseModel):
    """The group of routes one of which takes a message, and the place of this one: the lowest place that takes it has it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    group: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    place: int = Field(ge=1, le=1000)


class Paying(Protocol):
    """What is asked of a route here."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def origin(self) -> str:
        """The file it comes from."""

    @property
    def sources(self) -> Sequence[str]:
        """Partners or globs of partners; empty for any."""

    @property
    def expression(self) -> str | None:
        """Its condition as written."""

    @property
    def exclusive(self) -> Exclusive | None:
        """Its group and place."""

    @property
    def copies(self) -> bool:
        """Whether it only copies."""

    @property
    def enabled(self) -> bool:
        """Whether it is switched on."""

    def takes_type(self, type_: str) -> bool:
        """Say whether it takes a message type."""


def twice(routes: Iterable[Paying]) -> Iterator[ConfigError]:
    """Yield what is wrong with each pair of routes by which one order to pay could leave twice.

    A pair is right when one only copies, when both are of one group with different places, or when their conditions cannot
    hold for one message: that is proved from comparisons of a field with values (`==`, `!=`, `in`), joined by `&&` and `||`.
    """
    for one, other in combinations([route for route in routes if route.enabled], 2):
        if one.exclusive is not None and other.exclusive is not None:
            if one.exclusive == other.exclusive:
                yield ConfigError(
                    f"{one.origin} and {other.origin}: the routes {one.name} and {other.name} have the same place "
                    f"{one.exclusive.place} in the group {one.exclusive.group}.",
                    code="route-invalid",
                    remedy="Give each route of a group a place of its own; the lowest place that takes a message has it.",
                    pointer="/exclusive/place",
                )
                continue
            if one.exclusive.group == other.exclusive.group:
                continue
        if one.copies or other.copies:
            continue
        for type_ in ORDERS:
            if one.takes_type(type_) and other.takes_type(type_) and not apart(one, other, type_):
                yield ConfigError(
                    f"{one.origin} and {other.origin}: the routes {one.name} and {other.name} may both take the same "
                    f"message of type {type_}, so that one payment could be made twice.",
                    code="routes-pay-twice",
                    remedy="Compare a field in both conditions, such as `data.program_id == 'elders'`; or give both "
                    "`exclusive` with one group and different places; or say `copies: true` of the one that does not pay.",
                    pointer="/when/condition",
                )
                break


def refuse_second_payer(type_: str, routes: Iterable[Paying]) -> None:
    """Raise `Refused` (`routes-pay-twice`) when more than one of the routes that take an order to pay would pay it."""
    names = [route.name for route in routes if not route.copies]
    if len(names) > 1:
        raise Refused(
            f"The routes {', '.join(names[:5])} all take this message of type {type_}, so that it would be paid more than "
            "once. Nothing was ordered or stored.",
            code="routes-pay-twice",
            remedy="Correct the routes (`hub routes check` names each pair), then do this again.",
        )


def apart(one: Paying, other: Paying, type_: str) -> bool:
    """Say whether it is proved that no message of a type is taken by both routes."""
    return not any(
        _meet(first, second) for first in _branches_of(one, type_) for second in _branches_of(other, type_)
    )


def _branches_of(route: Paying, type_: str) -> list[Branch]:
    kind = type_.removeprefix("org.openspp.").rsplit(".", 1)[0]
    known: dict[str, Values] = {"type": _only([type_]), "kind": _only([kind])}
    if route.sources and not any(_GLOB & set(source) for source in route.sources):
        known["source"] = _only(route.sources)
    if route.expression is None:
        return [known]
    try:
        _, syntax = read(route.expression)
    except HubError:
        # CEL knows more than rules do; of what is not read nothing is known.
        return [known]
    return [both for branch in _branches(syntax) if (both := _joined(known, branch)) is not None]


def _branches(syntax: Syntax) -> list[Branch]:
    """Return the ways a condition can hold, each with what is surely so of fields."""
    if syntax.kind != "operator":
        return [{}]
    if syntax.name == "||":
        found = [branch for part in syntax.parts for branch in _branches(part)]
        return found if len(found) <= _BRANCHES else [{}]
    if syntax.name == "&&":
        ways: list[Branch] = [{}]
        for part in syntax.parts:
            more = [
                both
                for way in ways
                for branch in _branches(part)
                if (both := _joined(way, branch)) is not None
            ]
            ways = more if len(more) <= _BRANCHES else ways
        return ways
    if syntax.name in {"==", "!=", "in"}:
        return [_compared(syntax)]
    return [{}]


def _compared(syntax: Syntax) -> Branch:
    left, right = syntax.parts
    if syntax.name != "in" and left.kind == "literal":
        left, right = right, left
    path = _path(left)
    options = right.parts if syntax.name == "in" and right.kind == "list" else (right,)
    if path is None or any(one.kind != "literal" or one.value is None for one in options):
        return {}
    values = _only([one.value for one in options])
    return {path: (None, values[0] or frozenset()) if syntax.name == "!=" else values}


def _path(syntax: Syntax) -> str | None:
    if syntax.kind == "name":
        return syntax.name
    if syntax.kind == "select" and syntax.of is not None and (before := _path(syntax.of)) is not None:
        return f"{before}.{syntax.name}"
    return None


def _only(values: Iterable[Any]) -> Values:
    return frozenset((isinstance(value, bool), value) for value in values), frozenset()


def _joined(one: Branch, other: Branch) -> Branch | None:
    """Return what is known where both hold; None where both cannot."""
    found = dict(one)
    for path, (only, never) in other.items():
        before, barred = found.get(path, (None, frozenset()))
        both = only if before is None else before if only is None else before & only
        if both is not None and not both - barred - never:
            return None
        found[path] = both, barred | never
    return found


def _meet(one: Branch, other: Branch) -> bool:
    return _joined(one, other) is not None


def first_of_groups(places: Sequence[Exclusive | None]) -> Collection[int]:
    """Return which of the routes that would take a message do take it, by their numbers."""
    best: dict[str, int] = {}
    for number, own in enumerate(places):
        if own is None:
            continue
        known = best.get(own.group)
        earlier = None if known is None else places[known]
        if earlier is None or own.place < earlier.place:
            best[own.group] = number
    chosen = set(best.values())
    return [number for number, own in enumerate(places) if own is None or number in chosen]
