"""The language of an answer: chosen from Accept-Language, its texts read from gettext catalogs."""

from __future__ import annotations

from functools import cache, lru_cache
from importlib import resources
from io import BytesIO
from typing import Final

from babel.messages.pofile import read_po

LANGUAGES: Final = ("en", "fr", "es", "ar")
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


@cache
def _catalog(language: str) -> dict[str, str]:
    source = resources.files("adapters.http").joinpath("locales").joinpath(f"{language}.po")
    if language == LANGUAGES[0] or not source.is_file():
        return {}
    catalog = read_po(BytesIO(source.read_bytes()), locale=language)
    return {
        message.id: message.string
        for message in catalog
        if isinstance(message.id, str) and message.id and isinstance(message.string, str) and message.string
    }


def translate(text: str, language: str) -> str:
    """Return the text in a language of ours, or unchanged where it has no translation."""
    return _catalog(language).get(text, text)
