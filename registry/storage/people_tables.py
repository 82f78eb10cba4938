"""The tables of registrants and what hangs on them as SQLAlchemy Core metadata."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from registry.storage.metadata import METADATA, at, big, bytes_, day, flag, integer, small, text_, uuid_

__all__ = [
    "civil_event",
    "consent",
    "document",
    "membership",
    "registrant",
    "registrant_change",
    "registrant_event",
    "registrant_identifier",
    "registrant_reference",
    "registrant_search",
    "registrant_vault",
    "relationship",
]

registrant = Table(
    "registrant",
    METADATA,
    uuid_("id", key=True),
    text_("kind"),
    text_("status"),
    text_("group_kind", nullable=True),
    flag("is_partial_group", nullable=True),
    integer("group_size", nullable=True),
    text_("sex", nullable=True),
    day("birthdate", nullable=True),
    flag("birthdate_not_exact"),
    day("deathdate", nullable=True),
    text_("marital_status", nullable=True),
    integer("area_id", nullable=True),
    day("registration_date", nullable=True),
    text_("language", nullable=True),
    Column("attributes", JSONB, nullable=False),
    uuid_("merged_into", nullable=True),
    integer("version"),
    text_("source"),
    uuid_("message_id", nullable=True),
    at("created_at"),
    at("updated_at"),
)

registrant_vault = Table(
    "registrant_vault",
    METADATA,
    uuid_("registrant_id", key=True),
    big("key_id"),
    small("format"),
    bytes_("sealed"),
)

registrant_identifier = Table(
    "registrant_identifier",
    METADATA,
    uuid_("id", key=True),
    uuid_("registrant_id"),
    text_("type"),
    bytes_("hash"),
    flag("live"),
    day("valid_from", nullable=True),
    day("expiry_date", nullable=True),
    text_("verification_method", nullable=True),
    at("created_at"),
)

registrant_search = Table(
    "registrant_search",
    METADATA,
    uuid_("registrant_id", key=True),
    Column("names", ARRAY(BigInteger), nullable=False),
    Column("contacts", ARRAY(BigInteger), nullable=False),
    small("made"),
    Column("facets", ARRAY(Integer), nullable=False),
)

registrant_change = Table(
    "registrant_change",
    METADATA,
    uuid_("registrant_id", key=True),
    integer("version", key=True),
    at("at"),
    text_("actor"),
    text_("source"),
    uuid_("message_id", nullable=True),
    text_("request_id", nullable=True),
    Column("fields", ARRAY(Text), nullable=False),
    Column("clear", JSONB, nullable=True),
    Column("key_id", BigInteger, nullable=True),
    bytes_("sealed", nullable=True),
    uuid_("event_id", nullable=True),
)

registrant_reference = Table(
    "registrant_reference",
    METADATA,
    uuid_("registrant_id", key=True),
    text_("system"),
    big("key_id"),
    bytes_("sealed"),
    at("confirmed_at"),
    at("unknown_since", nullable=True),
    at("created_at"),
)

registrant_event = Table(
    "registrant_event",
    METADATA,
    uuid_("id", key=True),
    uuid_("registrant_id"),
    text_("type"),
    day("collected_on"),
    day("expires_on", nullable=True),
    Column("data", JSONB, nullable=False),
    text_("source"),
    at("recorded_at"),
)

civil_event = Table(
    "civil_event",
    METADATA,
    uuid_("id", key=True),
    uuid_("person_id"),
    text_("event_type"),
    day("event_date", nullable=True),
    text_("source"),
    big("key_id"),
    bytes_("sealed"),
    at("recorded_at"),
)

membership = Table(
    "membership",
    METADATA,
    uuid_("id", key=True),
    uuid_("group_id"),
    uuid_("member_id"),
    Column("roles", ARRAY(Text), nullable=False),
    day("start_date"),
    day("ended_date", nullable=True),
    text_("source"),
    integer("version"),
    at("created_at"),
    at("updated_at"),
    at("start_said_at", nullable=True),
    at("end_said_at", nullable=True),
    at("roles_said_at", nullable=True),
)

relationship = Table(
    "relationship",
    METADATA,
    uuid_("id", key=True),
    text_("type"),
    uuid_("source_id"),
    uuid_("destination_id"),
    day("start_date"),
    day("end_date", nullable=True),
    text_("actor"),
    text_("source"),
    at("created_at"),
    at("updated_at"),
)

document = Table(
    "document",
    METADATA,
    uuid_("id", key=True),
    uuid_("registrant_id"),
    text_("kind"),
    text_("media_type"),
    big("size"),
    bytes_("digest"),
    big("key_id"),
    text_("actor"),
    text_("source"),
    at("created_at"),
    at("removed_at", nullable=True),
    text_("removed_by", nullable=True),
)

consent = Table(
    "consent",
    METADATA,
    uuid_("id", key=True),
    uuid_("registrant_id"),
    text_("recipient"),
    text_("purpose"),
    text_("status"),
    at("status_at"),
    at("valid_from", nullable=True),
    at("valid_until", nullable=True),
    text_("legal_basis", nullable=True),
    text_("source"),
    integer("version"),
    at("created_at"),
)
