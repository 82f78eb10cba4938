"""The written forms FSPIOP demands: amounts, dates, ids, paths and the one form of JSON that every verifier accepts.

The rules are those of the official OpenAPI patterns (`Amount`, `DateTime`, `CorrelationId`, `FspId`, `PartyIdentifier`).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import time
import uuid
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import quote

import orjson

from canonical_model.money import MINOR_UNIT_DIGITS

MAX_BODY: Final = 5_242_880
"""Bytes a body may have, either way."""
MAX_ITEMS: Final = 1000
"""Items of one bulk call."""
PARTY_TYPES: Final = frozenset(
    {"MSISDN", "EMAIL", "PERSONAL_ID", "BUSINESS", "DEVICE", "ACCOUNT_ID", "IBAN", "ALIAS"}
)
PERSONAL_ID_TYPES: Final = frozenset(
    {
        "PASSPORT",
        "NATIONAL_REGISTRATION",
        "DRIVING_LICENSE",
        "ALIEN_REGISTRATION",
        "NATIONAL_ID_CARD",
        "EMPLOYER_ID",
        "TAX_ID_NUMBER",
        "SENIOR_CITIZENS_CARD",
        "MARRIAGE_CERTIFICATE",
        "HEALTH_CARD",
        "VOTERS_ID",
        "UNITED_NATIONS",
        "OTHER_ID",
    }
)
FSP_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")
HASH: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""A condition or fulfilment: 32 bytes as base64url without padding."""

_AMOUNT: Final = re.compile(r"(0|[1-9][0-9]{0,17})(?:\.([0-9]{0,3}[1-9]))?")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[1-7][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_ULID: Final = re.compile(r"[0-9A-HJKMNP-TV-Z]{26}")
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_CROCKFORD: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def dumps(body: Any) -> bytes:
    """Return JSON as compact UTF-8 with the keys sorted at every level, nothing escaped that need not be.

    This form passes verifiers that take the raw bytes, that serialise again in order, and that serialise again sorted.
    """
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def amount_text(minor_units: int, currency: str) -> str:
    """Return an amount above zero in the standard's form: no sign, no leading and no trailing zeros.

    Raises `ValueError` for zero, less, more than 18 digits before the point, or an unknown currency.
    """
    digits = MINOR_UNIT_DIGITS.get(currency)
    if digits is None:
        raise ValueError("the currency has no known minor units")
    if minor_units <= 0:
        raise ValueError("the amount is not above zero")
    whole, rest = divmod(minor_units, 10**digits)
    if whole >= 10**18:
        raise ValueError("the amount has more than 18 digits")
    fraction = str(rest).rjust(digits, "0").rstrip("0") if rest else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def minor_units(amount: object, currency: object) -> int:
    """Return a received amount as minor units; raises `ValueError` for another form or decimals the currency does not have."""
    digits = MINOR_UNIT_DIGITS.get(currency) if isinstance(currency, str) else None
    match = _AMOUNT.fullmatch(amount) if isinstance(amount, str) else None
    if digits is None or match is None:
        raise ValueError("not an amount of a known currency")
    fraction = match[2] or ""
    if len(fraction) > digits:
        raise ValueError("the amount has more decimals than its currency")
    return int(match[1] + fraction.ljust(digits, "0"))


def moment_text(moment: datetime) -> str:
    """Return a point in time as `yyyy-MM-ddTHH:mm:ss.SSSZ` with exactly three digits of milliseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def after(seconds: float) -> str:
    """Return the point in time so many seconds from now, in the standard's form."""
    return moment_text(datetime.now(UTC) + timedelta(seconds=seconds))


def parse_moment(text: object) -> datetime:
    """Return a received point in time; raises `ValueError` unless it has the standard's form."""
    if not isinstance(text, str) or not _MOMENT.fullmatch(text):
        raise ValueError("not a date and time of the standard's form")
    return datetime.fromisoformat(text)


_date_cache: tuple[int, str] = (0, "")


def http_date() -> str:
    """Return now as an HTTP date (RFC 7231), the form of the `Date` header."""
    global _date_cache  # noqa: PLW0603 - one text a second, shared by all messages
    second = int(time.time())
    if _date_cache[0] != second:
        _date_cache = (second, formatdate(second, usegmt=True))
    return _date_cache[1]


def new_uuid() -> str:
    """Return a random UUID of version 4: the newest kind a 1.x peer accepts."""
    return str(uuid.uuid4())


def new_ulid() -> str:
    """Return a ULID, the form of ids in the ISO 20022 messages."""
    number = (time.time_ns() // 1_000_000 << 80) | int.from_bytes(os.urandom(10), "big")
    return "".join(_CROCKFORD[(number >> shift) & 31] for shift in range(125, -1, -5))


def is_id(text: str) -> bool:
    """Say whether a text is an id some version of the standard knows (UUID of version 1 to 7, or ULID)."""
    return bool(_UUID.fullmatch(text) or _ULID.fullmatch(text))


def fits_path(text: str) -> bool:
    """Say whether an identifier may stand in a path: 1 to 128 characters, no `/` and no `?`."""
    return 0 < len(text) <= 128 and "/" not in text and "?" not in text


def path_part(text: str) -> str:
    """Return an identifier as one path segment; `+` stays, as it may lead an MSISDN.

    Raises `ValueError` for what the standard does not let into a path: nothing, more than 128 characters, `/` or `?`.
    """
    if not fits_path(text):
        raise ValueError("not an identifier that can stand in a path")
    return text if text.isalnum() and text.isascii() else quote(text, safe="+")


def clipped(text: str | None, limit: int = 128) -> str | None:
    """Return a text without control characters, at most `limit` characters, or None when nothing is left."""
    if text is None:
        return None
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:limit] or None


def b64_hash(raw: bytes) -> str:
    """Return the SHA-256 of bytes in the form of a condition."""
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()
