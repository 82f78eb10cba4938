"""Live pages: one look at the database every two seconds, however many people watch."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final

import asyncpg

from canonical_model.errors import Unavailable
from registry.logs import log
from registry.storage.database import GONE

__all__ = ["SUBSCRIBERS", "Pulse"]

_LOG = logging.getLogger(__name__)
SUBSCRIBERS: Final = 200
"""Most pages that are live at a time in one process; further ones are told to reload by hand."""
INTERVAL: Final = 2.0

# A change of any delivery moves one of these: a new one the sequence, an ended one the audit trail, an attempt the rest.
# That somebody looked is no change: a page that renews itself would otherwise go on for ever.
# The rest is bounded, so that a long backlog costs no more than a short one; it then changes in the other two anyway.
_MARK: Final = """
SELECT (SELECT last_value FROM delivery_seq) AS made,
       (SELECT id FROM audit_event WHERE action NOT LIKE 'read.%' AND action NOT LIKE 'auth.%' ORDER BY id DESC LIMIT 1) AS audited,
       count(*) AS live, coalesce(sum(attempts), 0) AS attempts, count(*) FILTER (WHERE state = 'sending') AS sending
FROM (SELECT attempts, state FROM delivery WHERE ended_at IS NULL LIMIT 5000) AS under_way
"""


class Pulse:
    """Tells its subscribers when something changed; looks only while somebody watches."""

    def __init__(self, pool: asyncpg.Pool, interval: float = INTERVAL) -> None:
        self._pool = pool
        self._interval = interval
        self._watchers: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self.closed = False

    def subscribe(self) -> asyncio.Event:
        """Return an event that is set at every change; raises `Unavailable` when too many watch already."""
        if len(self._watchers) >= SUBSCRIBERS:
            raise Unavailable(
                "Too many pages are live at the moment.",
                code="console-busy",
                remedy="Reload the page to see what changed.",
                retry_after=30,
            )
        event = asyncio.Event()
        self._watchers.add(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="console-pulse")
        return event

    def unsubscribe(self, event: asyncio.Event) -> None:
        """Stop telling this subscriber."""
        self._watchers.discard(event)

    async def close(self) -> None:
        """Stop looking and let every stream end."""
        self.closed = True
        for event in self._watchers:
            event.set()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        before: tuple[object, ...] | None = None
        lately = False
        while self._watchers:
            try:
                row = await self._pool.fetchrow(_MARK, timeout=10)
            except (asyncpg.PostgresError, *GONE) as error:
                log(_LOG, logging.WARNING, "console-pulse-waits", error=error)
            else:
                now = tuple(row) if row is not None else ()
                # The first look tells too, since a page may have been read before it; and a change is told once more, since
                # the flows a page was just given may be a second old.
                changed = now != before
                if changed or lately:
                    for event in self._watchers:
                        event.set()
                before, lately = now, changed
            await asyncio.sleep(self._interval)
