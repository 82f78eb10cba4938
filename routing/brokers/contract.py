"""What a broker must do; `rabbitmq` and `postgres` both pass the same behavioural suite."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Parcel:
    """The pointer to one delivery that travels through the broker; it carries no personal data."""

    delivery_id: UUID
    message_id: UUID
    route: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """Only `traceparent` and technical flags."""


class Received(Protocol):
    """One parcel in a worker's hands; it must be settled exactly once."""

    parcel: Parcel
    redelivered: bool

    def ack(self) -> None:
        """Say that the parcel is dealt with; returns at once, sent in the background."""

    def retry(self, delay: float) -> None:
        """Give it back to be delivered again after at least `delay` seconds (rounded up to a tier)."""

    def reject(self, reason: str) -> None:
        """Give it up to the broker's dead-letter queue: unreadable, unknown route."""


class Consumer(Protocol):
    """A running subscription."""

    async def cancel(self) -> None:
        """Stop taking parcels; those in hand may still be settled."""


Handler = Callable[[Received], Awaitable[None]]


class Broker(Protocol):
    """Carries parcels from the outbox to the workers, at least once."""

    name: str

    async def open(self) -> None:
        """Connect and prove the connection; raises `Unavailable` or `ConfigError`."""

    async def close(self) -> None:
        """Stop consumers, wait for pending confirms (bounded), disconnect."""

    async def declare(self, routes: Sequence[str]) -> None:
        """Make the topology for these routes; safe to repeat, never destroys."""

    async def publish(self, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """Hand parcels over; return those durably confirmed. Raises `Unavailable` when the broker cannot be reached."""

    async def consume(self, route: str, handler: Handler, *, prefetch: int) -> Consumer:
        """Call `handler` for each parcel of a route, at most `prefetch` unsettled at a time; survives reconnects."""

    async def depth(self, route: str) -> int:
        """Return how many parcels wait on a route."""

    async def healthy(self) -> bool:
        """Say whether parcels can be published now."""
