"""Rules that divide by nought, compare what cannot be compared, loop over many, or try to reach the database."""

from __future__ import annotations

import asyncpg
import pytest
from services.rules import AS_OF, World, catalog

from registry.rules import RuleRefused, compile_rule, load_facts


@pytest.fixture
async def connection(database_url: str) -> asyncpg.Connection:  # type: ignore[misc]
    opened = await asyncpg.connect(database_url, server_settings={"jit": "off"})
    yield opened
    await opened.close()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("r.income == 'much'", "rule-type-mismatch"),
        ("r.remark < 5", "rule-type-mismatch"),
        ("r.remark == 'x'; DROP TABLE registrant", "rule-invalid"),
        ("r.income > 1 -- )", "rule-invalid"),
        ("pg_sleep(9) == 1", "rule-name-unknown"),
        ('r.x"; DROP TABLE registrant; --', "rule-invalid"),
        ("true" + " && true" * 5000, "rule-too-large"),
    ],
)
def test_what_means_nothing_is_refused_with_the_place(text: str, code: str) -> None:
    with pytest.raises(RuleRefused) as refused:
        compile_rule(text, catalog(), target="group", as_of=AS_OF)
    assert refused.value.code == code


async def test_nought_a_household_of_500_and_a_text_full_of_quotes_are_decided_alike_in_both(
    connection: asyncpg.Connection,
) -> None:
    world = World(3, individuals=500, groups=2)
    await world.fill(connection)
    big = world.groups[1]
    assert await connection.fetchval("SELECT count(*) FROM membership WHERE group_id = $1", big) >= 500
    facts = await load_facts(connection, big, AS_OF)
    for text in (
        "1 / 0 > 1",
        "r.income / (r.rooms - r.rooms) > 1",
        "members.count(m, m.income % 0 == 1) > 0",
        "members.exists(m, members.exists(n, n.income == m.income))",
        "members.sum(m, m.income) > 10 && members.count(m, age_years(m.birthdate) < 90) > 1",
        'r.remark == "\'; DROP TABLE registrant; --"',
        "r.remark == '$1 $2 %s {x}'",
    ):
        try:
            rule = compile_rule(text, catalog(), target="group", as_of=AS_OF)
        except RuleRefused:
            continue
        sql, arguments = rule.sql(2)
        there = await connection.fetchval(
            f"SELECT {sql} FROM registrant r WHERE r.id = $1", big, *arguments, timeout=30
        )
        assert bool(there) == bool(rule.evaluate(facts)), text
    assert await connection.fetchval("SELECT count(*) FROM registrant") == 502
