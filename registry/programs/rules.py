"""What programs ask of rules: an SQL expression over the alias `r`, from a registrant's row."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final, Literal, Protocol

from canonical_model.errors import Refused

Target = Literal["individual", "group"]
Result = Literal["condition", "amount", "integer"]
_LITERAL: Final = re.compile(r"true|false|[0-9]{1,15}")


class Rule(Protocol):
    """A compiled rule."""

    def sql(self, first: int = 1) -> tuple[str, Sequence[Any]]:
        """Return the expression with places from `$first` on, and its arguments."""
        ...


class RuleSource(Protocol):
    """Compiles the text of a rule; raises `Refused` with the place in the text where it cannot."""

    def __call__(self, text: str, *, target: Target, result: Result, as_of: date) -> Rule:
        """Return the compiled rule as of a day."""
        ...


@dataclass(frozen=True, slots=True)
class Literals:
    """A rule source that knows only `true`, `false` and whole numbers, for hubs without attributes."""

    def __call__(self, text: str, *, target: Target, result: Result, as_of: date) -> Rule:
        """Return the rule of a literal; raises `Refused` (`rule-engine-missing`) for anything else."""
        word = text.strip()
        if not _LITERAL.fullmatch(word) or (result == "condition") != (word in {"true", "false"}):
            raise Refused(
                "This process compiles no rules besides true, false and whole numbers. Nothing was changed.",
                code="rule-engine-missing",
                remedy="Start it with a catalog of attributes, or write the rule as a literal.",
            )
        return _Literal(word)


@dataclass(frozen=True, slots=True)
class _Literal:
    word: str

    def sql(self, first: int = 1) -> tuple[str, Sequence[Any]]:
        return self.word, ()


def placed(rule: Rule, args: list[Any]) -> str:
    """Add a rule's arguments to those of a statement and return its expression in brackets."""
    text, own = rule.sql(len(args) + 1)
    args.extend(own)
    return f"({text})"
