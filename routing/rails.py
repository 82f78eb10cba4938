"""Rails to choose among: which of several targets pays one order, and whether the next may after one has failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from canonical_model.errors import ConfigError
from routing.conditions import Condition, ConditionError
from routing.transfers import TRAIL

NO_RAIL_CODE: Final = "no-rail"
"""Code of a payment that no rail takes."""
UNDECIDED_CODE: Final = "rail-undecided"
"""Code of a payment over which a condition could not be decided: no rail behind it may guess."""
MOST_RAILS: Final = 20
_UNCERTAIN: Final = frozenset({"unknown", "review"})
Codes = Annotated[tuple[str, ...], Field(max_length=200)]


class RailChoice(BaseModel):
    """One rail of a route: where it pays, which orders it takes, and after which of its failures the next may pay."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    when: str | None = None
    """A CEL condition over `data`, the canonical order to pay; without one the rail takes every order."""
    next_after: Codes = ()
    """Codes, globs allowed, with which a failure after the order was sent lets the next rail pay."""
    never_after: Codes = ()
    """Codes, globs allowed, after which no other rail pays, whenever the failure came."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What is known of an attempt that failed: its code, whether the order had left, who decided, the states it was in."""

    code: str | None
    was_sent: bool
    by_person: bool
    states: Sequence[str]


class Rails:
    """The rails of one route, in order, ready to choose among."""

    def __init__(self, name: str, choices: Sequence[RailChoice], origin: str) -> None:
        self.name = name
        self.choices = tuple(choices)
        self._conditions = [_compiled(name, origin, choice) for choice in choices]
        self._places = {choice.to: place for place, choice in enumerate(self.choices)}
        if len(self._places) < len(self.choices):
            raise ConfigError(
                f"Route {name} in {origin} names a rail twice.",
                code="route-invalid",
                remedy="Name each target once among `rails`; join its conditions with `||`.",
                pointer="/rails",
            )

    @property
    def targets(self) -> list[str]:
        """The targets of the rails, in order."""
        return [choice.to for choice in self.choices]

    def choose(self, order: Mapping[str, Any], *, after: str | None = None) -> tuple[str | None, str | None]:
        """Return the first target, behind `after` where given, whose condition holds for an order's data.

        Where there is none it is None with the code `no-rail`, or `rail-undecided` when a condition could not be decided.
        """
        first = 0 if after is None else self._places.get(after, len(self.choices)) + 1
        for choice, condition in zip(self.choices[first:], self._conditions[first:], strict=True):
            if condition is None:
                return choice.to, None
            try:
                if condition.holds({"data": order}):
                    return choice.to, None
            except ConditionError:
                return None, UNDECIDED_CODE
        return None, NO_RAIL_CODE

    def may_go_on(self, target: str, failure: Failure) -> bool:
        """Say whether the next rail may pay after a failure: only where this one has certainly not paid, and never shall.

        A failure before the order left is certain. One after it counts only with a code of `next_after`; one that was ever
        unclear, or that a person decided, never does.
        """
        place = self._places.get(target)
        if place is None or failure.by_person or not _UNCERTAIN.isdisjoint(failure.states):
            return False
        if len(failure.states) >= TRAIL:
            # Of so many steps the first are forgotten: nobody can say any more that it was never unclear.
            return False
        choice, code = self.choices[place], failure.code or ""
        if any(fnmatchcase(code, glob) for glob in choice.never_after):
            return False
        return not failure.was_sent or any(fnmatchcase(code, glob) for glob in choice.next_after)


def _compiled(name: str, origin: str, choice: RailChoice) -> Condition | None:
    if choice.when is None:
        return None
    try:
        return Condition(choice.when, ("data",))
    except ConditionError as error:
        raise ConfigError(
            f"Route {name} in {origin}, rail {choice.to}: {error}",
            code="route-invalid",
            remedy="Correct the expression; it is over `data`, the order to pay (docs/canonical-model.md).",
            pointer="/rails",
        ) from error
