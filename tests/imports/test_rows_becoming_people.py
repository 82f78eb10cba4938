"""Rows become canonical people, and what is wrong is told at its column without repeating it."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
from pydantic import ValidationError

from canonical_model.household import Household
from canonical_model.person import Person
from registry.attributes import Attribute, ValueType
from registry.imports.columns import Column, ColumnMapping, DateOrder, Kind, date_order, fit, suggest
from registry.imports.corrections import CorrectionFile
from registry.imports.files import Row, open_table
from registry.imports.reading import RowRead, RowReader
from registry.imports.run import check, propose
from registry.imports.source import Reading, Source
from registry.imports.templates import TEMPLATES


def _read(mapping: ColumnMapping, cells: Mapping[str, object], **with_: object) -> RowRead:
    header = list(cells)
    reader = RowReader(mapping, fit(mapping, header), **with_)  # type: ignore[arg-type]
    return reader.read(Row(2, list(cells.values())))


def _person(cells: Mapping[str, object], **with_: object) -> RowRead:
    return _read(suggest(list(cells), {}, kind=Kind.INDIVIDUAL), cells, **with_)


def test_the_names_people_give_columns_are_understood() -> None:
    header = [
        "National ID",
        "Surname",
        "Prénom",
        "Fecha de nacimiento",
        "Sexe",
        "Tel.",
        "Household_ID",
        "Something else",
    ]
    mapping = suggest(header, {"Fecha de nacimiento": ["31/12/1990"]}, kind=Kind.INDIVIDUAL)
    assert [one.field for one in mapping.columns] == [
        "identifier", "family_name", "given_name", "birthdate", "sex", "phone", "household", None,
    ]  # fmt: skip
    assert mapping.columns[0].id_type == "NATIONAL_ID"
    assert mapping.columns[3].dates is DateOrder.DMY


def test_an_attribute_the_country_declares_is_found_before_a_field() -> None:
    mapping = suggest(["Income", "Name"], {}, kind=Kind.INDIVIDUAL, attributes=["income"])
    assert mapping.columns[0].attribute == "income"


@pytest.mark.parametrize(
    ("values", "order"),
    [
        (["1990-05-01"], DateOrder.YMD),
        (["31/12/1990", "01/02/1990"], DateOrder.DMY),
        (["12/31/1990"], DateOrder.MDY),
        (["01/02/1990"], None),
        (["31/12/1990", "12/31/1990"], None),
        ([], None),
    ],
)
def test_the_order_of_dates_is_taken_only_where_it_is_certain(
    values: list[str], order: DateOrder | None
) -> None:
    assert date_order(values) is order


def test_a_date_whose_order_is_not_known_is_refused_not_guessed() -> None:
    draft = _person({"Name": "Amina", "Date of Birth": "01/02/1990"})
    assert draft.value is None
    assert "order" in draft.problems[0].detail
    assert draft.problems[0].column == "Date of Birth"


def test_a_full_row_becomes_a_person_in_a_household() -> None:
    draft = _person(
        {
            "National ID": "123", "Surname": "Barasa", "First name": "Amina", "DOB": "1990-05-01", "Gender": "F",
            "Phone": "+254 700 000 001", "Email": "A@Example.org", "Household": "H-7", "Role": "Head of household",
        }
    )  # fmt: skip
    person = draft.value
    assert isinstance(person, Person)
    assert person.identifiers[0].qualified == "NATIONAL_ID|123"
    assert (person.names[0].family_name, person.names[0].given_name) == ("Barasa", "Amina")
    assert [point.value for point in person.contact_points] == ["+254700000001", "a@example.org"]
    assert draft.belongs is not None
    assert (draft.belongs.id_type, draft.belongs.value, draft.belongs.role) == ("HH", "H-7", "head")


def test_every_problem_of_a_row_is_told_at_once_and_none_repeats_a_value() -> None:
    draft = _person(
        {"Name": "Amina", "DOB": "1990-02-31", "Gender": "purple", "Phone": "12", "Email": "nobody"}
    )
    assert {one.column for one in draft.problems} == {"DOB", "Gender", "Phone"}
    said = " ".join(one.detail for one in draft.problems)
    assert "1990" not in said
    assert "purple" not in said


def test_what_only_the_canonical_model_sees_is_told_at_its_column() -> None:
    draft = _person({"Name": "Amina", "Email": "nobody"})
    assert draft.problems[0].column == "Email"
    assert "nobody" not in draft.problems[0].detail


def test_a_row_that_names_nobody_is_refused() -> None:
    assert _person({"Name": "", "Phone": "+254700000001"}).problems[0].code == "name-missing"


def test_a_national_number_needs_the_region_to_become_international() -> None:
    cells = {"Name": "Amina", "Phone": "0700 000 001"}
    assert _person(cells).value is None
    person = _person(cells, region="KE").value
    assert isinstance(person, Person)
    assert person.contact_points[0].value == "+254700000001"


def test_numbers_where_text_is_needed_are_refused_since_zeros_are_lost() -> None:
    draft = _person({"Name": "Amina", "National ID": 123})
    assert draft.problems[0].code == "cell-is-number"


def test_marks_of_direction_and_control_signs_are_no_part_of_a_name() -> None:
    person = _person({"Name": "\u200fأمينة\u200f  باراسا\u0007"}).value
    assert isinstance(person, Person)
    assert person.names[0].full_name == "أمينة باراسا"


def test_persian_keeps_its_joiner() -> None:
    person = _person({"Name": "علی\u200cرضا"}).value
    assert isinstance(person, Person)
    assert person.names[0].full_name == "علی\u200cرضا"


def test_declared_attributes_are_read_by_their_type() -> None:
    mapping = ColumnMapping(
        columns=(
            Column(column="Name", field="full_name"),
            Column(column="Cows", attribute="cows"),
            Column(column="Roof", attribute="roof", codes={"Tin": "iron"}),
            Column(column="Tags", attribute="tags", separator=","),
        )
    )
    attributes = {
        "cows": Attribute("cows", ValueType.INTEGER),
        "roof": Attribute("roof", ValueType.TEXT, codes=("iron", "thatch")),
    }
    person = _read(
        mapping, {"Name": "A", "Cows": "1,200", "Roof": "tin", "Tags": "a, b"}, attributes=attributes
    ).value
    assert isinstance(person, Person)
    assert person.attributes == {"cows": 1200, "roof": "iron", "tags": ["a", "b"]}
    broken = _read(mapping, {"Name": "A", "Cows": "many", "Roof": "gold", "Tags": ""}, attributes=attributes)
    assert {one.column for one in broken.problems} == {"Cows", "Roof"}


def test_an_unknown_area_is_refused_where_areas_are_checked() -> None:
    draft = _person({"Name": "A", "Area code": "KE999"}, areas=lambda code: code == "KE01")
    assert draft.problems[0].column == "Area code"


def test_a_group_file_gives_households() -> None:
    mapping = TEMPLATES["openspp-group"]
    draft = _read(
        mapping,
        {"Name": "Barasa household", "Address": "Road 1", "Phone": "+254700000001, +254700000002",
         "Registration Date": "2024-01-31", "Date Disabled": "2025-01-01", "Tags": "x"},
    )  # fmt: skip
    assert isinstance(draft.value, Household)
    assert len(draft.value.contact_points) == 2
    assert draft.value.status == "inactive"


def test_the_file_of_openg2p_is_known_by_its_header(tmp_path: Path) -> None:
    header = (
        "Registrant ID,ID,Token ID,Full Name,Date of Birth,Email ID,Address,Region,Phone Number,Gender,Home Owned,"
        "Employement Status,Annual Household Income (USD),Vehicles Owned,Account Number,Disability Status,Immigration Status"
    )
    row = "R1,N1,T1,Amina Barasa,31-12-1990,a@example.org,Road 1,West,+254700000001,Female,Yes,Employed,1200,0,AC1,No,Citizen"
    path = tmp_path / "people.csv"
    path.write_text(f"{header}\n{row}\n")
    mapping = propose(Source(path), Kind.INDIVIDUAL)
    assert mapping.name == "openg2p-individual"
    assert check(Source(path), Reading(mapping)).untaken == 0


def test_a_mapping_that_fills_one_field_twice_or_gives_a_group_a_birth_date_is_refused() -> None:
    with pytest.raises(ValidationError, match="two columns fill"):
        ColumnMapping(columns=(Column(column="a", field="sex"), Column(column="b", field="sex")))
    with pytest.raises(ValidationError, match="a group has no birthdate"):
        ColumnMapping(kind=Kind.GROUP, columns=(Column(column="a", field="birthdate"),))


def test_rows_that_were_not_taken_can_be_mended_in_their_file_and_sent_again(tmp_path: Path) -> None:
    first = tmp_path / "people.csv"
    first.write_text("Name,Phone,DOB\nAmina,+254700000001,1990-13-01\n=cmd(),+254700000002,1990-01-01\n")
    mapping = propose(Source(first), Kind.INDIVIDUAL)
    text = io.StringIO()
    with open_table(first) as table:
        out = CorrectionFile(text, table.header)
        check(
            Source(first),
            Reading(mapping),
            untaken=lambda row, draft: out.write(row.number, row.cells, draft.problems),
        )
    rows = list(csv.reader(io.StringIO(text.getvalue().removeprefix("\ufeff"))))
    assert rows[0] == ["_row", "_problems", "Name", "Phone", "DOB"]
    assert rows[1][0] == "2"
    assert rows[1][1].startswith("DOB: ")
    assert rows[1][3] == "'+254700000001", "a spreadsheet would take it for a formula"
    second = tmp_path / "mended.csv"
    second.write_text(text.getvalue().replace("1990-13-01", "1990-12-01"), encoding="utf-8")
    counts = check(Source(second), Reading(mapping))
    assert (counts.rows, counts.untaken) == (1, 0)
