"""The breaker and the concurrency bound of one target."""

from __future__ import annotations

import asyncio
import time
from enum import IntEnum
from types import TracebackType

from routing import metrics


class BreakerState(IntEnum):
    """Closed lets everything through, open nothing, half-open one trial."""

    CLOSED = 0
    HALF_OPEN = 1
    OPEN = 2


class Breaker:
    """Opens after `threshold` failures in a row, waits `first` seconds (doubling to `longest`), then tries one."""

    def __init__(self, target: str, *, threshold: int = 5, first: float = 2.0, longest: float = 60.0) -> None:
        self.target = target
        self._threshold = threshold
        self._first = first
        self._longest = longest
        self._failures = 0
        self._pause = first
        self._until = 0.0
        self._changed = asyncio.Event()
        self._trial = False
        self._released = False
        self.state = BreakerState.CLOSED

    def _set(self, state: BreakerState) -> None:
        if state is not self.state:
            self.state = state
            metrics.breaker_state(self.target, int(state))
        self._changed.set()
        self._changed = asyncio.Event()

    async def admit(self) -> None:
        """Return when a send may start; waits while the breaker is open."""
        while self.state is not BreakerState.CLOSED and not self._released:
            now = time.monotonic()
            if self.state is BreakerState.OPEN and now >= self._until:
                self._set(BreakerState.HALF_OPEN)
            if self.state is BreakerState.HALF_OPEN and not self._trial:
                self._trial = True
                return
            wait = max(self._until - now, 0.05) if self.state is BreakerState.OPEN else 1.0
            changed = self._changed
            try:
                async with asyncio.timeout(wait):
                    await changed.wait()
            except TimeoutError:
                continue

    def let_go(self) -> None:
        """Let everybody through who waits: the process stops, and they give back what they hold."""
        self._released = True
        self._changed.set()

    def good(self) -> None:
        """The target answered (a refusal is an answer too)."""
        self._failures = 0
        if self.state is not BreakerState.CLOSED or self._trial:
            self._trial = False
            self._pause = self._first
            self._set(BreakerState.CLOSED)

    def bad(self) -> None:
        """The target failed or did not answer."""
        self._failures += 1
        if self.state is BreakerState.HALF_OPEN:
            self._trial = False
            self._pause = min(self._pause * 2, self._longest)
        elif self.state is BreakerState.OPEN or self._failures < self._threshold:
            return
        self._until = time.monotonic() + self._pause
        self._set(BreakerState.OPEN)

    def abandoned(self) -> None:
        """The admitted send never happened; lets another trial through."""
        if self._trial:
            self._trial = False
            self._set(self.state)


class Gate:
    """Admits sends to one target: never more than `concurrency` at once, none while the breaker is open."""

    def __init__(self, target: str, concurrency: int) -> None:
        self.breaker = Breaker(target)
        self._slots = asyncio.Semaphore(concurrency)

    async def enter(self, patience: float) -> bool:
        """Take a place within `patience` seconds, False when there is none; use `entered` right after."""
        if self.breaker.state is BreakerState.CLOSED and not self._slots.locked():
            await self._slots.acquire()  # returns at once
            return True
        try:
            async with asyncio.timeout(patience):
                await self.__aenter__()
        except TimeoutError:
            return False
        return True

    def entered(self) -> _Inside:
        """Return the context of a place taken by `enter`; leaving it gives the place back."""
        return _Inside(self)

    async def __aenter__(self) -> Breaker:
        await self._slots.acquire()
        try:
            if self.breaker.state is not BreakerState.CLOSED:
                await self.breaker.admit()
        except BaseException:
            self._slots.release()
            raise
        return self.breaker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._slots.release()
        if kind is not None:
            self.breaker.abandoned()


class _Inside:
    """A place in a gate."""

    __slots__ = ("_gate",)

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def __aenter__(self) -> Breaker:
        return self._gate.breaker

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._gate.__aexit__(kind, error, trace)
