"""The tables of areas, code lists, types and schemas as SQLAlchemy Core metadata."""

from __future__ import annotations

from sqlalchemy import Column, Integer, Table, Text
from sqlalchemy.dialects.postgresql import ARRAY, DOUBLE_PRECISION, JSON, JSONB

from registry.storage.metadata import METADATA, at, flag, integer, json_, small, text_

__all__ = [
    "area",
    "attribute_schema",
    "event_type",
    "identifier_type",
    "relationship_type",
    "vocabulary",
    "vocabulary_code",
]

area = Table(
    "area",
    METADATA,
    integer("id", key=True),
    text_("code"),
    integer("parent_id", nullable=True),
    Column("path", ARRAY(Integer), nullable=False),
    small("level"),
    text_("kind", nullable=True),
    Column("names", JSONB, nullable=False),
    Column("alt_names", ARRAY(Text), nullable=False),
    Column("area_sqkm", DOUBLE_PRECISION, nullable=True),
    flag("active"),
    at("updated_at"),
    integer("version"),
)

vocabulary = Table(
    "vocabulary", METADATA, text_("namespace", key=True), json_("names"), flag("standard"), at("updated_at")
)

vocabulary_code = Table(
    "vocabulary_code",
    METADATA,
    text_("namespace", key=True),
    text_("code", key=True),
    json_("names"),
    flag("active"),
    integer("version"),
    at("updated_at"),
)

identifier_type = Table(
    "identifier_type",
    METADATA,
    text_("type", key=True),
    json_("names"),
    text_("kind", nullable=True),
    text_("pattern", nullable=True),
    text_("check_digit", nullable=True),
    flag("active"),
    at("updated_at"),
)

relationship_type = Table(
    "relationship_type",
    METADATA,
    text_("code", key=True),
    json_("names"),
    json_("inverse_names"),
    flag("bidirectional"),
    text_("source_kind", nullable=True),
    text_("destination_kind", nullable=True),
    flag("active"),
)

event_type = Table(
    "event_type",
    METADATA,
    text_("type", key=True),
    json_("names"),
    json_("schema"),
    Column("lasts_days", Integer, nullable=True),
    flag("active"),
    at("updated_at"),
)

attribute_schema = Table(
    "attribute_schema",
    METADATA,
    text_("subject", key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("document", JSON, nullable=False),
    text_("actor"),
    at("applied_at"),
)
