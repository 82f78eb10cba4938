"""The audit trail: append-only for everybody, the hub included, and sealed by a chain of signed checkpoints."""

from registry.audit.adoption import adopt
from registry.audit.sealer import Sealed, Sealer
from registry.audit.trail import AuditTrail, TrailEvent, TrailFilter, check_purpose
from registry.audit.verify import Break, Report, Verifier
from registry.audit.witness import Witness, export
from registry.audit.writer import AuditEvent, insert_many, record

__all__ = [
    "AuditEvent",
    "AuditTrail",
    "Break",
    "Report",
    "Sealed",
    "Sealer",
    "TrailEvent",
    "TrailFilter",
    "Verifier",
    "Witness",
    "adopt",
    "check_purpose",
    "export",
    "insert_many",
    "record",
]
