"""Phone numbers as people write them, made E.164."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from canonical_model.contact import normalize_phone
from canonical_model.errors import Refused


@lru_cache(maxsize=1)
def _library() -> Any:
    import phonenumbers  # its tables take a while to load, and numbers with a country code do without

    return phonenumbers


def e164(text: str, region: str | None = None) -> str:
    """Return a phone number in E.164 form; `region` (ISO 3166-1 alpha-2) is where one without country code belongs.

    Raises `Refused` (`phone-invalid`), which does not repeat the number, for what cannot be a number there.
    """
    try:
        # A number with country code costs a hundredth of the library's reading, which the second look is for.
        return normalize_phone(text)
    except ValueError:
        library = _library()
    try:
        found = library.parse(text, region)
        possible = library.is_possible_number(found)
    except library.NumberParseException:
        possible = False
    if not possible:
        raise Refused(
            "A phone number has neither a country code nor the form of one in the hub's region. Nothing was changed.",
            code="phone-invalid",
            remedy="Write it with country code, +23276555123, or set HUB_REGION to the country numbers belong to.",
        )
    return str(library.format_number(found, library.PhoneNumberFormat.E164))


def internationally(data: Mapping[str, Any], region: str | None) -> Mapping[str, Any]:
    """Return the JSON of a person or household with the phone numbers of its contact points in E.164 form."""
    points = data.get("contact_points")
    if not isinstance(points, list):
        return data
    return {**data, "contact_points": [_internationally(point, region) for point in points]}


def _internationally(point: Any, region: str | None) -> Any:
    if not isinstance(point, dict) or point.get("kind") not in {"phone", "mobile"}:
        return point
    value = point.get("value")
    return {**point, "value": e164(value, region)} if isinstance(value, str) else point
