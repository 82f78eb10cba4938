"""What routing asks of the code that reaches an outside system, and what comes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from canonical_model.message import Message


class Repeat(StrEnum):
    """How a target treats a message it has seen before."""

    RECOGNISED = "recognised"
    """The target recognises the id and does nothing twice: an unknown outcome may be sent again."""
    ASK = "ask"
    """The target can be asked what became of a message: an unknown outcome is asked, never blindly sent again."""
    NEVER = "never"
    """Neither: an unknown outcome is parked for a person."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and reply with an outside system, redacted: no personal data, no secrets, no query strings."""

    method: str
    address: str
    status: str
    started_at: datetime
    seconds: float
    request_bytes: int = 0
    reply_bytes: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The target's word that it has a message."""

    reference: str | None = None
    """The target's own id for what was sent, when it gives one that names no person."""
    exchanges: Sequence[Exchange] = ()
    produced: Sequence[Message] = ()
    """Messages the answer gave rise to; recorded in the same statement as the delivery."""
    told: Sequence[Message] = field(default=(), repr=False)
    """Messages only for who waits for the answer of a question: handed on, recorded nowhere."""


class Target(Protocol):
    """A configured, opened connector as the worker sees it."""

    name: str
    connector: str
    repeat: Repeat
    concurrency: int
    timeout: float
    """Seconds one send may take at most, whatever deadline it is given."""

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Send one message; `deadline` is in seconds of the running loop's clock."""
        ...

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Say what became of an earlier send: a receipt, None when it never arrived, `Unknown` when still unclear."""
        ...


class TargetDirectory(Protocol):
    """Finds an open target by its configured name."""

    def get(self, name: str) -> Target:
        """Return the target; raises `ConfigError` when no such target is configured."""
        ...


Json = dict[str, Any]
