"""People, groups, memberships and events with every oddity a rule can meet, and rules made up over them."""

from __future__ import annotations

import random
from datetime import date, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from hypothesis import strategies as st

from registry.attributes import Catalog, parse

AS_OF = date(2025, 2, 28)

SCHEMAS: tuple[dict[str, Any], ...] = (
    {
        "x-subject": "individual",
        "type": "object",
        "properties": {
            "income": {"type": "integer", "title": "Income", "x-titles": {"fr": "Revenu"}, "x-rule": True},
            "share": {"type": "number"},
            "disabled": {
                "type": "boolean",
                "title": "Disabled",
                "x-titles": {"fr": "En situation de handicap"},
            },
            "job": {
                "type": "string",
                "enum": ["farmer", "trader", "none"],
                "title": "Job",
                "x-titles": {"fr": "Métier"},
                "x-labels": {"farmer": {"en": "Farmer", "fr": "Agriculteur"}},
            },
            "remark": {"type": "string"},
            "since": {"type": "string", "format": "date"},
        },
    },
    {
        "x-subject": "group",
        "type": "object",
        "properties": {
            "income": {
                "type": "integer",
                "title": "Household income",
                "x-titles": {"fr": "Revenu du ménage"},
            },
            "roof": {"type": "string", "enum": ["thatch", "tile"], "title": "Roof"},
            "rooms": {"type": "integer", "title": "Rooms"},
            "share": {"type": "number"},
            "remark": {"type": "string"},
            "since": {"type": "string", "format": "date"},
        },
    },
    {
        "x-subject": "event:survey",
        "type": "object",
        "properties": {
            "income": {"type": "integer"},
            "score": {"type": "number"},
            "poor": {"type": "boolean"},
            "note": {"type": "string"},
            "next": {"type": "string", "format": "date"},
        },
    },
    {"x-subject": "event:attendance", "type": "object", "properties": {"hours": {"type": "integer"}}},
)


def catalog() -> Catalog:
    """The attributes of the country these people live in."""
    return Catalog.of(parse(one, 1) for one in SCHEMAS)


NUMBERS: list[Any] = [
    None, 0, 1, -1, 2, 3, 7, 100, 4999, 5000, -5000, 0.5, 0.1, 1.25, -2.5, 3.0, 10**15, -(10**15), 10**15 + 1,
    "5000", True, 0.333333333333333,
]  # fmt: skip
TEXTS: list[Any] = [None, "", "farmer", "trader", "none", "Farm", "éà", "a\nb", "日本", "x" * 50, 7, False]
DATES: list[Any] = [
    None, "2024-02-29", "2000-02-29", "1960-02-28", "2007-02-28", "2007-03-01", "2025-02-28", "2025-03-01", "2030-01-01",
    "0001-01-01", "9999-12-31", "2023-02-29", "yesterday", 5,
]  # fmt: skip
BOOLS: list[Any] = [None, True, False, "true", 0]


def _uuid(kind: int, number: int) -> UUID:
    return UUID(int=(kind << 96) | (0x7 << 76) | (0x8 << 60) | number)


class World:
    """One database full of oddities; the same seed makes the same people."""

    def __init__(self, seed: int, individuals: int = 60, groups: int = 24) -> None:
        self._random = random.Random(seed)
        self.individuals = [_uuid(1, number) for number in range(individuals)]
        self.groups = [_uuid(2, number) for number in range(groups)]

    def _some(self, pool: list[Any]) -> Any:
        return self._random.choice(pool)

    def _attributes(self, fields: dict[str, list[Any]]) -> str:
        made = {name: self._some(pool) for name, pool in fields.items() if self._random.random() < 0.8}
        return orjson.dumps(made).decode()

    def _day(self) -> date | None:
        text = self._some(DATES[1:11])
        return None if self._random.random() < 0.15 else date.fromisoformat(text)

    async def fill(self, connection: asyncpg.Connection) -> None:
        """Write everybody."""
        await connection.executemany(
            "INSERT INTO area (id, code, parent_id, path, level, names) VALUES ($1, $2, $3, $4, $5, '{}')",
            [
                (1, "KE", None, [1], 0), (2, "KE01", 1, [1, 2], 1), (3, "KE02", 1, [1, 3], 1),
                (4, "KE011", 2, [1, 2, 4], 2),
            ],
        )  # fmt: skip
        for one in self.individuals:
            await connection.execute(
                """INSERT INTO registrant (id, kind, status, sex, birthdate, birthdate_not_exact, marital_status, area_id,
                       registration_date, language, attributes, source)
                   VALUES ($1, 'individual', $2, $3, $4, $5, $6, $7, $8, $9, $10::text::jsonb, 'test')""",
                one, self._some(["active"] * 6 + ["deceased", "inactive"]), self._some([None, "male", "female"]),
                self._day(), self._some([True, False]), self._some([None, "married", "widowed"]),
                self._some([None, 1, 2, 3, 4]), self._day(), self._some([None, "en", "fr"]),
                self._attributes({"income": NUMBERS, "share": NUMBERS, "disabled": BOOLS, "job": TEXTS,
                                  "remark": TEXTS, "since": DATES}),
            )  # fmt: skip
        for one in self.groups:
            await connection.execute(
                """INSERT INTO registrant (id, kind, status, group_kind, is_partial_group, group_size, area_id, attributes,
                       source)
                   VALUES ($1, 'group', $2, $3, $4, $5, $6, $7::text::jsonb, 'test')""",
                one, self._some(["active"] * 5 + ["inactive"]), self._some(["household"] * 4 + ["family", None]),
                self._some([None, True, False]), self._some([None, 1, 5]), self._some([None, 1, 2, 3, 4]),
                self._attributes({"income": NUMBERS, "rooms": NUMBERS, "roof": TEXTS, "share": NUMBERS,
                                  "remark": TEXTS, "since": DATES}),
            )  # fmt: skip
        await self._join(connection)
        await self._happen(connection)
        # Some were registered twice: what happened to the absorbed counts for the survivor.
        for absorbed, survivor in ((1, 2), (3, 2), (5, 40)):
            await connection.execute(
                "UPDATE registrant SET status = 'merged', merged_into = $2 WHERE id = $1",
                self.individuals[absorbed],
                self.individuals[survivor],
            )
        if len(self.groups) > 6:
            await connection.execute(
                "UPDATE registrant SET status = 'merged', merged_into = $2 WHERE id = $1",
                self.groups[4],
                self.groups[6],
            )

    async def _join(self, connection: asyncpg.Connection) -> None:
        taken: set[tuple[UUID, UUID]] = set()
        for number, member in enumerate([*self.individuals, *self.individuals[::2]]):
            group = self._some(self.groups[1:])  # the first has nobody
            if (group, member) in taken:
                continue
            taken.add((group, member))
            start = self._some([date(2020, 1, 1), date(2024, 6, 1), AS_OF, AS_OF + timedelta(days=1)])
            ended = self._some(
                [None, None, None, None, start, start + timedelta(days=40), AS_OF + timedelta(days=9)]
            )
            await connection.execute(
                "INSERT INTO membership (id, group_id, member_id, roles, start_date, ended_date, source) "
                "VALUES ($1, $2, $3, $4, $5, $6, 'test')",
                _uuid(3, number), group, member, self._some([[], ["child"], ["spouse", "caregiver"]]), start, ended,
            )  # fmt: skip

    async def _happen(self, connection: asyncpg.Connection) -> None:
        days = [AS_OF + timedelta(days=shift) for shift in (-4000, -366, -365, -364, -60, -1, 0, 1)]
        for number in range(200):
            day = self._some(days)
            fields = {"income": NUMBERS, "score": NUMBERS, "poor": BOOLS, "note": TEXTS, "next": DATES}
            await connection.execute(
                "INSERT INTO registrant_event (id, registrant_id, type, collected_on, expires_on, data, source) "
                "VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, 'test')",
                _uuid(4, number), self._some([*self.individuals, *self.groups]), self._some(["survey", "attendance"]),
                day, self._some([None, None, day, day + timedelta(days=30), date(2030, 1, 1)]), self._attributes(fields),
            )  # fmt: skip


def _owned(name: str) -> dict[str, list[str]]:
    kinds = {
        "i": {
            "number": ["income", "share"], "text": ["job", "remark", "sex", "marital_status", "status", "language"],
            "date": ["since", "birthdate", "registration_date"], "condition": ["disabled", "birthdate_not_exact"],
        },
        "g": {
            "number": ["income", "rooms", "share", "group_size", "size", "dependency_ratio"],
            "text": ["roof", "remark", "kind", "status"], "date": ["since"], "condition": ["is_partial_group"],
        },
    }  # fmt: skip
    return kinds[name]


class Grammar:
    """Makes up rules of a target, by the type of their result; the choices are drawn from a `Random`."""

    def __init__(self, target: str, choices: random.Random) -> None:
        self._pick = choices.choice
        self._outer = {"r": _owned("i" if target == "individual" else "g"), "household": _owned("g")}
        self._inner = {"m": _owned("i"), **self._outer}

    def rule(self, kind: str, depth: int = 4) -> str:
        """A rule of a kind: condition, number, whole, date or text."""
        return self._made(kind, depth, inside=False)

    def _made(self, kind: str, depth: int, *, inside: bool) -> str:
        def below(kind: str) -> str:
            return self._made(kind, depth - 1, inside=inside)

        leaves: list[Any] = list(getattr(self, f"_{kind}_leaves")(inside))
        if depth <= 0:
            return self._drawn(leaves)
        more: list[Any] = list(getattr(self, f"_{kind}_branches")(below))
        more.append(lambda: f"({below('condition')} ? {below(kind)} : {below(kind)})")
        if not inside:
            more += self._over(kind, depth)
        return self._drawn([*leaves, *more, *more])

    def _drawn(self, options: list[Any]) -> str:
        found = self._pick(options)
        return found if isinstance(found, str) else str(found())

    def _fact(self, kind: str, inside: bool) -> str:
        owners = self._inner if inside else self._outer
        owner = self._pick(list(owners))
        # Figures of a group are counts of members themselves.
        names = [one for one in owners[owner][kind] if not (inside and one in {"size", "dependency_ratio"})]
        return f"{owner}.{self._pick(names)}"

    def _event(self, field: str, inside: bool) -> str:
        who = self._pick(["", "r.", "household.", *(["m."] if inside else [])])
        span = self._pick(["", ", within_days=365", ", within_months=2", ", within_years=20"])
        return f"{who}event('survey'{span}).{field}"

    def _over(self, kind: str, depth: int) -> list[Any]:
        def inner(kind: str) -> str:
            return self._made(kind, depth - 1, inside=True)

        def over(names: list[str]) -> Any:
            return lambda: f"members.{self._pick(names)}(m, {inner(kind)}, {inner('condition')})"

        if kind == "condition":
            return [lambda: f"members.{self._pick(['exists', 'all'])}(m, {inner('condition')})"] * 2
        if kind == "whole":
            return [
                lambda: f"members.count(m, {inner('condition')})",
                "size(members)",
                over(["sum", "min", "max"]),
            ]
        return {"number": [over(["sum", "avg", "min", "max"])], "date": [over(["min", "max"])]}.get(kind, [])

    def _number_leaves(self, inside: bool) -> list[Any]:
        literals = ["0", "1", "-1", "2", "0.5", "3.25", "5000", "1000000000000000", "-7"]
        fact = lambda: self._fact("number", inside)  # noqa: E731
        return [
            lambda: self._pick(literals),
            fact,
            fact,
            lambda: self._event(self._pick(["income", "score"]), inside),
        ]

    def _number_branches(self, below: Any) -> list[Any]:
        return [
            lambda: f"({below('number')} {self._pick(['+', '-', '*', '/'])} {below('number')})",
            lambda: f"{self._pick(['cap', 'min', 'max'])}({below('number')}, {below('number')})",
            lambda: (
                f"{self._pick(['abs', 'floor', 'ceil', 'round', 'int', 'double', '-'])}({below('number')})"
            ),
            lambda: below("whole"),
        ]

    def _whole_leaves(self, inside: bool) -> list[Any]:
        texts = [
            "0", "3", "-2", "17", "events_count('attendance')", "events_count('survey', period='2024')",
            "events_count('attendance', period='2024-Q4')", "household.events_count('survey', within_days=90)",
        ]  # fmt: skip
        return [
            lambda: self._pick(texts),
            lambda: f"{self._pick(['age_years', 'year', 'month'])}({self._fact('date', inside)})",
            lambda: f"({self._fact('date', inside)} - {self._fact('date', inside)})",
            lambda: f"{self._fact('text', inside)}.size()",
        ]

    def _whole_branches(self, below: Any) -> list[Any]:
        return [
            lambda: f"({below('whole')} {self._pick(['+', '-', '*', '/', '%'])} {below('whole')})",
            lambda: f"{self._pick(['round', 'floor', 'ceil', 'int'])}({below('number')})",
            lambda: f"age_years({below('date')})",
        ]

    def _date_leaves(self, inside: bool) -> list[Any]:
        texts = ["today()", "date('2024-02-29')", "date('1999-12-31')"]
        fact = lambda: self._fact("date", inside)  # noqa: E731
        return [
            fact,
            fact,
            lambda: self._event(self._pick(["next", "collection_date"]), inside),
            lambda: self._pick(texts),
        ]

    def _date_branches(self, below: Any) -> list[Any]:
        return [
            lambda: f"({below('date')} {self._pick(['+', '-'])} {self._pick(['30', '1000001', '800000'])})",
            lambda: f"({below('date')} {self._pick(['+', '-'])} {below('whole')})",
        ]

    def _text_leaves(self, inside: bool) -> list[Any]:
        texts = [
            "r.remark",
            "household.remark",
            *(["m.remark"] if inside else []),
            "'farm'",
            "''",
            "'é'",
            "'trader'",
        ]
        return [lambda: self._pick(texts), lambda: self._event("note", inside)]

    def _text_branches(self, below: Any) -> list[Any]:
        return []

    def _condition_leaves(self, inside: bool) -> list[Any]:
        texts = [
            "in_area('KE01')", "household.in_area('KE')", "has_event('survey', within_days=60)",
            "household.has_event('attendance')", "true", "false",
            *(["m.in_area('KE02')", "('child' in m.roles)", "m.has_event('survey')"] if inside else []),
        ]  # fmt: skip
        return [
            lambda: self._fact("condition", inside),
            lambda: self._event("poor", inside),
            lambda: self._pick(texts),
            lambda: f"({self._fact('number', inside)} {self._pick(['==', '!='])} null)",
            lambda: f"has({self._fact('date', inside)})",
        ]

    def _condition_branches(self, below: Any) -> list[Any]:
        def order() -> str:
            return self._pick(["<", "<=", ">", ">=", "==", "!="])

        def methods() -> str:
            return self._pick(["startsWith", "endsWith", "contains"])

        patterns = ["^far", "[a-f]+m", "a.b$", "(x|é){1,3}", "\\\\w$"]
        return [
            lambda: f"({below('condition')} {self._pick(['&&', '||', '=='])} {below('condition')})",
            lambda: f"!({below('condition')})",
            lambda: f"(age_years({below('date')}) {order()} {self._pick(['0', '1', '18', '65', '-1'])})",
            lambda: f"({below('number')} {order()} {below('number')})",
            lambda: f"({below('date')} {order()} {below('date')})",
            lambda: f"({below('text')} {order()} {below('text')})",
            lambda: f"({below('number')} in [1, 0.5, 5000, -1])",
            lambda: f"({below('text')} in ['farm', 'trader', ''])",
            lambda: f"{below('text')}.{methods()}({below('text')})",
            lambda: f"{below('text')}.matches('{self._pick(patterns)}')",
        ]


def rules(kind: str) -> st.SearchStrategy[tuple[str, str]]:
    """Made-up rules of a kind, each with its target."""
    targets = st.sampled_from(["individual", "group"])
    return st.builds(
        lambda target, choices: (target, Grammar(target, choices).rule(kind)),
        targets,
        st.randoms(use_true_random=False),
    )
