"""Grievances: what people complain about or appeal against, and what became of it."""

from __future__ import annotations

from enum import StrEnum

from pydantic import AwareDatetime

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.contact import ContactPoint
from canonical_model.localized import Code, LanguageTag, LongText
from canonical_model.names import PersonName
from canonical_model.registrant import RegistrantRef


class GrievanceKind(StrEnum):
    """What the person wants."""

    COMPLAINT = "complaint"
    APPEAL = "appeal"
    QUESTION = "question"
    FEEDBACK = "feedback"
    FRAUD_REPORT = "fraud_report"


class GrievanceStatus(StrEnum):
    """How far a grievance is."""

    FILED = "filed"
    IN_REVIEW = "in_review"
    RESOLVED = "resolved"
    REJECTED = "rejected"
    WITHDRAWN = "withdrawn"


class Grievance(CanonicalModel):
    """One grievance; without `complainant` it is anonymous."""

    grievance_id: Code = private(Privacy.PUBLIC)
    kind: GrievanceKind = private(Privacy.PUBLIC)
    category: Code | None = private(Privacy.PUBLIC, default=None)
    status: GrievanceStatus = private(Privacy.PUBLIC)
    program_id: Code | None = private(Privacy.PUBLIC, default=None)
    payment_id: Code | None = private(Privacy.PUBLIC, default=None)
    complainant: RegistrantRef | None = private(Privacy.IDENTIFIER, default=None)
    complainant_name: PersonName | None = private(Privacy.PERSONAL, default=None)
    contact_point: ContactPoint | None = private(Privacy.CONTACT, default=None)
    language: LanguageTag | None = private(Privacy.PUBLIC, default=None)
    description: LongText | None = private(Privacy.SENSITIVE, default=None)
    resolution: LongText | None = private(Privacy.SENSITIVE, default=None)
    filed_at: AwareDatetime = private(Privacy.PUBLIC)
    resolved_at: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
