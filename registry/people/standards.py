"""The code lists of ISO that come with the hub, from well-kept packages: countries, currencies, languages, sexes.

Codes and English names are pycountry's (ISO 3166-1, ISO 4217, ISO 639-3), other languages Babel's (CLDR).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

COUNTRIES: Final = "urn:iso:std:iso:3166:-1"
CURRENCIES: Final = "urn:iso:std:iso:4217"
LANGUAGES: Final = "urn:iso:std:iso:639:-3"
SEXES: Final = "urn:iso:std:iso:5218"
_TONGUES: Final = ("en", "fr", "es", "ar")
_NAMES: Final[Mapping[str, Mapping[str, str]]] = {
    COUNTRIES: {"en": "Countries", "fr": "Pays", "es": "Países", "ar": "البلدان"},
    CURRENCIES: {"en": "Currencies", "fr": "Devises", "es": "Monedas", "ar": "العملات"},
    LANGUAGES: {"en": "Languages", "fr": "Langues", "es": "Idiomas", "ar": "اللغات"},
    SEXES: {"en": "Sexes", "fr": "Sexes", "es": "Sexos", "ar": "الجنس"},
}
_SEX: Final[Mapping[str, Mapping[str, str]]] = {
    "0": {"en": "Not known", "fr": "Inconnu", "es": "Desconocido", "ar": "غير معروف"},
    "1": {"en": "Male", "fr": "Masculin", "es": "Masculino", "ar": "ذكر"},
    "2": {"en": "Female", "fr": "Féminin", "es": "Femenino", "ar": "أنثى"},
    "9": {"en": "Not applicable", "fr": "Sans objet", "es": "No aplicable", "ar": "لا ينطبق"},
}
_LISTS: Final = """
INSERT INTO vocabulary (namespace, names, standard)
SELECT namespace, names::jsonb, true FROM unnest($1::text[], $2::text[]) AS t (namespace, names)
ON CONFLICT (namespace) DO UPDATE SET names = excluded.names, standard = true, updated_at = now()
"""
_CODES: Final = """
INSERT INTO vocabulary_code (namespace, code, names)
SELECT namespace, code, names::jsonb FROM unnest($1::text[], $2::text[], $3::text[]) AS t (namespace, code, names)
ON CONFLICT (namespace, code) DO UPDATE SET names = excluded.names, active = true
"""
_GONE: Final = """
UPDATE vocabulary_code SET active = false
WHERE namespace = ANY($1::text[]) AND active AND (namespace, code) NOT IN (SELECT * FROM unnest($2::text[], $3::text[]))
"""


def codes() -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield namespace, code and display by language of every code."""
    import pycountry  # with Babel's tables half a second, which only loading needs
    from babel import Locale

    locales = {tongue: Locale.parse(tongue) for tongue in _TONGUES}
    for code, names in _SEX.items():
        yield SEXES, code, dict(names)
    for each in pycountry.countries:
        yield COUNTRIES, each.alpha_2, _display(locales, "territories", each.alpha_2, each.name)
    for each in pycountry.currencies:
        yield CURRENCIES, each.alpha_3, _display(locales, "currencies", each.alpha_3, each.name)
    for each in pycountry.languages:
        # CLDR has a language under its two-letter code where there is one.
        yield (
            LANGUAGES,
            each.alpha_3,
            _display(locales, "languages", getattr(each, "alpha_2", each.alpha_3), each.name),
        )


def _display(locales: Mapping[str, Any], table: str, code: str, english: str) -> dict[str, str]:
    said = {tongue: getattr(locale, table).get(code) for tongue, locale in locales.items()}
    return {"en": english} | {tongue: name for tongue, name in said.items() if name}


async def load(connection: asyncpg.Connection | PoolConnectionProxy) -> int:
    """Load the code lists, in the caller's transaction, and return how many codes they have; what is gone is kept inactive."""
    namespaces, found, names = zip(*codes(), strict=True)
    await connection.execute(_LISTS, list(_NAMES), [orjson.dumps(each).decode() for each in _NAMES.values()])
    await connection.execute(_CODES, namespaces, found, [orjson.dumps(each).decode() for each in names])
    await connection.execute(_GONE, list(_NAMES), namespaces, found)
    return len(found)
