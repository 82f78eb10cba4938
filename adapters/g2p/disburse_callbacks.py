"""Callbacks to partners that ordered payments: told once everything has ended, again until they take it, within bounds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Final

import aiohttp
import asyncpg
import orjson
from yarl import URL

from canonical_model.errors import HubError
from connectors.http import Reply, http_request
from connectors.network import AddressGuard, GuardedResolver, open_session
from registry.logs import log
from registry.storage.database import GONE
from routing.disbursements import Disbursements, Taken

_LOG = logging.getLogger(__name__)
PATIENCE: Final = 24 * 3600.0
"""Seconds after which a request is answered with what is not known yet as `pdng`; the sender may ask for the rest."""
_LOOK: Final = 1.0
_LONGEST_LOOK: Final = 60.0
_TRIES: Final = 20
_LONGEST_PAUSE: Final = 3600.0
_TIMEOUT: Final = 15.0
_PARALLEL: Final = 20
Answers = Callable[[Taken, bool], Awaitable[bytes | None]]
"""Returns the bytes of a request's answer; when the second is true, None while it is too early to say."""


class Teller:
    """Tells partners what became of their requests; several processes share the work."""

    def __init__(
        self, store: Disbursements, answers: Mapping[str, Answers], guards: Mapping[str, AddressGuard]
    ) -> None:
        self._store, self._answers, self._guards = store, answers, guards
        self._sessions: dict[str, aiohttp.ClientSession] = {}
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for callbacks that are due."""
        self._task = asyncio.create_task(self._run(), name="disburse-callbacks")

    async def stop(self) -> None:
        """Stop; what was not told is told by the next process that looks. Safe to call twice."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()

    async def _run(self) -> None:
        while True:
            taken = 0
            try:
                taken = await self.round()
            except (HubError, asyncpg.PostgresError, *GONE) as error:
                log(_LOG, logging.WARNING, "disburse-callbacks-wait", error=error)
            if taken < _PARALLEL:
                await asyncio.sleep(_LOOK)

    async def round(self) -> int:
        """Take up what is due and return how many requests that were."""
        due = await self._store.due(_PARALLEL)
        done = await asyncio.gather(*(self._tell(one) for one in due), return_exceptions=True)
        for taken, error in zip(due, done, strict=True):
            # One request that cannot be answered must not keep the others from being told.
            if isinstance(error, Exception):
                log(_LOG, logging.ERROR, "disburse-callback-failed", partner=taken.partner, error=error)
                await self._store.again(taken.id, self._pause(taken), failed=True)
        return len(due)

    async def _tell(self, taken: Taken) -> None:
        age = (datetime.now(UTC) - taken.received_at).total_seconds()
        body = await self._answers[taken.words["dialect"]](taken, age < PATIENCE)
        if body is None:
            await self._store.again(taken.id, min(_LONGEST_LOOK, max(_LOOK, age / 10)))
            return
        try:
            reply = await self._post(taken, body)
            done = 200 <= reply.status < 300 and _acknowledged(reply)
            code = f"http-{reply.status}"
        except (HubError, TimeoutError) as error:
            done, code = False, getattr(error, "code", "outcome-unknown")
        if done:
            await self._store.told(taken.id)
            return
        pause = self._pause(taken)
        if pause is None:
            log(_LOG, logging.WARNING, "disburse-callback-given-up", partner=taken.partner, code=code)
        # The message id stays the same, so that a receiver that took it knows the repeat.
        await self._store.again(taken.id, pause, failed=True)

    @staticmethod
    def _pause(taken: Taken) -> float | None:
        """Return the seconds until the next try, None when there were enough."""
        return None if taken.attempts + 1 >= _TRIES else min(2.0**taken.attempts, _LONGEST_PAUSE)

    async def _post(self, taken: Taken, body: bytes) -> Reply:
        return await http_request(
            self._session(taken.partner),
            "POST",
            url_of(taken),
            deadline=asyncio.get_running_loop().time() + _TIMEOUT,
            headers={"Content-Type": "application/json"},
            body=body,
        )

    def _session(self, partner: str) -> aiohttp.ClientSession:
        session = self._sessions.get(partner)
        if session is None:
            guard = self._guards.get(partner) or AddressGuard()
            session = open_session(limit=_PARALLEL, resolver=GuardedResolver(guard))
            self._sessions[partner] = session
        return session


def url_of(taken: Taken) -> URL:
    """Return where a request's callback goes; a dialect may want the request named in its query."""
    url = URL(taken.words["uri"])
    query = taken.words.get("query")
    if query is None:
        return url
    return url.update_query({name: value or str(taken.id) for name, value in query.items()})


def _acknowledged(reply: Reply) -> bool:
    """Say whether an answer takes the callback: an ACK or NACK, or no body at all."""
    try:
        told = orjson.loads(reply.body)
    except orjson.JSONDecodeError:
        return True
    message = told.get("message") if isinstance(told, dict) else None
    return not isinstance(message, dict) or message.get("ack_status") != "ERR"
