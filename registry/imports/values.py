"""Reading single cells: dates, codes, phone numbers, amounts, each judged without repeating what stands there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from datetime import date
from typing import Any, Final

from canonical_model.errors import Refused
from canonical_model.money import Money
from registry.imports.columns import DateOrder
from registry.people.phones import e164

Reader = Callable[[str], Any]
"""Turns the text of one cell into a canonical value; raises `ValueError` with a sentence that does not repeat it."""

# Marks of writing direction and of joining come along when text is copied; they are no part of a name.
_INVISIBLE: Final[dict[int, str | None]] = dict.fromkeys(
    [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x206A), 0xFEFF, 0x00AD]
)
_SPOKEN_JOINERS: Final = {0x200C: "\u200c", 0x200D: "\u200d"}
_INVISIBLE.update(_SPOKEN_JOINERS)  # Persian and Indic scripts write with them
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_DATE: Final = re.compile(r"^(\d{1,4})[-/. ](\d{1,2})[-/. ](\d{1,4})$")
_TIME: Final = re.compile(r"[ T]\d{2}:\d{2}(:\d{2}(\.\d+)?)?$")
_GROUPED: Final = re.compile(r"^-?\d{1,3}(,\d{3})+(\.\d+)?$")

SEX: Final = {
    "m": "male", "male": "male", "man": "male", "homme": "male", "masculin": "male", "hombre": "male", "masculino": "male",
    "1": "male", "f": "female", "female": "female", "woman": "female", "femme": "female", "feminin": "female",
    "mujer": "female", "femenino": "female", "2": "female", "other": "other", "autre": "other", "otro": "other", "o": "other",
    "9": "other", "unknown": "unknown", "u": "unknown", "inconnu": "unknown", "desconocido": "unknown", "0": "unknown",
}  # fmt: skip
"""Words for sex; the digits are those of ISO 5218 (0 not known, 1 male, 2 female, 9 not applicable)."""
MARITAL: Final = {
    "single": "never_married", "never married": "never_married", "s": "never_married", "celibataire": "never_married",
    "soltero": "never_married", "soltera": "never_married", "married": "married", "m": "married", "marie": "married",
    "mariee": "married", "casado": "married", "casada": "married", "widowed": "widowed", "widow": "widowed",
    "widower": "widowed", "w": "widowed", "veuf": "widowed", "veuve": "widowed", "viudo": "widowed", "viuda": "widowed",
    "divorced": "divorced", "d": "divorced", "divorce": "divorced", "divorcee": "divorced", "divorciado": "divorced",
    "divorciada": "divorced", "separated": "separated", "a": "separated", "annulled": "annulled", "unknown": "unknown",
    "u": "unknown",
}  # fmt: skip
"""Words for marital status; the letters are those of the DCI code list (S, M, W, A, D, U)."""
ROLES: Final = {
    "head": "head", "head of household": "head", "hoh": "head", "chef": "head", "chef de menage": "head", "jefe": "head",
    "jefa": "head", "self": "head", "spouse": "spouse", "wife": "spouse", "husband": "spouse", "epouse": "spouse",
    "conjoint": "spouse", "child": "child", "son": "child", "daughter": "child", "enfant": "child", "hijo": "child",
    "hija": "child", "parent": "parent", "mother": "parent", "father": "parent", "relative": "relative",
    "caregiver": "caregiver", "principal recipient": "principal_recipient",
    "alternative recipient": "alternative_recipient", "other": "other", "member": "",
}  # fmt: skip
"""Words for a member's role; an empty one is a member without a role."""
GROUPS: Final = {
    "household": "household",
    "menage": "household",
    "hogar": "household",
    "family": "family",
    "other": "other",
}
TRUE: Final = frozenset({"1", "true", "yes", "y", "oui", "si", "x", "o"})
FALSE: Final = frozenset({"0", "false", "no", "n", "non"})


def clean(text: str) -> str:
    """Return text as it is stored: NFC, without marks of direction, control signs and needless blanks."""
    if text.isascii():
        return " ".join(_CONTROL.sub(" ", text).split())
    return " ".join(unicodedata.normalize("NFC", _CONTROL.sub(" ", text.translate(_INVISIBLE))).split())


def word(text: str) -> str:
    """Return a word as code lists are asked for it: casefolded, without accents, hyphens and underscores as blanks."""
    folded = text.casefold()
    if not folded.isascii():
        folded = "".join(
            sign for sign in unicodedata.normalize("NFKD", folded) if not unicodedata.combining(sign)
        )
    return " ".join(folded.replace("_", " ").replace("-", " ").split())


def code(known: dict[str, str], own: dict[str, str]) -> Reader:
    """Return the reader of a code list; `own` are the words the file's mapping adds."""
    table = {
        **{value: value for value in known.values()},
        **known,
        **{word(key): value for key, value in own.items()},
    }
    table |= {word(key): value for key, value in table.items()}

    def read(text: str) -> str:
        held = table.get(text)
        if held is not None:
            return held
        try:
            return table[word(text)]
        except KeyError:
            raise ValueError(
                "The word is on no code list the hub knows for this column; add it to the mapping's codes."
            ) from None

    return read


def day(order: DateOrder) -> Reader:
    """Return the reader of dates in one order; a year, or a year and month, alone is a partial date."""
    cache: dict[str, str] = {}

    def read(text: str) -> str:
        held = cache.get(text)
        if held is None:
            if len(cache) >= 50_000:
                cache.clear()
            held = cache[text] = _day(text, order)
        return held

    return read


def _day(text: str, order: DateOrder) -> str:
    bare = _TIME.sub("", text)
    if re.fullmatch(r"\d{4}(-\d{2})?", bare):
        return bare
    match = _DATE.match(bare)
    if match is None:
        raise ValueError(f"The date is not written as {order.value}.")
    first, middle, last = match.groups()
    if len(first) == 4:
        year, month, number = first, middle, last
    elif order is DateOrder.YMD:
        raise ValueError("The order of day, month and year is not known; name it in the mapping (dates).")
    else:
        year = last
        number, month = (first, middle) if order is DateOrder.DMY else (middle, first)
    if len(year) != 4:
        raise ValueError("The year has to have four digits.")
    try:
        return date(int(year), int(month), int(number)).isoformat()
    except ValueError:
        raise ValueError(f"There is no such day in the calendar (read as {order.value}).") from None


def boolean(text: str) -> bool:
    """Read yes or no."""
    said = word(text)
    if said in TRUE:
        return True
    if said in FALSE:
        return False
    raise ValueError("The cell says neither yes nor no.")


def whole(text: str) -> int:
    """Read a whole number; commas may part thousands."""
    bare = text.replace(",", "") if _GROUPED.match(text) else text
    if not re.fullmatch(r"-?\d{1,15}(\.0+)?", bare):
        raise ValueError("The cell holds no whole number.")
    return int(bare.partition(".")[0])


def number(text: str) -> float:
    """Read a number with a decimal point; commas may part thousands."""
    bare = text.replace(",", "") if _GROUPED.match(text) else text
    if not re.fullmatch(r"-?\d{1,15}(\.\d{1,15})?", bare):
        raise ValueError("The cell holds no number with a decimal point.")
    return float(bare)


def money(currency: str) -> Reader:
    """Return the reader of amounts of one currency, exact to its minor unit."""

    def read(text: str) -> dict[str, Any]:
        bare = text.replace(",", "") if _GROUPED.match(text) else text
        try:
            found = Money.parse(bare, currency)
        except ValueError as error:
            raise ValueError(f"The cell holds no amount: {error}.") from None
        if found.minor_units < 0:
            raise ValueError("The amount is below zero.")
        return {"minor_units": found.minor_units, "currency": currency}

    return read


def phone(region: str | None) -> Reader:
    """Return the reader of phone numbers; `region` (ISO 3166-1 alpha-2) is where numbers without country code belong."""

    def read(text: str) -> str:
        try:
            return e164(text, region)
        except Refused:
            raise ValueError("The cell holds no phone number; write it with country code, +254…") from None

    return read
