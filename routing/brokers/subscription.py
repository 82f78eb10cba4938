"""A running subscription to one route in RabbitMQ, and the parcels it has handed out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from pika.exceptions import AMQPError

from canonical_model.errors import HubError
from registry.logs import log
from routing.brokers.contract import Handler, Parcel
from routing.brokers.link import Channel, open_channel
from routing.brokers.wire import (
    KEPT_HEADERS,
    NOT_BEFORE,
    PUBLISHED_AT,
    RETRIED,
    WireConnection,
    ack_frame,
    decode_headers,
    decode_ids,
)

_LOG = logging.getLogger(__name__)

AFTER_FAULT_SECONDS = 1.0
"""Delay before a parcel whose handler failed is tried again."""


class Mover(Protocol):
    """Publishes a parcel to another queue and says whether that is confirmed."""

    def __call__(self, parcel: Parcel, *, delay: float | None, reason: str | None) -> Awaitable[bool]:
        """Move to a delay tier (`delay`) or to the dead queue (`reason`)."""


class Tray:
    """The parcels in hand on one channel; settles them in as few frames as their order allows."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.in_hand = 0
        self.on_empty: Callable[[], None] | None = None
        self._low = 1
        self._fresh: list[int] = []
        self._done: set[int] = set()
        self._loop = asyncio.get_running_loop()

    def ack(self, tag: int) -> None:
        """Acknowledge with all others that are settled in this turn of the loop."""
        if not self._fresh:
            self._loop.call_soon(self._flush)
        self._fresh.append(tag)

    def nack(self, tag: int, *, requeue: bool) -> None:
        """Give one parcel back, or up."""
        if self.channel.usable:
            with contextlib.suppress(AMQPError):
                self.channel.raw.basic_nack(tag, requeue=requeue)
        self._mark(tag)
        self._count(1)

    def _mark(self, tag: int) -> None:
        self._done.add(tag)
        while self._low in self._done:
            self._done.discard(self._low)
            self._low += 1

    def _flush(self) -> None:
        fresh, self._fresh = self._fresh, []
        if not self.channel.usable:
            return
        done, low, last = self._done, self._low, 0
        fresh.sort()
        later = len(fresh)
        for place, tag in enumerate(fresh):
            while low in done:  # settled one by one earlier
                done.discard(low)
                low += 1
            if tag != low:
                later = place
                break
            last = tag
            low += 1
        while low in done:
            done.discard(low)
            low += 1
        self._low = low
        write, number = self.channel.connection.write, self.channel.number
        if last:
            # The tag named here is one the broker still holds: it closes the channel over any other.
            write(ack_frame(number, last, True))
        for tag in fresh[later:]:
            write(ack_frame(number, tag, False))
            done.add(tag)
        self._count(len(fresh))

    def _count(self, settled: int) -> None:
        self.in_hand -= settled
        if self.in_hand <= 0 and self.on_empty is not None:
            self.on_empty()


class RabbitReceived:
    """One parcel from RabbitMQ; the first settlement counts, later ones change nothing."""

    __slots__ = ("_subscription", "_tag", "_tray", "parcel", "redelivered")

    def __init__(
        self, subscription: Subscription, tray: Tray, tag: int, parcel: Parcel, redelivered: bool
    ) -> None:
        self._subscription = subscription
        self._tray = tray
        self._tag = tag
        self.parcel = parcel
        self.redelivered = redelivered

    @property
    def settled(self) -> bool:
        """Whether ack, retry or reject was called."""
        return not self._tag

    def ack(self) -> None:
        """Say that the parcel is dealt with."""
        tag, self._tag = self._tag, 0
        if tag:
            self._tray.ack(tag)

    def retry(self, delay: float) -> None:
        """Give it back for later."""
        tag, self._tag = self._tag, 0
        if tag:
            self._subscription.move(self._tray, tag, self.parcel, delay=max(delay, 0.0), reason=None)

    def reject(self, reason: str) -> None:
        """Give it up to the dead queue."""
        tag, self._tag = self._tag, 0
        if tag:
            self._subscription.move(self._tray, tag, self.parcel, delay=None, reason=reason)


class Subscription:
    """Calls a handler for each parcel of a route, on whatever channel there is."""

    def __init__(self, route: str, queue: str, handler: Handler, prefetch: int, mover: Mover) -> None:
        self.route = route
        self.cancelled = False
        self._queue = queue
        self._handler = handler
        self._prefetch = prefetch
        self._mover = mover
        self._tray: Tray | None = None
        self._tag: str | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_end: Callable[[Subscription], None] | None = None

    async def attach(self, connection: WireConnection) -> None:
        """Subscribe on a new connection; parcels handed out on an older one can no longer be settled."""
        channel = await open_channel(connection)
        tray = Tray(channel)
        connection.deliveries[channel.number] = lambda *frame: self._take(tray, *frame)
        await channel.call("basic_qos", prefetch_count=self._prefetch)
        channel.raw.add_on_cancel_callback(lambda _frame: self._spawn(channel.close()))
        tag = f"hub-{self.route}-{channel.number}"[:120]
        await channel.call(
            "basic_consume", self._queue, lambda *frame: self._take_odd(tray, *frame), consumer_tag=tag
        )
        self._tray, self._tag = tray, tag
        channel.lost.add_done_callback(lambda _lost: self._ended(tray))

    async def cancel(self) -> None:
        """Stop taking parcels; those in hand may still be settled."""
        self.cancelled = True
        tray = self._tray
        if tray is None or not tray.channel.usable or self._tag is None:
            return
        try:
            await tray.channel.call("basic_cancel", self._tag)
        except HubError as error:
            log(_LOG, logging.DEBUG, "broker-subscription-ended", route=self.route, code=error.code)
            return
        tray.on_empty = lambda: self._spawn(tray.channel.close())
        if tray.in_hand <= 0:
            await tray.channel.close()

    async def finish(self, seconds: float) -> None:
        """Wait for handlers in hand, at most `seconds`, then stop them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)

    def move(self, tray: Tray, tag: int, parcel: Parcel, *, delay: float | None, reason: str | None) -> None:
        """Publish elsewhere with confirm, then acknowledge here: at no moment is the parcel in no queue."""
        self._spawn(self._move(tray, tag, parcel, delay, reason))

    async def _move(
        self, tray: Tray, tag: int, parcel: Parcel, delay: float | None, reason: str | None
    ) -> None:
        pause = 0.1
        while tray.channel.usable:
            try:
                if await self._mover(parcel, delay=delay, reason=reason):
                    tray.ack(tag)
                    return
            except HubError as error:
                log(
                    _LOG,
                    logging.WARNING,
                    "broker-parcel-not-set-aside",
                    route=self.route,
                    delivery_id=parcel.delivery_id,
                    code=error.code,
                )
            await asyncio.sleep(pause)
            pause = min(2.0, pause * 2)

    def _ended(self, tray: Tray) -> None:
        if self._tray is tray:
            self._tray = None
            if not self.cancelled and self.on_end is not None:
                self.on_end(self)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_odd(self, tray: Tray, _channel: Any, method: Any, _properties: Any, _body: bytes) -> None:
        """Take what is not shaped like a parcel: the fast way leaves it to pika."""
        tray.in_hand += 1
        log(_LOG, logging.ERROR, "broker-parcel-unreadable", route=self.route)
        tray.nack(method.delivery_tag, requeue=False)

    def _take(self, tray: Tray, tag: int, redelivered: bool, properties: bytes, body: bytes) -> None:
        tray.in_hand += 1
        if self.cancelled:
            tray.nack(tag, requeue=True)
            return
        try:
            delivery_id, message_id = decode_ids(body)
            found = decode_headers(properties)
        except ValueError:
            log(_LOG, logging.ERROR, "broker-parcel-unreadable", route=self.route)
            tray.nack(tag, requeue=False)
            return
        headers = {name: str(found[name]) for name in KEPT_HEADERS if name in found}
        if PUBLISHED_AT in found:
            headers[PUBLISHED_AT] = str(found[PUBLISHED_AT])
        parcel = Parcel(delivery_id, message_id, self.route, headers)
        if NOT_BEFORE in found and (early := found[NOT_BEFORE] / 1000 - time.time()) > 0:
            self.move(tray, tag, parcel, delay=early, reason=None)
            return
        received = RabbitReceived(self, tray, tag, parcel, redelivered or RETRIED in found)
        task = tray._loop.create_task(self._run(received))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, received: RabbitReceived) -> None:
        try:
            await self._handler(received)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log(
                _LOG,
                logging.ERROR,
                "broker-handler-failed",
                error=error,
                route=self.route,
                delivery_id=received.parcel.delivery_id,
            )
            received.retry(AFTER_FAULT_SECONDS)
