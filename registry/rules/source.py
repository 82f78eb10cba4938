"""The text of a rule, and the refusals that point into it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, NamedTuple

from canonical_model.errors import Refused

MAX_CHARACTERS: Final = 4000


class Span(NamedTuple):
    """A part of the text: offsets of its first character and of the one after its last."""

    start: int
    end: int


class RuleRefused(Refused):
    """A rule cannot be taken; it knows the place in the text."""

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        remedy: str | None,
        line: int,
        column: int,
        length: int,
        marked: str,
    ) -> None:
        super().__init__(detail, code=code, remedy=remedy)
        self.line = line
        self.column = column
        self.length = length
        self.marked = marked
        """The line of the text, and below it the place marked with `^`."""

    def as_dict(self) -> dict[str, Any]:
        """Return the refusal as plain values, for JSON."""
        return {
            "code": self.code,
            "detail": self.detail,
            "remedy": self.remedy,
            "line": self.line,
            "column": self.column,
            "length": self.length,
            "marked": self.marked,
        }


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one rule."""

    text: str

    def part(self, span: Span) -> str:
        """Return a part of the text as it was written, on one line."""
        return " ".join(self.text[span.start : span.end].split())

    def wrong(
        self, span: Span, sentence: str, *, code: str = "rule-invalid", remedy: str | None = None
    ) -> RuleRefused:
        """Return the refusal of a part of the text; `sentence` says what is wrong with it, without a full stop."""
        before = self.text[: span.start]
        line = before.count("\n") + 1
        begin = before.rfind("\n") + 1
        column = span.start - begin + 1
        whole = self.text[begin:].partition("\n")[0]
        length = max(1, min(span.end - span.start, len(whole) - column + 1))
        return RuleRefused(
            f"Line {line}, column {column}: {sentence}.",
            code=code,
            remedy=remedy or "docs/rules.md shows what a rule can say, by example.",
            line=line,
            column=column,
            length=length,
            marked=f"{whole}\n{' ' * (column - 1)}{'^' * length}",
        )


def meant(name: str, known: Iterable[str]) -> str | None:
    """Return a remedy that names the known word nearest to a misspelt one, or lists them where there are few."""
    words = list(known)
    near = get_close_matches(name, words, 1)
    if near:
        return f"Did you mean `{near[0]}`?"
    return f"There is {', '.join(f'`{word}`' for word in sorted(words))}." if 0 < len(words) <= 30 else None
