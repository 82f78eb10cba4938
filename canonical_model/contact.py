"""Where people are and how they are reached: places, areas, addresses, phone numbers, e-mail."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code, LocalizedText, Text

_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}\Z")
_PHONE_ORNAMENT: Final = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]")
_EMAIL: Final = re.compile(r"[^\s@<>\"(),:;\\]{1,64}@[^\s@<>\"(),:;\\.]{1,63}(\.[^\s@<>\"(),:;\\.]{1,63})+\Z")

CountryCode = Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")]
"""An ISO 3166-1 alpha-2 code."""

Latitude = Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)]
"""Degrees north, WGS 84."""

Longitude = Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)]
"""Degrees east, WGS 84."""


def normalize_phone(text: str) -> str:
    """Return a phone number in E.164 form, `+` and 7 to 15 digits, without its ornament of spaces, dots and brackets.

    Raises `ValueError`, which does not repeat the number, when there is no country code.
    """
    bare = _PHONE_ORNAMENT.sub("", text)
    if bare.startswith("00"):
        bare = "+" + bare[2:]
    if not _E164.match(bare):
        raise ValueError("not a phone number in international form")
    return bare


class Place(CanonicalModel):
    """A place where something happened, as a registry names it."""

    name: Text | None = private(Privacy.PERSONAL, default=None)
    address_line: Text | None = private(Privacy.PERSONAL, default=None)
    latitude: Latitude | None = private(Privacy.PERSONAL, default=None)
    longitude: Longitude | None = private(Privacy.PERSONAL, default=None)
    area_code: Code | None = private(Privacy.PERSONAL, default=None, description="P-code of the area.")
    country_code: CountryCode | None = private(Privacy.PERSONAL, default=None)
    contained_in_place: Text | None = private(
        Privacy.PERSONAL, default=None, description="Name of the place around it."
    )
    contains_place: tuple[Place, ...] = private(Privacy.PERSONAL, default=(), max_length=50)


class Area(CanonicalModel):
    """An administrative area: code (P-code), names, level and parent."""

    code: Code = private(Privacy.PUBLIC)
    names: LocalizedText = private(Privacy.PUBLIC)
    level: int | None = private(Privacy.PUBLIC, default=None, ge=0, le=20, description="0 is the country.")
    kind: Code | None = private(Privacy.PUBLIC, default=None)
    parent_code: Code | None = private(Privacy.PUBLIC, default=None)
    area_sqkm: float | None = private(Privacy.PUBLIC, default=None, ge=0, allow_inf_nan=False)


class AddressUse(StrEnum):
    """What an address is used for."""

    HOME = "home"
    POSTAL = "postal"
    WORK = "work"
    TEMPORARY = "temporary"
    FORMER = "former"


class Address(CanonicalModel):
    """A postal or street address; the names of its parts are those of the DCI data standard."""

    use: AddressUse | None = private(Privacy.PUBLIC, default=None)
    text: Text | None = private(
        Privacy.CONTACT, default=None, description="The whole address where it is not split."
    )
    address_line_1: Text | None = private(Privacy.CONTACT, default=None)
    address_line_2: Text | None = private(Privacy.CONTACT, default=None)
    locality: Text | None = private(Privacy.CONTACT, default=None)
    sub_region_code: Text | None = private(Privacy.CONTACT, default=None)
    region_code: Text | None = private(Privacy.CONTACT, default=None)
    postal_code: Text | None = private(Privacy.CONTACT, default=None)
    country_code: CountryCode | None = private(Privacy.CONTACT, default=None)
    area_code: Code | None = private(Privacy.PERSONAL, default=None, description="P-code of the area.")
    plus_code: Text | None = private(
        Privacy.CONTACT, default=None, description="Open Location Code, global form."
    )
    latitude: Latitude | None = private(Privacy.CONTACT, default=None)
    longitude: Longitude | None = private(Privacy.CONTACT, default=None)


class ContactKind(StrEnum):
    """How a person is reached."""

    PHONE = "phone"
    MOBILE = "mobile"
    EMAIL = "email"


class ContactPoint(CanonicalModel):
    """A phone number in E.164 form (`+` and 7 to 15 digits) or an e-mail address."""

    kind: ContactKind = private(Privacy.PUBLIC)
    value: Annotated[str, StringConstraints(min_length=3, max_length=254)] = private(Privacy.CONTACT)
    preferred: bool | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind is ContactKind.EMAIL:
            if not _EMAIL.match(self.value):
                raise PydanticCustomError("email_address", "Input should be an e-mail address")
        elif not _E164.match(self.value):
            raise PydanticCustomError("phone_e164", "Input should be a phone number in E.164 form")
        return self
