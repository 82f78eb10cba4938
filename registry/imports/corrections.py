"""The file of rows that were not taken: the file's own columns, and what is wrong with each row, to be mended and sent again."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from typing import IO, Any, Final

from registry.imports.files import Problem

ROW: Final = "_row"
PROBLEMS: Final = "_problems"
OWN: Final = frozenset({ROW, PROBLEMS})
"""Columns the hub adds; an import passes over them."""
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


class CorrectionFile:
    """Writes rows that were not taken as CSV in UTF-8 with a byte-order mark, which spreadsheets need to see the script."""

    def __init__(self, file: IO[str], header: Sequence[str]) -> None:
        self._writer = csv.writer(file)
        file.write("\ufeff")
        self._writer.writerow([ROW, PROBLEMS, *header])

    def write(self, number: int, cells: Sequence[Any], problems: Sequence[Problem]) -> None:
        """Write one row and what is wrong with it."""
        said = "; ".join(f"{one.column}: {one.detail}" if one.column else one.detail for one in problems)
        self._writer.writerow([number, said, *(_harmless(cell) for cell in cells)])


def _harmless(cell: Any) -> Any:
    """Return a cell that no spreadsheet takes for a formula: a quote stands before it, which an import takes away again."""
    if isinstance(cell, str) and cell.startswith(_FORMULA):
        return "'" + cell
    return cell


def unquoted(text: str) -> str:
    """Return a cell without the quote that keeps spreadsheets from taking it for a formula."""
    return text[1:] if text.startswith("'") and text[1:2] in _FORMULA else text
