"""A people store in memory that recognises repeats like the real one, and fails as its database can."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.message import Message, new_traceparent
from connectors.errors import Refused, Unavailable
from connectors.testing.sandbox import Mode, Seen

_MAX_KEPT: Final = 10_000


def example_message() -> Message:
    """Return a message about a made-up person."""
    subject = {
        "identifiers": [{"id_type": "UIN", "value": "ZM-4411-7723"}],
        "names": [{"full_name": "Zuleika Marker"}],
        "contact_points": [{"kind": "mobile", "value": "+999555012345"}],
    }
    return Message(
        source="/sandbox",
        type="org.openspp.civil_event.registered.v1",
        subject="person/ZM-4411-7723",
        traceparent=new_traceparent(),
        data={"event_type": "birth", "subject": subject, "event_date": "2026-10-01"},
    )


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one message in the sandbox."""

    created: bool
    changed: bool
    repeated: bool
    disputed: str | None = None


class RegistrySandbox:
    """Stands where the hub's own store would: hand `services()` to the connector's context."""

    def __init__(self) -> None:
        self.received: list[Seen] = []
        self.busiest = 0
        self._effects: dict[str, None] = {}
        self._inside = 0
        self._running = False
        self._mode, self._seconds = Mode.OK, 0.0
        self._retry_after: int | None = None
        self._stopping = asyncio.Event()

    async def start(self) -> None:
        """Take messages from now on."""
        self._stopping = asyncio.Event()
        self._running = True

    async def stop(self) -> None:
        """Fail every message like a database that is gone; safe to call twice."""
        self._running = False
        self._stopping.set()

    def settings(self) -> dict[str, Any]:
        """Return the settings of a registry target: none."""
        return {}

    def services(self) -> Mapping[str, Any]:
        """Return the services a registry target finds this sandbox in."""
        return {"people": self, "programs": self}

    def secrets(self) -> Sequence[str]:
        """Return nothing: a registry target has no secrets."""
        return ()

    def effects(self) -> Sequence[str]:
        """Return the ids applied, each once."""
        return tuple(self._effects)

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next messages in this way; a database has no `status`."""
        self._mode, self._seconds, self._retry_after = mode, seconds, retry_after

    async def upsert(
        self, person: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Take a person."""
        return await self._take(person, message_id)

    async def upsert_group(
        self, household: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Take a household."""
        return await self._take(household, message_id)

    async def record_event(
        self, event: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Take a civil event."""
        return await self._take(event, message_id)

    async def apply_result(
        self, result: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Take the result of a payment."""
        return await self._take(result, message_id)

    async def apply_result_chunk(
        self, results: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Take the results of many payments."""
        return await self._take(results, message_id)

    async def apply_decision(
        self, result: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> Done:
        """Take what an outside service decided."""
        return await self._take(result, message_id)

    async def was_applied(self, message_id: UUID) -> bool:
        """Say whether a message took effect."""
        self._alive()
        return str(message_id) in self._effects

    async def probe(self) -> None:
        """Fail when stopped."""
        self._alive()

    def _alive(self) -> None:
        if not self._running:
            raise ConnectionRefusedError(111, "Connect call failed")

    async def _take(self, data: Mapping[str, Any], message_id: UUID) -> Done:
        self._alive()
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            # A real store gives way to other callers too; without it nothing here would ever be under way twice.
            await asyncio.sleep(0)
            return await self._apply(data, message_id)
        finally:
            self._inside -= 1

    async def _apply(self, data: Mapping[str, Any], message_id: UUID) -> Done:
        mode = self._mode
        if mode is Mode.REFUSE:
            raise Refused(f"Message {message_id} names no valid identifier.", code="identifier-missing")
        if mode is Mode.STATUS and self._retry_after is not None:
            # What the store itself says when other writers were faster too often.
            raise Unavailable("Other writers were faster.", code="people-busy", retry_after=self._retry_after)
        if mode is Mode.STATUS:
            raise asyncpg.TooManyConnectionsError("sorry, too many clients already")
        repeated = str(message_id) in self._effects
        self._keep(data, str(message_id))
        if mode in (Mode.SLOW, Mode.HANG):
            await self._wait(self._seconds if mode is Mode.SLOW else None)
        if mode is Mode.CLOSE_AFTER_BODY or (mode is Mode.HANG and not self._running):
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if mode is Mode.GARBAGE:
            raise asyncpg.InternalClientError("unexpected message type '\\x00'")
        return Done(created=not repeated, changed=not repeated, repeated=repeated)

    def _keep(self, data: Mapping[str, Any], message_id: str) -> None:
        self.received.append(Seen(message_id, orjson.dumps(dict(data)), {}))
        self._effects[message_id] = None
        if len(self.received) > _MAX_KEPT:
            del self.received[0]
            del self._effects[next(iter(self._effects))]

    async def _wait(self, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return
