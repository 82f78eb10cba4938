"""What tables are written down with: the metadata they share, columns by type, and statements as asyncpg takes them."""

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
    Text,
)
from sqlalchemy.dialects.postgresql import JSONB, UUID
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ClauseElement

METADATA: Final = MetaData()
_DIALECT: Final[Dialect] = PGDialect_asyncpg()  # type: ignore[no-untyped-call]


def uuid_(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    """Return a column of a UUID."""
    return Column(name, UUID(as_uuid=True), nullable=nullable, primary_key=key)


def text_(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    """Return a column of text."""
    return Column(name, Text, nullable=nullable, primary_key=key)


def bytes_(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    """Return a column of bytes."""
    return Column(name, LargeBinary, nullable=nullable, primary_key=key)


def at(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    """Return a column of an instant."""
    return Column(name, DateTime(timezone=True), nullable=nullable, primary_key=key)


def small(name: str, *, key: bool = False) -> Column[Any]:
    """Return a column of an integer of 16 bits."""
    return Column(name, SmallInteger, nullable=False, primary_key=key, autoincrement=False)


def integer(name: str, *, nullable: bool = False, key: bool = False) -> Column[Any]:
    """Return a column of an integer of 32 bits."""
    return Column(name, Integer, nullable=nullable, primary_key=key, autoincrement=False)


def day(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a column of a date."""
    return Column(name, Date, nullable=nullable)


def json_(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a column of JSON that is compared by value."""
    return Column(name, JSONB, nullable=nullable)


def flag(name: str, *, nullable: bool = False) -> Column[Any]:
    """Return a column of a boolean."""
    return Column(name, Boolean, nullable=nullable)


def big(name: str, *, key: bool = False) -> Column[Any]:
    """Return a column of an integer of 64 bits."""
    return Column(name, BigInteger, nullable=False, primary_key=key)


def compiled(statement: ClauseElement) -> tuple[str, list[Any]]:
    """Return the SQL text with `$1` places and its arguments in order, for asyncpg."""
    result = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    places = result.positiontup or []  # type: ignore[attr-defined]
    return str(result), [result.params[name] for name in places]
