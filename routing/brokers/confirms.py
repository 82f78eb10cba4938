"""A window of parcels on their way: many are published before the first is confirmed."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from typing import Protocol

from routing.brokers.contract import Parcel
from routing.brokers.wire import encode_body


class Owner(Protocol):
    """Who is told what became of a parcel."""

    def settled(self, parcel: Parcel, confirmed: bool) -> None:
        """Take note of one parcel's fate; called exactly once per parcel."""


class Batch:
    """The parcels of one call, and a future that is done when the fate of all of them is known."""

    __slots__ = ("confirmed", "done", "open")

    def __init__(self, size: int) -> None:
        self.open = size
        self.confirmed: list[Parcel] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def settled(self, parcel: Parcel, confirmed: bool) -> None:
        """Count one parcel."""
        if confirmed:
            self.confirmed.append(parcel)
        self.open -= 1
        if not self.open and not self.done.done():
            self.done.set_result(None)


class ConfirmWindow:
    """Counts the tags of one publishing channel and matches confirms to parcels.

    The broker numbers parcels of a channel from 1, so the tag of each is known before it is sent. A parcel no queue
    took comes back (mandatory flag) before its confirm; it is then reported as not confirmed.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.closed = False
        self._next = 1
        self._low = 1
        self._pending: dict[int, tuple[Parcel, Owner, str]] = {}
        self._returned: Counter[tuple[str, str, bytes]] = Counter()
        self._waiters: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._pending)

    @property
    def full(self) -> bool:
        """Whether a publisher must wait before it sends the next parcel."""
        return len(self._pending) >= self.bound

    def enter(self, parcel: Parcel, owner: Owner, exchange: str) -> None:
        """Note a parcel that is being sent now; call in the order of sending."""
        self._pending[self._next] = (parcel, owner, exchange)
        self._next += 1

    async def room(self) -> None:
        """Wait until the window has room or is closed."""
        while self.full and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    async def emptied(self) -> None:
        """Wait until nothing is on its way, or the window is closed."""
        while self._pending and not self.closed:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    def returned(self, exchange: str, route: str, body: bytes) -> None:
        """Note that no queue took a parcel; the confirm that follows tells nothing more."""
        self._returned[exchange, route, body] += 1

    def on_ack(self, tag: int, multiple: bool) -> None:
        """Settle one tag, or all up to it."""
        self._settle(tag, multiple, confirmed=True)

    def on_nack(self, tag: int, multiple: bool) -> None:
        """Report one tag, or all up to it, as not confirmed."""
        self._settle(tag, multiple, confirmed=False)

    def close(self) -> None:
        """Report everything in the window as not confirmed: the channel is gone."""
        self.closed = True
        pending, self._pending = self._pending, {}
        for parcel, owner, _ in pending.values():
            owner.settled(parcel, False)
        self._wake()

    def _settle(self, tag: int, multiple: bool, *, confirmed: bool) -> None:
        pending = self._pending
        first = self._low if multiple else tag
        for number in range(first, tag + 1):
            entry = pending.pop(number, None)
            if entry is None:
                continue
            parcel, owner, exchange = entry
            owner.settled(parcel, confirmed and not (self._returned and self._came_back(parcel, exchange)))
        if multiple or tag == self._low:
            self._low = tag + 1
        if self._waiters and not self.full:
            self._wake()

    def _came_back(self, parcel: Parcel, exchange: str) -> bool:
        key = (exchange, parcel.route, encode_body(parcel))
        if not self._returned[key]:
            return False
        self._returned[key] -= 1
        self._returned = +self._returned
        return True

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
