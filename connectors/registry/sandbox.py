"""A people store in memory that recognises repeats like the real one, and fails as its database can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from canonical_model.message import Message, new_traceparent
from connectors.errors import Refused, Unavailable
from connectors.testing.sandbox import Mode
from connectors.testing.service import ServiceSandbox


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


class RegistrySandbox(ServiceSandbox):
    """Stands where the hub's own store would: hand `services()` to the connector's context."""

    def settings(self) -> dict[str, Any]:
        """Return the settings of a registry target: none."""
        return {}

    def services(self) -> Mapping[str, Any]:
        """Return the services a registry target finds this sandbox in."""
        return {"people": self, "programs": self}

    def secrets(self) -> Sequence[str]:
        """Return nothing: a registry target has no secrets."""
        return ()

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
        async with self._in_hand():
            return await self._apply(data, message_id)

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
        self._keep(str(message_id), orjson.dumps(dict(data)))
        await self._linger()
        if mode is Mode.CLOSE_AFTER_BODY or (mode is Mode.HANG and not self._running):
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if mode is Mode.GARBAGE:
            raise asyncpg.InternalClientError("unexpected message type '\\x00'")
        return Done(created=not repeated, changed=not repeated, repeated=repeated)
