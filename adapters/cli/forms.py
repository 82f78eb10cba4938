"""Forms as workbooks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from canonical_model.errors import Refused
from registry.attributes import Form


def write_form(form: Form, place: Path) -> None:
    """Write an XLSForm as an .xlsx file with its sheets `survey`, `choices` and `settings`; raises `Refused` `file-not-written`."""
    import openpyxl  # slow to load, and needed for this only

    book = openpyxl.Workbook(write_only=True)
    for title, rows in (("survey", form.survey), ("choices", form.choices), ("settings", (form.settings,))):
        sheet = book.create_sheet(title)
        for row in _table(rows):
            sheet.append(row)
    try:
        book.save(place)
    except OSError as error:
        raise Refused(
            f"{place} cannot be written ({type(error).__name__}).",
            code="file-not-written",
            remedy="Name a file in a folder you may write to.",
        ) from error


def _table(rows: Sequence[dict[str, str]]) -> list[list[str]]:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [columns, *([row.get(name, "") for name in columns] for row in rows)]
