"""A file of links (CSV, XLSX or NDJSON) as lists the account mapper takes."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from canonical_model.errors import Refused
from registry.accounts.store import DATES_CODE, MANY, Link
from registry.imports.files import Format, open_table

_COLUMNS: Final = ("id", "fa", "name", "phone_number", "valid_from", "valid_to")
_ALSO: Final = {"address": "fa", "financial_address": "fa", "phone": "phone_number", "account_id": "id"}
Numbered = tuple[int, Link | str]
"""The number of a row in the file, and its link or the code of what is wrong with it."""


def read_links(
    path: Path, *, format: Format | None = None, encoding: str | None = None, sheet: str | None = None
) -> Iterator[list[Numbered]]:
    """Yield the rows of a file in lists of at most a thousand.

    Columns: id and fa (or address), name, phone_number, valid_from, valid_to (RFC 3339; a time without zone is UTC).
    Raises `Refused`: `account-file-invalid` for its columns, `import-…` for the file.
    """
    with open_table(path, format=format, encoding=encoding, sheet=sheet) as table:
        named = [_column(name) for name in table.header]
        if not {"id", "fa"} <= set(named):
            raise Refused(
                "The file has no columns id and fa. Nothing was linked.",
                code="account-file-invalid",
                remedy="Name the columns id and fa in the first row; name, phone_number, valid_from and valid_to may follow.",
            )
        some: list[Numbered] = []
        for row in table.rows:
            said = {
                name: str(cell).strip()
                for name, cell in zip(named, row.cells, strict=False)
                if name is not None and cell is not None and str(cell).strip()
            }
            some.append((row.number, row.problems[0].code if row.problems else _link(said)))
            if len(some) == MANY:
                yield some
                some = []
        if some:
            yield some


def _column(name: str) -> str | None:
    plain = name.strip().lower().replace(" ", "_")
    plain = _ALSO.get(plain, plain)
    return plain if plain in _COLUMNS else None


def _link(said: dict[str, str]) -> Link | str:
    dates: dict[str, Any] = {}
    for name in ("valid_from", "valid_to"):
        if name in said:
            try:
                at = datetime.fromisoformat(said[name])
            except ValueError:
                return DATES_CODE
            dates[name] = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    more: dict[str, Any] = {name: said[name] for name in ("name", "phone_number") if name in said}
    return Link(said.get("id", ""), said.get("fa", ""), dates.get("valid_from"), dates.get("valid_to"), more)
