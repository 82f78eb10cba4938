"""`hub attributes` as a user has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from pyxform.xls2xform import convert

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


def test_a_form_asks_for_what_is_declared_and_its_answers_can_be_imported(
    schema: Path, folder: Path, hub: Any
) -> None:
    hub("db", "partitions", "--make")
    hub("attributes", "apply", str(schema), "--no-index")
    place = folder / "form.xlsx"
    assert hub("attributes", "form", "individual", "-o", str(place)).out.endswith("questions.\n")
    made = convert(place)  # the reference reader of XLSForm refuses what ODK and Kobo would refuse
    assert not [line for line in made.warnings or () if "language" not in line]
    for name in ("family_name", "birthdate", "income", "roof"):
        assert f'nodeset="/data/{name}"' in made.xform
    assert "<value>Revenu</value>" in made.xform
    asked = hub("attributes", "form", "individual", "--json").json
    header = hub("attributes", "template", "individual").out.strip().split(",")
    assert [row["name"] for row in asked["survey"]] == header
    roof = [row["name"] for row in asked["choices"] if row["list_name"] == "roof"]
    assert roof == ["thatch", "tile"]
    answers = folder / "answers.csv"
    answers.write_text("start,end," + ",".join(header) + ",KEY\n", encoding="utf-8")
    columns = hub("import", "suggest", str(answers), "--json").json["columns"]
    known = {one["column"] for one in columns if one.get("field") or one.get("attribute")}
    assert known == set(header)


def test_a_form_of_an_event_asks_whom_it_is_about_and_when(schema: Path, folder: Path, hub: Any) -> None:
    event = folder / "survey.yaml"
    event.write_text(
        "x-subject: event:survey\ntype: object\nproperties:\n  rooms: {type: integer, minimum: 1, maximum: 40}\n",
        encoding="utf-8",
    )
    hub("attributes", "apply", str(event), "--no-index")
    survey = hub("attributes", "form", "event:survey", "--json").json["survey"]
    assert [row["name"] for row in survey] == ["identifier", "collection_date", "rooms"]
    assert survey[2]["constraint"] == ". >= 1 and . <= 40"


def test_a_form_without_a_place_to_go_is_refused_before_the_database_is_asked(hub: Any) -> None:
    assert hub("attributes", "form", "individual").code == 2
