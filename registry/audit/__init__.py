"""The audit trail: append-only for everybody, the hub included."""

from registry.audit.writer import AuditEvent, insert_many, record

__all__ = ["AuditEvent", "insert_many", "record"]
