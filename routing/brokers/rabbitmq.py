"""The RabbitMQ broker: quorum queues, our own confirm window, delayed retry by TTL tiers."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from canonical_model.errors import ConfigError, HubError
from registry.logs import log
from routing.brokers.confirms import Batch, ConfirmWindow
from routing.brokers.contract import Handler, Parcel
from routing.brokers.link import Channel, Link, away, open_channel, parse_urls
from routing.brokers.subscription import Subscription
from routing.brokers.topology import TIERS, Topology, tier_for
from routing.brokers.wire import (
    NOT_BEFORE,
    REASON,
    RETRIED,
    WireConnection,
    encode_body,
    encode_headers,
    publish_content,
    publish_method,
)

_LOG = logging.getLogger(__name__)


class RabbitMQBroker:
    """Carries parcels through RabbitMQ 3.10 to 4.x.

    `urls` are comma separated AMQP URLs of the nodes, `ca` the CA file for amqps, `window` the most unconfirmed parcels,
    `confirm_seconds` the longest wait for a confirm, `blocked_seconds` how long `publish` waits for a broker short of memory.
    """

    name = "rabbitmq"

    def __init__(
        self,
        urls: str,
        *,
        ca: Path | None = None,
        prefix: str = "hub",
        window: int = 1000,
        confirm_seconds: float = 30.0,
        blocked_seconds: float = 10.0,
    ) -> None:
        nodes = parse_urls(urls, ca)
        self.topology = Topology(prefix)
        self._bound = window
        self._confirm_seconds = confirm_seconds
        self._blocked_seconds = blocked_seconds
        # Two connections: a broker short of memory stops reading from a publishing one, and acks must still get through.
        self._sender = Link(nodes, self._prepare_sender, "publish")
        self._receiver = Link(nodes, self._prepare_receiver, "consume")
        self._receiver_lock = asyncio.Lock()
        self._receiving = False
        self._closing = False
        self._routes: dict[str, None] = {}
        self._subscriptions: list[Subscription] = []
        self._channel: Channel | None = None
        self._window = ConfirmWindow(window)
        self._methods: dict[tuple[str, str], bytes] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Connect and prove the connection; raises `Unavailable` or `ConfigError`."""
        await self._sender.open()

    async def close(self) -> None:
        """Stop consumers, wait for pending confirms (bounded), disconnect."""
        self._closing = True
        for subscription in self._subscriptions:
            await subscription.cancel()
        for subscription in self._subscriptions:
            await subscription.finish(10.0)
        if self._sender.usable.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(5.0):
                    await self._window.emptied()
        for task in self._tasks:
            task.cancel()
        await self._receiver.close()
        await self._sender.close()
        self._window.close()

    async def declare(self, routes: Sequence[str]) -> None:
        """Make the topology for these routes; safe to repeat, never destroys."""
        if longest := max((len(route.encode()) for route in routes), default=0):
            if longest > 200:
                raise ConfigError(
                    "The name of a route is longer than 200 bytes.", code="broker-topology-differs"
                )
            connection = self._sender.connection
            if connection is None:
                raise away("not connected")
            channel = await open_channel(connection)
            await self.topology.declare_routes(channel, routes)
            await channel.close()
            self._routes |= dict.fromkeys(routes)

    async def publish(self, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """Hand parcels over; return those durably confirmed. Raises `Unavailable` when the broker cannot be reached."""
        if not parcels:
            return []
        window = await self._usable()
        now = time.time_ns() // 1_000_000
        batch = Batch(len(parcels))
        exchange = self.topology.routes
        deadline = asyncio.get_running_loop().time() + self._confirm_seconds
        try:
            async with asyncio.timeout_at(deadline):
                for parcel in parcels:
                    if window.full:
                        await window.room()
                    if window.closed or window is not self._window or self._sender.blocked:
                        batch.settled(parcel, False)
                    else:
                        self._send(batch, parcel, exchange, encode_headers(parcel.headers, now))
                await batch.done
        except TimeoutError:
            # Whatever confirms come later come too late: begin anew on another connection.
            log(_LOG, logging.WARNING, "broker-confirms-late", in_flight=batch.open)
            self._spawn(self._sender.drop())
        if not batch.confirmed and (window.closed or batch.open):
            raise away("the connection was lost before a parcel was confirmed")
        return batch.confirmed

    async def consume(self, route: str, handler: Handler, *, prefetch: int) -> Subscription:
        """Call `handler` for each parcel of a route, at most `prefetch` unsettled at a time; survives reconnects."""
        async with self._receiver_lock:
            if not self._receiving:
                await self._receiver.open()
                self._receiving = True
        connection = self._receiver.connection
        if connection is None:
            raise away("not connected")
        subscription = Subscription(route, self.topology.queue(route), handler, prefetch, self._move)
        subscription.on_end = self._restart
        await subscription.attach(connection)
        self._routes[route] = None
        self._subscriptions.append(subscription)
        return subscription

    async def depth(self, route: str) -> int:
        """Return how many parcels wait on a route; those delayed or in a worker's hands are not counted."""
        return await self._count(self.topology.queue(route))

    async def dead(self) -> int:
        """Return how many parcels lie in the dead queue."""
        return await self._count(self.topology.dead)

    async def healthy(self) -> bool:
        """Say whether parcels can be published now."""
        return self._sender.usable.is_set()

    async def _count(self, queue: str) -> int:
        connection = self._sender.connection
        if connection is None:
            raise away("not connected")
        channel = await open_channel(connection)
        answer = await channel.call("queue_declare", queue, passive=True)
        await channel.close()
        return int(answer.method.message_count)

    async def _usable(self) -> ConfirmWindow:
        if self._sender.blocked:
            try:
                async with asyncio.timeout(self._blocked_seconds):
                    await self._sender.usable.wait()
            except TimeoutError as error:
                raise away("it is short of memory or disk") from error
        channel = self._channel
        if channel is None or not channel.usable or not self._sender.usable.is_set():
            raise away("not connected")
        return self._window

    def _send(self, owner: Batch, parcel: Parcel, exchange: str, table: bytes) -> None:
        """Publish on the channel in use; the caller has just made sure of it."""
        channel = self._channel
        assert channel is not None
        key = parcel.route
        method = self._methods.get((exchange, key))
        if method is None:
            method = self._methods[exchange, key] = publish_method(channel.number, exchange, key)
        self._window.enter(parcel, owner, exchange)
        channel.connection.write(method + publish_content(channel.number, table, encode_body(parcel)))

    async def _move(self, parcel: Parcel, *, delay: float | None, reason: str | None) -> bool:
        """Publish a parcel to a delay tier or to the dead queue; True when that is confirmed."""
        await self._usable()
        now = time.time_ns() // 1_000_000
        extra: dict[str, str | int] = {RETRIED: 1}
        exchange = self.topology.dead
        if delay is not None:
            exchange = self.topology.delay(tier_for(delay))
            if delay > TIERS[-1]:
                extra[NOT_BEFORE] = now + int(delay * 1000)
        elif reason is not None:
            extra[REASON] = reason
        batch = Batch(1)
        self._send(batch, parcel, exchange, encode_headers(parcel.headers, now, extra))
        try:
            async with asyncio.timeout(self._confirm_seconds):
                await batch.done
        except TimeoutError:
            return False
        return bool(batch.confirmed)

    async def _prepare_sender(self, connection: WireConnection) -> None:
        setup = await open_channel(connection)
        await self.topology.declare_base(setup)
        await self.topology.declare_routes(setup, self._routes)
        await setup.close()
        channel = await open_channel(connection)
        window = ConfirmWindow(self._bound)
        channel.raw.add_on_return_callback(
            lambda _channel, method, _properties, body: self._returned(window, method, body)
        )
        await channel.call("confirm_delivery", ack_nack_callback=lambda frame: _on_confirm(window, frame))
        connection.confirms[channel.number] = window.on_ack
        channel.lost.add_done_callback(lambda _lost: self._sender_lost(window))
        self._methods = {}
        self._channel, self._window = channel, window

    def _sender_lost(self, window: ConfirmWindow) -> None:
        window.close()
        if not self._closing and window is self._window:
            self._spawn(self._sender.drop())

    async def _prepare_receiver(self, connection: WireConnection) -> None:
        setup = await open_channel(connection)
        await self.topology.declare_base(setup)
        await self.topology.declare_routes(setup, self._routes)
        await setup.close()
        for subscription in self._subscriptions:
            if not subscription.cancelled:
                await subscription.attach(connection)

    def _restart(self, subscription: Subscription) -> None:
        """Subscribe again after a channel alone was lost; a lost connection does that by itself."""
        connection = self._receiver.connection
        if connection is not None and connection.is_open and not self._closing:
            self._spawn(self._reattach(subscription, connection))

    async def _reattach(self, subscription: Subscription, connection: WireConnection) -> None:
        pause = 0.5
        while connection.is_open and not subscription.cancelled:
            await asyncio.sleep(pause)
            try:
                setup = await open_channel(connection)
                await self.topology.declare_routes(setup, [subscription.route])
                await setup.close()
                await subscription.attach(connection)
            except HubError as error:
                log(
                    _LOG,
                    logging.WARNING,
                    "broker-subscription-not-renewed",
                    route=subscription.route,
                    code=error.code,
                )
                pause = min(10.0, pause * 2)
            else:
                return

    def _returned(self, window: ConfirmWindow, method: Any, body: bytes) -> None:
        # The parcel stays in the outbox.
        log(_LOG, logging.ERROR, "broker-parcel-unroutable", route=method.routing_key)
        window.returned(method.exchange, method.routing_key, body)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _on_confirm(window: ConfirmWindow, frame: Any) -> None:
    """Take what the fast way leaves to pika: negative confirms."""
    method = frame.method
    if method.NAME == "Basic.Nack":
        window.on_nack(method.delivery_tag, method.multiple)
    else:
        window.on_ack(method.delivery_tag, method.multiple)
