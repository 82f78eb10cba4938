"""The catalog of a running process: read anew when another process applies attributes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any, Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import HubError
from registry.attributes.catalog import KINDS, Catalog
from registry.attributes.store import CHANNEL, load_catalog
from registry.logs import log
from registry.storage.database import GONE

_LOG = logging.getLogger(__name__)
_POLL: Final = 60.0
"""Seconds after which it is read anew in any case: a notification is lost with its connection."""
_AWAY: Final = 2.0


class CatalogWatch:
    """Holds the attributes in force; `declared` is one set for the life of the process, so that who was given it sees changes."""

    def __init__(self, pool: asyncpg.Pool, *, poll: float = _POLL) -> None:
        self._pool, self._poll = pool, poll
        self._wake = asyncio.Event()
        self.catalog = Catalog()
        self.declared: set[str] = set()
        self.watching = asyncio.Event()
        """Set while changes are heard of at once."""

    async def load(self) -> Catalog:
        """Read the attributes in force and return them."""
        catalog = await load_catalog(self._pool)
        names = {name for kind in KINDS for name in catalog.declared(kind)}
        # Without a pause in between, so that nobody sees the set half changed.
        self.declared.difference_update(self.declared - names)
        self.declared.update(names)
        self.catalog = catalog
        return catalog

    async def run(self) -> None:
        """Follow changes until cancelled."""
        listener: PoolConnectionProxy | None = None
        try:
            while True:
                try:
                    if listener is None or listener.is_closed():
                        self.watching.clear()
                        if listener is not None:
                            await self._pool.release(listener)
                            listener = None
                        listener = await self._pool.acquire(timeout=10)
                        await listener.add_listener(CHANNEL, self._woken)
                    self._wake.clear()
                    await self.load()
                    self.watching.set()
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll):
                            await self._wake.wait()
                except (HubError, asyncpg.PostgresError, *GONE) as error:
                    log(_LOG, logging.WARNING, "attributes-wait", error=error)
                    await asyncio.sleep(_AWAY)
        finally:
            if listener is not None:
                with contextlib.suppress(*GONE, asyncpg.PostgresError):
                    await listener.remove_listener(CHANNEL, self._woken)
                    await self._pool.release(listener)

    def _woken(self, *_: Any) -> None:
        self._wake.set()
