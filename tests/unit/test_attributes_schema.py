"""What a schema of attributes may say, and what the hub says of one that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from canonical_model.errors import ConfigError, Refused
from registry.attributes import Catalog, ValueType, load_file, parse, template

SCHEMA: dict[str, Any] = {
    "x-subject": "individual",
    "type": "object",
    "required": ["occupation"],
    "properties": {
        "income": {"type": "integer", "minimum": 0, "title": "Income", "x-titles": {"fr": "Revenu"}},
        "share": {"type": "number", "maximum": 1},
        "occupation": {
            "type": "string",
            "enum": ["farmer", "trader"],
            "x-labels": {"farmer": {"en": "Farmer", "fr": "Agriculteur"}},
            "x-rule": True,
        },
        "since": {"type": "string", "format": "date"},
        "note": {"type": "string"},
        "has_phone": {"type": "boolean"},
    },
}


def _with(**properties: Any) -> dict[str, Any]:
    return SCHEMA | {"properties": properties, "required": []}


def test_types_titles_and_labels_follow_from_the_schema() -> None:
    found = parse(SCHEMA).attributes
    assert {name: one.type for name, one in found.items()} == {
        "income": ValueType.INTEGER,
        "share": ValueType.NUMBER,
        "occupation": ValueType.TEXT,
        "since": ValueType.DATE,
        "note": ValueType.TEXT,
        "has_phone": ValueType.BOOLEAN,
    }
    assert found["income"].title(["fr-CA"]) == "Revenu"
    assert found["income"].title(["ar"]) == "Income"
    assert found["has_phone"].title(["fr"]) == "has phone"
    assert found["occupation"].label("farmer", ["fr"]) == "Agriculteur"
    assert (found["occupation"].rule, found["occupation"].required) == (True, True)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (_with(a={"typ": "string"}), "/properties/a: `typ` is not known here; did you mean `type`?"),
        (_with(a={"title": "A"}), "/properties/a: `type` is missing"),
        (_with(a={"type": "text"}), "/properties/a/type: must be one of string, integer, number, boolean"),
        (_with(a={"type": "boolean", "enum": ["x"]}), "/properties/a/enum: does not go with this type"),
        (_with(a={"type": "string", "x-labels": {"x": {"en": "X"}}}), "`enum` is missing"),
        (
            _with(a={"type": "string", "enum": ["x"], "x-labels": {"y": {"en": "Y"}}}),
            "`y` is not one of the codes in enum",
        ),
        (_with(A={"type": "string"}), "`A` is no name"),
        (_with(a={"type": "number", "minimum": 3, "maximum": 2}), "larger than the maximum"),
        (_with(a={"type": "number", "maximum": float("nan")}), "/properties/a/maximum: beyond"),
        (_with(birthdate={"type": "string"}), "the hub has `birthdate` already"),
        (SCHEMA | {"required": ["nothing"]}, "`nothing` is not one of the properties"),
        (SCHEMA | {"x-subject": "program:CASH"}, "/x-registrant: a programme's schema says"),
        (SCHEMA | {"x-subject": "people"}, "/x-subject: "),
        (SCHEMA | {"oneOf": []}, "`oneOf` is not known here"),
        ({"properties": {}}, "`x-subject` is missing"),
    ],
)
def test_a_wrong_schema_is_told_where_and_why(document: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(document)
    assert caught.value.code == "attribute-schema-invalid"
    assert said in caught.value.detail


@pytest.mark.parametrize(
    ("name", "rule", "place"),
    [
        ("mother_name", {"type": "string"}, "`names`"),
        ("phone_number", {"type": "integer"}, "`contact_points`"),
        ("home_address", {"type": "string"}, "`addresses`"),
        ("iban", {"type": "string"}, "`accounts`"),
        ("national_id", {"type": "string"}, "`identifiers`"),
        ("card", {"type": "string", "x-privacy": "identifier"}, "`identifiers`"),
        ("reach", {"type": "boolean", "x-privacy": "contact"}, "`contact_points`"),
        ("bank", {"type": "string", "x-privacy": "financial"}, "`accounts`"),
    ],
)
def test_what_must_lie_sealed_is_refused_with_the_place_where_it_belongs(
    name: str, rule: dict[str, Any], place: str
) -> None:
    with pytest.raises(ConfigError, match="never lies in clear") as caught:
        parse(_with(**{name: rule}))
    assert place in caught.value.detail


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("has_phone", {"type": "boolean"}),
        ("name", {"type": "string", "enum": ["a"]}),
        ("income", {"type": "integer", "x-privacy": "financial"}),
        ("phone_since", {"type": "string", "format": "date"}),
    ],
)
def test_what_only_sounds_like_identity_data_is_taken(name: str, rule: dict[str, Any]) -> None:
    assert name in parse(_with(**{name: rule})).attributes


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"occupation": "farmer", "income": "12"}, "/attributes/income: type integer"),
        ({"occupation": "farmer", "income": -1}, "/attributes/income: minimum 0"),
        ({"occupation": "farmer", "income": 10**16}, "/attributes/income: maximum 1000000000000000"),
        ({"occupation": "thief"}, "/attributes/occupation: enum farmer, trader"),
        ({"occupation": "farmer", "since": "2021-02-29"}, "/attributes/since: format date"),
        ({"occupation": "farmer", "note": "x" * 201}, "/attributes/note: maxLength 200"),
        ({"occupation": "farmer", "note": "a\x00b"}, "/attributes/note: pattern"),
        ({"income": 3}, "/attributes/occupation: required"),
    ],
)
def test_a_record_that_breaks_the_schema_is_refused_without_its_values(
    attributes: dict[str, Any], said: str
) -> None:
    catalog = Catalog.of([parse(SCHEMA)])
    with pytest.raises(Refused) as caught:
        catalog.check("individual", attributes)
    assert said in caught.value.detail
    assert "thief" not in str(caught.value)
    assert caught.value.pointer == said.split(":", maxsplit=1)[0]


def test_a_record_that_fits_is_taken_and_null_means_absent() -> None:
    Catalog.of([parse(SCHEMA)]).check("individual", {"occupation": "trader", "income": None, "share": 0.5})


def test_what_is_not_declared_is_set_apart_to_be_sealed() -> None:
    catalog = Catalog.of([parse(SCHEMA)])
    clear, sealed = catalog.split("individual", {"income": 3, "share": None, "scar": "left arm"})
    assert (clear, sealed) == ({"income": 3}, {"scar": "left arm"})
    assert catalog.split("group", {"income": 3}) == ({}, {"income": 3})


def test_attributes_of_a_programme_are_seen_by_that_programme_alone() -> None:
    school = SCHEMA | {
        "x-subject": "program:SCHOOL", "x-registrant": "individual", "required": ["grade"],
        "properties": {"grade": {"type": "integer"}},
    }  # fmt: skip
    catalog = Catalog.of([parse(SCHEMA), parse(school)])
    assert "grade" in catalog.declared("individual", "SCHOOL")
    assert "grade" not in catalog.declared("individual")
    assert "grade" not in catalog.declared("group", "SCHOOL")
    assert catalog.split("individual", {"grade": 3})[0] == {"grade": 3}
    # Who is not in the programme has none of its attributes, and none of them is missing.
    catalog.check("individual", {"occupation": "farmer"})


def test_the_import_template_ends_with_the_declared_attributes_in_their_order() -> None:
    columns = template(Catalog.of([parse(SCHEMA)]), "individual")
    assert columns[:3] == ("identifier", "family_name", "given_name")
    assert columns[-6:] == tuple(SCHEMA["properties"])


def test_a_file_that_cannot_be_read_is_told_with_its_line(tmp_path: Path) -> None:
    place = tmp_path / "bad.yaml"
    place.write_text("a: [1\nb: {", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2"):
        load_file(place)
    place.write_text("- 1", encoding="utf-8")
    with pytest.raises(ConfigError, match="does not hold one object"):
        load_file(place)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_file(tmp_path / "none.yaml")
