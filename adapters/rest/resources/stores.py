"""Stores that several resources share: of what is only ever added to, and of types a country declares."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from adapters.http.problems import RequestRefused
from adapters.rest.resources.declaration import Connection, Viewer

Put = Callable[[Connection, Any], Awaitable[object]]
"""Makes or changes a type; raises `Refused`."""


class Unchanging:
    """The store of entries that are made and never changed; who derives from it makes them."""

    def __init__(self, instead: str) -> None:
        self._instead = instead

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: Any, seen: Mapping[str, Any]
    ) -> None:
        """Refuse (`method-not-allowed`)."""
        raise RequestRefused(self._instead, code="method-not-allowed")

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        """Refuse (`method-not-allowed`)."""
        raise RequestRefused(self._instead, code="method-not-allowed")


class DeclaredTypes:
    """The store of types by their name (`id` of the entry, `column` of `table`): made, changed, switched off, never deleted."""

    def __init__(self, table: str, column: str, put: Put) -> None:
        self._there = f"SELECT true FROM {table} WHERE {column} = $1"
        self._put = put

    async def create(self, connection: Connection, viewer: Viewer, entry: Any) -> str:
        """Declare a type; raises `RequestRefused` (`resource-exists`)."""
        name: str = entry.id
        if await connection.fetchval(self._there, name):
            raise RequestRefused(
                "There is a type of this name. Nothing was changed.", code="resource-exists", pointer="/id"
            )
        await self._put(connection, entry)
        return name

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: Any, seen: Mapping[str, Any]
    ) -> None:
        """Give a type other terms; its name stays."""
        if entry.id != key:
            raise RequestRefused(
                "The name of a type cannot be changed. Nothing was changed.",
                code="request-invalid",
                pointer="/id",
            )
        await self._put(connection, entry)

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        """Refuse (`method-not-allowed`)."""
        raise RequestRefused("A type is switched off, never deleted.", code="method-not-allowed")
