"""One connection in the place of a pool, so that a service works in a transaction somebody holds already."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import asyncpg
from asyncpg.pool import PoolConnectionProxy

Connection = asyncpg.Connection | PoolConnectionProxy


class _Held:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self, **_: Any) -> AsyncIterator[Connection]:
        yield self._connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def held(connection: Connection) -> asyncpg.Pool:
    """Return what services take for a pool and is this one connection: their transactions are parts of the one it is in."""
    return cast("asyncpg.Pool", _Held(connection))
