"""What is imported: a file, and what its rows are read with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from registry.attributes import Attribute
from registry.imports.columns import Column, ColumnMapping, fit
from registry.imports.corrections import OWN
from registry.imports.files import Format, Table, open_table
from registry.imports.reading import RowReader


@dataclass(frozen=True, slots=True)
class Source:
    """A file and how to read it."""

    path: Path
    format: Format | None = None
    encoding: str | None = None
    sheet: str | None = None

    def open(self) -> AbstractContextManager[Table]:
        """Open the file; a context manager that gives its table."""
        return open_table(self.path, format=self.format, encoding=self.encoding, sheet=self.sheet)


@dataclass(frozen=True, slots=True)
class Reading:
    """What rows are read with."""

    mapping: ColumnMapping
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    areas: Mapping[str, int] | None = None
    """The ids of areas by code; None while the hub knows none, and codes are not checked."""
    region: str | None = None

    def reader(self, header: Sequence[str]) -> RowReader:
        """Return the reader of a file with this header; raises `Refused` (`import-columns-missing`)."""
        meaning: list[Column | None] = [
            None if name in OWN else column
            for name, column in zip(header, fit(self.mapping, header), strict=True)
        ]
        known = None if self.areas is None else self.areas.__contains__
        return RowReader(self.mapping, meaning, attributes=self.attributes, areas=known, region=self.region)
