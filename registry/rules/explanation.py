"""Why somebody is in or out, or gets an amount: the parts that decided, as a tree and as sentences."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from registry.attributes import ValueType
from registry.rules.evaluation import Step
from registry.rules.source import Source
from registry.rules.tree import (
    Aggregate,
    Arithmetic,
    Call,
    Choice,
    EventCount,
    EventFact,
    Fact,
    InArea,
    Literal,
    Logic,
    Not,
)
from registry.rules.wording import Wording


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a rule as it was for somebody."""

    text: str
    """The part as it stands in the rule."""
    says: str
    """The same as a sentence."""
    value: str
    member: UUID | None
    parts: tuple[Part, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the part as plain values, for JSON."""
        return {
            "rule": self.text,
            "says": self.says,
            "value": self.value,
            "member": None if self.member is None else str(self.member),
            "parts": [one.as_dict() for one in self.parts],
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The result for one registrant and why: in one sentence, as reasons, and as a tree of all parts."""

    outcome: bool | int | None
    language: str
    sentence: str
    reasons: tuple[str, ...]
    tree: Part

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as plain values, for JSON."""
        return {
            "outcome": self.outcome,
            "language": self.language,
            "sentence": self.sentence,
            "reasons": list(self.reasons),
            "tree": self.tree.as_dict(),
        }


def explain(
    source: Source, step: Step, outcome: bool | int | None, result: str, languages: Sequence[str]
) -> Explanation:
    """Return why the outcome is what it is, in the first of the languages the hub speaks."""
    wording = Wording(source, languages)
    if result == "condition":
        found = _deciding(wording, step)
        verdict = "In, because {reasons}." if outcome else "Out, because {reasons}."
    elif outcome is None:
        found = _missing(wording, step)
        verdict = "No amount, because {reasons}."
    else:
        found = _made_from(wording, step)
        verdict = "{amount}, because {reasons}."
    reasons = tuple(dict.fromkeys(found)) or (wording.say("the rule says so for everybody"),)
    joined = wording.say("; ").join(reasons)
    amount = wording.value(outcome)
    return Explanation(
        outcome, wording.language, wording.say(verdict, reasons=joined, amount=amount), reasons, _part(source, wording, step)
    )  # fmt: skip


def _deciding(wording: Wording, step: Step) -> Iterator[str]:
    """Yield the conditions that made the whole true, false or unknown."""
    node = step.node
    if isinstance(node, Not):
        yield from _deciding(wording, step.steps[0])
    elif isinstance(node, Logic):
        # `&&` fails by what is false, else by what is unknown; `||` holds by what is true.
        wanted = [one for one in step.steps if one.value is step.value]
        for one in wanted or step.steps:
            yield from _deciding(wording, one)
    elif isinstance(node, Choice) and step.value is not None:
        yield from _deciding(wording, step.steps[0])
        yield from _deciding(wording, step.steps[1 if step.steps[0].value else 2])
    elif step.value is None:
        yield from _missing(wording, step)
    elif not isinstance(node, Literal):
        yield _sentence(wording, step)


def _sentence(wording: Wording, step: Step) -> str:
    return wording.sentence(step.node, step.value is True, [one.value for one in step.steps])


def _missing(wording: Wording, step: Step) -> Iterator[str]:
    """Yield what was not known, or could not be calculated, that made a part unknown."""
    node = step.node
    if step.value is not None:
        # An amount that is known and yet none is out of bounds.
        if node.type in {ValueType.INTEGER, ValueType.NUMBER}:
            yield wording.say("{what} is out of bounds", what=wording.with_value(node, step.value))
        return
    unknown = [one for one in step.steps if one.value is None and one.member is None]
    if isinstance(node, Aggregate):
        what = wording.phrase(node.predicate) if node.predicate else wording.what(node)
        if node.name in {"exists", "all"}:
            yield wording.say("{what} is not known of every member", what=what)
        else:
            yield wording.say("{what} is not known", what=wording.what(node))
    elif isinstance(node, InArea):
        yield wording.say("the area is not known")
    elif unknown:
        for one in unknown:
            yield from _missing(wording, one)
    elif isinstance(node, Arithmetic | Call | Choice):
        yield wording.say("{what} cannot be calculated", what=wording.what(node))
    else:
        yield wording.say("{what} is not known", what=wording.what(node))


def _made_from(wording: Wording, step: Step) -> Iterator[str]:
    """Yield the values an amount was made from, and the conditions that chose between them."""
    node = step.node
    if isinstance(node, Choice):
        yield from _deciding(wording, step.steps[0])
        yield from _made_from(wording, step.steps[1 if step.steps[0].value else 2])
    elif isinstance(node, Fact | Aggregate | EventFact | EventCount) or (
        isinstance(node, Call) and node.name == "age_years"
    ):
        attribute = node.attribute if isinstance(node, Fact | EventFact) else None
        yield wording.say(
            "{what} is {value}", what=wording.what(node), value=wording.value(step.value, attribute)
        )
    elif not isinstance(node, Literal):
        for one in step.steps:
            yield from _made_from(wording, one)


def _part(source: Source, wording: Wording, step: Step, member: UUID | None = None) -> Part:
    node = step.node
    below = tuple(
        _member(source, wording, one) if one.member else _part(source, wording, one)
        for one in step.steps
        if not isinstance(one.node, Literal)
    )
    if step.value is None:
        says = wording.say("; ").join(dict.fromkeys(_missing(wording, step)))
    elif isinstance(node, Logic | Not | Choice) and node.type is ValueType.BOOLEAN:
        says = wording.say("holds") if step.value else wording.say("does not hold")
    elif node.type is ValueType.BOOLEAN:
        says = _sentence(wording, step)
    else:
        attribute = node.attribute if isinstance(node, Fact | EventFact) else None
        says = wording.say(
            "{what} is {value}", what=wording.what(node), value=wording.value(step.value, attribute)
        )
    return Part(source.part(node.span), says, wording.value(step.value), member, below)


def _member(source: Source, wording: Wording, step: Step) -> Part:
    """Return how one member counted: what is asked of members is said of this one."""
    below = [_part(source, wording, one, step.member) for one in step.steps]
    if len(below) == 1:
        return below[0]
    counted = wording.say("counted") if step.value is True else wording.say("not counted")
    return Part(source.part(step.node.span), counted, wording.value(step.value), step.member, tuple(below))
