"""Consent records, in the states of ISO/IEC TS 27560."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code, LanguageTag, LocalizedText
from canonical_model.registrant import RegistrantRef


class ConsentStatus(StrEnum):
    """The states of a consent record in ISO/IEC TS 27560."""

    REQUESTED = "requested"
    GIVEN = "given"
    REFUSED = "refused"
    RENEWED = "renewed"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    INVALIDATED = "invalidated"


class Consent(CanonicalModel):
    """What a person allowed whom to do with which data for what, and since and until when."""

    consent_id: Code = private(Privacy.PUBLIC)
    subject: RegistrantRef = private(Privacy.IDENTIFIER)
    status: ConsentStatus = private(Privacy.PUBLIC)
    status_at: AwareDatetime = private(Privacy.PUBLIC, description="Since when it is in this state.")
    purposes: tuple[Code, ...] = private(Privacy.PUBLIC, min_length=1, max_length=50)
    data_categories: tuple[Code, ...] = private(Privacy.PUBLIC, default=(), max_length=100)
    controllers: tuple[Code, ...] = private(
        Privacy.PUBLIC, default=(), max_length=50, description="Who decides about the use."
    )
    recipients: tuple[Code, ...] = private(
        Privacy.PUBLIC, default=(), max_length=100, description="Partners it covers."
    )
    legal_basis: Code | None = private(Privacy.PUBLIC, default=None)
    notice: LocalizedText | None = private(
        Privacy.PUBLIC, default=None, description="The text shown to the person."
    )
    notice_version: Code | None = private(Privacy.PUBLIC, default=None)
    language: LanguageTag | None = private(
        Privacy.PUBLIC, default=None, description="Language it was asked in."
    )
    collection_method: Code | None = private(
        Privacy.PUBLIC, default=None, description="Paper, verbal, online and so on."
    )
    valid_from: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
    valid_until: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
    withdrawal_method: Code | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise PydanticCustomError("dates_reversed", "A consent cannot end before it starts")
        return self
