"""The driver: hands a target's transfers to its rail within bounds, and asks about what is overdue."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import asyncpg

from connectors.errors import HubError
from connectors.payments.contract import Bounds, Rail, Transfer
from registry.logs import log

_LOG = logging.getLogger("openspp.payments")
_POLL: Final = 1.0
_AWAY: Final = 5.0


class Source(Protocol):
    """What a driver asks of the ledger: `routing.ledger.Books`."""

    changed: dict[str, asyncio.Event]

    async def take(self, target: str, bounds: Bounds) -> tuple[list[Transfer], dict[str, list[Transfer]]]:
        """Return transfers to begin with, and by institution those to go on with, leased to the caller."""

    async def overdue(self, target: str, limit: int = 200) -> list[Transfer]:
        """Return transfers whose time has come."""


class Place(Protocol):
    """Where a rail is found once its target is open: `connectors.runtime.OpenTarget`."""

    async def ready(self) -> None:
        """Open the target unless it is open; raises `Unavailable` while its system is away."""

    @property
    def rail(self) -> Any:
        """The rail of the target."""


class Opened:
    """A place whose rail is open already."""

    def __init__(self, rail: Rail) -> None:
        self.rail = rail

    async def ready(self) -> None:
        """Do nothing: who made the rail has opened it."""


class Driver:
    """Drives one target; several processes may drive the same, since the ledger leases what it gives out.

    A rail that fails leaves its rows to the lease: they come again, or are overdue and asked about. `poll` is after how many
    seconds without news it looks for what is overdue. As a context manager it drives from the entry to the exit.
    """

    def __init__(
        self,
        target: str,
        source: Source,
        place: Place,
        *,
        settle: Callable[[str], Awaitable[bool]] | None = None,
        poll: float | None = None,
    ) -> None:
        self.target = target
        self._poll = poll
        self._source, self._place, self._settle = source, place, settle
        self._event = source.changed.setdefault(target, asyncio.Event())
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to drive in a task of its own."""
        self._task = asyncio.create_task(self._run(), name=f"pay-{self.target}")

    async def stop(self) -> None:
        """Take nothing more; what is under way is in the ledger."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def __aenter__(self) -> Driver:
        self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _run(self) -> None:
        while True:
            wait = _POLL if self._poll is None else self._poll
            self._event.clear()
            try:
                if await self.turn():
                    continue
            except (HubError, asyncpg.PostgresError) as error:
                log(
                    _LOG, logging.WARNING, "payments-wait", target=self.target,
                    code=getattr(error, "code", "database-unavailable"),
                )  # fmt: skip
                wait = _AWAY
            except Exception as error:  # one bad turn of a rail must not end all payments of its target
                log(_LOG, logging.ERROR, "payments-wait", target=self.target, error=error)
                wait = _AWAY
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the event, and stop() would hang.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._event.wait()

    async def turn(self) -> bool:
        """Do what can be done now; say whether anything was taken, so that more may be there."""
        settled = self._settle is not None and await self._settle(self.target)
        await self._place.ready()
        rail: Rail = self._place.rail
        bounds: Bounds = getattr(rail, "bounds", None) or Bounds()
        overdue = await self._source.overdue(self.target)
        if overdue:
            await rail.ask(overdue)
        begin, onward = await self._source.take(self.target, bounds)
        for rows in onward.values():
            await self._hand(rail.go_on, rows, bounds.bulk)
        if begin:
            await rail.begin(begin)
        return bool(overdue or begin or onward or settled)

    @staticmethod
    async def _hand(
        take: Callable[[list[Transfer]], Awaitable[Any]], rows: list[Transfer], most: int
    ) -> None:
        size = most or len(rows)
        for start in range(0, len(rows), size):
            await take(rows[start : start + size])
