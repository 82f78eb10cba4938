"""Files of rows as people have them: read whole, each fault told at its place."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import openpyxl
import pytest

from canonical_model.errors import Refused
from registry.imports.files import MAX_CELL, Format, Row, open_table


def _read(path: Path, **how: object) -> tuple[tuple[str, ...], list[Row]]:
    with open_table(path, **how) as table:  # type: ignore[arg-type]
        return table.header, list(table.rows)


def _written(folder: Path, content: bytes | str, name: str = "people.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_by_the_header(tmp_path: Path, delimiter: str) -> None:
    header, rows = _read(_written(tmp_path, f"Name{delimiter}Phone\nAmina{delimiter}+254700000001\n"))
    assert header == ("Name", "Phone")
    assert [list(row.cells) for row in rows] == [["Amina", "+254700000001"]]


def test_a_quoted_delimiter_in_the_header_does_not_count(tmp_path: Path) -> None:
    header, _ = _read(_written(tmp_path, '"Income, monthly, USD";Name\n1;Amina\n'))
    assert header == ("Income, monthly, USD", "Name")


@pytest.mark.parametrize(
    "encoded", ["\ufeffName\nAmélie\n".encode(), "Name\nAmélie\n".encode("utf-16"), "Name\nAmélie\n".encode()]
)
def test_byte_order_marks_are_no_part_of_the_first_column(tmp_path: Path, encoded: bytes) -> None:
    header, rows = _read(_written(tmp_path, encoded))
    assert header == ("Name",)
    assert rows[0].cells[0] == "Amélie"


def test_latin_1_is_refused_with_its_line_and_read_when_named(tmp_path: Path) -> None:
    path = _written(tmp_path, "Name\nAmina\nAmélie\n".encode("latin-1"))
    with pytest.raises(Refused, match="Line 3") as refused:
        _read(path)
    assert refused.value.code == "import-encoding-wrong"
    assert "Am" not in refused.value.detail.replace("Amina", "")
    assert _read(path, encoding="latin-1")[1][1].cells[0] == "Amélie"


def test_row_numbers_are_those_a_spreadsheet_shows(tmp_path: Path) -> None:
    _, rows = _read(_written(tmp_path, "Name\nA\n\nB\n"))
    assert [row.number for row in rows] == [2, 4]


def test_a_cell_of_a_megabyte_is_told_and_the_rows_after_it_are_read(tmp_path: Path) -> None:
    _, rows = _read(_written(tmp_path, f"Name,Note\nA,{'x' * 1_000_000}\nB,short\n"))
    assert [problem.code for problem in rows[0].problems] == ["cell-too-long"]
    assert rows[0].problems[0].column == "Note"
    assert str(MAX_CELL) in rows[0].problems[0].detail
    assert rows[1].problems == []


def test_a_nul_and_an_error_of_a_spreadsheet_are_told(tmp_path: Path) -> None:
    _, rows = _read(_written(tmp_path, "Name,Note\nA\x00,b\nC,#REF!\n"))
    assert [row.problems[0].code for row in rows] == ["cell-nul", "cell-error"]


def test_a_row_with_more_cells_than_the_header_is_told(tmp_path: Path) -> None:
    _, rows = _read(_written(tmp_path, "Name\nA,B\n"))
    assert rows[0].problems[0].code == "row-too-wide"


def test_a_short_row_has_empty_cells(tmp_path: Path) -> None:
    _, rows = _read(_written(tmp_path, "Name,Phone\nA\n"))
    assert list(rows[0].cells) == ["A", None]


@pytest.mark.parametrize("content", ["", "\n", ",,\n", "Name,name\nA,B\n"])
def test_a_header_that_names_nothing_or_one_name_twice_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(Refused) as refused:
        _read(_written(tmp_path, content))
    assert refused.value.code in {"import-header-missing", "import-header-invalid"}


def _workbook(folder: Path) -> Path:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Contacts"
    sheet.append(["Name", "Phone", "Born"])
    sheet.append(["Amina", "+254700000001", date(1990, 5, 1)])
    sheet.append(["=1+1", 254700000002, None])
    path = folder / "people.xlsx"
    book.save(path)
    return path


def test_a_workbook_gives_dates_in_iso_form_and_tells_formulas(tmp_path: Path) -> None:
    header, rows = _read(_workbook(tmp_path))
    assert header == ("Name", "Phone", "Born")
    assert list(rows[0].cells) == ["Amina", "+254700000001", "1990-05-01"]
    assert [problem.code for problem in rows[1].problems] == ["cell-formula"]
    assert rows[1].problems[0].column == "Name"


def test_a_missing_sheet_and_a_file_that_is_no_workbook_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused) as refused:
        _read(_workbook(tmp_path), sheet="People")
    assert refused.value.code == "import-sheet-missing"
    with pytest.raises(Refused) as refused:
        _read(_written(tmp_path, "no workbook", "other.xlsx"))
    assert refused.value.code == "import-file-broken"


def test_lines_of_json_are_rows_and_broken_ones_are_told_alone(tmp_path: Path) -> None:
    path = _written(tmp_path, '{"Name":"A","Phone":null}\nnot json\n{"Name":"B","Other":1}\n', "p.ndjson")
    header, rows = _read(path)
    assert header == ("Name", "Phone")
    assert [[problem.code for problem in row.problems] for row in rows] == [
        [],
        ["row-not-json"],
        ["row-too-wide"],
    ]


def test_a_name_that_says_no_format_is_refused_and_can_be_helped(tmp_path: Path) -> None:
    path = _written(tmp_path, "Name\nA\n", "people.dat")
    with pytest.raises(Refused) as refused:
        _read(path)
    assert refused.value.code == "import-format-unknown"
    assert _read(path, format=Format.CSV)[1][0].cells[0] == "A"
