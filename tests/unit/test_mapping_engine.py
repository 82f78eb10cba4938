"""What the engine promises an author: clear errors, tolerant reading, invertible functions, honest loss reports."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from canonical_model.errors import ConfigError, Refused
from mappings.engine import FUNCTIONS, Mapping, MappingStore, loss_report
from mappings.engine.functions import make_function
from mappings.engine.paths import Failure, parse_path

HEADER = """\
mapping:
  name: test.example
  version: 1.0.0
  canonical: Address
  dialect: Thing
  description: A mapping made for a test.
  source: this test
"""


def made(tmp_path: Path, text: str, name: str = "example.yaml") -> Mapping:
    file = tmp_path / name
    file.write_text(HEADER + text, encoding="utf-8")
    return MappingStore.load().add_file(file)


@pytest.mark.parametrize(
    ("text", "line", "key", "said"),
    [
        ("pairs:\n  - {canonical: text, dialect: a, fucntion: date}\n", 9, "pairs[0]", "fucntion"),
        (
            "pairs:\n  - {canonical: text, dialect: a}\n  - {canonical: text, dialect: 'a..b'}\n",
            10,
            "pairs[1].dialect",
            "key",
        ),
        (
            "pairs:\n  - {canonical: text, dialect: a, function: nope}\n",
            9,
            "pairs[0].function",
            "no function",
        ),
        (
            "pairs:\n  - {canonical: text, dialect: a, function: {name: date, colour: red}}\n",
            9,
            "pairs[0].function",
            "colour",
        ),
        ("pairs:\n  - {canonical: text, dialect: a, function: prefix}\n", 9, "pairs[0].function", "prefix"),
        ("pairs:\n  - {canonical: text, dialect: a, codes: no.such}\n", 9, "pairs[0].codes", "no.such"),
        ("pairs:\n  - {canonical: text, dialect: a, use: no.such}\n", 9, "pairs[0].use", "no.such"),
        ("pairs:\n  - {canonical: ., dialect: x, use: test.example}\n", 9, "pairs[0].use", "itself"),
        ("pairs:\n  - canonical: text\n    dialect: a\n    dialect: b\n", 11, "dialect", "twice"),
        ("pairs: []\n", 8, "pairs", "too short"),
        ("pairs:\n  - {canonical: text\n", 10, "", "YAML"),
        ("pairs:\n  - &a {canonical: text, dialect: a}\n  - *a\n", 10, "", "aliases"),
    ],
)
def test_a_wrong_file_is_refused_naming_file_line_and_key(
    tmp_path: Path, text: str, line: int, key: str, said: str
) -> None:
    with pytest.raises(ConfigError) as wrong:
        made(tmp_path, text)
    assert wrong.value.code == "mapping-file-invalid"
    assert f"example.yaml, line {line}" in wrong.value.detail
    assert key in wrong.value.detail
    assert said in wrong.value.detail


def test_two_files_of_one_name_and_version_are_refused(tmp_path: Path) -> None:
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(HEADER + "pairs: [{canonical: text, dialect: a}]\n")
    with pytest.raises(ConfigError, match=r"one\.yaml and in .*two\.yaml") as wrong:
        MappingStore.load(tmp_path)
    assert wrong.value.code == "mapping-duplicate"


def test_a_name_means_its_highest_version_and_a_version_can_be_asked_for(tmp_path: Path) -> None:
    for version in ("1.9.0", "1.10.0"):
        text = HEADER.replace("1.0.0", version) + "pairs: [{canonical: text, dialect: a}]\n"
        (tmp_path / f"{version}.yaml").write_text(text)
    store = MappingStore.load(tmp_path)
    assert store.get("test.example").header.version == "1.10.0"
    assert store.get("test.example@1.9.0").header.reference == "test.example@1.9.0"
    assert store.get("test.example") is store.get("test.example@1.10.0")
    for unknown in ("test.example@2.0.0", "nobody.knows"):
        with pytest.raises(ConfigError) as wrong:
            store.get(unknown)
        assert wrong.value.code == "mapping-not-found"


def test_the_first_spelling_found_is_read_and_the_first_listed_is_written(tmp_path: Path) -> None:
    mapping = made(tmp_path, "pairs: [{canonical: text, dialect: a, also: [b, c.d]}]\n")
    assert mapping.to_canonical({"a": "1", "b": "2"}) == {"text": "1"}
    assert mapping.to_canonical({"a": " ", "b": "2"}) == {"text": "2"}
    assert mapping.to_canonical({"c": {"d": "3"}}) == {"text": "3"}
    assert mapping.to_dialect({"text": "4"}) == {"a": "4"}


def test_defaults_constants_conditions_and_directions_do_what_they_say(tmp_path: Path) -> None:
    mapping = made(
        tmp_path,
        """\
pairs:
  - {dialect: kind, constant: thing}
  - {canonical: use, constant: home}
  - {canonical: locality, dialect: town, default: {dialect: nowhere, canonical: unknown}}
  - {canonical: text, dialect: a, direction: to_dialect}
  - canonical: postal_code
    dialect: zip
    when: {canonical: {path: country_code, in: [US, PR]}, dialect: {path: kind, equals: thing}}
""",
    )
    assert mapping.to_dialect({"text": "x", "postal_code": "1", "country_code": "US"}) == {
        "kind": "thing",
        "town": "nowhere",
        "a": "x",
        "zip": "1",
    }
    assert "zip" not in mapping.to_dialect({"postal_code": "1", "country_code": "FR"})
    assert mapping.to_canonical({"kind": "other", "zip": "1", "a": "x"}) == {
        "use": "home",
        "locality": "unknown",
    }
    assert mapping.to_canonical({"kind": "thing", "zip": "1"})["postal_code"] == "1"


def test_paths_reach_into_lists_by_place_by_field_and_by_one(tmp_path: Path) -> None:
    mapping = made(
        tmp_path,
        """\
pairs:
  - {canonical: text, dialect: "lines[0]"}
  - {canonical: locality, dialect: "parts[kind=town,lang=en].value"}
  - {canonical: use, dialect: "box[one].use"}
""",
    )
    canonical = {"text": "x", "locality": "y", "use": "home"}
    dialect = {
        "lines": ["x"],
        "parts": [{"kind": "town", "lang": "en", "value": "y"}],
        "box": {"use": "home"},
    }
    assert mapping.to_dialect(canonical) == dialect
    assert mapping.to_canonical(dialect) == canonical
    assert mapping.to_canonical({"box": [{"use": "home"}]}) == {"use": "home"}
    with pytest.raises(Refused) as refused:
        mapping.to_canonical({"box": [{"use": "home"}, {"use": "work"}]})
    assert refused.value.pointer == "/box"


def test_a_pointer_counts_the_items_of_the_real_list(tmp_path: Path) -> None:
    mapping = made(
        tmp_path,
        "pairs:\n  - canonical: contains\n    dialect: rows\n    each:\n      - {canonical: at, dialect: seen.at, function: date}\n",
    )
    with pytest.raises(Refused) as refused:
        mapping.to_canonical({"rows": [{"seen": {"at": "2020-01-01"}}, {}, {"seen": {"at": "soon"}}]})
    assert refused.value.pointer == "/rows/2/seen/at"
    with pytest.raises(Refused) as refused:
        mapping.to_canonical({"rows": {"seen": 1}})
    assert refused.value.pointer == "/rows"
    with pytest.raises(Refused) as refused:
        mapping.to_canonical({"rows": ["x"]})
    assert refused.value.pointer == "/rows/0"


@pytest.mark.parametrize("junk", [1, True, "x", ["x"], {"a": {}}, [[]], {"deep": [{"er": None}]}])
def test_any_json_gives_a_result_or_a_refusal_and_nothing_else(junk: Any) -> None:
    event = MappingStore.load().get("dci.crvs_vital_event")
    record_keys = (
        "identifier",
        "name",
        "sex",
        "birth_date",
        "birth_place",
        "address",
        "phone_number",
        "marriage_date",
    )
    documents = [
        {"reg_event_type": "Death", "reg_records": {"sex": "male", key: junk}} for key in record_keys
    ]
    for document in [
        *documents,
        {"reg_event_type": junk},
        {"reg_event_type": "Death", "reg_records": junk},
        junk,
    ]:
        with suppress(Refused):
            assert isinstance(event.to_canonical(document), dict)


CODES = """\
code_lists:
  - list: test.color
    description: Colors.
    source: this test
    ignore_case: true
    ignore: "_"
    labels: true
    prefixed: true
    write_prefix: "c:"
    FALLBACK
    codes:
      - {canonical: red, dialect: R, label: Red one, also: [rouge]}
      - {canonical: green, dialect: G}
      - {canonical: lime, dialect: G}
      - {canonical: red, dialect: CRIMSON}
pairs: [{canonical: text, dialect: color, codes: test.color}]
"""


def test_a_code_is_read_as_code_label_or_prefixed_and_written_as_the_list_says(tmp_path: Path) -> None:
    mapping = made(tmp_path, CODES.replace("    FALLBACK\n", ""))
    for said in ("R", "r", "c:R", "any:thing:r", "Red one", "RED ONE", "ROUGE", "crimson"):
        assert mapping.to_canonical({"color": said}) == {"text": "red"}
    assert mapping.to_dialect({"text": "red"}) == {"color": "c:R"}
    for direction, document in (("to_canonical", {"color": "blue"}), ("to_dialect", {"text": "blue"})):
        with pytest.raises(Refused) as refused:
            mapping.convert(document, direction)  # type: ignore[arg-type]
        assert refused.value.code == "mapping-code-unknown"
        assert "test.color" in refused.value.detail
        assert "blue" not in str(refused.value)


def test_an_unknown_code_becomes_the_fallback_where_the_list_has_one(tmp_path: Path) -> None:
    mapping = made(tmp_path, CODES.replace("FALLBACK", "fallback: {canonical: green, dialect: 'c:G'}"))
    assert mapping.to_canonical({"color": "blue"}) == {"text": "green"}
    assert mapping.to_dialect({"text": "blue"}) == {"color": "c:G"}
    through = made(tmp_path, CODES.replace("FALLBACK", "pass_through: true"), "through.yaml")
    assert through.to_canonical({"color": "blue"}) == {"text": "blue"}


def test_the_loss_report_says_which_fields_and_codes_do_not_survive_and_why(tmp_path: Path) -> None:
    mapping = made(
        tmp_path,
        CODES.replace("    FALLBACK\n", "").replace(
            "pairs: [", "not_mapped: [{canonical: use, why: nobody asks}]\npairs: ["
        )[:-2]
        + ", {canonical: locality, dialect: t, direction: to_dialect}, {canonical: region_code, dialect: r, when:"
        " {canonical: {path: use, present: true}}}, {canonical: wrong, dialect: w}]\n",
    )
    report = loss_report(mapping)
    by_path = {loss.path: loss for loss in report.canonical}
    assert by_path["use"].detail == "nobody asks"
    assert (by_path["text"].reason, by_path["text"].values) == ("codes", ("lime",))
    assert by_path["locality"].reason == "one-way"
    assert by_path["region_code"].reason == "condition"
    assert by_path["area_code"].reason == "not mapped"
    assert {loss.path: loss.values for loss in report.dialect if loss.reason == "codes"} == {
        "color": ("CRIMSON",)
    }
    assert report.problems == ("the model has no field 'wrong'",)


@pytest.mark.parametrize(
    ("name", "options", "canonical", "dialect"),
    [
        ("date", {}, "2020-02-29", "2020-02-29"),
        ("date", {}, "1990", "1990"),
        ("date", {"write": "datetime"}, "2020-02-29", "2020-02-29T00:00:00"),
        ("datetime", {}, "2020-02-29T10:00:00Z", "2020-02-29T10:00:00Z"),
        ("text", {}, "a", "a"),
        ("integer", {}, 5, 5),
        ("integer", {"write": "text"}, -5, "-5"),
        ("decimal", {}, 1.5, 1.5),
        ("decimal", {"write": "text"}, 1.5, "1.5"),
        ("boolean", {}, True, True),
        ("boolean", {"true": "Y", "false": "N"}, False, "N"),
        ("boolean", {"true": 0, "false": 1}, True, 0),
        ("prefix", {"prefix": "id:"}, "7", "id:7"),
        ("minor_units", {}, 1250, "12.50"),
        ("minor_units", {"digits": 0}, 1250, "1250"),
        ("minor_units", {"digits": 3, "write": "number"}, 1250, 1.25),
        ("phone", {}, "+256700555010", "+256700555010"),
        ("lower", {}, "ab", "ab"),
        ("upper", {}, "AB", "AB"),
        ("join", {}, ["a", "b"], "a b"),
        ("join", {"separator": ", "}, ["a", "b"], "a, b"),
        ("as_is", {}, {"any": [1]}, {"any": [1]}),
    ],
)
def test_a_function_and_its_inverse_undo_each_other(
    name: str, options: dict[str, Any], canonical: Any, dialect: Any
) -> None:
    pair = make_function(name, options)
    assert pair.write is not None
    assert pair.read is not None
    assert pair.write(canonical) == dialect
    assert pair.read(dialect) == canonical


@pytest.mark.parametrize(
    ("name", "said", "meant"),
    [
        ("date", "1995-09-21T11:20:00", "1995-09-21"),
        ("date", "1995-09-21T11:20:00+07:00", "1995-09-21"),
        ("date", "1.9.1995", "1995-09-01"),
        ("datetime", "2020-01-01T00:00:00", "2020-01-01T00:00:00Z"),
        ("text", 12, "12"),
        ("integer", "12", 12),
        ("decimal", "12.5", 12.5),
        ("boolean", "YES", True),
        ("phone", "00256 (700) 555-010", "+256700555010"),
        ("upper", "ab", "AB"),
        ("minor_units", 12.5, 1250),
    ],
)
def test_reading_is_tolerant_in_the_ways_documented(name: str, said: Any, meant: Any) -> None:
    read = make_function(name, {}).read
    assert read is not None
    assert read(said) == meant


@given(
    said=st.one_of(
        st.text(max_size=30), st.integers(), st.floats(), st.booleans(), st.lists(st.text(), max_size=2)
    )
)
def test_a_function_gives_a_value_or_a_failure_without_the_value(said: Any) -> None:
    for name in FUNCTIONS:
        read = make_function(name, {"prefix": "p"} if name == "prefix" else {}).read
        assert read is not None
        try:
            read(said)
        except Failure as failure:
            shown = str(failure)
            assert not isinstance(said, str) or len(said) < 12 or said not in shown


@pytest.mark.parametrize("text", ["", "a.", ".a", "a[", "a[]", "a[x]", "a b", "a[k=]", "a[-2]"])
def test_a_malformed_path_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_path(text)


@pytest.mark.parametrize(
    "text", [".", "a.b", "@type", "a[0].b", "a[-1]", "a[one].c", "a[k=v].c", "a[k=v,l=w]"]
)
def test_a_path_is_printed_as_it_was_written(text: str) -> None:
    assert str(parse_path(text)) == text
