"""Operations: each declared once, from which both the route and its OpenAPI description are made."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel

from adapters.http.security.partners import Partner, Scope
from canonical_model.errors import Defect, HubError

Schema = type[BaseModel] | Mapping[str, Any]
"""A pydantic model, or a JSON Schema where no model exists."""
_PARAMETER: Final = re.compile(r"\{(\w+)\}")


class Body(Enum):
    """How the pipeline treats a request body."""

    NONE = "none"
    WHOLE = "whole"
    """Read into memory before the handler runs, within the size and time limits."""
    STREAM = "stream"
    """Left to the handler, which keeps the limits itself."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of an operation: what it means, its body by media type, the headers it adds."""

    description: str
    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    example: Any = None


class Call:
    """One request on its way through the pipeline: who calls, with which rights and which checked body and query."""

    __slots__ = (
        "_more",
        "_partner",
        "body",
        "common",
        "headers",
        "operation",
        "query",
        "request_id",
        "roles",
        "scopes",
        "user",
    )

    def __init__(self, operation: Operation, request_id: str) -> None:
        self.operation = operation
        self.request_id = request_id
        self._partner: Partner | None = None
        self._more: Callable[[int], Mapping[str, str]] | None = None
        self.scopes: frozenset[str] = frozenset()
        self.user: str | None = None
        """The person or account that calls through the partner, where the token names one."""
        self.roles: frozenset[str] = frozenset()
        """The roles in which the caller may agree to something."""
        self.body = b""
        self.query: BaseModel | None = None
        self.headers: dict[str, str] = {}
        """Headers that go onto whatever answer this request gets."""
        self.common: Mapping[str, str] = {}
        """Headers of every answer of the operation, for a handler that sends its answer itself."""

    @property
    def partner(self) -> Partner:
        """The calling partner; raises `Defect` in an operation that needs no token."""
        if self._partner is None:
            raise Defect("An operation that needs no token asked who calls.")
        return self._partner

    def identify(
        self,
        partner: Partner,
        scopes: frozenset[str],
        user: str | None = None,
        roles: frozenset[str] = frozenset(),
    ) -> None:
        """Record who calls and which scopes and roles count: those of the token that the partner still has."""
        self._partner = partner
        self.scopes = scopes
        self.user = user
        # A partner that calls for itself has the roles of its record; a user has those of the token among them.
        self.roles = partner.roles if user is None else roles & partner.roles

    def limit(self, more: Callable[[int], Mapping[str, str]]) -> None:
        """Record what takes further messages from the caller's bucket and returns the RateLimit headers."""
        self._more = more

    def count_messages(self, count: int) -> None:
        """Charge a request that carries `count` messages; its first is paid for already.

        Raises `RequestRefused` (`rate-limited`) when they are more than the caller may send now.
        """
        if self._more is not None and count > 1:
            self.headers.update(self._more(count - 1))

    @property
    def known(self) -> bool:
        """Whether the caller has been identified."""
        return self._partner is not None


Handler = Callable[[web.Request, Call], Awaitable[web.StreamResponse]]
ErrorRenderer = Callable[[web.BaseRequest, str, HubError], web.Response]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method on one path. `problems` are the codes it may answer.

    `scope` None means that no token is needed, or with `identified` that any token will do: the handler asks for scopes.
    """

    name: str
    method: str
    path: str
    summary: str
    handler: Handler
    tag: str
    scope: Scope | None = None
    identified: bool = False
    description: str = ""
    requests: Mapping[str, Schema] = field(default_factory=dict)
    answers: Mapping[int, Answer] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that matter to it, and what they do."""
    body: Body = Body.NONE
    body_limit: int | None = None
    produces: tuple[str, ...] = ("application/json",)
    example: Any = None
    render: ErrorRenderer | None = None
    """How refusals are written where a standard has its own form; problem+json otherwise."""
    trust_loopback: bool = False
    """Whether a caller on this machine needs no token."""
    browser: bool = False
    """Whether the answer is a page for a person, with styles of its own."""

    short: bool = False
    """Whether the handler needs neither the parts of the path nor the application, so that no route has to be found."""

    @property
    def guarded(self) -> bool:
        """Whether a token is needed."""
        return self.scope is not None or self.identified

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names in the path."""
        return tuple(_PARAMETER.findall(self.path))


OPERATIONS: Final = web.AppKey("operations", list[Operation])
"""The operations of an application, in the order in which they were added."""
