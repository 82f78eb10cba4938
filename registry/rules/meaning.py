"""From syntax to a typed tree: every name looked up in the catalog, every operation held to its types."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal
from typing import Final

from registry.attributes import COLLECTION_DATE, ROLES, Attribute, Catalog, Kind, ValueType
from registry.rules.functions import AGGREGATES, EVENTS, EVERY, METHODS
from registry.rules.operations import Operations
from registry.rules.source import RuleRefused, Source, Span, meant
from registry.rules.syntax import Syntax, read
from registry.rules.tree import (
    Aggregate,
    EventCount,
    EventFact,
    Fact,
    InArea,
    Known,
    Literal,
    Node,
    Owner,
    Window,
)
from registry.rules.windows import MAX_WITHIN, period, within

METRICS: Final = {
    "size": "members.count()",
    "dependency_ratio": "double(members.count(m, age_years(m.birthdate) < 15 || age_years(m.birthdate) >= 65))"
    " / members.count(m, age_years(m.birthdate) >= 15 && age_years(m.birthdate) < 65)",
}
"""Figures of a group that need no declaration: they stand for a rule over its members."""
_ROOTS: Final = ("r", "members", "household")


class Meaning(Operations):
    """Gives the parts of one rule their meaning."""

    def __init__(
        self, source: Source, catalog: Catalog, target: Kind, as_of: date, program: str | None = None
    ) -> None:
        super().__init__(source)
        self._as_of = as_of
        self._target = target
        self._events = catalog.events()
        self._attributes: dict[Owner, dict[str, Attribute]] = {
            Owner.REGISTRANT: catalog.attributes(target, program),
            Owner.HOUSEHOLD: catalog.attributes("group", program),
            Owner.MEMBER: catalog.member_attributes(program),
        }
        self._variable: str | None = None

    def node(self, part: Syntax) -> Node:
        """Return the typed tree of a part; raises `RuleRefused` at the first place that is wrong."""
        match part.kind:
            case "literal":
                return self._literal(part)
            case "operator":
                return self._operator(part)
            case "choice":
                return self.choice(part.span, *(self.node(one) for one in part.parts))
            case "select":
                return self._select(part)
            case "call":
                return self._call(part)
            case "name":
                raise self._bare(part)
        raise self.source.wrong(
            part.span,
            "a list stands only behind `in`",
            code="rule-not-compilable",
            remedy="Write `x in ['a', 'b']`.",
        )

    def _literal(self, part: Syntax) -> Literal:
        value = part.value
        if value is None:
            raise self.source.wrong(
                part.span, "`null` stands only in a comparison", code="rule-type-mismatch", remedy="Write `x == null` or `x != null`."
            )  # fmt: skip
        kind = {
            bool: ValueType.BOOLEAN,
            int: ValueType.INTEGER,
            Decimal: ValueType.NUMBER,
            str: ValueType.TEXT,
        }
        return Literal(part.span, kind[type(value)], value)

    def _operator(self, part: Syntax) -> Node:
        if part.name in {"==", "!="}:
            for one, other in (part.parts, part.parts[::-1]):
                if other.kind == "literal" and other.value is None:
                    return Known(part.span, ValueType.BOOLEAN, self.node(one), part.name == "==")
        if part.name == "in" and part.parts[1].kind == "list":
            options = tuple(self.node(one) for one in part.parts[1].parts)
            return self.one_of(part.span, self.node(part.parts[0]), options)
        nodes = [self.node(one) for one in part.parts]
        return self.operation(part.span, part.name, nodes)

    # --- names ---

    def _owner(self, part: Syntax | None) -> Owner | None:
        """Return whose facts a name stands for; None when it is no name of somebody."""
        if part is None or part.kind != "name":
            return None
        if part.name == self._variable:
            return Owner.MEMBER
        if part.name == "household":
            return Owner.HOUSEHOLD if self._target == "individual" else Owner.REGISTRANT
        return Owner.REGISTRANT if part.name == "r" else None

    def _members(self, part: Syntax | None) -> bool:
        if part is None:
            return False
        if part.kind == "select" and part.name == "members":
            return self._owner(part.of) is not None and self._is_group(part.of)
        return part.kind == "name" and part.name == "members" and self._variable != "members"

    def _is_group(self, of: Syntax | None) -> bool:
        return self._owner(of) is Owner.HOUSEHOLD or (
            self._owner(of) is Owner.REGISTRANT and self._target == "group"
        )

    def _bare(self, part: Syntax) -> RuleRefused:
        if part.name in {*_ROOTS, self._variable}:
            return self.source.wrong(
                part.span, f"`{part.name}` alone has no value", code="rule-type-mismatch",
                remedy="Write `members.size()` or `members.exists(m, …)`." if part.name == "members"
                else f"Write `{part.name}.` and the name of an attribute.",
            )  # fmt: skip
        if part.name in self._attributes[Owner.REGISTRANT]:
            remedy: str | None = f"Write `r.{part.name}`."
        else:
            remedy = meant(part.name, [*_ROOTS, *([self._variable] if self._variable else [])])
        return self.source.wrong(
            part.span, f"`{part.name[:60]}` is not known here", code="rule-name-unknown", remedy=remedy
        )

    def _select(self, part: Syntax) -> Node:
        of = part.of
        if of is not None and of.kind == "call" and of.name == "event":
            return self._event_fact(part, of)
        owner = self._owner(of)
        if owner is None:
            if of is not None and of.kind == "name":
                raise self._bare(of)
            raise self.source.wrong(
                part.span, "a dot stands only behind `r`, `household`, a member or `event(…)`", code="rule-not-compilable"
            )  # fmt: skip
        known = self._attributes[owner]
        found = known.get(part.name)
        if found is not None:
            return Fact(part.span, found.type, owner, found)
        metrics = METRICS if self._is_group(of) else {}
        if part.name in metrics:
            _, syntax = read(metrics[part.name])
            return self.node(_moved(syntax, part.span))
        what = {"individual": "an individual", "group": "a group"}[
            "individual" if owner is Owner.MEMBER else "group" if self._is_group(of) else self._target
        ]
        raise self.source.wrong(
            self._last(part), f"{what} has no attribute `{part.name[:60]}`", code="rule-name-unknown",
            remedy=meant(part.name, [*known, *metrics]) or "`hub attributes show` lists the attributes.",
        )  # fmt: skip

    def _last(self, part: Syntax) -> Span:
        return Span(part.span.end - len(part.name), part.span.end)

    # --- calls ---

    def _call(self, part: Syntax) -> Node:
        if self._members(part.of):
            return self._aggregate(part)
        owner = self._owner(part.of)
        if part.named and part.name not in EVENTS:
            raise self.source.wrong(
                part.span, f"`{part.name[:60]}` has no named arguments", remedy="Leave out the name and `=`."
            )
        if part.name in EVENTS and (part.of is None or owner is not None):
            return self._event(part, owner or Owner.REGISTRANT)
        if part.name == "in_area" and (part.of is None or owner is not None):
            return InArea(
                part.span, ValueType.BOOLEAN, owner or Owner.REGISTRANT, self._text(part, "in_area('KE001')")
            )
        if part.of is not None:
            if part.name not in METHODS:
                hint = "counting, mapping and filtering are for members" if owner is None else None
                raise self.source.wrong(
                    part.span, f"there is no function `{part.name[:60]}` here{f': {hint}' if hint else ''}",
                    code="rule-not-compilable" if part.name in {"map", "filter", "exists_one"} else "rule-name-unknown",
                    remedy=meant(part.name, METHODS),
                )  # fmt: skip
            return self.method(part.span, part.name, [self.node(one) for one in (part.of, *part.parts)])
        match part.name:
            case "today":
                self.count(part.span, "today", part.parts, 0, "today()")
                return Literal(part.span, ValueType.DATE, self._as_of)
            case "date":
                return self._date(part)
            case "has":
                self.count(part.span, "has", part.parts, 1, "has(r.income)")
                if part.parts[0].kind != "select":
                    raise self.source.wrong(
                        part.parts[0].span, "`has` asks for an attribute", remedy="Write `has(r.income)`."
                    )
                return Known(part.span, ValueType.BOOLEAN, self.node(part.parts[0]), False)
            case "size":
                self.count(part.span, "size", part.parts, 1, "size(members)")
                if self._members(part.parts[0]):
                    return Aggregate(part.span, ValueType.INTEGER, "count", "m", None, None)
                return self.method(part.span, "size", [self.node(part.parts[0])])
        return self.function(part.span, part.name, [self.node(one) for one in part.parts], EVERY)

    def _text(self, part: Syntax, example: str) -> str:
        if len(part.parts) != 1 or not isinstance(part.parts[0].value, str) or not part.parts[0].value:
            raise self.source.wrong(
                part.span, f"`{part.name}` takes one text in quotes", remedy=f"Write `{example}`."
            )
        return part.parts[0].value

    def _date(self, part: Syntax) -> Literal:
        text = self._text(part, "date('2026-01-31')")
        try:
            if len(text) != 10:
                raise ValueError(text)
            return Literal(part.span, ValueType.DATE, date.fromisoformat(text))
        except ValueError:
            raise self.source.wrong(
                part.parts[0].span,
                "this is no date",
                remedy="Write year, month and day: `date('2026-01-31')`.",
            ) from None

    def _aggregate(self, part: Syntax) -> Node:
        example = f"members.{part.name}(m, age_years(m.birthdate) < 5)"
        if part.name == "size":
            self.count(part.span, "size", part.parts, 0, "members.size()")
            return Aggregate(part.span, ValueType.INTEGER, "count", "m", None, None)
        if part.name not in AGGREGATES:
            known = part.name in {"map", "filter", "exists_one"}
            raise self.source.wrong(
                part.span, f"members have no `{part.name[:60]}`",
                code="rule-not-compilable" if known else "rule-name-unknown",
                remedy="Put the condition into the aggregate: `members.sum(m, m.income, m.income > 0)`." if known
                else meant(part.name, [*AGGREGATES, "size"]),
            )  # fmt: skip
        if self._variable is not None:
            raise self.source.wrong(
                part.span, "members cannot be counted inside a count of members", code="rule-not-compilable",
                remedy="Compare with the members outside: `members.count(m, …) > members.count(m, …)`.",
            )  # fmt: skip
        if not part.parts and part.name == "count":
            return Aggregate(part.span, ValueType.INTEGER, "count", "m", None, None)
        if not part.parts or part.parts[0].kind != "name" or part.parts[0].name in _ROOTS:
            raise self.source.wrong(
                part.span, f"`{part.name}` begins with a name for the member", remedy=f"Write `{example}`."
            )
        self._variable = variable = part.parts[0].name
        try:
            nodes = [self.node(one) for one in part.parts[1:]]
        finally:
            self._variable = None
        return self.aggregate(part.span, part.name, variable, nodes)

    # --- events ---

    def _event(self, part: Syntax, owner: Owner) -> Node:
        if part.name == "event":
            raise self.source.wrong(
                part.span, "`event(…)` alone has no value", code="rule-type-mismatch",
                remedy="Write `event('survey').income`, or `has_event('survey')`.",
            )  # fmt: skip
        event, window = self._event_of(part)
        if part.name == "events_count":
            return EventCount(part.span, ValueType.INTEGER, owner, event, window)
        return EventFact(part.span, ValueType.BOOLEAN, owner, event, window, None)

    def _event_fact(self, part: Syntax, call: Syntax) -> Node:
        if call.of is not None and self._owner(call.of) is None:
            raise self.source.wrong(call.of.span, "nobody has events here", code="rule-name-unknown")
        event, window = self._event_of(call)
        known = {COLLECTION_DATE.name: COLLECTION_DATE, **self._events[event]}
        found = known.get(part.name)
        if found is None:
            raise self.source.wrong(
                self._last(part), f"the event `{event}` has no attribute `{part.name[:60]}`", code="rule-name-unknown",
                remedy=meant(part.name, known),
            )  # fmt: skip
        return EventFact(
            part.span, found.type, self._owner(call.of) or Owner.REGISTRANT, event, window, found
        )

    def _event_of(self, part: Syntax) -> tuple[str, Window]:
        event = self._text(part, f"{part.name}('survey')")
        if event not in self._events:
            raise self.source.wrong(
                part.parts[0].span, f"no event `{event[:60]}` is declared", code="rule-name-unknown",
                remedy=meant(event, self._events) or f"Declare its attributes: `x-subject: event:{event[:40]}`.",
            )  # fmt: skip
        if not part.named:
            return event, Window(date.min, self._as_of)
        (name, value), *more = part.named
        if more:
            raise self.source.wrong(more[0][1].span, "one span of days is enough")
        if name == "period" and part.name == "events_count" and isinstance(value.value, str):
            try:
                return event, period(value.value, self._as_of)
            except ValueError:
                raise self.source.wrong(
                    value.span, "this is no period", remedy="Write '2024', '2024-Q3' or '2024-05'."
                ) from None
        if name not in MAX_WITHIN:
            known = [*MAX_WITHIN, *(["period"] if part.name == "events_count" else [])]
            raise self.source.wrong(
                value.span,
                f"`{part.name}` has no argument `{name[:60]}`",
                code="rule-name-unknown",
                remedy=meant(name, known),
            )
        number = value.value
        if type(number) is not int or not 1 <= number <= MAX_WITHIN[name]:
            raise self.source.wrong(value.span, f"`{name}` is a whole number from 1 to {MAX_WITHIN[name]:,}")
        return event, within(self._as_of, name, number)


def _moved(part: Syntax, span: Span) -> Syntax:
    """Return a part of a metric as if it were written where the metric is named."""
    return replace(
        part,
        span=span,
        of=_moved(part.of, span) if part.of else None,
        parts=tuple(_moved(one, span) for one in part.parts),
    )


__all__ = ["METRICS", "ROLES", "Meaning"]
