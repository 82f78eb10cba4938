"""The tables as SQLAlchemy Core metadata, mirroring the migrations, for queries whose shape is known only at run time.

The migrations in deploy/migrations are the source; a test compares these columns with a migrated database.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSON, JSONB, REAL, UUID
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

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
    "audit_sealed",
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

METADATA: Final = MetaData()
_DIALECT: Final[Dialect] = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


def _uuid(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, UUID(as_uuid=True), nullable=nullable, primary_key=key)


def _text(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, Text, nullable=nullable, primary_key=key)


def _bytes(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, LargeBinary, nullable=nullable, primary_key=key)


def _at(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, DateTime(timezone=True), nullable=nullable, primary_key=key)


def _small(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, SmallInteger, nullable=False, primary_key=key, autoincrement=False)


def _integer(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    return Column(name, Integer, nullable=nullable, primary_key=key, autoincrement=False)


def _day(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Date, nullable=nullable)


def _json(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, JSONB, nullable=nullable)


def _flag(name: str, *, nullable: bool = False) -> Column[Any]:
    return Column(name, Boolean, nullable=nullable)


def _big(name: str, *, key: bool = False) -> Column[Any]:
    return Column(name, BigInteger, nullable=False, primary_key=key)


data_key = Table(
    "data_key",
    METADATA,
    _big("id", key=True),
    _text("scope"),
    _bytes("wrapped", nullable=True),
    _text("kek"),
    _at("created_at"),
    _at("expires_at", nullable=True),
    _at("destroyed_at", nullable=True),
)

accepted_origin = Table(
    "accepted_origin",
    METADATA,
    _bytes("origin_hash", key=True),
    _bytes("body_hash"),
    _uuid("message_id"),
    _at("accepted_at"),
)

message = Table(
    "message",
    METADATA,
    _uuid("id", key=True),
    _text("partner"),
    _text("type"),
    _at("time"),
    _at("accepted_at"),
    _bytes("origin_hash", nullable=True),
    _bytes("subject_hash", nullable=True),
    _bytes("correlation_hash", nullable=True),
    _text("traceparent", nullable=True),
    _text("request_id", nullable=True),
    _big("key_id"),
    _bytes("body", nullable=True),
    _text("claim", nullable=True),
    _integer("size"),
    _small("routes"),
)

delivery = Table(
    "delivery",
    METADATA,
    _uuid("id", key=True),
    _big("seq"),
    _uuid("message_id"),
    _text("route"),
    _integer("route_version"),
    _text("target"),
    _text("mapping", nullable=True),
    _bytes("order_key", nullable=True),
    _text("state"),
    _small("attempts"),
    _at("next_at", nullable=True),
    _uuid("worker", nullable=True),
    _at("claimed_at", nullable=True),
    _at("held_until", nullable=True),
    _at("pointed_at"),
    _text("code", nullable=True),
    _text("reason", nullable=True),
    _text("reference", nullable=True),
    _uuid("replay_of", nullable=True),
    _small("replays"),
    Column("visible", ARRAY(Text), nullable=True),
    _at("created_at"),
    _at("ended_at", nullable=True),
)

attempt = Table(
    "attempt",
    METADATA,
    _uuid("delivery_id", key=True),
    _small("number", key=True),
    _uuid("message_id"),
    _at("started_at", key=True),
    Column("seconds", REAL, nullable=False),
    _text("outcome"),
    _text("code", nullable=True),
    _text("detail", nullable=True),
    _integer("route_version"),
    _text("mapping", nullable=True),
    _uuid("worker"),
    Column("exchanges", JSONB, nullable=True),
)

outbox = Table(
    "outbox",
    METADATA,
    _big("id", key=True),
    _uuid("delivery_id"),
    _uuid("message_id"),
    _text("route"),
    _text("traceparent", nullable=True),
    _at("available_at"),
    _uuid("taken_by", nullable=True),
    _at("taken_at", nullable=True),
    _flag("redelivered"),
)

worker = Table("worker", METADATA, _uuid("id", key=True), _text("role"), _at("started_at"), _at("seen_at"))

audit_event = Table(
    "audit_event",
    METADATA,
    _uuid("id", key=True),
    _at("at"),
    _text("actor"),
    _text("action"),
    _text("object_type"),
    _text("object_id"),
    _text("outcome"),
    _text("request_id", nullable=True),
    Column("details", JSONB, nullable=True),
    _big("transaction"),
)

audit_clock = Table("audit_clock", METADATA, Column("one", Boolean, primary_key=True), _big("shift"))

audit_key = Table(
    "audit_key",
    METADATA,
    _text("kid", key=True),
    Column("public", JSONB, nullable=False),
    _big("key_id"),
    _bytes("sealed"),
    _at("made_at"),
)

audit_checkpoint = Table(
    "audit_checkpoint",
    METADATA,
    _big("number", key=True),
    _big("lower"),
    _big("upper"),
    Column("closed", Boolean, nullable=False),
    _uuid("first_id"),
    _uuid("last_id"),
    _integer("count"),
    _integer("late"),
    _bytes("leaves"),
    _text("signed"),
    _at("made_at"),
)

audit_sealed = Table("audit_sealed", METADATA, _uuid("event_id", key=True), _big("key_id"), _bytes("sealed"))

area = Table(
    "area",
    METADATA,
    _integer("id", key=True),
    _text("code"),
    _integer("parent_id", nullable=True),
    Column("path", ARRAY(Integer), nullable=False),
    _small("level"),
    _text("kind", nullable=True),
    Column("names", JSONB, nullable=False),
    Column("alt_names", ARRAY(Text), nullable=False),
    Column("area_sqkm", DOUBLE_PRECISION, nullable=True),
    _flag("active"),
    _at("updated_at"),
    _integer("version"),
)

registrant = Table(
    "registrant",
    METADATA,
    _uuid("id", key=True),
    _text("kind"),
    _text("status"),
    _text("group_kind", nullable=True),
    _flag("is_partial_group", nullable=True),
    _integer("group_size", nullable=True),
    _text("sex", nullable=True),
    _day("birthdate", nullable=True),
    _flag("birthdate_not_exact"),
    _day("deathdate", nullable=True),
    _text("marital_status", nullable=True),
    _integer("area_id", nullable=True),
    _day("registration_date", nullable=True),
    _text("language", nullable=True),
    Column("attributes", JSONB, nullable=False),
    _uuid("merged_into", nullable=True),
    _integer("version"),
    _text("source"),
    _uuid("message_id", nullable=True),
    _at("created_at"),
    _at("updated_at"),
)

registrant_vault = Table(
    "registrant_vault",
    METADATA,
    _uuid("registrant_id", key=True),
    _big("key_id"),
    _small("format"),
    _bytes("sealed"),
)

registrant_identifier = Table(
    "registrant_identifier",
    METADATA,
    _uuid("id", key=True),
    _uuid("registrant_id"),
    _text("type"),
    _bytes("hash"),
    _flag("live"),
    _day("valid_from", nullable=True),
    _day("expiry_date", nullable=True),
    _text("verification_method", nullable=True),
    _at("created_at"),
)

registrant_search = Table(
    "registrant_search",
    METADATA,
    _uuid("registrant_id", key=True),
    Column("names", ARRAY(BigInteger), nullable=False),
    Column("contacts", ARRAY(BigInteger), nullable=False),
    _small("made"),
    Column("facets", ARRAY(Integer), nullable=False),
)

membership = Table(
    "membership",
    METADATA,
    _uuid("id", key=True),
    _uuid("group_id"),
    _uuid("member_id"),
    Column("roles", ARRAY(Text), nullable=False),
    _day("start_date"),
    _day("ended_date", nullable=True),
    _text("source"),
    _integer("version"),
    _at("created_at"),
    _at("updated_at"),
    _at("start_said_at", nullable=True),
    _at("end_said_at", nullable=True),
    _at("roles_said_at", nullable=True),
)

registrant_change = Table(
    "registrant_change",
    METADATA,
    _uuid("registrant_id", key=True),
    _integer("version", key=True),
    _at("at"),
    _text("actor"),
    _text("source"),
    _uuid("message_id", nullable=True),
    _text("request_id", nullable=True),
    Column("fields", ARRAY(Text), nullable=False),
    Column("clear", JSONB, nullable=True),
    Column("key_id", BigInteger, nullable=True),
    _bytes("sealed", nullable=True),
)

registrant_reference = Table(
    "registrant_reference",
    METADATA,
    _uuid("registrant_id", key=True),
    _text("system"),
    _big("key_id"),
    _bytes("sealed"),
    _at("confirmed_at"),
    _at("unknown_since", nullable=True),
    _at("created_at"),
)

vocabulary = Table(
    "vocabulary", METADATA, _text("namespace", key=True), _json("names"), _flag("standard"), _at("updated_at")
)

vocabulary_code = Table(
    "vocabulary_code",
    METADATA,
    _text("namespace", key=True),
    _text("code", key=True),
    _json("names"),
    _flag("active"),
    _integer("version"),
    _at("updated_at"),
)

identifier_type = Table(
    "identifier_type",
    METADATA,
    _text("type", key=True),
    _json("names"),
    _text("kind", nullable=True),
    _text("pattern", nullable=True),
    _text("check_digit", nullable=True),
    _flag("active"),
    _at("updated_at"),
)

relationship_type = Table(
    "relationship_type",
    METADATA,
    _text("code", key=True),
    _json("names"),
    _json("inverse_names"),
    _flag("bidirectional"),
    _text("source_kind", nullable=True),
    _text("destination_kind", nullable=True),
    _flag("active"),
)

relationship = Table(
    "relationship",
    METADATA,
    _uuid("id", key=True),
    _text("type"),
    _uuid("source_id"),
    _uuid("destination_id"),
    _day("start_date"),
    _day("end_date", nullable=True),
    _text("actor"),
    _text("source"),
    _at("created_at"),
    _at("updated_at"),
)

document = Table(
    "document",
    METADATA,
    _uuid("id", key=True),
    _uuid("registrant_id"),
    _text("kind"),
    _text("media_type"),
    _big("size"),
    _bytes("digest"),
    _big("key_id"),
    _text("actor"),
    _text("source"),
    _at("created_at"),
    _at("removed_at", nullable=True),
    _text("removed_by", nullable=True),
)

event_type = Table(
    "event_type",
    METADATA,
    _text("type", key=True),
    _json("names"),
    _json("schema"),
    Column("lasts_days", Integer, nullable=True),
    _flag("active"),
    _at("updated_at"),
)

change_request = Table(
    "change_request",
    METADATA,
    _uuid("id", key=True),
    _text("type"),
    _text("state"),
    _text("maker"),
    _text("policy"),
    Column("steps", JSONB, nullable=False),
    _small("step"),
    Column("bases", JSONB, nullable=False),
    Column("results", JSONB, nullable=True),
    _big("key_id"),
    _bytes("sealed"),
    Column("undo_key", BigInteger, nullable=True),
    _bytes("undo", nullable=True),
    _uuid("undoes", nullable=True),
    _text("reason", nullable=True),
    Column("conflicts", ARRAY(Text), nullable=True),
    _at("created_at"),
    _at("decided_at", nullable=True),
    _at("applied_at", nullable=True),
)

change_subject = Table(
    "change_subject", METADATA, _uuid("request_id", key=True), _uuid("registrant_id", key=True)
)

change_decision = Table(
    "change_decision",
    METADATA,
    _uuid("request_id", key=True),
    _small("step"),
    _text("role"),
    _text("actor", key=True),
    _text("maker"),
    _flag("agreed"),
    _at("at"),
)

registrant_merge = Table(
    "registrant_merge",
    METADATA,
    _uuid("absorbed_id", key=True),
    _uuid("survivor_id"),
    _at("merged_at"),
    _text("actor"),
    _text("request_id", nullable=True),
    _text("status"),
    Column("brought", ARRAY(UUID(as_uuid=True)), nullable=False),
    Column("memberships", JSONB, nullable=False),
    _big("key_id"),
    _bytes("sealed"),
)

duplicate_pair = Table(
    "duplicate_pair",
    METADATA,
    _uuid("first_id", key=True),
    _uuid("second_id", key=True),
    Column("score", REAL, nullable=False),
    Column("reasons", ARRAY(Text), nullable=False),
    _text("state"),
    _text("decided_by", nullable=True),
    _at("decided_at", nullable=True),
    _text("note", nullable=True),
    _uuid("request_id", nullable=True),
    _at("found_at"),
)

registrant_event = Table(
    "registrant_event",
    METADATA,
    _uuid("id", key=True),
    _uuid("registrant_id"),
    _text("type"),
    _day("collected_on"),
    _day("expires_on", nullable=True),
    Column("data", JSONB, nullable=False),
    _text("source"),
    _at("recorded_at"),
)

civil_event = Table(
    "civil_event",
    METADATA,
    _uuid("id", key=True),
    _uuid("person_id"),
    _text("event_type"),
    _day("event_date", nullable=True),
    _text("source"),
    _big("key_id"),
    _bytes("sealed"),
    _at("recorded_at"),
)

job = Table(
    "job",
    METADATA,
    _uuid("id", key=True),
    _text("kind"),
    _text("state"),
    _text("actor"),
    _text("once", nullable=True),
    Column("params", JSONB, nullable=False),
    Column("position", JSONB, nullable=True),
    _big("done"),
    Column("total", BigInteger, nullable=True),
    Column("result", JSONB, nullable=True),
    Column("error", JSONB, nullable=True),
    Column("cancel", Boolean, nullable=False),
    _uuid("worker", nullable=True),
    _at("beat_at", nullable=True),
    _at("created_at"),
    _at("started_at", nullable=True),
    _at("ended_at", nullable=True),
    _small("attempts"),
    _at("next_at", nullable=True),
    _at("claimed_at", nullable=True),
    _big("claimed_done"),
)

idempotency_key = Table(
    "idempotency_key",
    METADATA,
    _text("partner", key=True),
    _bytes("key_hash", key=True),
    _bytes("body_hash"),
    Column("status", SmallInteger, nullable=True),
    _text("location", nullable=True),
    Column("key_id", BigInteger, nullable=True),
    _bytes("sealed", nullable=True),
    _at("made_at"),
)

consent = Table(
    "consent",
    METADATA,
    _uuid("id", key=True),
    _uuid("registrant_id"),
    _text("recipient"),
    _text("purpose"),
    _text("status"),
    _at("status_at"),
    _at("valid_from", nullable=True),
    _at("valid_until", nullable=True),
    _text("legal_basis", nullable=True),
    _text("source"),
    _integer("version"),
    _at("created_at"),
)

attribute_schema = Table(
    "attribute_schema",
    METADATA,
    _text("subject", key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    _text("actor"),
    _at("applied_at"),
)

applied_message = Table("applied_message", METADATA, _uuid("message_id", key=True), _at("applied_at"))


def compiled(statement: ClauseElement) -> tuple[str, list[Any]]:
    """Return the SQL text with `$1` places and its arguments in order, for asyncpg."""
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    places = result.positiontup or []  # type: ignore[attr-defined]
    return str(result), [result.params[name] for name in places]
