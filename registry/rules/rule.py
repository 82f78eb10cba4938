"""A compiled rule: one text that decides over a million registrants in one statement, and over one with its reasons."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal, NamedTuple

from registry.attributes import Catalog, Kind
from registry.rules.evaluation import Evaluation, Step
from registry.rules.explanation import Explanation, explain
from registry.rules.facts import Facts
from registry.rules.meaning import Meaning
from registry.rules.source import Source
from registry.rules.statement import Statement
from registry.rules.syntax import read
from registry.rules.tree import MAX_RESULT, EventCount, EventFact, Fact, InArea, Node, Owner, walk

Result = Literal["condition", "amount", "integer"]
Outcome = bool | int | None


class Joined(NamedTuple):
    """A rule over the whole registry: `WITH {tables} … FROM registrant r {joins} WHERE {expression}`."""

    tables: str
    """Common table expressions, each with a comma behind it; a statement adds at least one of its own."""
    joins: str
    expression: str
    arguments: list[Any]


@dataclass(frozen=True)
class Rule:
    """One rule against one catalog, as of one day."""

    source: Source
    node: Node
    target: Kind
    result: Result
    as_of: date

    @property
    def text(self) -> str:
        """The rule as it was written."""
        return self.source.text

    def sql(self, first: int = 1, *, strict: bool = True) -> tuple[str, list[Any]]:
        """Return the rule as an SQL expression over `registrant r`, and its arguments for the places from `$first` on.

        A condition is true or false: what is unknown is false. With `strict` off it is null instead, which an index can
        serve; then never negate it. An amount or whole number is bigint, and null when it is unknown or out of bounds.
        """
        statement = Statement(self.target, self.as_of, first)
        text = statement.result(self.node, self.result)
        return (f"({text} IS TRUE)" if strict and self.result == "condition" else text), statement.arguments

    def joined(self, first: int = 1) -> Joined:
        """Return the rule for a statement over most of the registry: members are counted in one pass and joined once.

        A condition is null where it is unknown. The expression of `sql` counts members for each registrant it is asked
        about, which is better for a few and worse for all.
        """
        statement = Statement(self.target, self.as_of, first, joined=True)
        text = statement.result(self.node, self.result)
        tables = statement.tables()
        return Joined(tables, statement.joins(), text, statement.arguments)

    def evaluate(self, facts: Facts) -> Outcome:
        """Return the result for one registrant: True or False, or a whole number, None when it is unknown or out of bounds."""
        return self.outcome(self.steps(facts))

    def steps(self, facts: Facts) -> Step:
        """Return the value of every part of the rule for one registrant."""
        return Evaluation(facts, self.as_of).step(self.node)

    def outcome(self, step: Step) -> Outcome:
        """Return the result that follows from the value of the whole rule."""
        if self.result == "condition":
            return step.value is True
        if not isinstance(step.value, int):
            return None
        lowest = 0 if self.result == "amount" else -MAX_RESULT
        return step.value if lowest <= step.value <= MAX_RESULT else None

    def explain(self, facts: Facts, languages: Sequence[str] = ("en",)) -> Explanation:
        """Return the result for one registrant with its reasons, as a tree and as sentences in the first language known."""
        step = self.steps(facts)
        return explain(self.source, step, self.outcome(step), self.result, languages)

    @property
    def used(self) -> frozenset[tuple[Kind, str]]:
        """The declared attributes the rule reads, by kind of registrant; `registry.attributes.promote` indexes them."""
        kinds: dict[Owner, Kind] = {
            Owner.REGISTRANT: self.target,
            Owner.HOUSEHOLD: "group",
            Owner.MEMBER: "individual",
        }
        return frozenset(
            (kinds[one.owner], one.attribute.name)
            for one in walk(self.node)
            if isinstance(one, Fact) and one.attribute.column is None and one.attribute.name != "roles"
        )

    @property
    def areas(self) -> frozenset[str]:
        """The codes of areas the rule names; whether they exist only the database knows."""
        return frozenset(one.code for one in walk(self.node) if isinstance(one, InArea))

    @property
    def events(self) -> frozenset[str]:
        """The types of events the rule reads."""
        return frozenset(one.event for one in walk(self.node) if isinstance(one, EventFact | EventCount))


def compile_rule(
    text: str,
    catalog: Catalog,
    *,
    target: Kind,
    result: Result = "condition",
    as_of: date,
    program: str | None = None,
) -> Rule:
    """Compile a rule; the day stands for `today()`, for ages, active members and the end of every span of events.

    Raises `RuleRefused` with the place in the text: `rule-invalid`, `rule-name-unknown`, `rule-type-mismatch`,
    `rule-not-compilable`, `rule-too-large`.
    """
    source, syntax = read(text)
    meaning = Meaning(source, catalog, target, as_of, program)
    node = meaning.node(syntax)
    meaning.result(node, result)
    return Rule(source, node, target, result, as_of)
