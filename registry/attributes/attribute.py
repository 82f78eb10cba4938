"""One attribute of a registrant or an event: its name, type, titles and class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from canonical_model.base import Privacy
from canonical_model.localized import best_text


class ValueType(StrEnum):
    """What a value is; integers and numbers are exact decimals, dates have no time."""

    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    TEXT = "text"
    DATE = "date"
    TEXTS = "texts"
    """Several texts, such as the roles of a member; never declared by a country."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The codes of a code list with their displays, and which of them new records may have."""

    labels: Mapping[str, Mapping[str, str]]
    active: frozenset[str]


@dataclass(frozen=True, slots=True)
class Attribute:
    """What rules, forms, import templates and the API know of one value."""

    name: str
    type: ValueType
    privacy: Privacy = Privacy.PERSONAL
    titles: Mapping[str, str] = field(default_factory=dict)
    """Title by language tag; the name stands in where there is none."""
    codes: tuple[str, ...] | None = None
    """The only texts it may have, when it is a code."""
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Display of a code by language tag."""
    vocabulary: str | None = None
    """URN of the code list its codes come from."""
    rule: bool = False
    """Whether it is promoted: an index is kept for rules."""
    required: bool = False
    column: str | None = None
    """The column of `registrant` it lies in; None for one a country declares, which lies in `attributes`."""

    def title(self, languages: Sequence[str]) -> str:
        """Return the title in the first of the languages there is, then in English, then the name in words."""
        return best_text(self.titles, languages) if self.titles else self.name.replace("_", " ")

    def label(self, code: str, languages: Sequence[str]) -> str:
        """Return how a code is displayed; the code itself where nothing was declared."""
        found = self.labels.get(code)
        return best_text(found, languages) if found else code
