"""Function pairs: how one value is said on the other side.

Each pair has `write` (canonical to dialect) and `read` (dialect to canonical). A pair says which of the two survives a
round trip; the loss report repeats it. Reading is tolerant in the ways named here and in no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Any, Final

from canonical_model.contact import normalize_phone
from mappings.engine.paths import Failure

Convert = Callable[[Any], Any]
_DOTTED = re.compile(r"^(\d{1,2})\.(\d{1,2})\.(\d{4})$")
_PARTIAL = re.compile(r"^\d{4}(-(0[1-9]|1[0-2]))?$")
_INTEGER = re.compile(r"^-?\d{1,18}$")


@dataclass(frozen=True, slots=True)
class FunctionPair:
    """Two functions that undo each other, as far as `canonical_survives` and `dialect_survives` say.

    `note` says why a side does not survive. A missing `write` or `read` makes the pair one-way.
    """

    write: Convert | None
    read: Convert | None
    canonical_survives: bool = True
    dialect_survives: bool = True
    note: str = ""


@dataclass(frozen=True, slots=True)
class FunctionKind:
    """A named function of mapping files: its sentence, its options with their sentences, and its maker."""

    name: str
    summary: str
    make: Callable[[Mapping[str, Any]], FunctionPair]
    options: Mapping[str, str] = field(default_factory=dict)


def _text(value: Any) -> str:
    if value.__class__ is str:
        return value
    if value.__class__ is int or value.__class__ is float:
        return str(value)
    raise Failure("a text was expected")


def _only_text(value: Any) -> str:
    if value.__class__ is str:
        return value
    raise Failure("a text was expected")


def _read_date(value: Any) -> str:
    if value.__class__ is not str:
        if isinstance(value, datetime):
            return value.date().isoformat()
        if isinstance(value, date):
            return value.isoformat()
        raise Failure("a date was expected")
    text: str = value
    try:
        if _PARTIAL.match(text):
            return text
        if len(text) == 10 and text[4] == "-":
            date.fromisoformat(text)
            return text
        dotted = _DOTTED.match(text)
        if dotted:
            day, month, year = map(int, dotted.groups())
            return date(year, month, day).isoformat()
        return datetime.fromisoformat(text).date().isoformat()
    except ValueError:
        raise Failure("not a date: expected YYYY-MM-DD, YYYY-MM, YYYY, a date-time or dd.mm.yyyy") from None


def _make_date(options: Mapping[str, Any]) -> FunctionPair:
    if options.get("write", "date") == "date":
        write: Convert = _read_date
    else:

        def write(value: Any) -> str:
            day = _read_date(value)
            return f"{day}T00:00:00" if len(day) == 10 else day

    return FunctionPair(
        write,
        _read_date,
        dialect_survives=False,
        note="time of day and other spellings of a date are dropped",
    )


def _make_datetime(_options: Mapping[str, Any]) -> FunctionPair:
    def instant(value: Any) -> datetime:
        if isinstance(value, datetime):
            return value if value.tzinfo else value.replace(tzinfo=UTC)
        try:
            found = datetime.fromisoformat(_only_text(value))
        except ValueError:
            raise Failure("not a date-time: expected ISO 8601") from None
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    def convert(value: Any) -> str:
        return instant(value).isoformat().replace("+00:00", "Z")

    return FunctionPair(
        convert,
        convert,
        dialect_survives=False,
        note="a date-time without a zone is taken as UTC, other spellings are unified",
    )


def _make_text(_options: Mapping[str, Any]) -> FunctionPair:
    return FunctionPair(_text, _text, dialect_survives=False, note="a number is read as text")


def _make_integer(options: Mapping[str, Any]) -> FunctionPair:
    as_text = options.get("write", "number") == "text"

    def read(value: Any) -> int:
        if value.__class__ is int:
            return value
        if value.__class__ is str and _INTEGER.match(value):
            return int(value)
        if value.__class__ is float and value.is_integer():
            return int(value)
        raise Failure("a whole number was expected")

    def write(value: Any) -> Any:
        number = read(value)
        return str(number) if as_text else number

    return FunctionPair(write, read, dialect_survives=False, note="numbers as text and as number are unified")


def _make_decimal(options: Mapping[str, Any]) -> FunctionPair:
    as_text = options.get("write", "number") == "text"

    def number(value: Any) -> Decimal:
        if value.__class__ in (int, float, str, Decimal):
            try:
                found = Decimal(str(value))
            except InvalidOperation:
                found = Decimal("NaN")
            if found.is_finite():
                return found
        raise Failure("a number was expected")

    def read(value: Any) -> float:
        if value.__class__ is float and isfinite(value):
            return value
        return float(number(value))

    def write(value: Any) -> Any:
        return format(number(value), "f") if as_text else read(value)

    return FunctionPair(write, read, dialect_survives=False, note="numbers as text and as number are unified")


def _make_boolean(options: Mapping[str, Any]) -> FunctionPair:
    yes, no = options.get("true", True), options.get("false", False)
    truths = {"true", "yes", "y", "1", str(yes).casefold()}
    lies = {"false", "no", "n", "0", str(no).casefold()}
    if str(yes).casefold() in {"false", "no", "n", "0"} or str(no).casefold() in {"true", "yes", "y", "1"}:
        truths, lies = {str(yes).casefold()}, {str(no).casefold()}
    if truths & lies:
        raise ValueError("'true' and 'false' must be written differently")

    def read(value: Any) -> bool:
        word = str(value).casefold() if value.__class__ in (bool, str, int) else ""
        if word in truths:
            return True
        if word in lies:
            return False
        raise Failure("yes or no was expected")

    def write(value: Any) -> Any:
        if value.__class__ is not bool:
            raise Failure("true or false was expected")
        return yes if value else no

    return FunctionPair(write, read, dialect_survives=False, note="other spellings of yes and no are unified")


def _make_prefix(options: Mapping[str, Any]) -> FunctionPair:
    prefix = str(options["prefix"])

    def write(value: Any) -> str:
        return prefix + _text(value)

    def read(value: Any) -> str:
        return _text(value).removeprefix(prefix)

    return FunctionPair(
        write, read, dialect_survives=False, note="a value without the prefix is accepted and gets it"
    )


def _make_minor_units(options: Mapping[str, Any]) -> FunctionPair:
    digits = int(options.get("digits", 2))
    as_text = options.get("write", "text") == "text"

    def write(value: Any) -> Any:
        if value.__class__ is not int:
            raise Failure("a whole number of minor units was expected")
        amount = Decimal(value).scaleb(-digits)
        return format(amount, "f") if as_text else float(amount)

    def read(value: Any) -> int:
        try:
            amount = Decimal(str(value)).scaleb(digits)
        except InvalidOperation:
            raise Failure("an amount was expected") from None
        if not amount.is_finite() or amount != amount.to_integral_value():
            raise Failure("the amount has more decimals than its currency")
        return int(amount)

    return FunctionPair(write, read, dialect_survives=False, note="amounts as text and as number are unified")


def _make_phone(_options: Mapping[str, Any]) -> FunctionPair:
    def read(value: Any) -> str:
        try:
            return normalize_phone(_text(value))
        except ValueError as wrong:
            raise Failure(str(wrong)) from None

    return FunctionPair(
        _only_text, read, dialect_survives=False, note="spaces and brackets of a telephone number are dropped"
    )


def _make_lower(_options: Mapping[str, Any]) -> FunctionPair:
    return FunctionPair(
        _text, lambda value: _text(value).lower(), dialect_survives=False, note="letter case is dropped"
    )


def _make_upper(_options: Mapping[str, Any]) -> FunctionPair:
    return FunctionPair(
        _text, lambda value: _text(value).upper(), dialect_survives=False, note="letter case is dropped"
    )


def _make_join(options: Mapping[str, Any]) -> FunctionPair:
    separator = str(options.get("separator", " "))

    def write(value: Any) -> str:
        if value.__class__ is not list and value.__class__ is not tuple:
            raise Failure("a list was expected")
        return separator.join(map(_text, value))

    def read(value: Any) -> list[str]:
        return [part for part in (p.strip() for p in _text(value).split(separator)) if part]

    return FunctionPair(
        write,
        read,
        canonical_survives=False,
        dialect_survives=False,
        note="a part that holds the separator is cut in two",
    )


def _make_as_is(_options: Mapping[str, Any]) -> FunctionPair:
    return FunctionPair(lambda value: value, lambda value: value)


_WRITE_NUMBER = {"write": "`number` (default) or `text`: how the dialect wants it"}
FUNCTIONS: Final[dict[str, FunctionKind]] = {
    kind.name: kind
    for kind in (
        FunctionKind(
            "date",
            "A calendar day, or a month or year known alone. Reads YYYY-MM-DD, a date-time, and dd.mm.yyyy.",
            _make_date,
            {"write": "`date` (default) or `datetime`: how the dialect wants it"},
        ),
        FunctionKind(
            "datetime", "An instant in ISO 8601. A date-time without a zone is read as UTC.", _make_datetime
        ),
        FunctionKind("text", "A text; a number is read as its digits.", _make_text),
        FunctionKind("integer", "A whole number; digits in a text are read.", _make_integer, _WRITE_NUMBER),
        FunctionKind("decimal", "A number; digits in a text are read.", _make_decimal, _WRITE_NUMBER),
        FunctionKind(
            "boolean",
            "True or false; yes, no, y, n, 1 and 0 are read.",
            _make_boolean,
            {"true": "what the dialect writes for true", "false": "what the dialect writes for false"},
        ),
        FunctionKind(
            "prefix",
            "A text the dialect writes behind a fixed prefix.",
            _make_prefix,
            {"prefix": "the text put in front (required)"},
        ),
        FunctionKind(
            "minor_units",
            "Money: whole minor units here, a decimal amount there.",
            _make_minor_units,
            {"digits": "decimals of the currency, default 2", "write": "`text` (default) or `number`"},
        ),
        FunctionKind(
            "phone",
            "A telephone number in international form; spaces, brackets, dots and dashes are dropped, 00 becomes +.",
            _make_phone,
        ),
        FunctionKind("lower", "A text the canonical side holds in small letters.", _make_lower),
        FunctionKind("upper", "A text the canonical side holds in capital letters.", _make_upper),
        FunctionKind(
            "join",
            "A list of texts here, one text there.",
            _make_join,
            {"separator": "what stands between the parts, default a space"},
        ),
        FunctionKind("as_is", "Any JSON value, carried without a look inside.", _make_as_is),
    )
}


def make_function(name: str, options: Mapping[str, Any]) -> FunctionPair:
    """Return the function pair of that name; raises ValueError with a sentence for the author of the file."""
    kind = FUNCTIONS.get(name)
    if kind is None:
        raise ValueError(f"there is no function '{name}'; known: {', '.join(sorted(FUNCTIONS))}")
    strange = sorted(set(options) - set(kind.options))
    if strange:
        raise ValueError(f"function '{name}' has no option '{strange[0]}'")
    try:
        return kind.make(options)
    except KeyError as missing:
        raise ValueError(f"function '{name}' needs the option {missing}") from None
    except TypeError as wrong:
        raise ValueError(f"function '{name}' was given a wrong option: {wrong}") from None


def register_function(kind: FunctionKind) -> None:
    """Add a function for mapping files of another package; a name that is taken raises ValueError."""
    if kind.name in FUNCTIONS:
        raise ValueError(f"a function '{kind.name}' exists")
    FUNCTIONS[kind.name] = kind
