"""What the HTTP adapters work with: handed in once when the application is built."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from canonical_model.errors import HubError
from canonical_model.message import Message
from registry.settings import HubSettings

if TYPE_CHECKING:
    from datetime import datetime

    import asyncpg
    from aiohttp import web

    from adapters.http.security import Partners, TokenIssuer, TokenVerifier
    from routing.brokers.contract import Broker


@dataclass(frozen=True, slots=True)
class Check:
    """The state of one part the hub needs; `note` names no secret, no address and no person."""

    ok: bool
    note: str = ""


class AcceptedMessage(Protocol):
    """The hub's durable word that it has a message."""

    @property
    def message_id(self) -> UUID:
        """The hub's own id of the message; of a repeat, the id of the first."""
        ...

    @property
    def accepted_at(self) -> datetime:
        """When the message was first accepted."""
        ...

    @property
    def duplicate(self) -> bool:
        """Whether this was a repeat."""
        ...

    @property
    def routes(self) -> int:
        """How many routes took the message."""
        ...


class MessageIntake(Protocol):
    """Where accepted messages go; `routing.intake.Intake` is the real one."""

    async def accept(
        self, message: Message, *, partner: str, raw: bytes, request_id: str | None = None
    ) -> AcceptedMessage:
        """Store a message durably; raises `Refused` (`message-id-reused`, `no-route`) or `Unavailable`."""
        ...

    async def accept_many(
        self, items: Sequence[tuple[Message, bytes]], *, partner: str, request_id: str | None = None
    ) -> Sequence[AcceptedMessage | HubError]:
        """Store several messages; each has its own answer."""
        ...

    async def accept_all(
        self, items: Sequence[tuple[Message, bytes]], *, partner: str, request_id: str | None = None
    ) -> Sequence[AcceptedMessage]:
        """Store several messages or none of them."""
        ...


@dataclass(slots=True)
class Services:
    """Everything a request may need; absent parts are None and the operations that need them are then not offered."""

    settings: HubSettings
    intake: MessageIntake
    partners: Partners
    tokens: TokenVerifier
    issuer: TokenIssuer | None = None
    mappings: Any = None
    pool: asyncpg.Pool | None = None
    broker: Broker | None = None
    checks: Mapping[str, Callable[[], Awaitable[Check]]] = field(default_factory=dict)
    extra: Sequence[Callable[[web.Application, Services], None]] = ()
    dci_namespaces: Sequence[str] = ("dci/crvs",)
    hub: Any = None
    """The composition root itself, for parts that need more of it (trace, replay, console)."""
