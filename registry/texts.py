"""Texts for people, read from gettext catalogs: English in the code, other languages in `locales/LANGUAGE.po`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Final

from babel.messages.pofile import read_po

LANGUAGES: Final = ("en", "fr", "es", "ar")
"""The languages the hub speaks."""


@cache
def _catalog(package: str, language: str) -> dict[str, str]:
    source = resources.files(package).joinpath("locales").joinpath(f"{language}.po")
    if language == LANGUAGES[0] or not source.is_file():
        return {}
    catalog = read_po(BytesIO(source.read_bytes()), locale=language)
    return {
        message.id: message.string
        for message in catalog
        if isinstance(message.id, str) and message.id and isinstance(message.string, str) and message.string
    }


def translate(package: str, text: str, language: str) -> str:
    """Return a text of a package in a language of ours, or unchanged where it has no translation."""
    return _catalog(package, language).get(text, text)


def spoken(languages: Sequence[str]) -> str:
    """Return the first of the wanted language tags that the hub speaks, by its primary part; English when none is."""
    for tag in languages:
        primary = tag.lower().partition("-")[0]
        if primary in LANGUAGES:
            return primary
    return LANGUAGES[0]
