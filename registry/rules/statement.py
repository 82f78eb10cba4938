"""From tree to SQL: one expression over `registrant r`, or for a whole registry the same over joins made once.

Values of the rule travel as arguments; identifiers come from the catalog. Each part is written once into the text, so that
nesting never multiplies it, and nothing in it can fail: a division by nought, a number out of bounds, a value of a wrong
form are null.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any, Final

from registry.attributes import Kind, ValueType, json_sql, sql_of
from registry.rules.events import EVENTS, events_of
from registry.rules.tree import (
    MAX_RESULT,
    SCALE,
    Aggregate,
    Arithmetic,
    Call,
    Choice,
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
    owners,
    walk,
)
from registry.rules.windows import months_before

_PG: Final = {
    ValueType.BOOLEAN: "boolean",
    ValueType.INTEGER: "numeric",
    ValueType.NUMBER: "numeric",
    ValueType.TEXT: "text",
    ValueType.DATE: "date",
}
_SIGNS: Final = {"&&": " AND ", "||": " OR "}
_UNIT: Final = "0.000000000001"
_MEMBERS: Final = "FROM membership ms JOIN registrant m ON m.id = ms.member_id AND m.kind = 'individual' AND m.status = 'active'"
_HOUSEHOLDS: Final = (
    "FROM membership hm JOIN registrant h ON h.id = hm.group_id AND h.kind = 'group' AND h.group_kind = 'household' "
    "AND h.status = 'active'"
)
_AGES: Final = {">=": ("<=", 0), "<": (">", 0), ">": ("<=", 1), "<=": (">", 1)}
"""An age compared with a whole number, as the comparison of the birth date, and how much is added to the number."""


@dataclass(slots=True)
class Joins:
    """What a statement over the whole registry needs beside `registrant r`."""

    tables: dict[str, str] = field(default_factory=dict)
    """Common table expressions by name."""
    joins: dict[str, str] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)
    """The aggregates over members, which one pass over the memberships makes."""


class Statement:
    """Writes one tree as SQL; the places of its arguments begin at `first`."""

    def __init__(self, target: Kind, as_of: date, first: int = 1, *, joined: bool = False) -> None:
        self._target = target
        self._as_of = as_of
        self._first = first
        self._joins = Joins() if joined else None
        self._places: dict[tuple[str, Any], str] = {}
        self.arguments: list[Any] = []

    def place(self, value: Any, kind: str) -> str:
        """Return the place of an argument; the same value of the same type has one."""
        if value in {date.min, date.max}:
            # The driver sends these two as days without end.
            return f"DATE '{value.isoformat()}'"
        key = (kind, value)
        if key not in self._places:
            self.arguments.append(value)
            self._places[key] = f"${self._first + len(self.arguments) - 1}::{kind}"
        return self._places[key]

    def result(self, node: Node, kind: str) -> str:
        """Return the SQL of a whole rule: a condition, or a whole number within bounds as bigint."""
        text = self.of(node)
        if kind == "condition":
            return text
        lowest = -1 if kind == "amount" else -MAX_RESULT - 1
        beyond = f"GREATEST({lowest}, LEAST({text}, {MAX_RESULT + 1}))"
        return f"NULLIF(NULLIF({beyond}, {lowest}), {MAX_RESULT + 1})::bigint"

    def tables(self) -> str:
        """Return the common table expressions the joins need, each with a comma behind it, or nothing."""
        return "".join(f"{name} AS MATERIALIZED ({text}), " for name, text in self._tables().items())

    def joins(self) -> str:
        """Return the joins that stand behind `FROM registrant r`, or nothing."""
        return " ".join(self._joins.joins.values()) if self._joins else ""

    def _tables(self) -> dict[str, str]:
        if self._joins is None:
            return {}
        tables = dict(self._joins.tables)
        if self._joins.columns:
            columns = ", ".join(f"{text} AS a{number}" for number, text in enumerate(self._joins.columns))
            tables["rule_members"] = (
                f"SELECT ms.group_id, {columns} {_MEMBERS} WHERE {self._active('ms')} GROUP BY ms.group_id"
            )
        return tables

    # --- values ---

    def of(self, node: Node) -> str:
        """Return the SQL of a part."""
        text: str = getattr(self, f"_{type(node).__name__.lower()}")(node)
        return text

    def _literal(self, node: Literal) -> str:
        value = Decimal(node.value) if node.type in {ValueType.INTEGER, ValueType.NUMBER} else node.value  # type: ignore[arg-type]
        return self.place(value, _PG[node.type])

    def _fact(self, node: Fact) -> str:
        if node.type is ValueType.TEXTS:
            return "ms.roles"
        return self._through(node.owner, sql_of(node.attribute, node.owner.value))

    def _logic(self, node: Logic) -> str:
        # Order means nothing to the result, since no part can fail; the cheap ones first spare the dear ones.
        parts = sorted(node.parts, key=self._weight)
        return f"({_SIGNS[node.operator].join(self.of(one) for one in parts)})"

    def _weight(self, node: Node) -> int:
        """Return roughly how dear a part is for one registrant, in reads of a column."""
        dear = 3 if self._joins else 200
        weight = 0
        for one in walk(node):
            match one:
                case Fact(owner=Owner.HOUSEHOLD):
                    weight += dear
                case Fact():
                    weight += 1 if one.attribute.column else 5
                case Aggregate() | EventFact() | EventCount():
                    weight += dear
                case InArea() | Call(name="matches"):
                    weight += 5
        return weight

    def _not(self, node: Not) -> str:
        return f"(NOT {self.of(node.part)})"

    def _known(self, node: Known) -> str:
        return f"({self.of(node.part)} IS {'' if node.negated else 'NOT '}NULL)"

    def _compare(self, node: Compare) -> str:
        return self._aged(node) or self._compared(node)

    def _compared(self, node: Compare) -> str:
        sign = {"==": "=", "!=": "<>"}.get(node.operator, node.operator)
        if node.left.type is ValueType.TEXT and node.operator not in {"==", "!="}:
            # Texts are ordered by their characters' numbers, whatever the language of the database.
            sign = f'COLLATE "C" {sign}'
        return f"({self.of(node.left)} {sign} {self.of(node.right)})"

    def _aged(self, node: Compare) -> str | None:
        """Return an age compared with a number as a comparison of dates, which an index can answer."""
        left, right = node.left, node.right
        if not (isinstance(left, Call) and left.name == "age_years" and isinstance(right, Literal)):
            return None
        if node.operator not in _AGES or right.type is not ValueType.INTEGER:
            return None
        sign, more = _AGES[node.operator]
        years = int(right.value) + more  # type: ignore[arg-type]
        if not 1 <= years <= 200:
            return None
        return (
            f"({self.of(left.parts[0])} {sign} {self.place(months_before(self._as_of, years * 12), 'date')})"
        )

    def _oneof(self, node: OneOf) -> str:
        numeric = node.part.type in {ValueType.INTEGER, ValueType.NUMBER}
        kind = "numeric" if numeric else _PG[node.part.type]
        if kind == "date":
            return f"({self.of(node.part)} IN ({', '.join(self.of(one) for one in node.options)}))"
        values = tuple(Decimal(one.value) if numeric else one.value for one in node.options)  # type: ignore[arg-type]
        return f"({self.of(node.part)} = ANY ({self.place(values, f'{kind}[]')}))"

    def _contains(self, node: Contains) -> str:
        return f"({self.of(node.option)} = ANY ({self.of(node.part)}))"

    def _arithmetic(self, node: Arithmetic) -> str:
        left, right = self.of(node.left), self.of(node.right)
        if node.left.type is ValueType.DATE:
            if node.type is ValueType.INTEGER:
                return f"({left} - {right})::numeric"
            return f"rule_day({left}, {'-' if node.operator == '-' else ''}({right}))"
        if node.operator == "%":
            return f"mod({left}, NULLIF({right}, 0))"
        if node.operator == "/":
            whole = node.type is ValueType.INTEGER
            return f"div({left}, NULLIF({right}, 0))" if whole else self._quotient(left, right)
        return f"({left} {node.operator} {right})"

    def _quotient(self, left: str, right: str) -> str:
        """Return an exact quotient cut to twelve decimals; `/` would choose its own number of digits."""
        return f"(div(({left}) * {SCALE}, NULLIF({right}, 0)) * {_UNIT})"

    def _choice(self, node: Choice) -> str:
        return f"CASE {self.of(node.condition)} WHEN true THEN {self.of(node.yes)} WHEN false THEN {self.of(node.no)} END"

    def _call(self, node: Call) -> str:
        parts = [self.of(one) for one in node.parts]
        match node.name:
            case "age_years":
                as_of = self.place(self._as_of, "date")
                return f"extract(year FROM age({as_of}::timestamp, ({parts[0]})::timestamp))"
            case "year" | "month":
                return f"extract({node.name} FROM {parts[0]})"
            case "int":
                return f"trunc({parts[0]})"
            case "double":
                return parts[0]
            case "cap" | "min":
                return f"rule_least({parts[0]}, {parts[1]})"
            case "max":
                return f"rule_greatest({parts[0]}, {parts[1]})"
            case "startsWith":
                return f"starts_with({parts[0]}, {parts[1]})"
            case "endsWith":
                return f"starts_with(reverse({parts[0]}), reverse({parts[1]}))"
            case "contains":
                return f"(strpos({parts[0]}, {parts[1]}) > 0)"
            case "matches":
                return f"({parts[0]} ~ {parts[1]})"
            case "size":
                return f"length({parts[0]})::numeric"
        return f"{node.name}({parts[0]})"

    # --- members and households ---

    def _active(self, alias: str) -> str:
        day = self.place(self._as_of, "date")
        return f"{alias}.start_date <= {day} AND ({alias}.ended_date IS NULL OR {alias}.ended_date > {day})"

    def _household(self) -> str:
        """Return the id of the household of an individual: the one joined last, among those the smaller id."""
        if self._joins is None:
            return (
                f"(SELECT h.id {_HOUSEHOLDS} WHERE hm.member_id = r.id AND {self._active('hm')} "
                "ORDER BY hm.start_date DESC, h.id LIMIT 1)"
            )
        self._joins.tables["rule_household"] = (
            f"SELECT DISTINCT ON (hm.member_id) hm.member_id, h.id AS group_id {_HOUSEHOLDS} WHERE {self._active('hm')} "
            "ORDER BY hm.member_id, hm.start_date DESC, h.id"
        )
        self._joins.joins["hh"] = "LEFT JOIN rule_household hh ON hh.member_id = r.id"
        return "hh.group_id"

    def _through(self, owner: Owner, text: str) -> str:
        """Return what is read of somebody so that it stands in the statement: a household has to be found first."""
        if owner is not Owner.HOUSEHOLD:
            return text
        household = self._household()
        if self._joins is None:
            return f"(SELECT {text} FROM registrant h WHERE h.id = {household})"
        self._joins.joins["h"] = f"LEFT JOIN registrant h ON h.id = {household}"
        return text

    def _id(self, owner: Owner) -> str:
        return self._household() if owner is Owner.HOUSEHOLD else f"{owner.value}.id"

    def _group(self) -> str:
        return "r.id" if self._target == "group" else self._household()

    def _aggregate(self, node: Aggregate) -> str:
        group = self._group()
        outside = {one for part in (node.value, node.predicate) if part for one in owners(part)} - {
            Owner.MEMBER
        }
        if self._joins is None or outside:
            # What the count compares with differs from group to group, so it is made for each.
            columns = self._columns(node, outside=bool(outside))
            inside = self._combined(node, columns)
            return f"(SELECT {inside} {_MEMBERS} WHERE ms.group_id = {group} AND {self._active('ms')})"
        places = [self._column(text) for text in self._columns(node)]
        self._joins.joins["g"] = f"LEFT JOIN rule_members g ON g.group_id = {group}"
        return self._combined(node, places)

    def _column(self, text: str) -> str:
        columns = self._joins.columns if self._joins else []
        if text not in columns:
            columns.append(text)
        return f"g.a{columns.index(text)}"

    def _columns(self, node: Aggregate, *, outside: bool = False) -> list[str]:
        """Return the aggregate functions a node needs."""
        predicate = self.of(node.predicate) if node.predicate else None
        value = self.of(node.value) if node.value else ""
        if outside:
            # SQL gives an aggregate whose arguments all come from outside to the query outside; this keeps it here.
            predicate = f"CASE WHEN ms.id IS NOT NULL THEN {predicate or 'true'} END"
        kept = f" FILTER (WHERE {predicate})" if predicate else ""
        if node.name in {"exists", "all"}:
            function = "max" if node.name == "exists" else "min"
            return [f"{function}(CASE {predicate} WHEN true THEN 2 WHEN false THEN 0 ELSE 1 END)"]
        if node.name == "count":
            return [f"count(*){kept}"]
        if node.name == "avg":
            return [f"sum({value}){kept}", f"count({value}){kept}"]
        return [f"{node.name}({value}){kept}"]

    def _combined(self, node: Aggregate, columns: list[str]) -> str:
        """Return the value of an aggregate from its columns, which are null for a group without members."""
        match node.name:
            case "exists":
                return f"CASE {columns[0]} WHEN 2 THEN true WHEN 1 THEN NULL ELSE false END"
            case "all":
                return f"CASE {columns[0]} WHEN 0 THEN false WHEN 1 THEN NULL ELSE true END"
            case "count":
                return f"coalesce({columns[0]}, 0)::numeric"
            case "sum":
                return f"coalesce({columns[0]}, 0)"
            case "avg":
                return self._quotient(columns[0], f"{columns[1]}::numeric")
        return columns[0]

    # --- areas and events ---

    def _inarea(self, node: InArea) -> str:
        area = f"{node.owner.value}.area_id"
        code = self.place(node.code, "text")
        below = (
            f"SELECT a.id FROM area a WHERE a.path && ARRAY(SELECT b.id FROM area b WHERE b.code = {code})"
        )
        return self._through(node.owner, f"CASE WHEN {area} IS NOT NULL THEN {area} IN ({below}) END")

    def _eventfact(self, node: EventFact) -> str:
        day = self.place(self._as_of, "date")
        where = f"{self._events(node)} AND (e.expires_on IS NULL OR e.expires_on >= {day})"
        if node.attribute is None:
            return f"EXISTS (SELECT FROM registrant_event e WHERE {self._whose(node.owner)} AND {where})"
        column = node.attribute.column
        value = f"e.{column}" if column else json_sql(node.attribute, "e.data")
        if self._joins is None or node.owner is Owner.MEMBER:
            return (
                f"(SELECT {value} FROM registrant_event e WHERE {self._whose(node.owner)} AND {where} "
                "ORDER BY e.collected_on DESC, e.id DESC LIMIT 1)"
            )
        alias = self._joined_events(
            node.owner,
            f"SELECT DISTINCT ON (e.registrant_id) e.registrant_id, e.collected_on, e.data FROM {EVENTS} e "
            f"WHERE {where} ORDER BY e.registrant_id, e.collected_on DESC, e.id DESC",
        )
        return value.replace("e.data", f"{alias}.data").replace("e.collected_on", f"{alias}.collected_on")

    def _eventcount(self, node: EventCount) -> str:
        where = self._events(node)
        if self._joins is None or node.owner is Owner.MEMBER:
            return f"(SELECT count(*) FROM registrant_event e WHERE {self._whose(node.owner)} AND {where})::numeric"
        alias = self._joined_events(
            node.owner,
            f"SELECT e.registrant_id, count(*) AS number FROM {EVENTS} e WHERE {where} GROUP BY e.registrant_id",
        )
        return f"coalesce({alias}.number, 0)::numeric"

    def _events(self, node: EventFact | EventCount) -> str:
        event, first, last = (
            self.place(node.event, "text"), self.place(node.window.first, "date"), self.place(node.window.last, "date")
        )  # fmt: skip
        return f"e.type = {event} AND e.collected_on BETWEEN {first} AND {last}"

    def _whose(self, owner: Owner) -> str:
        """Return the condition that an event `e` is of somebody, or of whom they absorbed."""
        return events_of(self._id(owner))

    def _joined_events(self, owner: Owner, text: str) -> str:
        """Return the alias of the join of a table of events, made once however often the rule reads it."""
        joins = self._joins
        assert joins is not None
        name = next(
            (one for one, known in joins.tables.items() if known == text), f"rule_events_{len(joins.tables)}"
        )
        joins.tables[name] = text
        alias = f"{name}_{owner.value}"
        joins.joins[alias] = f"LEFT JOIN {name} {alias} ON {alias}.registrant_id = {self._id(owner)}"
        return alias
