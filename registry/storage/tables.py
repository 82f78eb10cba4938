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
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, REAL, UUID
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

__all__ = [
    "METADATA",
    "accepted_origin",
    "applied_message",
    "attempt",
    "attribute_schema",
    "audit_event",
    "civil_event",
    "compiled",
    "data_key",
    "delivery",
    "message",
    "outbox",
    "person",
    "person_identifier",
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


def _integer(name: str) -> Column[Any]:
    return Column(name, Integer, nullable=False)


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
    Column("redelivered", Boolean, nullable=False),
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
)

person = Table(
    "person",
    METADATA,
    _uuid("id", key=True),
    _text("status"),
    _text("sex", nullable=True),
    Column("birthdate", Date, nullable=True),
    Column("birthdate_not_exact", Boolean, nullable=False),
    Column("deathdate", Date, nullable=True),
    _text("marital_status", nullable=True),
    _big("key_id"),
    _bytes("sealed"),
    _integer("version"),
    _text("source"),
    _uuid("message_id"),
    _at("created_at"),
    _at("updated_at"),
)

person_identifier = Table(
    "person_identifier", METADATA, _bytes("value_hash", key=True), _uuid("person_id"), _text("type")
)

civil_event = Table(
    "civil_event",
    METADATA,
    _uuid("id", key=True),
    _uuid("person_id"),
    _text("event_type"),
    Column("event_date", Date, nullable=True),
    _text("source"),
    _big("key_id"),
    _bytes("sealed"),
    _at("recorded_at"),
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
