"""Objects no row points to: what an accept that was cut off midway left in the object store goes after a day."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import asyncpg

from registry.logs import log
from registry.objects import PAGE, ObjectStore

FOLDER: Final = "message"
OWNERS: Final = "owner"
AGE: Final = timedelta(days=1)
"""Younger objects stay, since the row of one may still be on its way; and a sealed body nobody reads does no harm for a day."""
PAGES: Final = 5
"""Pages looked at in one round; the next round goes on where this one ended."""
LOOK_AGAIN: Final = 60.0
"""Seconds between the two looks: a worker that waited out a database writes its rows within seconds of its return."""
_AT_ONCE: Final = 16
_LOG = logging.getLogger(__name__)
_POINTED: Final = "SELECT claim FROM message WHERE id = ANY($1::uuid[]) AND claim IS NOT NULL"


class OrphanSweep:
    """Deletes, a bounded number at a time, objects that are older than a day and to which no message points.

    `owner` names the hub whose database this is. Each hub leaves its name in the store; while there is another name beside
    it, or its own is not a day old, nothing is deleted, for what looks like nobody's may be the other hub's.
    """

    def __init__(
        self, pool: asyncpg.Pool, objects: ObjectStore, owner: str, *, look_again: float = LOOK_AGAIN
    ) -> None:
        self._pool = pool
        self._objects = objects
        self._mark = f"{OWNERS}/{owner}"
        self._look_again = look_again
        self._after = ""

    async def round(self) -> int:
        """Look at the next pages and return how many objects were deleted; raises `Unavailable` when the store is away."""
        old = datetime.now(UTC) - AGE
        if not await self._alone(old):
            return 0
        found: list[str] = []
        for _ in range(PAGES):
            page = await self._objects.listing(FOLDER, self._after)
            found += await self._orphans(one.key for one in page if one.written_at < old)
            self._after = page[-1].key if len(page) == PAGE else ""
            if not self._after:
                break
        if not found:
            return 0
        await asyncio.sleep(self._look_again)
        gone = await self._orphans(found)
        for start in range(0, len(gone), _AT_ONCE):
            await asyncio.gather(*(self._objects.delete(key) for key in gone[start : start + _AT_ONCE]))
        if gone:
            log(_LOG, logging.INFO, "orphans-deleted", count=len(gone))
        return len(gone)

    async def _alone(self, old: datetime) -> bool:
        marks = {one.key: one.written_at for one in await self._objects.listing(OWNERS)}
        if self._mark not in marks:
            await self._objects.put(self._mark, b"")
        elif len(marks) == 1:
            return marks[self._mark] < old
        if len(marks.keys() - {self._mark}):
            log(_LOG, logging.WARNING, "object-store-shared", count=len(marks.keys() | {self._mark}))
        return False

    async def _orphans(self, keys: Iterable[str]) -> list[str]:
        ids = {key: id_ for key in keys if (id_ := _id_of(key)) is not None}
        if not ids:
            return []
        rows = await self._pool.fetch(_POINTED, list(ids.values()))
        pointed = {row["claim"] for row in rows}
        return [key for key in ids if key not in pointed]


def _id_of(key: str) -> UUID | None:
    """Return the id in a key the hub made; whatever else lies there is left alone."""
    text = key.removeprefix(f"{FOLDER}/")
    try:
        id_ = UUID(text)
    except ValueError:
        return None
    return id_ if str(id_) == text else None
