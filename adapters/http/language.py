"""The language of an answer: chosen from Accept-Language, its texts read from gettext catalogs."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from registry import texts
from registry.texts import LANGUAGES

_MAX_HEADER: Final = 200


@lru_cache(maxsize=256)
def best_language(accept: str) -> str:
    """Return the language of ours that an Accept-Language header wants most; English when none fits."""
    ranked: list[tuple[float, int, str]] = []
    for place, part in enumerate(accept[:_MAX_HEADER].split(",")):
        tag, _, weight = part.partition(";")
        primary = tag.strip().lower().partition("-")[0]
        try:
            quality = float(weight.strip().removeprefix("q=")) if weight.strip() else 1.0
        except ValueError:
            continue
        language = LANGUAGES[0] if primary == "*" else primary
        if quality > 0 and language in LANGUAGES:
            ranked.append((-quality, place, language))
    return min(ranked)[2] if ranked else LANGUAGES[0]


def translate(text: str, language: str) -> str:
    """Return the text in a language of ours, or unchanged where it has no translation."""
    return texts.translate("adapters.http", text, language)
