"""Files of rows as people have them: CSV, XLSX and NDJSON, read row by row in bounded memory."""

from __future__ import annotations

import codecs
import csv
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import IO, Any, Final

import orjson

from canonical_model.errors import Refused

MAX_COLUMNS: Final = 500
MAX_CELL: Final = 4000
"""Characters of one cell; the canonical model holds no longer text."""
_MAX_LINE: Final = 8 << 20
_MAX_UNPACKED: Final = 8 << 30
"""Bytes an XLSX file may unpack to: a full sheet of a million rows with 100 columns stays below."""
_DELIMITERS: Final = ",;\t|"
_ERRORS: Final = frozenset(
    {"#N/A", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#GETTING_DATA"}
)


class Format(StrEnum):
    """How the rows of a file are written."""

    CSV = "csv"
    XLSX = "xlsx"
    NDJSON = "ndjson"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong in a row: a stable code, the column as the file names it, and a sentence that repeats no value."""

    code: str
    detail: str
    column: str | None = None


@dataclass(slots=True)
class Row:
    """One row: its number as a spreadsheet shows it (the header is row 1), and its cells in the order of the header."""

    number: int
    cells: Sequence[Any]
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """An open file: its header and its rows, which can be gone through once."""

    header: tuple[str, ...]
    rows: Iterator[Row]
    format: Format


def format_of(path: Path, given: Format | None = None) -> Format:
    """Return the format of a file, by its name where none is given; raises `Refused` (`import-format-unknown`)."""
    if given is not None:
        return given
    name = path.name.lower()
    for ending, kind in (
        (".csv", Format.CSV), (".tsv", Format.CSV), (".txt", Format.CSV), (".xlsx", Format.XLSX),
        (".ndjson", Format.NDJSON), (".jsonl", Format.NDJSON),
    ):  # fmt: skip
        if name.endswith(ending):
            return kind
    raise Refused(
        f"The file's name ends in {path.suffix or 'nothing'}, which says no format. Nothing was read.",
        code="import-format-unknown",
        remedy="Name the format: csv, xlsx or ndjson.",
    )


@contextmanager
def open_table(
    path: Path, *, format: Format | None = None, encoding: str | None = None, sheet: str | None = None
) -> Iterator[Table]:
    """Open a file of rows; raises `Refused` when it cannot be read as what it is said to be.

    `encoding` is that of a CSV file (default: UTF-8, or UTF-16 by its byte-order mark); `sheet` the sheet of an XLSX file
    (default: the first).
    """
    kind = format_of(path, format)
    if kind is Format.XLSX:
        with _open_sheet(path, sheet) as table:
            yield table
        return
    with _open(path) as raw:
        if kind is Format.NDJSON:
            yield _ndjson(raw)
        else:
            yield _csv(raw, encoding)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    try:
        file = path.open("rb")
    except OSError as error:
        raise Refused(
            f"The file cannot be opened: {error.strerror}. Nothing was read.",
            code="import-file-unreadable",
            remedy="Check its name and its rights.",
        ) from None
    with file:
        yield file


def _lines(raw: IO[bytes]) -> Iterator[bytes]:
    while line := raw.readline(_MAX_LINE):
        if len(line) == _MAX_LINE and not line.endswith(b"\n"):
            raise Refused(
                f"The file has a line of more than {_MAX_LINE >> 20} MiB. Rows before it were read.",
                code="import-line-too-long",
                remedy="Look for a quote that is never closed, or for another format than the one named.",
            )
        yield line


def _text(raw: IO[bytes], encoding: str | None) -> Iterator[str]:
    """Yield lines of text; raises `Refused` (`import-encoding-wrong`) naming the first line that is not of the encoding."""
    start = raw.read(4)
    raw.seek(0)
    name = encoding
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        name = name or "utf-16"
    if name is not None and codecs.lookup(name).name.startswith("utf-16"):
        # Line ends of UTF-16 are two bytes, so the decoder must find them.
        yield from codecs.getreader(name)(raw)
        return
    utf8 = name is None or codecs.lookup(name).name == "utf-8"
    for number, line in enumerate(_lines(raw), 1):
        if number == 1 and utf8 and line.startswith(codecs.BOM_UTF8):
            line = line[len(codecs.BOM_UTF8) :]  # noqa: PLW2901 - the mark is no part of the first column's name
        try:
            yield line.decode(name or "utf-8")
        except UnicodeDecodeError:
            raise Refused(
                f"Line {number} of the file is not {name or 'UTF-8'}. Nothing after it was read.",
                code="import-encoding-wrong",
                remedy="Save the file as UTF-8, or name its encoding (older spreadsheets write latin-1 or cp1252).",
            ) from None


def check_encoding(name: str) -> str:
    """Return the encoding where Python knows it; raises `Refused` (`import-encoding-wrong`)."""
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise Refused(
            "The encoding is none that the hub knows. Nothing was read.",
            code="import-encoding-wrong",
            remedy="Name one such as utf-8, utf-16, latin-1 or cp1252.",
        ) from None


def _csv(raw: IO[bytes], encoding: str | None) -> Table:
    # The default bound of 128 KiB ends the whole file at one long cell; rows judge their cells themselves.
    csv.field_size_limit(_MAX_LINE)
    lines = _text(raw, encoding and check_encoding(encoding))
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=lambda sign: _outside_quotes(first).count(sign))
    reader = csv.reader(chain((first,), lines), delimiter=delimiter, strict=False)
    header = _header(next(reader, []))
    return Table(header, _numbered(reader, header), Format.CSV)


def _numbered(reader: Any, header: tuple[str, ...]) -> Iterator[Row]:
    number = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            raise Refused(
                f"Line {reader.line_num} of the file is no CSV. Nothing after it was read.",
                code="import-file-broken",
                remedy="Look for a quote that is never closed near that line.",
            ) from None
        number += 1
        if any(cells):
            yield _checked(number, header, cells)


def _outside_quotes(line: str) -> str:
    return "".join(line.split('"')[::2])


def _header(cells: Sequence[Any]) -> tuple[str, ...]:
    """Return the names of the columns; raises `Refused` for none, too many, or one that stands twice."""
    names = [str(cell).strip() if cell is not None else "" for cell in cells]
    while names and not names[-1]:
        names.pop()
    if not any(names):
        raise Refused(
            "The first row of the file holds no column names. Nothing was read.",
            code="import-header-missing",
            remedy="Put the names of the columns into the first row; `hub import template` writes one.",
        )
    if len(names) > MAX_COLUMNS:
        raise Refused(
            f"The file has {len(names)} columns; the hub reads {MAX_COLUMNS}. Nothing was read.",
            code="import-header-invalid",
            remedy="Remove the columns that are not needed.",
        )
    seen: set[str] = set()
    for place, name in enumerate(names, 1):
        if name and name.casefold() in seen:
            raise Refused(
                f"Column {place} has the same name as one before it. Nothing was read.",
                code="import-header-invalid",
                remedy="Give every column a name of its own.",
            )
        seen.add(name.casefold())
    return tuple(names)


def _checked(number: int, header: tuple[str, ...], cells: Sequence[Any]) -> Row:
    """Return a row of as many cells as the header has, with what is wrong in the form of its cells."""
    row = Row(number, cells)
    if len(cells) == len(header) and _is_harmless(cells):
        return row
    if len(cells) > len(header) and any(cell not in ("", None) for cell in cells[len(header) :]):
        row.problems.append(
            Problem("row-too-wide", f"The row has {len(cells)} cells, the header {len(header)}.")
        )
    if len(cells) != len(header):
        row.cells = [*cells[: len(header)], *[None] * (len(header) - len(cells))]
    for name, cell in zip(header, row.cells, strict=True):
        if isinstance(cell, str) and cell:
            if len(cell) > MAX_CELL:
                row.problems.append(
                    Problem("cell-too-long", f"The cell holds more than {MAX_CELL} characters.", name)
                )
            if "\x00" in cell:
                row.problems.append(Problem("cell-nul", "The cell holds a NUL character.", name))
            elif cell in _ERRORS:
                row.problems.append(Problem("cell-error", "The cell holds an error of a spreadsheet.", name))
    return row


def _is_harmless(cells: Sequence[Any]) -> bool:
    """Say at one look whether no cell can have anything wrong; the rest is looked at cell by cell."""
    try:
        joined = "".join(cells)
    except TypeError:
        return False
    return (
        len(joined) <= MAX_CELL and "\x00" not in joined and ("#" not in joined or _ERRORS.isdisjoint(cells))
    )


def _ndjson(raw: IO[bytes]) -> Table:
    """Read one JSON object a line; its names are the columns, in the order in which they first come."""
    lines = _lines(raw)
    first = next((line for line in lines if line.strip()), b"")
    sample = _object(first, 1) if first.strip() else {}
    if not isinstance(sample, dict) or not sample:
        raise Refused(
            "The first line of the file is no JSON object with members. Nothing was read.",
            code="import-header-missing",
            remedy="Write one JSON object on each line.",
        )
    header = _header(list(sample))
    known = frozenset(header)

    def rows() -> Iterator[Row]:
        for number, line in enumerate(chain((first,), lines), 1):
            if not line.strip():
                continue
            value = _object(line, number)
            if not isinstance(value, dict):
                yield Row(
                    number, [None] * len(header), [Problem("row-not-json", "The line is no JSON object.")]
                )
                continue
            row = _checked(number, header, [value.get(name) for name in header])
            if not known.issuperset(value):
                row.problems.append(
                    Problem("row-too-wide", "The object has members that the first line does not have.")
                )
            yield row

    return Table(header, rows(), Format.NDJSON)


def _object(line: bytes, number: int) -> Any:
    try:
        return orjson.loads(line.removeprefix(codecs.BOM_UTF8) if number == 1 else line)
    except orjson.JSONDecodeError:
        return None


@contextmanager
def _open_sheet(path: Path, sheet: str | None) -> Iterator[Table]:
    import openpyxl  # slow to load, and needed for this format only
    from openpyxl.utils.exceptions import InvalidFileException

    broken = Refused(
        "The file is no XLSX workbook that can be read. Nothing was read.",
        code="import-file-broken",
        remedy="Open it in a spreadsheet program and save it as XLSX again, or as CSV in UTF-8.",
    )
    with _open(path) as raw:
        try:
            with zipfile.ZipFile(raw) as packed:
                size = sum(item.file_size for item in packed.infolist())
        except (zipfile.BadZipFile, OSError):
            raise broken from None
        if size > _MAX_UNPACKED:
            raise Refused(
                f"The workbook unpacks to more than {_MAX_UNPACKED >> 30} GiB. Nothing was read.",
                code="import-file-too-large",
                remedy="Split it, or save the sheet as CSV.",
            )
        raw.seek(0)
        try:
            # Values that formulas had are not read: whoever sends numbers must send them as they are.
            book = openpyxl.load_workbook(raw, read_only=True, data_only=False, keep_links=False)
        except (InvalidFileException, KeyError, ValueError, OSError, zipfile.BadZipFile):
            raise broken from None
        try:
            if sheet is not None and sheet not in book.sheetnames:
                raise Refused(
                    "The workbook has no sheet of that name. Nothing was read.",
                    code="import-sheet-missing",
                    remedy=f"It has {len(book.sheetnames)} sheets; name one of them, or none for the first.",
                )
            lines = (book[sheet] if sheet is not None else book.worksheets[0]).iter_rows()
            header = _header([cell.value for cell in next(lines, ())])
            yield Table(header, _sheet_rows(lines, header), Format.XLSX)
        finally:
            book.close()


def _sheet_rows(lines: Iterator[Any], header: tuple[str, ...]) -> Iterator[Row]:
    for number, line in enumerate(lines, 2):
        cells: list[Any] = []
        problems: list[Problem] = []
        for place, cell in enumerate(line):
            value = cell.value
            if cell.data_type == "f":
                name = header[place] if place < len(header) else None
                problems.append(
                    Problem("cell-formula", "The cell holds a formula; put its value there.", name)
                )
                value = None
            elif isinstance(value, datetime):
                value = value.date().isoformat()
            elif isinstance(value, date):
                value = value.isoformat()
            cells.append(value)
        if any(cell not in ("", None) for cell in cells) or problems:
            row = _checked(number, header, cells)
            row.problems[:0] = problems
            yield row
