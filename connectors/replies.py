"""Answers that come by callback: who waits for which, in this process, also when the answer is earlier than the 202."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from connectors.errors import Unavailable, Unknown

_MOST: Final = 10_000


class Replies:
    """Callbacks by kind and id; a request is expected before it is sent, so none comes too early."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], asyncio.Future[Any]] = {}

    @contextmanager
    def expect(self, kind: str, request_id: str) -> Iterator[asyncio.Future[Any]]:
        """Wait for the callback of a request within this block; raises `Unavailable` when too many wait already."""
        if len(self._waiting) >= _MOST:
            raise Unavailable(
                "Too many requests to the target wait for their callback; nothing was sent.",
                code="target-busy",
                retry_after=5,
            )
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[kind, request_id] = future
        try:
            yield future
        finally:
            self._waiting.pop((kind, request_id), None)

    def deliver(self, kind: str, ids: list[str], body: Any) -> bool:
        """Hand a callback to whoever waits for one of these ids; say whether somebody did. A second one changes nothing."""
        for request_id in ids:
            future = self._waiting.get((kind, request_id))
            if future is not None:
                if not future.done():
                    future.set_result(body)
                return True
        return False

    @staticmethod
    async def wait(future: asyncio.Future[Any], deadline: float) -> Any:
        """Return the callback's body; raises `Unknown` (`callback-missing`) past the deadline: the request was taken."""
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(future)
        except TimeoutError:
            raise Unknown(
                "The target took a request and has not called back in time; it may say it once only.",
                code="callback-missing",
                remedy="Look up what became of it (mapper: look it up; vouchers: status) before sending it again.",
            ) from None
