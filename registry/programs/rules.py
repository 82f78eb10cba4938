"""What programs ask of rules: an SQL expression over the alias `r`, from a registrant's row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import date
from typing import Any, Literal, Protocol

from registry.attributes import load_catalog
from registry.programs.refusals import Connection
from registry.rules import compile_rule

Target = Literal["individual", "group"]
Result = Literal["condition", "amount", "integer"]


class Rule(Protocol):
    """A compiled rule."""

    def sql(self, first: int = 1) -> tuple[str, Sequence[Any]]:
        """Return the expression with places from `$first` on, and its arguments; for a part of the registry."""
        ...

    def joined(self, first: int = 1) -> tuple[str, str, str, Sequence[Any]]:
        """Return tables (each with a comma behind it), joins, expression and arguments; for the whole registry."""
        ...


class RuleSource(Protocol):
    """Compiles the text of a rule; raises `Refused` with the place in the text where it cannot."""

    def __call__(
        self, text: str, *, target: Target, result: Result, as_of: date, program: str | None = None
    ) -> Rule:
        """Return the compiled rule as of a day, with the attributes of a program."""
        ...


Rules = Callable[[Connection], Awaitable[RuleSource]]
"""Gives the rule source in force; attributes may be declared while the hub runs."""


async def declared(connection: Connection) -> RuleSource:
    """Return the compiler of CEL over the attributes declared now."""
    catalog = await load_catalog(connection)

    def source(text: str, *, target: Target, result: Result, as_of: date, program: str | None = None) -> Rule:
        return compile_rule(text, catalog, target=target, result=result, as_of=as_of, program=program)

    return source


def placed(rule: Rule, args: list[Any]) -> str:
    """Add a rule's arguments to those of a statement and return its expression in brackets."""
    text, own = rule.sql(len(args) + 1)
    args.extend(own)
    return f"({text})"
