"""How the parts of a rule are called in the user's language: nouns for values, phrases for conditions, sentences for both."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

from babel.dates import format_date
from babel.numbers import format_decimal

from registry import texts
from registry.attributes import Attribute
from registry.rules.source import Source
from registry.rules.tree import (
    MAX_RESULT,
    Aggregate,
    Call,
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
    Window,
)

_COMPARED: Final = {
    "==": ("{left} is {right}", "{left} is not {right}", "{what} equal to {other}"),
    "!=": ("{left} is not {right}", "{left} is {right}", "{what} other than {other}"),
    "<": ("{left} is less than {right}", "{left} is not less than {right}", "{what} less than {other}"),
    "<=": ("{left} is at most {right}", "{left} is more than {right}", "{what} at most {other}"),
    ">": ("{left} is more than {right}", "{left} is not more than {right}", "{what} more than {other}"),
    ">=": ("{left} is at least {right}", "{left} is less than {right}", "{what} at least {other}"),
}
_AGGREGATED: Final = {
    "count": "number of members with {phrase}",
    "sum": "sum of {value} over members with {phrase}",
    "avg": "average of {value} over members with {phrase}",
    "min": "smallest {value} among members with {phrase}",
    "max": "largest {value} among members with {phrase}",
}
_PLAIN: Final = {
    "count": "number of members",
    "sum": "sum of {value} over members",
    "avg": "average of {value} over members",
    "min": "smallest {value} among members",
    "max": "largest {value} among members",
}


class Wording:
    """Says the parts of one rule in one language."""

    def __init__(self, source: Source, languages: Sequence[str]) -> None:
        self._source = source
        self._languages = list(languages)
        self.language = texts.spoken(languages)

    def say(self, text: str, **values: str) -> str:
        """Return a text of ours in the language, with values put in."""
        return texts.translate("registry.rules", text, self.language).format(**values)

    def value(self, value: Value, attribute: Attribute | None = None) -> str:
        """Return a value as people of the language write it."""
        if value is None:
            return self.say("not known")
        if isinstance(value, bool):
            return self.say("yes") if value else self.say("no")
        if isinstance(value, date):
            return format_date(value, format="long", locale=self.language)
        if isinstance(value, frozenset):
            return ", ".join(sorted(value))
        if isinstance(value, str):
            return attribute.label(value, self._languages) if attribute else value
        exact = Fraction(value)
        if abs(exact) > MAX_RESULT:
            return self.say("beyond {limit}", limit=self.value(MAX_RESULT if exact > 0 else -MAX_RESULT))
        shown = Decimal(exact.numerator) / Decimal(exact.denominator)
        return format_decimal(shown, format="#,##0.############", locale=self.language)

    def what(self, node: Node) -> str:
        """Return what a value is, as a noun: the title of an attribute, "age", "number of members with …"."""
        match node:
            case Literal():
                return self.value(_plain(node.value))
            case Fact():
                title = node.attribute.title(self._languages)
                return (
                    self.say("{what} of the household", what=title)
                    if node.owner is Owner.HOUSEHOLD
                    else title
                )
            case Call(name="age_years", parts=(Fact(attribute=Attribute(name="birthdate")),)):
                return self.say("age")
            case Call(name="age_years", parts=(part,)):
                return self.say("years since {what}", what=self.what(part))
            case Call(name="double" | "int" | "floor" | "ceil" | "round", parts=(part,)):
                return self.what(part)
            case Aggregate(name=name) if name in _PLAIN:
                value = self.what(node.value) if node.value else ""
                if node.predicate is None:
                    return self.say(_PLAIN[name], value=value)
                return self.say(_AGGREGATED[name], value=value, phrase=self.phrase(node.predicate))
            case EventCount():
                return self.say(
                    "number of events {event} {window}", event=node.event, window=self._window(node.window)
                )
            case EventFact(attribute=Attribute() as attribute):
                return self.say(
                    "{what} in the latest event {event} {window}",
                    what=attribute.title(self._languages), event=node.event, window=self._window(node.window),
                )  # fmt: skip
        text = self._source.part(node.span)
        return (
            self.say("dependency ratio of the household")
            if text.endswith(".dependency_ratio")
            else f"«{text}»"
        )

    def _window(self, window: Window) -> str:
        last = self.value(window.last)
        if window.first == date.min:
            return self.say("until {last}", last=last)
        return self.say("from {first} to {last}", first=self.value(window.first), last=last)

    def phrase(self, node: Node) -> str:
        """Return a condition without saying whether it holds: "age less than 5 and sex equal to female"."""
        match node:
            case Logic():
                word = self.say(" and ") if node.operator == "&&" else self.say(" or ")
                return word.join(self.phrase(one) for one in node.parts)
            case Not():
                return self.say("not ({phrase})", phrase=self.phrase(node.part))
            case Compare():
                return self.say(
                    _COMPARED[node.operator][2], what=self.what(node.left), other=self._other(node)
                )
            case OneOf():
                return self.say("{what} one of {list}", what=self.what(node.part), list=self._list(node))
            case Contains():
                return self.say(
                    "{what} with {option}", what=self.what(node.part), option=self.what(node.option)
                )
            case Known():
                text = "no {what} recorded" if node.negated else "{what} recorded"
                return self.say(text, what=self.what(node.part))
            case InArea():
                return self.say("home in the area {code}", code=node.code)
        return self.what(node)

    def _other(self, node: Compare) -> str:
        return self._as_code(node.left, node.right) or self.what(node.right)

    def _as_code(self, fact: Node, other: Node) -> str | None:
        """Return a written code by its label, when it is compared with an attribute that has one."""
        if isinstance(fact, Fact | EventFact) and isinstance(other, Literal) and isinstance(other.value, str):
            return self.value(other.value, fact.attribute)
        return None

    def _list(self, node: OneOf) -> str:
        shown = [self._as_code(node.part, one) or self.what(one) for one in node.options[:10]]
        return ", ".join([*shown, *(["…"] if len(node.options) > 10 else [])])

    def with_value(self, node: Node, value: Value) -> str:
        """Return what a value is and the value itself: "income (4,200)"; a written value alone."""
        if isinstance(node, Literal):
            return self.what(node)
        attribute = node.attribute if isinstance(node, Fact | EventFact) else None
        return self.say("{what} ({value})", what=self.what(node), value=self.value(value, attribute))

    def sentence(self, node: Node, holds: bool, values: Sequence[Value]) -> str:
        """Return whether a condition holds, with the values of its parts; for conditions that are not unknown."""
        match node:
            case Compare():
                right = self._as_code(node.left, node.right) or self.with_value(node.right, values[1])
                text = _COMPARED[node.operator][0 if holds else 1]
                return self.say(text, left=self.with_value(node.left, values[0]), right=right)
            case OneOf():
                text = "{left} is one of {list}" if holds else "{left} is none of {list}"
                return self.say(text, left=self.with_value(node.part, values[0]), list=self._list(node))
            case Contains():
                text = "{left} has {option}" if holds else "{left} does not have {option}"
                return self.say(
                    text, left=self.with_value(node.part, values[0]), option=self.what(node.option)
                )
            case Known():
                recorded = holds != node.negated
                return self.say(
                    "{what} is recorded" if recorded else "{what} is not recorded", what=self.what(node.part)
                )
            case InArea():
                text = "lives in the area {code}" if holds else "does not live in the area {code}"
                return self.say(text, code=node.code)
            case Aggregate(name="exists", predicate=Node() as predicate):
                text = "a member has {phrase}" if holds else "no member has {phrase}"
                return self.say(text, phrase=self.phrase(predicate))
            case Aggregate(name="all", predicate=Node() as predicate):
                text = "every member has {phrase}" if holds else "not every member has {phrase}"
                return self.say(text, phrase=self.phrase(predicate))
            case EventFact(attribute=None):
                text = "there is an event {event} {window}" if holds else "there is no event {event} {window}"
                return self.say(text, event=node.event, window=self._window(node.window))
        return self.say("{what}: {value}", what=self.what(node), value=self.value(holds))


def _plain(value: Any) -> Value:
    found: Value = Fraction(value) if isinstance(value, Decimal) else value
    return found
