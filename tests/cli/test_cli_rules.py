"""`hub rules` as programme staff have it: check, preview, explain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from services.rules import SCHEMAS

from registry.attributes import apply

GROUP, HEAD, CHILD = UUID(int=1), UUID(int=2), UUID(int=3)


@pytest.fixture
def land(folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)

    async def fill() -> None:
        connection = await asyncpg.connect(database_url)
        try:
            for schema in SCHEMAS:
                await apply(connection, schema, "user:test")
            await connection.execute(
                "INSERT INTO area (id, code, path, level, names) VALUES (1, 'KE01', '{1}', 0, '{}')"
            )
            await connection.execute(
                "INSERT INTO registrant (id, kind, group_kind, area_id, attributes, source) "
                "VALUES ($1, 'group', 'household', 1, '{\"income\": 4200}', 'test')", GROUP,
            )  # fmt: skip
            for member, born in ((HEAD, "1960-01-01"), (CHILD, "2022-01-01")):
                await connection.execute(
                    "INSERT INTO registrant (id, birthdate, source) VALUES ($1, $2::text::date, 'test')",
                    member,
                    born,
                )
                await connection.execute(
                    "INSERT INTO membership (id, group_id, member_id, source) VALUES ($1, $2, $3, 'test')",
                    UUID(int=member.int + 10), GROUP, member,
                )  # fmt: skip
        finally:
            await connection.close()

    asyncio.run(fill())
    return database_url


async def _trail(url: str) -> list[tuple[str, str]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(
            "SELECT object_id, action FROM audit_event WHERE action NOT IN ('attributes.apply', 'registrant.create')"
        )]  # fmt: skip
    finally:
        await connection.close()


SMALL = "r.income < 5000 && members.exists(m, age_years(m.birthdate) < 5)"


def test_a_right_rule_is_told_with_what_it_reads(land: str, hub: Any) -> None:
    ran = hub("rules", "check", SMALL, "--target", "group", "--json")
    assert (ran.code, ran.json["ok"], ran.json["reads"]) == (0, True, ["group.income"])
    assert "The rule is right" in hub("rules", "check", SMALL, "--target", "group").out


def test_a_wrong_rule_is_marked_at_its_place(land: str, hub: Any) -> None:
    ran = hub("rules", "check", "r.incom < [5]", "--target", "group")
    assert ran.code == 1
    assert "r.incom < [5]\n" in ran.err
    ran = hub("rules", "check", "r.incom < 5", "--target", "group")
    assert "r.incom < 5\n  ^^^^^\n" in ran.err
    assert "Did you mean `income`?" in ran.err
    told = hub("rules", "check", "r.incom < 5", "--target", "group", "--json").json
    assert (told["ok"], told["code"], told["line"], told["column"]) == (False, "rule-name-unknown", 1, 3)


def test_an_area_that_there_is_not_is_refused(land: str, hub: Any) -> None:
    ran = hub("rules", "check", "in_area('KE001')", "--json")
    assert (ran.code, ran.json["remedy"]) == (1, "Did you mean `KE01`?")
    assert hub("rules", "check", "in_area('KE01')", "--json").json["ok"]


def test_a_rule_is_checked_without_a_database(
    folder: Path, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    monkeypatch.setenv("HUB_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    (folder / "group.json").write_bytes(orjson.dumps(SCHEMAS[1]))
    (folder / "rule.cel").write_text("r.income < 5000\n", encoding="utf-8")
    words = (
        "rules",
        "check",
        "--file",
        "rule.cel",
        "--attributes",
        "group.json",
        "--target",
        "group",
        "--json",
    )
    assert hub(*words).json["ok"]


def test_a_preview_counts_and_changes_nothing(land: str, hub: Any) -> None:
    found = hub(
        "rules", "preview", SMALL, "--target", "group", "--as-of", "2025-06-01", "--sample", "5", "--json"
    ).json
    assert (found["registrants"], found["matched"], found["unknown"]) == (1, 1, 0)
    assert (found["sample"], found["total"]) == ([str(GROUP)], None)
    later = hub("rules", "preview", SMALL, "--target", "group", "--as-of", "2030-06-01", "--json").json
    assert later["matched"] == 0
    members = "household.income < 5000 && age_years(r.birthdate) >= 60"
    assert hub("rules", "preview", members, "--as-of", "2025-06-01", "--json").json["matched"] == 1
    amount = hub(
        "rules",
        "preview",
        "cap(members.count(m, true) * 700, 1000)",
        "--target",
        "group",
        "--result",
        "amount",
        "--json",
    ).json
    assert (amount["matched"], amount["total"]) == (1, 1000)


def test_an_explanation_is_given_in_the_language_asked_for(land: str, hub: Any) -> None:
    words = ("rules", "explain", str(GROUP), "--rule", SMALL, "--as-of", "2025-06-01")
    assert hub(*words).out == (
        "In, because Household income (4,200) is less than 5,000; a member has age less than 5.\n"
    )
    french = hub(*words, "--language", "fr", "--json").json
    assert french["sentence"].startswith("Retenu, car Revenu du ménage (4")
    assert french["outcome"] is True
    assert f"{CHILD}: age (3) is less than 5" in hub(*words, "--tree").out
    looks = asyncio.run(_trail(land))
    assert {who for who, _ in looks} == {str(GROUP), str(HEAD), str(CHILD)}
    assert {action for _, action in looks} == {"registrant.read"}
    nobody = hub("rules", "explain", str(UUID(int=9)), "--rule", SMALL, "--json")
    assert (nobody.code, orjson.loads(nobody.err)["code"]) == (1, "resource-not-found")


def test_the_rule_of_a_program_is_explained_by_its_code(land: str, hub: Any) -> None:
    async def define() -> None:
        connection = await asyncpg.connect(land)
        try:
            await connection.execute(
                "INSERT INTO program (id, code, names, target_type, currency, eligibility, benefit, managers, actor) "
                "VALUES ($1, 'CASH', '{\"en\": \"Cash\"}', 'group', 'KES', 'r.income < 5000', "
                '\'{"kind": "cash", "amounts": [{"amount": "1000"}]}\', \'{}\', \'test\')',
                UUID(int=50),
            )
        finally:
            await connection.close()

    asyncio.run(define())
    ran = hub("rules", "explain", str(GROUP), "--program", "CASH")
    assert ran.out == "In, because Household income (4,200) is less than 5,000.\n"
    (Path("group.json")).write_bytes(
        orjson.dumps(SCHEMAS[1] | {"properties": SCHEMAS[1]["properties"] | {"beds": {"type": "integer"}}})
    )
    made = hub("attributes", "apply", "group.json", "--json").json["indexes_made"]
    assert [name.rpartition("_")[0] for name in made] == [
        "registrant_attr_i_income",
        "registrant_attr_g_income",
    ]
    ran = hub("rules", "explain", str(HEAD), "--program", "CASH", "--json")
    assert (ran.code, orjson.loads(ran.err)["code"]) == (1, "resource-not-found")
