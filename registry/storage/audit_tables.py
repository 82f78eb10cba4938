"""The tables of the audit trail and of keys as SQLAlchemy Core metadata."""

from __future__ import annotations

from sqlalchemy import Boolean, Column, Table
from sqlalchemy.dialects.postgresql import JSONB

from registry.storage.metadata import METADATA, at, big, bytes_, integer, text_, uuid_

__all__ = [
    "audit_checkpoint",
    "audit_clock",
    "audit_event",
    "audit_key",
    "data_key",
]

data_key = Table(
    "data_key",
    METADATA,
    big("id", key=True),
    text_("scope"),
    bytes_("wrapped", nullable=True),
    text_("kek"),
    at("created_at"),
    at("expires_at", nullable=True),
    at("destroyed_at", nullable=True),
)

audit_event = Table(
    "audit_event",
    METADATA,
    uuid_("id", key=True),
    at("at"),
    text_("actor"),
    text_("action"),
    text_("object_type"),
    text_("object_id"),
    text_("outcome"),
    text_("request_id", nullable=True),
    Column("details", JSONB, nullable=True),
    big("transaction"),
)

audit_clock = Table("audit_clock", METADATA, Column("one", Boolean, primary_key=True), big("shift"))

audit_key = Table(
    "audit_key",
    METADATA,
    text_("kid", key=True),
    Column("public", JSONB, nullable=False),
    big("key_id"),
    bytes_("sealed"),
    at("made_at"),
)

audit_checkpoint = Table(
    "audit_checkpoint",
    METADATA,
    big("number", key=True),
    big("lower"),
    big("upper"),
    Column("closed", Boolean, nullable=False),
    uuid_("first_id"),
    uuid_("last_id"),
    integer("count"),
    integer("late"),
    bytes_("leaves"),
    text_("signed"),
    at("made_at"),
)
