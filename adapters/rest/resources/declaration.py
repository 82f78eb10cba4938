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
SqlType = Literal["text", "uuid", "integer", "bigint", "timestamptz", "date", "boolean", "real"]
_READ: Final[Mapping[str, Callable[[Any], Any]]] = {
    "text": str,
    "uuid": UUID,
    "integer": int,
    "bigint": int,
    "timestamptz": datetime.fromisoformat,
    "date": date.fromisoformat,
    "boolean": bool,
    "real": float,
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
    user: str | None = None
    """Who calls through the partner, where the token names a person or account of its own."""
    roles: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The partner's name."""
        return self.partner.name

    @property
    def actor(self) -> str:
        """Who acts, as approvals and the audit trail name them: the partner, and the user behind it where there is one."""
        return self.name if self.user is None else f"{self.name}/{self.user}"


@dataclass(frozen=True, slots=True)
class Filter:
    """One query parameter: its type, what it means, and the condition it becomes (`{}` is the place of its value)."""

    sql: str
    annotation: Any
    description: str
    convert: Callable[[Any], Any] | None = None
    """Makes what the condition compares of the value given."""
    needed: bool = False
    """Whether a list cannot do without it: the whole of it is nobody's question, and has no index."""


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

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: Any, seen: Mapping[str, Any]
    ) -> None:
        """Give an entry other values and the next version; its row is locked, or checked against the one `seen`."""
        ...

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        """Remove an entry; raises `Refused` where something else needs it."""
        ...


@dataclass(frozen=True, slots=True)
class Doing:
    """One deed under way: the transaction it is part of, who asks, the entry as it is, the checked body and query."""

    connection: Connection
    viewer: Viewer
    row: Mapping[str, Any]
    body: Any
    query: Any
    language: str


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a write, whichever way it came in."""

    status: int
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What is done with an entry, or with the list as a whole, at `/v1/NAME/{id}/$WORD` or `/v1/NAME/$WORD`.

    It is done in one transaction with the record of its Idempotency-Key. `apart` is for work that keeps a refusal too and so
    needs transactions of its own: a repeat is then told by the state it left. With `method` GET it only answers.
    """

    word: str
    summary: str
    do: Callable[[Doing], Awaitable[Reply]]
    answer: type[BaseModel]
    scope: Scope
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    item: bool = True
    job: bool = False
    """Whether it begins long work: 202 with the job and where it is."""
    made: bool = False
    """Whether it makes something: 201."""
    method: Literal["GET", "POST"] = "POST"
    apart: bool = False
    problems: tuple[str, ...] = ()
    description: str = ""
    example: Any = None
    produces: tuple[str, ...] = ("application/json",)


Visible = Callable[[Viewer, Args], str | None]
"""Returns the condition under which a viewer sees a row, None for every row."""
Current = Callable[[Connection, Viewer, Mapping[str, Any]], Awaitable[Mapping[str, Any]]]
"""Returns an entry as it would be written, for a patch of what an answer does not show whole."""
Gather = Callable[[Viewer, Any], Awaitable[Any]]
"""Makes one entry of a body together with others that come at the same time."""
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
    person: str = "id"
    """The column by which the witness is told whose entry is shown."""
    headers: Callable[[Viewer], Mapping[str, str]] | None = None
    shape: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    """Makes an entry of a row whose columns are others than the members of the model."""
    entry: type[BaseModel] | None = None
    store: Store | None = None
    stays: Visible | None = None
    """The condition that holds of an entry after a write of the viewer; None for the one under which it is seen."""
    current: Current | None = None
    gather: Gather | None = None
    refusals: tuple[str, ...] = ()
    """Codes its store may refuse with, beside those of every resource."""
    changeable: bool = True
    """Whether an entry that can be made can also be replaced and patched."""
    deletable: bool = False
    single: bool = True
    """Whether one entry has an address of its own."""
    deeds: tuple[Deed, ...] = ()
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
