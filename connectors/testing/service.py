"""The frame of a sandbox that stands for a service of the hub itself, in the process of who tries the connector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from connectors.testing.sandbox import Mode, Seen

_MAX_KEPT: Final = 10_000


class ServiceSandbox:
    """Keeps what arrived and took effect, and the mode; who derives from it has the service's calls and `services()`."""

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

    def effects(self) -> Sequence[str]:
        """Return the ids of the messages that took effect, each once."""
        return tuple(self._effects)

    def switch(
        self, mode: Mode, *, status: int | None = None, seconds: float = 0.0, retry_after: int | None = None
    ) -> None:
        """Treat the next messages in this way; a database has no `status`."""
        self._mode, self._seconds, self._retry_after = mode, seconds, retry_after

    @asynccontextmanager
    async def _in_hand(self) -> AsyncIterator[None]:
        self._inside += 1
        self.busiest = max(self.busiest, self._inside)
        try:
            # A real store gives way to other callers too; without it nothing here would ever be under way twice.
            await asyncio.sleep(0)
            yield
        finally:
            self._inside -= 1

    def _keep(self, message_id: str, body: bytes) -> None:
        self.received.append(Seen(message_id, body, {}))
        self._effects[message_id] = None
        if len(self.received) > _MAX_KEPT:
            del self.received[0]
            del self._effects[next(iter(self._effects))]

    async def _linger(self) -> None:
        """Answer as late as the mode says, at the latest when stopped."""
        if self._mode not in (Mode.SLOW, Mode.HANG):
            return
        try:
            async with asyncio.timeout(self._seconds if self._mode is Mode.SLOW else None):
                await self._stopping.wait()
        except TimeoutError:
            return
