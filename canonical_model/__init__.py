"""What is said: the canonical model and the message envelope. No input or output happens here."""

from __future__ import annotations

from canonical_model.account import (
    Account,
    AccountKind,
)
from canonical_model.base import (
    CanonicalModel,
    Privacy,
    private,
)
from canonical_model.civil_event import (
    CivilEvent,
    CivilEventRole,
    CivilEventStatus,
    CivilEventType,
    RelatedPerson,
)
from canonical_model.cloudevents import (
    IncomingEvent,
    parse_http,
    to_http_batch,
    to_http_binary,
    to_http_structured,
    to_message,
)
from canonical_model.consent import (
    Consent,
    ConsentStatus,
)
from canonical_model.contact import (
    Address,
    AddressUse,
    Area,
    ContactKind,
    ContactPoint,
    Place,
    normalize_phone,
)
from canonical_model.dates import (
    PartialDate,
    Precision,
)
from canonical_model.decision import (
    DecisionRequest,
    DecisionResult,
    DecisionRow,
    DecisionSlot,
)
from canonical_model.enrollment import (
    Enrollment,
    EnrollmentStatus,
)
from canonical_model.entitlement import (
    BenefitKind,
    Entitlement,
    EntitlementStatus,
    InKindItem,
)
from canonical_model.errors import (
    ConfigError,
    Defect,
    HubError,
    Refused,
    Unavailable,
    Unknown,
)
from canonical_model.grievance import (
    Grievance,
    GrievanceKind,
    GrievanceStatus,
)
from canonical_model.household import (
    GroupKind,
    Household,
    Membership,
    MembershipRole,
)
from canonical_model.identifiers import (
    Identifier,
    IdentifierStatus,
    VerificationMethod,
)
from canonical_model.localized import (
    LocalizedText,
    best_text,
    normalize_language,
)
from canonical_model.message import (
    Message,
    child_traceparent,
    new_traceparent,
    uuid7,
    uuid7_floor,
    uuid7_time,
)
from canonical_model.money import (
    MINOR_UNIT_DIGITS,
    Money,
    minor_unit_digits,
)
from canonical_model.names import (
    NameUse,
    PersonName,
)
from canonical_model.notice import (
    Notice,
    NoticeChannel,
    NoticeResult,
    NoticeStatus,
)
from canonical_model.payment import (
    PaymentBatch,
    PaymentInstruction,
    PaymentResult,
    PaymentResults,
    PaymentStatus,
)
from canonical_model.person import (
    MaritalStatus,
    Person,
    RegistrantStatus,
    Sex,
)
from canonical_model.program import (
    Cycle,
    CycleStatus,
    Program,
    ProgramStatus,
    TargetType,
)
from canonical_model.redaction import (
    redact,
)
from canonical_model.registrant import (
    RegistrantRef,
)
from canonical_model.tracing import (
    continued_traceparent,
    traceparent_or_none,
)
from canonical_model.types import (
    MESSAGE_TYPES,
    check_data,
    model_of,
    to_data,
    validate_data,
)
from canonical_model.verification import (
    VerificationKind,
    VerificationRequest,
    VerificationResult,
    VerificationStatus,
)

__all__ = [
    "MESSAGE_TYPES",
    "MINOR_UNIT_DIGITS",
    "Account",
    "AccountKind",
    "Address",
    "AddressUse",
    "Area",
    "BenefitKind",
    "CanonicalModel",
    "CivilEvent",
    "CivilEventRole",
    "CivilEventStatus",
    "CivilEventType",
    "ConfigError",
    "Consent",
    "ConsentStatus",
    "ContactKind",
    "ContactPoint",
    "Cycle",
    "CycleStatus",
    "DecisionRequest",
    "DecisionResult",
    "DecisionRow",
    "DecisionSlot",
    "Defect",
    "Enrollment",
    "EnrollmentStatus",
    "Entitlement",
    "EntitlementStatus",
    "Grievance",
    "GrievanceKind",
    "GrievanceStatus",
    "GroupKind",
    "Household",
    "HubError",
    "Identifier",
    "IdentifierStatus",
    "InKindItem",
    "IncomingEvent",
    "LocalizedText",
    "MaritalStatus",
    "Membership",
    "MembershipRole",
    "Message",
    "Money",
    "NameUse",
    "Notice",
    "NoticeChannel",
    "NoticeResult",
    "NoticeStatus",
    "PartialDate",
    "PaymentBatch",
    "PaymentInstruction",
    "PaymentResult",
    "PaymentResults",
    "PaymentStatus",
    "Person",
    "PersonName",
    "Place",
    "Precision",
    "Privacy",
    "Program",
    "ProgramStatus",
    "Refused",
    "RegistrantRef",
    "RegistrantStatus",
    "RelatedPerson",
    "Sex",
    "TargetType",
    "Unavailable",
    "Unknown",
    "VerificationKind",
    "VerificationMethod",
    "VerificationRequest",
    "VerificationResult",
    "VerificationStatus",
    "best_text",
    "check_data",
    "child_traceparent",
    "continued_traceparent",
    "minor_unit_digits",
    "model_of",
    "new_traceparent",
    "normalize_language",
    "normalize_phone",
    "parse_http",
    "private",
    "redact",
    "to_data",
    "to_http_batch",
    "to_http_binary",
    "to_http_structured",
    "to_message",
    "traceparent_or_none",
    "uuid7",
    "uuid7_floor",
    "uuid7_time",
    "validate_data",
]
