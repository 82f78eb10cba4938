"""The connector contract: everything a connector author must know, on one screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar, runtime_checkable

import aiohttp
from pydantic import BaseModel, ConfigDict

from canonical_model.message import Message
from routing.contract import Exchange, Receipt, Repeat

__all__ = [
    "Callback",
    "CallbackAnswer",
    "Connector",
    "Context",
    "Exchange",
    "Health",
    "Manifest",
    "Receipt",
    "Repeat",
    "Settings",
]


class Settings(BaseModel):
    """The settings of one target; secrets are `pydantic.SecretStr` and come from files or the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")


S = TypeVar("S", bound=Settings)


class Manifest(BaseModel):
    """What a connector says of itself (its `manifest.toml`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    version: str
    title: str
    sends: tuple[str, ...]
    """Message types it takes, globs allowed (`org.openspp.civil_event.*`)."""
    receives: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    """API versions of the outside system it was tested with."""
    tier: str = "bronze"
    repeat: Repeat = Repeat.NEVER
    exempt: Mapping[str, str] = {}
    """Properties of the kit it claims not to need, each with the reason."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the target answers, and in words what to do when it does not."""

    ok: bool
    detail: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Callback:
    """What an outside system sent to the hub for one target; `raw` is the body as received, for signatures."""

    path: str
    headers: Mapping[str, str]
    raw: bytes
    query: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"
    """`path` and `query` are what the sender signed: the path as it came, percent signs and all."""


@dataclass(frozen=True, slots=True)
class CallbackAnswer:
    """What a callback is answered with, where the protocol has words of its own for it; `answer` of a connector gives it."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Context:
    """What the runtime lends a connector: its target's name, the shared HTTP session and the hub's services."""

    target: str
    http: aiohttp.ClientSession
    services: Mapping[str, Any] = field(default_factory=dict)
    """Named services of the composition root (for example `people`, the hub's own store, for the `registry` connector)."""


@runtime_checkable
class Connector(Protocol):
    """Code through which the hub calls one outside system."""

    manifest: ClassVar[Manifest]
    settings_model: ClassVar[type[Settings]]

    def __init__(self, settings: Any) -> None: ...

    async def open(self, ctx: Context) -> None:
        """Prove the connection before it is used; raises `ConfigError` or `Unavailable`."""

    async def close(self) -> None:
        """Release everything `open` took; safe to call twice."""

    async def probe(self) -> Health:
        """Ask the target how it is, without side effects."""

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Send one canonical message before `deadline` (seconds of the loop's clock); raises from `connectors.errors`."""

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Say what became of an earlier send: a receipt, None if it never arrived; raises `Unknown` while unclear."""

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Turn a callback of the target into messages.

        A connector whose target wants an answer in its own form has `answer(callback) -> CallbackAnswer` besides; one that
        pays has `rail`, which the worker drives.
        """
