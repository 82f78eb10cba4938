"""A file of areas (CSV, XLSX or NDJSON) as rows of the tree."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from canonical_model.errors import Refused
from canonical_model.localized import normalize_language
from registry.imports.files import Format, open_table
from registry.people.areas import AreaRow, invalid

_CODE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:#/|+-]{0,99}")
_FIELDS: Final[Mapping[str, str]] = {
    "code": "code", "pcode": "code", "p-code": "code",
    "name": "name",
    "level": "level", "admin level": "level",
    "parent": "parent", "parent code": "parent", "parent pcode": "parent",
    "kind": "kind", "type": "kind",
    "altnames": "altnames", "alt names": "altnames",
    "area sqkm": "area_sqkm", "sqkm": "area_sqkm",
    "active": "active",
}  # fmt: skip
"""Columns by their names, with blanks for underscores; `name_fr` and the like are names in other languages."""
_TONGUE: Final = re.compile(r"name[_: ]([a-z]{2,3}(?:-[a-z0-9]{2,8})*)")
_TRUE: Final = {"1", "true", "yes", "y"}
_FALSE: Final = {"0", "false", "no", "n"}


def read_areas(
    path: Path,
    *,
    language: str = "en",
    format: Format | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
) -> list[AreaRow]:
    """Read a file of areas; `language` is that of the column `name`.

    Columns: code, name, level, parent, kind, altnames (parted by `;`), area_sqkm, active, and `name_fr` and so on; only
    code is needed, and name for an area that is new. Raises `Refused`: `areas-invalid` for rows, `import-…` for the file.
    """
    with open_table(path, format=format, encoding=encoding, sheet=sheet) as table:
        columns = [_field(name) for name in table.header]
        if "code" not in columns:
            raise Refused(
                "The file has no column code. Nothing was read.",
                code="areas-invalid",
                remedy="Name the columns code, name, level and parent in the first row.",
            )
        problems: list[str] = []
        found: list[AreaRow] = []
        for row in table.rows:
            said = {
                column: _text(cell)
                for column, cell in zip(columns, row.cells, strict=False)
                if column is not None and _text(cell)
            }
            if not said:
                continue
            try:
                found.append(_row(said, language, row.number))
            except ValueError as error:
                problems.append(f"row {row.number} {error}")
    if problems:
        raise invalid(problems)
    return found


def _field(name: str) -> str | None:
    bare = name.strip().casefold()
    tongue = _TONGUE.fullmatch(bare)
    if tongue is not None:
        return f"name_{normalize_language(tongue[1])}"
    return _FIELDS.get(bare.replace("_", " "))


def _text(cell: Any) -> str:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell).strip()


def _row(said: Mapping[str, str], language: str, number: int) -> AreaRow:
    code, parent = said.get("code", ""), said.get("parent")
    for each in (code, parent or code):
        if not _CODE.fullmatch(each):
            raise ValueError("has a code that is empty, longer than 100 signs, or has blanks in it")
    names = {name[5:]: text for name, text in said.items() if name.startswith("name_")}
    if "name" in said:
        names[language] = said["name"]
    if any(len(text) > 200 for text in names.values()):
        raise ValueError("has a name of more than 200 signs")
    return AreaRow(
        code,
        names,
        parent,
        _whole(said.get("level")),
        said.get("kind"),
        tuple(each.strip() for each in said["altnames"].split(";") if each.strip())
        if "altnames" in said
        else None,
        _number(said.get("area_sqkm")),
        _flag(said.get("active")),
        number,
    )


def _whole(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,2}", text):
        raise ValueError("has a level that is no whole number")
    return int(text)


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    if not re.fullmatch(r"\d{1,12}(\.\d{1,12})?", text):
        raise ValueError("has an area_sqkm that is no number")
    return float(text)


def _flag(text: str | None) -> bool | None:
    if text is None:
        return None
    if text.casefold() not in _TRUE | _FALSE:
        raise ValueError("has neither yes nor no in the column active")
    return text.casefold() in _TRUE
