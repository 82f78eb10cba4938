"""The tables of messages and how they travel as SQLAlchemy Core metadata."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, SmallInteger, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, REAL

from registry.storage.metadata import METADATA, at, big, bytes_, flag, integer, small, text_, uuid_

__all__ = [
    "accepted_origin",
    "applied_message",
    "attempt",
    "delivery",
    "idempotency_key",
    "job",
    "message",
    "outbox",
    "worker",
]

accepted_origin = Table(
    "accepted_origin",
    METADATA,
    bytes_("origin_hash", key=True),
    bytes_("body_hash"),
    uuid_("message_id"),
    at("accepted_at"),
)

message = Table(
    "message",
    METADATA,
    uuid_("id", key=True),
    text_("partner"),
    text_("type"),
    at("time"),
    at("accepted_at"),
    bytes_("origin_hash", nullable=True),
    bytes_("subject_hash", nullable=True),
    bytes_("correlation_hash", nullable=True),
    text_("traceparent", nullable=True),
    text_("request_id", nullable=True),
    big("key_id"),
    bytes_("body", nullable=True),
    text_("claim", nullable=True),
    integer("size"),
    small("routes"),
)

delivery = Table(
    "delivery",
    METADATA,
    uuid_("id", key=True),
    big("seq"),
    uuid_("message_id"),
    text_("route"),
    integer("route_version"),
    text_("target"),
    text_("mapping", nullable=True),
    bytes_("order_key", nullable=True),
    text_("state"),
    small("attempts"),
    at("next_at", nullable=True),
    uuid_("worker", nullable=True),
    at("claimed_at", nullable=True),
    at("held_until", nullable=True),
    at("pointed_at"),
    text_("code", nullable=True),
    text_("reason", nullable=True),
    text_("reference", nullable=True),
    uuid_("replay_of", nullable=True),
    small("replays"),
    Column("visible", ARRAY(Text), nullable=True),
    at("created_at"),
    at("ended_at", nullable=True),
)

attempt = Table(
    "attempt",
    METADATA,
    uuid_("delivery_id", key=True),
    small("number", key=True),
    uuid_("message_id"),
    at("started_at", key=True),
    Column("seconds", REAL, nullable=False),
    text_("outcome"),
    text_("code", nullable=True),
    text_("detail", nullable=True),
    integer("route_version"),
    text_("mapping", nullable=True),
    uuid_("worker"),
    Column("exchanges", JSONB, nullable=True),
)

outbox = Table(
    "outbox",
    METADATA,
    big("id", key=True),
    uuid_("delivery_id"),
    uuid_("message_id"),
    text_("route"),
    text_("traceparent", nullable=True),
    at("available_at"),
    uuid_("taken_by", nullable=True),
    at("taken_at", nullable=True),
    flag("redelivered"),
)

worker = Table("worker", METADATA, uuid_("id", key=True), text_("role"), at("started_at"), at("seen_at"))

applied_message = Table("applied_message", METADATA, uuid_("message_id", key=True), at("applied_at"))

idempotency_key = Table(
    "idempotency_key",
    METADATA,
    text_("partner", key=True),
    bytes_("key_hash", key=True),
    bytes_("body_hash"),
    Column("status", SmallInteger, nullable=True),
    text_("location", nullable=True),
    Column("key_id", BigInteger, nullable=True),
    bytes_("sealed", nullable=True),
    at("made_at"),
)

job = Table(
    "job",
    METADATA,
    uuid_("id", key=True),
    text_("kind"),
    text_("state"),
    text_("actor"),
    text_("once", nullable=True),
    Column("params", JSONB, nullable=False),
    Column("position", JSONB, nullable=True),
    big("done"),
    Column("total", BigInteger, nullable=True),
    Column("result", JSONB, nullable=True),
    Column("error", JSONB, nullable=True),
    Column("cancel", Boolean, nullable=False),
    uuid_("worker", nullable=True),
    at("beat_at", nullable=True),
    at("created_at"),
    at("started_at", nullable=True),
    at("ended_at", nullable=True),
    small("attempts"),
    at("next_at", nullable=True),
    at("claimed_at", nullable=True),
    big("claimed_done"),
)
