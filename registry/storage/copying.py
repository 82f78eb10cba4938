"""Rows in the binary form of COPY, made without a connection: by another process, or while the database does something else.

The form is PostgreSQL's (manual, COPY, "Binary Format"): a signature, for each row the number of its fields and for each
field its length and its bytes as the type's receive function takes them, all integers in network order.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from struct import Struct
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

Connection = asyncpg.Connection | PoolConnectionProxy
_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_EPOCH: Final = date(2000, 1, 1).toordinal()
_START: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_EVER: Final = date.min
_count: Final = Struct(">h").pack
_length: Final = Struct(">i").pack
_int2: Final = Struct(">ih").pack
_int4: Final = Struct(">ii").pack
_int8: Final = Struct(">iq").pack
_ARRAY: Final = Struct(">iiiii")
"""Of a one-dimensional array without nulls: dimensions, flags, type of the elements, their number, the first index."""
_TEXT: Final = 25
_INT4: Final = 23
_INT8: Final = 20

_PIECE: Final = 1 << 18

NULL: Final = b"\xff\xff\xff\xff"
TRUE: Final = b"\x00\x00\x00\x01\x01"
FALSE: Final = b"\x00\x00\x00\x01\x00"
_UUID: Final = b"\x00\x00\x00\x10"


def row(fields: Sequence[bytes]) -> bytes:
    """Return a row of fields that the functions below made."""
    return b"".join((_count(len(fields)), *fields))


def uuid(value: UUID | None) -> bytes:
    """Return a field of the type uuid."""
    return NULL if value is None else _UUID + value.bytes


def raw(value: bytes | None) -> bytes:
    """Return a field of the type bytea."""
    return NULL if value is None else _length(len(value)) + value


def text(value: str | None) -> bytes:
    """Return a field of the type text."""
    if value is None:
        return NULL
    told = value.encode()
    return _length(len(told)) + told


def boolean(value: bool | None) -> bytes:
    """Return a field of the type boolean."""
    return NULL if value is None else TRUE if value else FALSE


def smallint(value: int) -> bytes:
    """Return a field of the type smallint."""
    return _int2(2, value)


def integer(value: int | None) -> bytes:
    """Return a field of the type integer."""
    return NULL if value is None else _int4(4, value)


def bigint(value: int | None) -> bytes:
    """Return a field of the type bigint."""
    return NULL if value is None else _int8(8, value)


def day(value: date | None) -> bytes:
    """Return a field of the type date; the first day Python knows stands for `-infinity`, as in asyncpg."""
    if value is None:
        return NULL
    return _int4(4, -(2**31) if value == _EVER else value.toordinal() - _EPOCH)


def instant(value: datetime | None) -> bytes:
    """Return a field of the type timestamptz."""
    return NULL if value is None else _int8(8, (value - _START) // _MICROSECOND)


def jsonb(value: Any) -> bytes:
    """Return a field of the type jsonb."""
    return raw(b"\x01" + orjson.dumps(value))


def texts(values: Sequence[str]) -> bytes:
    """Return a field of the type text[]."""
    return _array(_TEXT, len(values), b"".join([text(one) for one in values]))


def integers(values: Sequence[int]) -> bytes:
    """Return a field of the type integer[]."""
    return _array(_INT4, len(values), b"".join([_int4(4, one) for one in values]))


def bigints(values: Sequence[int]) -> bytes:
    """Return a field of the type bigint[]."""
    pairs = [part for one in values for part in (8, one)]
    return _array(_INT8, len(values), _pairs(len(values)).pack(*pairs))


@lru_cache(maxsize=4096)
def _pairs(number: int) -> Struct:
    return Struct(">" + "iq" * number)


def _array(kind: int, number: int, elements: bytes) -> bytes:
    if not number:
        return _length(12) + _ARRAY.pack(0, 0, kind, 0, 0)[:12]
    return _length(_ARRAY.size + len(elements)) + _ARRAY.pack(1, 0, kind, number, 1) + elements


async def copy(connection: Connection, table: str, columns: Sequence[str], rows: Iterable[bytes]) -> None:
    """Hand rows to a table; raises what asyncpg raises."""
    whole = b"".join((_SIGNATURE, *rows, _TRAILER))
    # Not as a file: for one, asyncpg makes a class each time, which keeps the file until the collector finds it.
    await connection.copy_to_table(table, source=_pieces(whole), columns=columns, format="binary")


async def _pieces(whole: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(whole), _PIECE):
        yield whole[at : at + _PIECE]
