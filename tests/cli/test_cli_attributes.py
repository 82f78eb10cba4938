"""`hub attributes` as a user has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

SCHEMA = """
x-subject: individual
type: object
properties:
  income: {type: integer, title: Income, x-titles: {fr: Revenu}, x-rule: true}
  roof: {type: string, enum: [thatch, tile]}
"""


@pytest.fixture
def schema(folder: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    place = folder / "individual.yaml"
    place.write_text(SCHEMA, encoding="utf-8")
    return place


def test_a_schema_goes_from_check_to_template(schema: Path, hub: Any) -> None:
    assert hub("attributes", "check", str(schema)).out.endswith(
        "2 attributes of individual, nothing wrong.\n"
    )
    dry = hub("attributes", "apply", str(schema), "--dry-run", "--json").json
    assert (dry["version"], dry["dry_run"], dry["indexes_made"]) == (1, True, [])
    assert hub("attributes", "list", "--json").json == {"schemas": []}
    done = hub("attributes", "apply", str(schema), "--json").json
    assert (done["changed"], len(done["indexes_made"])) == (True, 1)
    again = hub("attributes", "apply", str(schema), "--json").json
    assert (again["changed"], again["indexes_made"]) == (False, [])
    shown = hub("attributes", "show", "individual", "--language", "fr", "--json").json
    titles = {one["name"]: one["title"] for one in shown["attributes"]}
    assert (titles["income"], titles["birthdate"], shown["promoted"]) == (
        "Revenu",
        "date de naissance",
        ["income"],
    )
    header = hub("attributes", "template", "individual").out
    assert header.startswith("identifier,")
    assert header.endswith(",income,roof\n")


def test_a_wrong_schema_ends_with_two_and_names_the_place(schema: Path, hub: Any) -> None:
    schema.write_text(SCHEMA.replace("enum", "enums"), encoding="utf-8")
    ran = hub("attributes", "check", str(schema), "--json")
    told = orjson.loads(ran.err)
    assert (ran.code, told["code"]) == (2, "attribute-schema-invalid")
    assert "/properties/roof: `enums` is not known here; did you mean `enum`?" in told["detail"]


def test_an_unknown_subject_is_told_with_the_one_that_was_meant(schema: Path, hub: Any) -> None:
    hub("attributes", "apply", str(schema), "--no-index")
    ran = hub("attributes", "show", "individuals", "--json")
    assert (ran.code, orjson.loads(ran.err)["remedy"]) == (1, "Did you mean `individual`?")


def test_before_the_schema_is_upgraded_the_next_step_is_told(
    folder: Path, postgres_server: str, monkeypatch: pytest.MonkeyPatch, hub: Any
) -> None:
    from services import postgres

    name = postgres.fresh_name()
    monkeypatch.setenv("HUB_DATABASE_URL", postgres.create(postgres_server, name))
    try:
        ran = hub("attributes", "list", "--json")
        assert (ran.code, orjson.loads(ran.err)["code"]) == (2, "schema-outdated")
    finally:
        postgres.drop(postgres_server, name)
