"""The list of properties: name, tier, what is expected; the modules beside it hold the trials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from connectors.testing.kit import Kit

TIERS: Final = ("bronze", "silver", "gold", "platinum")
PROPERTIES: Final[list[Property]] = []
Trial = Callable[[Kit], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Property:
    """One thing a connector must hold, and the trial that shows it."""

    name: str
    tier: str
    statement: str
    trial: Trial
    exemptable: bool

    @property
    def anchor(self) -> str:
        """Where the rule is explained."""
        return f"docs/connectors.md#{self.name.replace('_', '-')}"


def holds(tier: str, *, exemptable: bool = True) -> Callable[[Trial], Trial]:
    """Register a trial as a property of a tier; its docstring is the statement, its name the property's."""

    def register(trial: Trial) -> Trial:
        statement = (trial.__doc__ or "").strip()
        PROPERTIES.append(Property(trial.__name__, tier, statement, trial, exemptable))
        return trial

    return register
