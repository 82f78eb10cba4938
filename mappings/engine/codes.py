"""Code lists: what one side calls a value and what the other calls it, as tables with sources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mappings.engine.paths import Failure
from mappings.engine.source import SourceFile, check_schema

MAX_REMEMBERED = 1_000
"""How many spellings of known codes a reader remembers; more than that only costs the comparison again."""

MAX_REMEMBERED = 1_000
"""How many spellings of known codes a reader remembers; more than that only costs the comparison again."""


@dataclass(frozen=True, slots=True)
class Code:
    """One row: the canonical value, the dialect code, its label, other accepted spellings, where the row is from."""

    canonical: str
    dialect: str
    label: str = ""
    also: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True, slots=True)
class CodeList:
    """A code list. The first row of a canonical value is what is written; the first row of a code is what is read."""

    name: str
    description: str
    source: str
    rows: tuple[Code, ...]
    ignore_case: bool = False
    ignore: str = ""
    labels: bool = False
    prefixed: bool = False
    write_prefix: str = ""
    write: str = "code"
    fallback_canonical: str | None = None
    fallback_dialect: str | None = None
    pass_through: bool = False

    def folded(self, text: str) -> str:
        """Return a spelling as it is compared: without prefix, letter case and ignored characters where declared."""
        if self.prefixed:
            text = text.rpartition(":")[2]
        if self.ignore_case:
            text = text.casefold()
        for character in self.ignore:
            text = text.replace(character, "")
        return text.strip()

    def reader(self) -> Callable[[Any], str]:
        """Return the closure from dialect to canonical; an unknown code raises `mapping-code-unknown` or falls back."""
        known = self.read_table()
        exact: dict[str, str] = {}
        folded, fallback, through, name = self.folded, self.fallback_canonical, self.pass_through, self.name

        def read(value: Any) -> str:
            if value.__class__ is not str:
                if value.__class__ is not int:
                    raise Failure(f"a code of the list {name} was expected")
                value = str(value)
            found = exact.get(value)
            if found is None:
                found = known.get(folded(value), fallback)
                if found is None:
                    if through:
                        return value  # type: ignore[no-any-return]
                    raise Failure(
                        f"the code list {name} does not know this code", code="mapping-code-unknown"
                    )
                if len(exact) < MAX_REMEMBERED and folded(value) in known:
                    exact[value] = found
            return found

        return read

    def writer(self) -> Callable[[Any], str]:
        """Return the closure from canonical to dialect; an unknown value raises `mapping-code-unknown` or falls back."""
        known = self.write_table()
        fallback, through, name, prefix = (
            self.fallback_dialect,
            self.pass_through,
            self.name,
            self.write_prefix,
        )

        def write(value: Any) -> str:
            found = (
                known.get(value, fallback)
                if value.__class__ is not dict and value.__class__ is not list
                else None
            )
            if found is None:
                if through and value.__class__ is str:
                    return prefix + value
                raise Failure(f"the code list {name} has no code for this value", code="mapping-code-unknown")
            return found

        return write

    def _spellings(self, row: Code) -> tuple[str, ...]:
        return (
            self.write_prefix + row.dialect,
            row.dialect,
            *row.also,
            *((row.label,) if self.labels and row.label else ()),
        )

    def read_table(self) -> dict[str, str]:
        """Return folded spelling to canonical value; an exact code wins over a label or another spelling."""
        table: dict[str, str] = {}
        for row in self.rows:
            table.setdefault(self.folded(row.dialect), row.canonical)
        for row in self.rows:
            for spelling in self._spellings(row):
                table.setdefault(self.folded(spelling), row.canonical)
        return table

    def write_table(self) -> dict[str, str]:
        """Return canonical value to what is written."""
        table: dict[str, str] = {}
        for row in self.rows:
            said = row.label if self.write == "label" and row.label else row.dialect
            table.setdefault(row.canonical, self.write_prefix + said)
        return table

    def canonical_lost(self) -> tuple[str, ...]:
        """Return the canonical values that come back as another one (several of them share a code)."""
        read = self.reader()
        return tuple(value for value, said in self.write_table().items() if read(said) != value)

    def dialect_lost(self) -> tuple[str, ...]:
        """Return the dialect codes that come back as another one (several of them share a canonical value)."""
        write, read = self.write_table(), self.read_table()
        codes = dict.fromkeys(row.dialect for row in self.rows)
        return tuple(c for c in codes if self.folded(write[read[self.folded(c)]]) != self.folded(c))


def code_list(source: SourceFile, content: Any = None) -> CodeList:
    """Build a code list from a checked file (or one entry of `code_lists` in a mapping file)."""
    if content is None:
        check_schema(source, "code_list.schema.json")
        content = source.content
    fallback = content.get("fallback", {})
    return CodeList(
        name=content["list"],
        description=content["description"],
        source=content["source"],
        rows=tuple(
            Code(
                r["canonical"],
                r["dialect"],
                r.get("label", ""),
                tuple(r.get("also", ())),
                r.get("source", ""),
            )
            for r in content["codes"]
        ),
        ignore_case=content.get("ignore_case", False),
        ignore=content.get("ignore", ""),
        labels=content.get("labels", False),
        prefixed=content.get("prefixed", False),
        write_prefix=content.get("write_prefix", ""),
        write=content.get("write", "code"),
        fallback_canonical=fallback.get("canonical"),
        fallback_dialect=fallback.get("dialect"),
        pass_through=content.get("pass_through", False),
    )
