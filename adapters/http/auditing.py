"""What is written of callers themselves: refused ones, tokens, and who read what; in the background and bounded."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Final
from uuid import UUID

import asyncpg
from aiohttp import web

from adapters.http.security.partners import Partners
from canonical_model.errors import HubError, Unavailable
from registry.audit import AuditEvent, record
from registry.logs import log
from registry.storage.database import GONE
from registry.storage.group import GroupCommit

_LOG = logging.getLogger(__name__)
REFUSALS_A_MINUTE: Final = 10
"""Refusals of one address or partner written each minute; the rest are counted in the first of the next."""
_ADDRESSES: Final = 4096
_WAITING: Final = 5000
_DRAIN_SECONDS: Final = 5.0
UNKNOWN: Final = "unknown"
READS: Final = {
    "searchMessages": "read.search",
    "findMessages": "read.search",
    "traceMessage": "read.trace",
    "listDeadLetters": "read.dead-letters",
}
"""Operations that show messages, and what their use is called in the trail."""
_NOBODY: Final = frozenset(
    {"token-missing", "token-invalid", "token-expired", "partner-unknown", "link-invalid"}
)


class Quota:
    """Lets so many of a kind through each minute and counts the others, for the latest few thousand kinds."""

    def __init__(self, most: int, clock: Callable[[], float]) -> None:
        self._most, self._clock = most, clock
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def take(self, key: Hashable) -> int | None:
        """Return None when the minute is used up, else how many were left out in the minute before."""
        now = self._clock()
        start, count = self._seen.pop(key, (now, 0))
        left_out = 0
        if now - start >= 60:
            start, count, left_out = now, 0, max(0, count - self._most)
        self._seen[key] = (start, count + 1)
        if len(self._seen) > _ADDRESSES:
            self._seen.popitem(last=False)
        return left_out if count < self._most else None


class Auditor:
    """Writes events of the HTTP side to the audit trail, a group at a time; no caller waits for it.

    Events name partners, clients this hub knows, operations and the hub's own ids: never an address, a header or a name
    somebody merely claims. When the database is away or more than 5,000 events wait, events are lost and their number
    is logged (`audit-not-written`).
    """

    def __init__(
        self, pool: asyncpg.Pool, partners: Partners, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool, self._partners = pool, partners
        self._refusals = Quota(REFUSALS_A_MINUTE, clock)
        self._looks = Quota(1, clock)
        self._group: GroupCommit[AuditEvent, None] = GroupCommit(
            self._write, delay=0.2, most=500, parallel=1, bound=_WAITING
        )

    def note(self, event: AuditEvent) -> None:
        """Take one event to be written soon."""
        try:
            self._group.submit(event).add_done_callback(_seen)
        except Unavailable:
            log(_LOG, logging.WARNING, "audit-not-written", count=1)

    def refused(
        self, address: str, actor: str | None, operation: str, code: str, request_id: str | None
    ) -> None:
        """Note a caller who was not let in, or whose token lacks a scope; other refusals are no matter of the trail."""
        if code == "scope-missing" and actor is not None:
            action, key = "auth.scope", actor
        elif code in _NOBODY:
            action, key = "auth.refused", address
        else:
            return
        left_out = self._refusals.take(key)
        if left_out is not None:
            self.note(
                AuditEvent(
                    actor or UNKNOWN,
                    action,
                    "operation",
                    operation,
                    code,
                    request_id,
                    {"left_out": left_out} if left_out else None,
                )
            )

    def token(self, address: str, client_id: str | None, outcome: str, request_id: str | None) -> None:
        """Note a token issued (`ok`) or denied; a client id this hub does not know is somebody's text and is left out."""
        found = self._partners.client(client_id) if client_id else None
        left_out = 0 if outcome == "ok" else self._refusals.take(address)
        if left_out is not None:
            self.note(
                AuditEvent(
                    UNKNOWN if found is None else found[0].name,
                    "auth.token",
                    "client",
                    UNKNOWN if found is None else found[1].id,
                    outcome,
                    request_id,
                    {"left_out": left_out} if left_out else None,
                )
            )

    def read(
        self, actor: str, action: str, id_: str = "", outcome: str = "ok", request_id: str | None = None
    ) -> None:
        """Note that somebody read messages; `id_` counts only where it is an id of the hub's shape."""
        try:
            known = str(UUID(id_)) if id_ else "-"
        except ValueError:
            known = "-"
        kind = "delivery" if action == "read.dead-letters" else "message"
        self.note(AuditEvent(actor, action, kind, known, outcome, request_id))

    def look(self, actor: str, action: str, id_: str = "", request_id: str | None = None) -> None:
        """Note that somebody has a page of the console open; it renews itself, so once a minute is enough."""
        if self._looks.take((actor, action, id_)) is not None:
            self.read(actor, action, id_, request_id=request_id)

    async def close(self) -> None:
        """Write what waits, for at most five seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_DRAIN_SECONDS):
                await self._group.drain()

    async def _write(self, events: Sequence[AuditEvent]) -> Sequence[Exception | None]:
        try:
            await record(self._pool, *events)
        except (HubError, asyncpg.PostgresError, *GONE) as error:
            log(_LOG, logging.WARNING, "audit-not-written", error=error, count=len(events))
        return [None] * len(events)


def _seen(future: asyncio.Future[None]) -> None:
    """Take note of a failure that was logged already, or log one that was not foreseen."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log(_LOG, logging.ERROR, "audit-not-written", error=error, count=1)


AUDITOR: Final = web.AppKey("auditor", Auditor)
CLIENT: Final = web.RequestKey("token-client", str)
DENIED: Final = web.RequestKey("token-denied", str)
"""Where the token endpoint leaves the client's id and the reason of a refusal on the request."""
