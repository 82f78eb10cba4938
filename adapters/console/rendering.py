"""Pages: templates in the reader's language, with numbers and instants as that language writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib import resources
from io import BytesIO
from typing import Any, Final

from babel import Locale
from babel.dates import format_datetime
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from jinja2 import Environment, PackageLoader, StrictUndefined

from adapters.console.payments import amount

__all__ = ["LANGUAGE_NAMES", "catalog", "environment", "render"]

LANGUAGE_NAMES: Final = {"en": "English", "fr": "Français", "es": "Español", "ar": "العربية"}


@cache
def catalog(language: str) -> dict[str, str]:
    """Return the translations of a language, read from its catalog once."""
    source = resources.files("adapters.console").joinpath("locale", language, "LC_MESSAGES", "console.po")
    if not source.is_file():
        return {}
    found = read_po(BytesIO(source.read_bytes()), locale=language)
    return {
        str(item.id): item.string
        for item in found
        if item.id and isinstance(item.string, str) and item.string
    }


def _when(language: str, value: datetime | None) -> str:
    if value is None:
        return "–"
    text = format_datetime(value.astimezone(UTC), "yyyy-MM-dd HH:mm:ss", locale=language)
    return f"{text} UTC"


def _number(language: str, value: float | None, digits: str = "#,##0.###") -> str:
    return "–" if value is None else str(format_decimal(value, digits, locale=language))


def _age(language: str, seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{format_decimal(seconds / size, '#,##0.#', locale=language)} {unit}"
    return f"{format_decimal(seconds, '#,##0.#', locale=language)} s"


@cache
def environment(language: str) -> Environment:
    """Return the template environment of one language; every value is escaped, an unknown name is an error."""
    env = Environment(
        loader=PackageLoader("adapters.console", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = catalog(language)
    env.globals.update(
        _=lambda text: words.get(text, text),
        language=language,
        direction="rtl" if Locale.parse(language).text_direction == "rtl" else "ltr",
        languages=LANGUAGE_NAMES,
    )
    env.filters.update(
        when=lambda value: _when(language, value),
        iso=lambda value: value.astimezone(UTC).isoformat(timespec="milliseconds"),
        number=lambda value: _number(language, value),
        age=lambda value: _age(language, value),
        money=amount,
        short=lambda value: str(value)[-12:],
        kind=lambda value: str(value).removeprefix("org.openspp."),
    )
    return env


def render(template: str, language: str, **values: Any) -> str:
    """Return a page."""
    return environment(language).get_template(template).render(**values)
