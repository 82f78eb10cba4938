"""What operators, functions and aggregates take and give; what does not go together is refused with its place."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from registry.attributes import ValueType
from registry.rules.functions import FUNCTIONS, METHODS, Function
from registry.rules.patterns import plain_pattern
from registry.rules.source import Source, Span, meant
from registry.rules.tree import (
    NUMBERS,
    Aggregate,
    Arithmetic,
    Call,
    Choice,
    Compare,
    Contains,
    EventFact,
    Fact,
    Literal,
    Logic,
    Node,
    Not,
    OneOf,
)

_SAID: Final = {
    ValueType.BOOLEAN: "true or false",
    ValueType.INTEGER: "a whole number",
    ValueType.NUMBER: "a number",
    ValueType.TEXT: "a text",
    ValueType.DATE: "a date",
    ValueType.TEXTS: "several texts",
}
_ORDER: Final = ("<", "<=", ">", ">=")


class Operations:
    """The rules of types, over parts that have theirs already."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def operation(self, span: Span, operator: str, nodes: Sequence[Node]) -> Node:
        """Return the node of an operator; raises `RuleRefused` `rule-type-mismatch`."""
        if operator in {"&&", "||"}:
            self._conditions(operator, nodes)
            return Logic(span, ValueType.BOOLEAN, operator, tuple(nodes))
        if operator == "!":
            self._conditions(operator, nodes)
            return Not(span, ValueType.BOOLEAN, nodes[0])
        if operator == "-" and len(nodes) == 1:
            self._numbers("-", nodes)
            zero = Literal(span, ValueType.INTEGER, 0)
            return Arithmetic(span, nodes[0].type, "-", zero, nodes[0])
        left, right = nodes
        if operator == "in":
            return self._contains(span, left, right)
        if operator in {"==", "!=", *_ORDER}:
            self._alike(span, operator, left, right)
            return Compare(span, ValueType.BOOLEAN, operator, left, right)
        return self._arithmetic(span, operator, left, right)

    def _conditions(self, operator: str, nodes: Iterable[Node]) -> None:
        for one in nodes:
            if one.type is not ValueType.BOOLEAN:
                raise self.mismatch(
                    one.span, f"`{operator}` needs conditions, and {self._named(one)} is {_SAID[one.type]}"
                )

    def _numbers(self, operator: str, nodes: Iterable[Node]) -> None:
        for one in nodes:
            if one.type not in NUMBERS:
                raise self.mismatch(
                    one.span, f"`{operator}` needs numbers, and {self._named(one)} is {_SAID[one.type]}"
                )

    def _alike(self, span: Span, operator: str, left: Node, right: Node) -> None:
        same = left.type is right.type or {left.type, right.type} <= NUMBERS
        if not same or ValueType.TEXTS in {left.type, right.type}:
            hint = None
            if {left.type, right.type} == {ValueType.DATE, ValueType.TEXT}:
                hint = "A date is written `date('2026-01-31')`."
            elif ValueType.TEXT in {left.type, right.type} and {left.type, right.type} & NUMBERS:
                hint = "A number stands without quotes, a text in quotes."
            raise self.mismatch(
                span, f"{self._named(left)} is {_SAID[left.type]} and {self._named(right)} is {_SAID[right.type]}; "
                f"`{operator}` cannot compare them", hint,
            )  # fmt: skip
        if operator in _ORDER and left.type is ValueType.BOOLEAN:
            raise self.mismatch(span, f"`{operator}` has no meaning between true and false")
        self._code(left, right)
        self._code(right, left)

    def _code(self, fact: Node, other: Node) -> None:
        """Refuse a literal that is none of the codes of what it is compared with."""
        codes = fact.attribute.codes if isinstance(fact, Fact | EventFact) and fact.attribute else None
        if codes is None or not isinstance(other, Literal) or other.value in codes:
            return
        raise self.source.wrong(
            other.span, f"`{str(other.value)[:60]}` is none of the codes of {self._named(fact)}", code="rule-name-unknown",
            remedy=meant(str(other.value), codes),
        )  # fmt: skip

    def one_of(self, span: Span, part: Node, options: tuple[Node, ...]) -> Node:
        """Return the node of `x in [a, b]`."""
        if not options:
            raise self.source.wrong(span, "the list is empty")
        literals: list[Literal] = []
        for one in options:
            if not isinstance(one, Literal):
                raise self.source.wrong(
                    one.span, "a list holds only written values", code="rule-not-compilable", remedy="Compare with `==` and `||`."
                )  # fmt: skip
            self._alike(Span(part.span.start, one.span.end), "==", part, one)
            literals.append(one)
        return OneOf(span, ValueType.BOOLEAN, part, tuple(literals))

    def _contains(self, span: Span, left: Node, right: Node) -> Node:
        if not isinstance(right, Fact) or right.type is not ValueType.TEXTS:
            raise self.mismatch(right.span, "`in` needs a list", "Write `x in ['a', 'b']`.")
        if not isinstance(left, Literal) or left.type is not ValueType.TEXT:
            raise self.mismatch(
                left.span, "in front of `in` stands a text in quotes", "Write `'head' in m.roles`."
            )
        self._code(right, left)
        return Contains(span, ValueType.BOOLEAN, left, right)

    def _arithmetic(self, span: Span, operator: str, left: Node, right: Node) -> Node:
        if left.type is ValueType.DATE:
            if operator == "-" and right.type is ValueType.DATE:
                return Arithmetic(span, ValueType.INTEGER, operator, left, right)
            if operator in {"+", "-"} and right.type is ValueType.INTEGER:
                return Arithmetic(span, ValueType.DATE, operator, left, right)
            raise self.mismatch(span, f"`{operator}` of a date takes a number of days, or `-` another date")
        self._numbers(operator, (left, right))
        whole = left.type is right.type is ValueType.INTEGER
        if operator == "%" and not whole:
            raise self.mismatch(span, "`%` needs whole numbers")
        return Arithmetic(span, ValueType.INTEGER if whole else ValueType.NUMBER, operator, left, right)

    def choice(self, span: Span, condition: Node, yes: Node, no: Node) -> Node:
        """Return the node of `condition ? yes : no`."""
        self._conditions("?", (condition,))
        if yes.type is not no.type and not {yes.type, no.type} <= NUMBERS:
            raise self.mismatch(span, f"one branch is {_SAID[yes.type]}, the other {_SAID[no.type]}")
        kind = yes.type if yes.type is no.type else ValueType.NUMBER
        if kind is ValueType.TEXTS:
            raise self.mismatch(span, "a branch cannot be several texts")
        return Choice(span, kind, condition, yes, no)

    def count(self, span: Span, name: str, parts: Sequence[object], wanted: int, example: str) -> None:
        """Refuse a call with another number of arguments."""
        if len(parts) != wanted:
            raise self.source.wrong(
                span, f"`{name}` takes {wanted or 'no'} argument{'' if wanted == 1 else 's'}, not {len(parts)}",
                remedy=f"Write `{example}`.",
            )  # fmt: skip

    def function(self, span: Span, name: str, nodes: list[Node], known: Iterable[str]) -> Node:
        """Return the node of `name(…)`."""
        found = FUNCTIONS.get(name)
        if found is None:
            remedy = f"Write `text.{name}(…)`." if name in METHODS else meant(name, known)
            raise self.source.wrong(
                span, f"there is no function `{name[:60]}`", code="rule-name-unknown", remedy=remedy
            )
        return self._called(span, name, found, nodes)

    def method(self, span: Span, name: str, nodes: list[Node]) -> Node:
        """Return the node of `text.name(…)`; the text is the first of the nodes."""
        found = METHODS[name]
        if name == "matches" and len(nodes) == 2:
            nodes[1] = self._pattern(nodes[1])
        return self._called(span, name, found, nodes)

    def _pattern(self, node: Node) -> Literal:
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            raise self.source.wrong(node.span, "a pattern is written in quotes", code="rule-not-compilable")
        try:
            return Literal(node.span, ValueType.TEXT, plain_pattern(node.value))
        except ValueError as error:
            raise self.source.wrong(node.span, str(error), code="rule-not-compilable") from None

    def _called(self, span: Span, name: str, found: Function, nodes: list[Node]) -> Node:
        self.count(span, name, nodes, len(found.takes), found.says)
        for one, types in zip(nodes, found.takes, strict=True):
            if one.type not in types:
                wanted = _SAID[ValueType.NUMBER if ValueType.NUMBER in types else next(iter(types))]
                raise self.mismatch(
                    one.span, f"`{name}` needs {wanted}, and {self._named(one)} is {_SAID[one.type]}",
                    f"Write `{found.says}`.",
                )  # fmt: skip
        kind = found.gives
        if kind is None:
            kind = (
                ValueType.INTEGER if all(one.type is ValueType.INTEGER for one in nodes) else ValueType.NUMBER
            )
        return Call(span, kind, name, tuple(nodes))

    def aggregate(self, span: Span, name: str, variable: str, nodes: list[Node]) -> Node:
        """Return the node of an aggregate over members."""
        value: Node | None = None
        predicate: Node | None = None
        if name in {"exists", "all", "count"}:
            if name != "count" or nodes:
                self.count(
                    span, name, nodes, 1, f"members.{name}({variable}, age_years({variable}.birthdate) < 5)"
                )
                predicate = nodes[0]
        else:
            if len(nodes) not in {1, 2}:
                self.count(span, name, nodes, 1, f"members.{name}({variable}, {variable}.income)")
            value, predicate = nodes[0], nodes[1] if len(nodes) == 2 else None
            dated = name in {"min", "max"} and value.type is ValueType.DATE
            if value.type not in NUMBERS and not dated:
                raise self.mismatch(
                    value.span, f"`{name}` needs a number, and {self._named(value)} is {_SAID[value.type]}"
                )
        if predicate is not None:
            self._conditions(name, (predicate,))
        kind = {
            "exists": ValueType.BOOLEAN,
            "all": ValueType.BOOLEAN,
            "count": ValueType.INTEGER,
            "avg": ValueType.NUMBER,
        }.get(name)
        return Aggregate(
            span, kind or (value.type if value else ValueType.INTEGER), name, variable, value, predicate
        )

    def result(self, node: Node, wanted: str) -> None:
        """Hold the whole rule to the kind of result asked for."""
        if wanted == "condition" and node.type is not ValueType.BOOLEAN:
            raise self.mismatch(
                node.span, f"the rule is {_SAID[node.type]}, and a condition is asked for",
                "Compare it with something.",
            )  # fmt: skip
        if wanted != "condition" and node.type is not ValueType.INTEGER:
            raise self.mismatch(
                node.span, f"the rule is {_SAID[node.type]}, and a whole number is asked for",
                "Wrap it in `round(…)`, `floor(…)` or `ceil(…)`." if node.type is ValueType.NUMBER else None,
            )  # fmt: skip

    def mismatch(self, span: Span, sentence: str, remedy: str | None = None) -> Exception:
        """Return the refusal of types that do not go together."""
        return self.source.wrong(span, sentence, code="rule-type-mismatch", remedy=remedy)

    def _named(self, node: Node) -> str:
        text = self.source.part(node.span)
        return f"`{text if len(text) <= 60 else text[:57] + '…'}`"
