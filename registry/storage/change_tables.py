"""The tables of change requests, merges and duplicates as SQLAlchemy Core metadata."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL, UUID

from registry.storage.metadata import METADATA, at, big, bytes_, flag, small, text_, uuid_

__all__ = [
    "change_decision",
    "change_request",
    "change_subject",
    "duplicate_pair",
    "registrant_merge",
]

change_request = Table(
    "change_request",
    METADATA,
    uuid_("id", key=True),
    text_("type"),
    text_("state"),
    text_("maker"),
    text_("policy"),
    Column("steps", JSONB, nullable=False),
    small("step"),
    Column("bases", JSONB, nullable=False),
    Column("results", JSONB, nullable=True),
    big("key_id"),
    bytes_("sealed"),
    Column("undo_key", BigInteger, nullable=True),
    bytes_("undo", nullable=True),
    uuid_("undoes", nullable=True),
    text_("reason", nullable=True),
    Column("conflicts", ARRAY(Text), nullable=True),
    at("created_at"),
    at("decided_at", nullable=True),
    at("applied_at", nullable=True),
)

change_subject = Table(
    "change_subject", METADATA, uuid_("request_id", key=True), uuid_("registrant_id", key=True)
)

change_decision = Table(
    "change_decision",
    METADATA,
    uuid_("request_id", key=True),
    small("step"),
    text_("role"),
    text_("actor", key=True),
    text_("maker"),
    flag("agreed"),
    at("at"),
)

registrant_merge = Table(
    "registrant_merge",
    METADATA,
    uuid_("absorbed_id", key=True),
    uuid_("survivor_id"),
    at("merged_at"),
    text_("actor"),
    text_("request_id", nullable=True),
    text_("status"),
    Column("brought", ARRAY(UUID(as_uuid=True)), nullable=False),
    Column("memberships", JSONB, nullable=False),
    big("key_id"),
    bytes_("sealed"),
)

duplicate_pair = Table(
    "duplicate_pair",
    METADATA,
    uuid_("first_id", key=True),
    uuid_("second_id", key=True),
    Column("score", REAL, nullable=False),
    Column("reasons", ARRAY(Text), nullable=False),
    text_("state"),
    text_("decided_by", nullable=True),
    at("decided_at", nullable=True),
    text_("note", nullable=True),
    uuid_("request_id", nullable=True),
    at("found_at"),
)
