"""What a sandbox offers: a faithful fake of one outside system, with switches for every way it can misbehave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, runtime_checkable


class Mode(StrEnum):
    """How a sandbox treats the next messages."""

    OK = "ok"
    """Take the message and say so."""
    SLOW = "slow"
    """Take the message and say so after `seconds`."""
    STATUS = "status"
    """Answer with `status`; without one, with the system's own word for "try later"."""
    CLOSE_AFTER_BODY = "close_after_body"
    """Take the whole message, then close the connection without an answer."""
    GARBAGE = "garbage"
    """Take the whole message, then answer with bytes that are no answer."""
    HANG = "hang"
    """Take the whole message and never answer."""
    FLOOD = "flood"
    """Take the message and answer with far more than an answer needs (a megabyte or more)."""
    REFUSE = "refuse"
    """Say no to the message for good."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One message that arrived complete; `id` is the id the outside system recognises a repeat by."""

    id: str
    body: bytes
    headers: Mapping[str, str]


@runtime_checkable
class Sandbox(Protocol):
    """A faithful fake of one outside system on a loopback port of its own.

    One that stands for a service of the hub itself also has `services()`: what the connector finds in its context.
    """

    received: list[Seen]
    """Every message that arrived complete, repeats too, oldest first."""
    busiest: int
    """The most messages that were in its hands at one time."""

    async def start(self) -> None:
        """Listen; `settings` is known afterwards."""

    async def stop(self) -> None:
        """Stop listening and drop every connection; safe to call twice."""

    def settings(self) -> dict[str, Any]:
        """Return the settings, secrets included, by which a connector reaches this sandbox."""

    def secrets(self) -> Sequence[str]:
        """Return the secrets among the settings; the kit looks for them where they must not be."""

    def effects(self) -> Sequence[str]:
        """Return the ids that took effect, as the real system would count them (repeats recognised or not)."""

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next messages in this way until switched again."""
