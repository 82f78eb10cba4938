"""Asking an ID system whether people are who they say, and its answer."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.dates import PartialDate
from canonical_model.identifiers import Identifier
from canonical_model.localized import Code, LanguageTag, LongText
from canonical_model.names import PersonName
from canonical_model.person import Sex


class VerificationKind(StrEnum):
    """How the person is verified."""

    DEMOGRAPHIC = "demographic"
    OTP = "otp"
    BIOMETRIC = "biometric"
    TOKEN = "token"  # noqa: S105 - a kind of verification, not a secret


class VerificationStatus(StrEnum):
    """What the ID system found."""

    MATCH = "match"
    NO_MATCH = "no_match"
    PARTIAL = "partial"
    NOT_FOUND = "not_found"
    INACTIVE = "inactive"
    PENDING = "pending"
    ERROR = "error"


class VerificationRequest(CanonicalModel):
    """A question to an ID system about one person; the proof travels sealed, as the ID system's own software made it."""

    request_id: Code = private(Privacy.PUBLIC)
    kind: VerificationKind = private(Privacy.PUBLIC)
    identifier: Identifier = private(Privacy.IDENTIFIER)
    name: PersonName | None = private(Privacy.PERSONAL, default=None)
    birthdate: PartialDate | None = private(Privacy.PERSONAL, default=None)
    sex: Sex | None = private(Privacy.PERSONAL, default=None)
    proof: LongText | None = private(
        Privacy.SENSITIVE,
        default=None,
        repr=False,
        description="One-time code, sealed biometric block or token.",
    )
    transaction_id: Code | None = private(
        Privacy.PUBLIC, default=None, description="Id of a started one-time code."
    )
    consent_id: Code | None = private(Privacy.PUBLIC, default=None)
    purpose: Code = private(Privacy.PUBLIC, description="Code of why it is asked; audited.")
    wanted: tuple[Code, ...] = private(
        Privacy.PUBLIC, default=(), max_length=50, description="Attributes asked for beside yes or no."
    )
    language: LanguageTag | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _carries_what_its_kind_needs(self) -> Self:
        if self.kind is VerificationKind.DEMOGRAPHIC:
            if not (self.name or self.birthdate or self.sex):
                raise PydanticCustomError(
                    "verification_kind", "A demographic verification says what is to be compared"
                )
        elif self.proof is None:
            raise PydanticCustomError("verification_kind", "This kind of verification needs a proof")
        return self


class VerificationResult(CanonicalModel):
    """An ID system's answer about one person."""

    request_id: Code = private(Privacy.PUBLIC)
    status: VerificationStatus = private(Privacy.PUBLIC)
    verified_at: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
    matched: tuple[Code, ...] = private(
        Privacy.PERSONAL, default=(), max_length=50, description="Fields that agreed."
    )
    mismatched: tuple[Code, ...] = private(
        Privacy.PERSONAL, default=(), max_length=50, description="Fields that differed."
    )
    person_token: Identifier | None = private(
        Privacy.IDENTIFIER,
        default=None,
        description="The ID system's pseudonym of the person for this partner.",
    )
    reference: Code | None = private(
        Privacy.PUBLIC, default=None, description="The ID system's id of the transaction."
    )
    reason_code: Code | None = private(Privacy.PUBLIC, default=None)
