"""Text in several languages: a map of BCP 47 language tags to text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Final

from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

_TAG: Final = r"^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$"
# PostgreSQL text cannot hold NUL, and control characters break logs and files of rows; tab and line ends are text.
_NO_CONTROL: Final = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
_MAX_LANGUAGES: Final = 50


def normalize_language(tag: str) -> str:
    """Return a language tag in the case RFC 5646 section 2.1.1 recommends: `zh-Hant-TW`; raises `ValueError`."""
    if len(tag) > 35 or not re.fullmatch(_TAG, tag):
        raise ValueError("not a well-formed BCP 47 language tag")
    first, *rest = tag.split("-")
    parts = [first.lower()]
    for number, part in enumerate(rest):
        after_singleton = len(parts[number]) == 1
        if len(part) == 2 and part.isalpha() and not after_singleton:
            parts.append(part.upper())
        elif len(part) == 4 and part.isalpha() and not after_singleton:
            parts.append(part.title())
        else:
            parts.append(part.lower())
    return "-".join(parts)


def _canonical_tag(tag: str) -> str:
    if normalize_language(tag) != tag:
        raise PydanticCustomError("language_tag_case", "Language tag is not in its recommended case")
    return tag


Text = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=_NO_CONTROL)]
"""A short text: 1 to 200 characters, no control characters."""

LongText = Annotated[str, StringConstraints(min_length=1, max_length=4000, pattern=_NO_CONTROL)]
"""A text of up to 4000 characters, no control characters."""

CODE_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9_.:#/|+-]{0,99}$"

Code = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=CODE_PATTERN)]
"""A code of some list or an id of some system: no spaces, 1 to 100 characters."""

LanguageTag = Annotated[
    str, StringConstraints(min_length=2, max_length=35, pattern=_TAG), AfterValidator(_canonical_tag)
]
"""A BCP 47 language tag in its recommended case (`en`, `pt-BR`, `zh-Hant`)."""

LocalizedText = Annotated[dict[LanguageTag, LongText], Field(min_length=1, max_length=_MAX_LANGUAGES)]
"""The same text in one or more languages: language tag to text."""


def best_text(text: Mapping[str, str], languages: Sequence[str]) -> str:
    """Return the text in the first wanted language there is, by RFC 4647 lookup, then English, then any.

    `fr-CA` finds `fr-CA`, then `fr`. Raises `ValueError` when `text` is empty.
    """
    if not text:
        raise ValueError("a localized text holds at least one language")
    by_tag = {tag.lower(): value for tag, value in text.items()}
    for wanted in (*languages, "en"):
        tag = wanted.lower()
        while tag:
            if tag in by_tag:
                return by_tag[tag]
            tag = tag.rpartition("-")[0]
            # RFC 4647 section 3.4: a single-letter subtag goes together with the one after it.
            if tag[-2:-1] == "-":
                tag = tag[:-2]
    return by_tag[min(by_tag)]
