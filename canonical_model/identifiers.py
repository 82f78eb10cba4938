"""Identifiers people, households and records are known by elsewhere."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

from pydantic import StringConstraints

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.dates import PartialDate
from canonical_model.localized import Code, Text

_NAMESPACE: Final = r"^urn:[a-z0-9][a-z0-9-]*:[a-z0-9._-]+(:[a-z0-9._-]+)*$"

Namespace = Annotated[str, StringConstraints(max_length=200, pattern=_NAMESPACE)]
"""The URN of who gives out an identifier, for example `urn:gov:ph:psa:national-id`."""


class IdentifierStatus(StrEnum):
    """Whether an identifier may be relied on."""

    VALID = "valid"
    INVALID = "invalid"


class VerificationMethod(StrEnum):
    """How an identifier was checked."""

    DCI_API = "dci_api"
    PHYSICAL_DOCUMENT = "physical_document"
    SCANNED = "scanned"
    VERBAL = "verbal"
    SELF_DECLARED = "self_declared"
    MANUAL_LOOKUP = "manual_lookup"
    BIOMETRIC = "biometric"


class Identifier(CanonicalModel):
    """One identifier of a person, household or record: a type and a value, both as its issuer writes them."""

    id_type: Code = private(Privacy.PUBLIC, description="Kind of identifier, for example UIN, NID, BRN.")
    value: Text = private(Privacy.IDENTIFIER, description="The identifier itself, as issued.")
    namespace: Namespace | None = private(
        Privacy.PUBLIC, default=None, description="URN of the issuing scheme, when it is known."
    )
    status: IdentifierStatus | None = private(Privacy.PUBLIC, default=None)
    issue_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    expiry_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    verification_method: VerificationMethod | None = private(Privacy.PUBLIC, default=None)
    description: Text | None = private(
        Privacy.PERSONAL, default=None, description="A remark of the registrar."
    )

    @property
    def qualified(self) -> str:
        """The identifier as OpenSPP's API writes it, `namespace|value`, with the type where no namespace is known."""
        return f"{self.namespace or self.id_type}|{self.value}"
