"""The database and the process give the same answer, for made-up people and made-up rules."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from services import postgres
from services.rules import AS_OF, World, catalog, rules

from registry.rules import Facts, Rule, RuleRefused, compile_rule, load_facts
from registry.rules.statement import Statement

EXAMPLES = 500


class Land:
    """A filled database and what the process knows of everybody in it."""

    def __init__(
        self, runner: asyncio.Runner, connection: asyncpg.Connection, facts: dict[str, dict[UUID, Facts]]
    ) -> None:
        self.runner, self.connection, self.facts = runner, connection, facts

    def __repr__(self) -> str:
        return "Land()"


@pytest.fixture(scope="module")
def land(postgres_server: str, migrated_template: str) -> Iterator[Land]:
    name = postgres.fresh_name()
    url = postgres.create(postgres_server, name, migrated_template)

    async def fill() -> tuple[asyncpg.Connection, dict[str, dict[UUID, Facts]]]:
        connection = await asyncpg.connect(url, server_settings={"jit": "off"})
        world = World(7)
        await world.fill(connection)
        return connection, {
            "individual": {one: await load_facts(connection, one, AS_OF) for one in world.individuals},
            "group": {one: await load_facts(connection, one, AS_OF) for one in world.groups},
        }

    with asyncio.Runner() as runner:
        try:
            connection, facts = runner.run(fill())
            yield Land(runner, connection, facts)
            runner.run(connection.close())
        finally:
            postgres.drop(postgres_server, name)


async def _values(connection: asyncpg.Connection, rule: Rule) -> dict[str, dict[UUID, Any]]:
    """The value of the whole tree for everybody, written in both forms."""
    found = {}
    for joined in (False, True):
        statement = Statement(rule.target, rule.as_of, 2, joined=joined)
        text = statement.of(rule.node)
        rows = await connection.fetch(
            f"WITH {statement.tables()}nothing AS (SELECT 1) SELECT r.id, {text} AS value FROM registrant r "
            f"{statement.joins()} WHERE r.kind = $1",
            rule.target, *statement.arguments, timeout=30,
        )  # fmt: skip
        found["joined" if joined else "alone"] = {row["id"]: row["value"] for row in rows}
    return found


def _plain(value: Any) -> Any:
    return Fraction(value) if isinstance(value, Decimal) else value


def _agree(land: Land, text: str, target: Any) -> None:
    try:
        rule = compile_rule(text, catalog(), target=target, as_of=AS_OF, result=_result_of(text, target))
    except RuleRefused as refused:
        assume(refused.code not in {"rule-too-large", "rule-name-unknown"})
        raise
    try:
        values = land.runner.run(_values(land.connection, rule))
    except asyncpg.PostgresError as error:
        raise AssertionError(f"the database fails on {text!r} of {target}: {error}") from error
    for registrant, facts in land.facts[target].items():
        here = rule.steps(facts).value
        for form, there in values.items():
            assert _plain(there[registrant]) == here, (form, text, registrant)


def _result_of(text: str, target: Any) -> Any:
    try:
        compile_rule(text, catalog(), target=target, as_of=AS_OF)
    except RuleRefused as refused:
        if refused.code == "rule-type-mismatch" and "a condition is asked for" in refused.detail:
            return "integer"
        raise
    return "condition"


QUICKLY = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)


@QUICKLY
@example(made=("group", "r.income / r.rooms > 3"))
@example(made=("group", "members.avg(m, m.share) >= double(r.income) / members.size()"))
@example(
    made=("group", "1.0 / 3 == 0.333333333333 && members.avg(m, m.share) / 3 * 3 == members.avg(m, m.share)")
)
@example(made=("individual", "r.since + r.income > today()"))
@example(made=("group", "members.exists(m, m.income > r.income) || !members.all(m, m.disabled)"))
@given(made=rules("condition"))
def test_a_condition_is_the_same_in_the_database_and_in_the_process(
    land: Land, made: tuple[str, str]
) -> None:
    _agree(land, made[1], made[0])


@QUICKLY
@example(made=("group", "members.sum(m, m.income, age_years(m.birthdate) < 18) % 7"))
@given(made=rules("whole"))
def test_a_whole_number_is_the_same_in_the_database_and_in_the_process(
    land: Land, made: tuple[str, str]
) -> None:
    _agree(land, made[1], made[0])


@pytest.mark.parametrize(
    ("result", "text"),
    [("amount", "r.income"), ("integer", "r.income * 10"), ("amount", "cap(r.income, 100)")],
)
def test_an_amount_out_of_bounds_is_none_in_both(land: Land, result: Any, text: str) -> None:
    rule = compile_rule(text, catalog(), target="group", result=result, as_of=AS_OF)
    sql, arguments = rule.sql(2)
    rows = land.runner.run(
        land.connection.fetch(
            f"SELECT r.id, {sql} AS value FROM registrant r WHERE r.kind = $1", "group", *arguments
        )
    )
    there = {row["id"]: row["value"] for row in rows}
    assert there == {one: rule.evaluate(facts) for one, facts in land.facts["group"].items()}
    assert None in there.values()


def test_what_is_unknown_is_false_in_the_strict_form(land: Land) -> None:
    rule = compile_rule("!(r.income > 0)", catalog(), target="group", as_of=AS_OF)
    sql, arguments = rule.sql(1)
    rows = land.runner.run(
        land.connection.fetch(
            f"SELECT r.id, {sql} AS value FROM registrant r WHERE r.kind = 'group'", *arguments
        )
    )
    assert {row["value"] for row in rows} == {True, False}
    assert {row["id"]: row["value"] for row in rows} == {
        one: rule.evaluate(facts) for one, facts in land.facts["group"].items()
    }
