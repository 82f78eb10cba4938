"""Group commit: many callers, one statement."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from canonical_model.errors import HubError, Unavailable

T = TypeVar("T")
R = TypeVar("R")


class GroupCommit(Generic[T, R]):
    """Collects items for a few milliseconds and writes them with one call; each caller gets its own answer.

    `write` takes the items and returns one result per item, in order; a result that is an exception is raised to its
    caller alone. When `write` itself fails with a `HubError` every caller of that group gets the failure; when it fails
    otherwise each item is written alone, so that one the database does not take harms no other. At most `parallel` groups
    are written at once and at most `bound` items wait; above that `submit` raises `Unavailable` (code `overloaded`).
    With `parallel=1` items are written in the order submitted.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R | Exception]]],
        *,
        delay: float = 0.003,
        most: int = 256,
        parallel: int = 3,
        bound: int = 10_000,
    ) -> None:
        self._write = write
        self._delay = delay
        self._most = most
        self._parallel = parallel
        self._bound = bound
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._writing = 0
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, item: T) -> asyncio.Future[R]:
        """Queue one item; the returned future resolves once its group is committed."""
        if len(self._waiting) >= self._bound:
            raise Unavailable(
                "Too many writes wait for the database; this one was not taken.",
                code="overloaded",
                retry_after=1,
                remedy="Send more slowly, or give the database more room.",
            )
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        self._waiting.append((item, future))
        if len(self._waiting) >= self._most and self._writing < self._parallel:
            self._flush()
        elif self._timer is None:
            self._timer = loop.call_later(self._delay, self._flush)
        return future

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        # While all writers are busy the group grows; a finished writer flushes it.
        while self._waiting and self._writing < self._parallel:
            group, self._waiting = self._waiting[: self._most], self._waiting[self._most :]
            self._writing += 1
            task = asyncio.get_running_loop().create_task(self._run(group))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _run(self, group: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            results = await self._write_apart([item for item, _ in group])
            for (_, future), result in zip(group, results, strict=True):
                if future.done():
                    continue
                if isinstance(result, Exception):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        except BaseException as error:
            for _, future in group:
                if not future.done():
                    future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._writing -= 1
            self._flush()

    async def _write_apart(self, items: Sequence[T]) -> Sequence[R | Exception]:
        try:
            return await self._write(items)
        except HubError:
            raise
        except Exception:
            if len(items) == 1:
                raise
        results: list[R | Exception] = []
        for item in items:
            try:
                results += await self._write([item])
            except Exception as error:  # each caller gets its own; none is swallowed
                results.append(error)
        return results

    async def drain(self) -> None:
        """Write everything that waits and return when it is committed."""
        while self._waiting or self._tasks:
            self._flush()
            await asyncio.gather(*self._tasks, return_exceptions=True)
