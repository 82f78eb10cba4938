"""What a resource is: declared once, from which its operations, its statements and its description are made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Final, Literal, Protocol
from uuid import UUID

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from pydantic import BaseModel

from adapters.http.security.partners import Partner, Scope

Connection = asyncpg.Connection | PoolConnectionProxy
SqlType = Literal["text", "uuid", "integer", "bigint", "timestamptz", "date", "boolean"]
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": str,
    "uuid": UUID,
    "integer": int,
    "bigint": int,
    "timestamptz": datetime.fromisoformat,
    "date": date.fromisoformat,
    "boolean": bool,
}


def value_of(kind: SqlType, text: Any) -> Any:
    """Return a JSON value as the driver takes it; raises `ValueError` or `TypeError`."""
    return _READ[kind](text)


class Args:
    """The arguments of one statement; `add` returns the place of a new one."""

    def __init__(self, *given: Any) -> None:
        self.values: list[Any] = list(given)

    def add(self, value: Any, kind: str = "") -> str:
        """Take a value and return its place, as `$3` or `$3::text`."""
        self.values.append(value)
        return f"${len(self.values)}::{kind}" if kind else f"${len(self.values)}"


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks, and what of the registry they may see."""

    partner: Partner
    scopes: frozenset[str]
    request_id: str
    purpose: str | None = None

    @property
    def name(self) -> str:
        """The partner's name, which is also the actor of what it does."""
        return self.partner.name


@dataclass(frozen=True, slots=True)
class Filter:
    """One query parameter: its type, what it means, and the condition it becomes (`{}` is the place of its value)."""

    sql: str
    annotation: Any
    description: str
    convert: Callable[[Any], Any] | None = None
    """Makes what the condition compares of the value given."""


@dataclass(frozen=True, slots=True)
class Sort:
    """One key a list can be sorted by; its column holds no null and no personal data, since cursors carry it."""

    sql: str
    kind: SqlType


class Store(Protocol):
    """How a resource is written; every method works in the caller's transaction and raises `Refused`."""

    async def create(self, connection: Connection, viewer: Viewer, entry: Any) -> Any:
        """Make an entry and return its key; raises `Refused` where it is there already."""
        ...

    async def replace(self, connection: Connection, viewer: Viewer, key: Any, entry: Any) -> None:
        """Give an entry other values and the next version; its row is locked."""
        ...

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        """Remove an entry; raises `Refused` where something else needs it."""
        ...


Visible = Callable[[Viewer, Args], str | None]
"""Returns the condition under which a viewer sees a row, None for every row."""
Witness = Callable[[asyncpg.Pool, Viewer, Sequence[Any], bool], Awaitable[None]]
"""Told which keys are about to be shown (or were asked for in vain), before they are; the last says whether as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """One kind of thing at `/v1/NAME` and `/v1/NAME/{id}`.

    `select` is a statement without WHERE whose columns are the members of `model`; `key` and `version` are expressions
    in it. `sorts` begins with the default. `entry` and `store` are there for what can be written, `constant` keeps the answer about what a
    viewer may not see like the one about what is not there, in bytes and in time.
    """

    name: str
    one: str
    tag: str
    model: type[BaseModel]
    select: str
    key: str
    key_kind: SqlType
    not_found: str
    read: Scope
    write: Scope | None = None
    version: str | None = None
    locks: str = ""
    filters: Mapping[str, Filter] = field(default_factory=dict)
    sorts: Mapping[str, Sort] = field(default_factory=dict)
    visible: Visible | None = None
    witness: Witness | None = None
    headers: Callable[[Viewer], Mapping[str, str]] | None = None
    shape: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Makes an entry of a row whose columns are others than the members of the model."""
    entry: type[BaseModel] | None = None
    store: Store | None = None
    refusals: tuple[str, ...] = ()
    """Codes its store may refuse with, beside those of every resource."""
    deletable: bool = False
    constant: bool = False
    purpose: bool = False
    """Whether a query may name the purpose it is for."""

    @property
    def path(self) -> str:
        """Where the list is."""
        return f"/v1/{self.name}"

    @property
    def members(self) -> tuple[str, ...]:
        """The names of what an answer holds."""
        return tuple(self.model.model_fields)
