"""Exchanges and queues of the hub in RabbitMQ: the names, the arguments and how they are made.

    {prefix}.routes        direct exchange; routing key = route
    {prefix}.route.ROUTE   quorum queue of one route
    {prefix}.delay.TIER    fanout exchange and quorum queue; what waits here returns to {prefix}.routes after TIER seconds
    {prefix}.dead          fanout exchange and quorum queue of what was given up

Only features that RabbitMQ 3.10 and 4.x share are used. Dead-lettering is at-least-once: the parcel in a delay queue is
the only copy the broker has, and the default (at-most-once) drops it when the target queue has no leader at that moment.
At-least-once asks for `x-overflow: reject-publish`; without a length limit that never bites, and with one (an operator's
policy) the publisher gets a nack and keeps the parcel in the outbox, instead of the queue dropping its oldest.
The delivery limit is stated because 4.x would otherwise give up after 20 returns, and a restart of workers returns parcels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from routing.brokers.link import Channel

TIERS = (1, 5, 15, 60, 300)
"""Seconds a parcel may wait in the broker before it is tried again."""
DELIVERY_LIMIT = 1000
"""How often a parcel may be returned by dying workers before it goes to the dead queue."""


def tier_for(delay: float) -> int:
    """Return the shortest tier that is at least `delay` seconds, the longest one when none is."""
    return next((tier for tier in TIERS if tier >= delay), TIERS[-1])


class Topology:
    """The names and arguments under one prefix."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.routes = f"{prefix}.routes"
        self.dead = f"{prefix}.dead"

    def queue(self, route: str) -> str:
        """Return the queue of a route."""
        return f"{self.prefix}.route.{route}"

    def delay(self, tier: int) -> str:
        """Return the exchange and queue of a delay tier."""
        return f"{self.prefix}.delay.{tier}"

    def _quorum(self, dead_letters_to: str | None, ttl: int | None = None) -> dict[str, Any]:
        arguments: dict[str, Any] = {"x-queue-type": "quorum"}
        if dead_letters_to is not None:
            arguments |= {
                "x-dead-letter-exchange": dead_letters_to,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
                "x-delivery-limit": DELIVERY_LIMIT,
            }
        if ttl is not None:
            arguments["x-message-ttl"] = ttl
        return arguments

    async def declare_base(self, channel: Channel) -> None:
        """Make what all routes share."""
        await channel.call("exchange_declare", self.routes, exchange_type="direct", durable=True)
        await channel.call("exchange_declare", self.dead, exchange_type="fanout", durable=True)
        await channel.call("queue_declare", self.dead, durable=True, arguments=self._quorum(None))
        await channel.call("queue_bind", self.dead, self.dead)
        for tier in TIERS:
            name = self.delay(tier)
            await channel.call("exchange_declare", name, exchange_type="fanout", durable=True)
            await channel.call(
                "queue_declare", name, durable=True, arguments=self._quorum(self.routes, tier * 1000)
            )
            await channel.call("queue_bind", name, name)

    async def declare_routes(self, channel: Channel, routes: Iterable[str]) -> None:
        """Make the queue of each route and bind it."""
        for route in routes:
            queue = self.queue(route)
            await channel.call("queue_declare", queue, durable=True, arguments=self._quorum(self.dead))
            await channel.call("queue_bind", queue, self.routes, routing_key=route)

    async def remove(self, channel: Channel, routes: Iterable[str]) -> None:
        """Delete everything under the prefix with what waits in it; what is not there is no fault."""
        names = [self.dead, *(self.delay(tier) for tier in TIERS)]
        for queue in (*names, *(self.queue(route) for route in routes)):
            await channel.call("queue_delete", queue)
        for exchange in (*names, self.routes):
            await channel.call("exchange_delete", exchange)
