"""Files of exported registrants: readable by their owner alone, since they hold what people told."""

from __future__ import annotations

import csv
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

import orjson

from canonical_model.errors import Refused
from registry.people.exporting import SEPARATOR, Shown, Table

_FORMULA: Final = ("=", "@", "\t", "\r", "-")


async def write_lines(pages: AsyncIterator[list[Shown]], place: Path, told: Callable[[int], None]) -> int:
    """Write one canonical object a line, with the hub's id and version; returns how many."""
    done = 0
    with _private(place) as file:
        async for page in pages:
            for one in page:
                line = {
                    "id": str(one.registrant.id),
                    "kind": one.registrant.kind,
                    "version": one.registrant.version,
                    "data": one.value.model_dump(mode="json", exclude_none=True),
                }
                file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            done += len(page)
            told(done)
    return done


async def write_table(
    pages: AsyncIterator[list[Shown]], table: Table, place: Path, told: Callable[[int], None]
) -> int:
    """Write a CSV or XLSX file, by the ending of its name; returns how many rows it has below its header."""
    return await (_xlsx if place.suffix == ".xlsx" else _csv)(pages, table, place, told)


async def _csv(
    pages: AsyncIterator[list[Shown]], table: Table, place: Path, told: Callable[[int], None]
) -> int:
    done = 0
    with _private(place) as file:
        text = os.fdopen(os.dup(file.fileno()), "w", encoding="utf-8", newline="")
        with text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(table.header)
            async for page in pages:
                writer.writerows([[_safe(cell) for cell in row] for row in await table.rows(page)])
                done += len(page)
                told(done)
    return done


async def _xlsx(
    pages: AsyncIterator[list[Shown]], table: Table, place: Path, told: Callable[[int], None]
) -> int:
    import openpyxl  # slow to load, and needed for this only
    from openpyxl.cell import WriteOnlyCell

    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet(table.kind)
    done = 0

    def text(value: str) -> Any:
        # Said to be text, so that no number loses its zeros and nothing is taken for a formula.
        cell = WriteOnlyCell(sheet, value=value)
        cell.data_type = "s"
        return cell

    sheet.append(table.header)
    async for page in pages:
        for row in await table.rows(page):
            sheet.append([text(cell) if cell else None for cell in row])
        done += len(page)
        told(done)
    with _private(place) as file:
        book.save(file)
    return done


def mapping_of(table: Table, name: str) -> dict[str, object]:
    """Return the mapping with which the file can be imported again."""
    columns: list[dict[str, str]] = [
        {"column": f"identifier {one}", "field": "identifier", "id_type": one} for one in table.types
    ]
    for field in table.fields:
        column = {"column": field, "field": field}
        if field in {"phone", "email", "account"}:
            column["separator"] = SEPARATOR
        if field == "household":
            column["id_type"] = "HH"
        columns.append(column)
    columns += [{"column": one, "attribute": one} for one in table.attributes]
    return {"name": name, "kind": table.kind, "columns": columns}


def _safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


@contextmanager
def _private(place: Path) -> Iterator[IO[bytes]]:
    """Open a new file for its owner alone; what was written of it goes when the export breaks off."""
    try:
        file = os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except OSError as error:
        raise Refused(
            f"{place} cannot be written ({type(error).__name__}). Nothing was shown.",
            code="file-not-written",
            remedy="Name a file that is not there yet, in a folder you may write to.",
        ) from error
    try:
        with file:
            yield file
    except BaseException:
        place.unlink(missing_ok=True)
        raise
