"""People as a registry knows them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, JsonValue, StringConstraints

from canonical_model.account import Account
from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.contact import Address, ContactPoint, Place
from canonical_model.dates import PartialDate
from canonical_model.identifiers import Identifier
from canonical_model.localized import Code, LanguageTag, Text
from canonical_model.money import Money
from canonical_model.names import PersonName

AttributeName = Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z][a-z0-9_]*$")]
"""The name of an attribute a country declares: lower case, digits and underscores."""


class Sex(StrEnum):
    """Sex as registered; ISO 5218 has 1 male, 2 female, 0 unknown, 9 not applicable."""

    MALE = "male"
    FEMALE = "female"
    OTHER = "other"
    UNKNOWN = "unknown"


class MaritalStatus(StrEnum):
    """Marital status; the DCI code list has S, M, W, A, D (legally separated) and U."""

    NEVER_MARRIED = "never_married"
    MARRIED = "married"
    WIDOWED = "widowed"
    ANNULLED = "annulled"
    DIVORCED = "divorced"
    SEPARATED = "separated"
    UNKNOWN = "unknown"


class RegistrantStatus(StrEnum):
    """Whether a registry record is in use."""

    ACTIVE = "active"
    INACTIVE = "inactive"


class Person(CanonicalModel):
    """A person: who they are, how they are known and reached, and the attributes a country declares."""

    person_id: UUID | None = private(
        Privacy.PUBLIC, default=None, description="The hub's own id of the person."
    )
    identifiers: tuple[Identifier, ...] = private(Privacy.IDENTIFIER, default=(), max_length=50)
    names: tuple[PersonName, ...] = private(Privacy.PERSONAL, default=(), max_length=20)
    sex: Sex | None = private(Privacy.PERSONAL, default=None)
    birthdate: PartialDate | None = private(Privacy.PERSONAL, default=None)
    birthdate_not_exact: bool | None = private(
        Privacy.PERSONAL, default=None, description="The birth date is an estimate."
    )
    birth_place: Place | None = private(Privacy.PERSONAL, default=None)
    death_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    death_place: Place | None = private(Privacy.PERSONAL, default=None)
    marital_status: MaritalStatus | None = private(Privacy.PERSONAL, default=None)
    marriage_dates: tuple[PartialDate, ...] = private(Privacy.PERSONAL, default=(), max_length=50)
    divorce_dates: tuple[PartialDate, ...] = private(Privacy.PERSONAL, default=(), max_length=50)
    addresses: tuple[Address, ...] = private(Privacy.CONTACT, default=(), max_length=20)
    contact_points: tuple[ContactPoint, ...] = private(Privacy.CONTACT, default=(), max_length=20)
    accounts: tuple[Account, ...] = private(Privacy.FINANCIAL, default=(), max_length=20)
    area_code: Code | None = private(
        Privacy.PERSONAL, default=None, description="P-code of where the person lives."
    )
    language: LanguageTag | None = private(
        Privacy.PERSONAL, default=None, description="Language to write to them in."
    )
    occupation: Text | None = private(Privacy.SENSITIVE, default=None)
    income: Money | None = private(Privacy.FINANCIAL, default=None)
    status: RegistrantStatus | None = private(Privacy.PUBLIC, default=None)
    disabled_reason: Text | None = private(
        Privacy.SENSITIVE, default=None, description="Why the record is inactive."
    )
    attributes: dict[AttributeName, JsonValue] = private(
        Privacy.SENSITIVE,
        default_factory=dict,
        max_length=200,
        description="Attributes the country declares.",
    )
    registration_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    last_updated: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
