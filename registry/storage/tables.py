"""The tables as SQLAlchemy Core metadata, mirroring the migrations, for queries whose shape is known only at run time.

The migrations in deploy/migrations are the source; a test compares these columns with a migrated database. Each noun has
its own module; here they come together.
"""

from __future__ import annotations

from registry.storage.audit_tables import (
    audit_checkpoint,
    audit_clock,
    audit_event,
    audit_key,
    data_key,
)
from registry.storage.change_tables import (
    change_decision,
    change_request,
    change_subject,
    duplicate_pair,
    registrant_merge,
)
from registry.storage.message_tables import (
    accepted_origin,
    applied_message,
    attempt,
    delivery,
    idempotency_key,
    job,
    message,
    outbox,
    worker,
)
from registry.storage.metadata import (
    METADATA,
    compiled,
)
from registry.storage.people_tables import (
    civil_event,
    consent,
    document,
    membership,
    registrant,
    registrant_change,
    registrant_event,
    registrant_identifier,
    registrant_reference,
    registrant_search,
    registrant_vault,
    relationship,
)
from registry.storage.reference_tables import (
    area,
    attribute_schema,
    event_type,
    identifier_type,
    relationship_type,
    vocabulary,
    vocabulary_code,
)

__all__ = [
    "METADATA",
    "accepted_origin",
    "applied_message",
    "area",
    "attempt",
    "attribute_schema",
    "audit_checkpoint",
    "audit_clock",
    "audit_event",
    "audit_key",
    "change_decision",
    "change_request",
    "change_subject",
    "civil_event",
    "compiled",
    "consent",
    "data_key",
    "delivery",
    "document",
    "duplicate_pair",
    "event_type",
    "idempotency_key",
    "identifier_type",
    "job",
    "membership",
    "message",
    "outbox",
    "registrant",
    "registrant_change",
    "registrant_event",
    "registrant_identifier",
    "registrant_merge",
    "registrant_reference",
    "registrant_search",
    "registrant_vault",
    "relationship",
    "relationship_type",
    "vocabulary",
    "vocabulary_code",
    "worker",
]
