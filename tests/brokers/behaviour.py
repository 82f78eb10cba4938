"""What every broker does, as sentences; a broker's own test file inherits this class and says how to open one."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from typing import Protocol
from uuid import UUID

from services.proxy import Proxy

from canonical_model.errors import Unavailable
from routing.brokers import Broker, Parcel, Received

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ROUTE = "payments-to-bank"


def parcel(route: str = ROUTE) -> Parcel:
    return Parcel(UUID(bytes=os.urandom(16)), UUID(bytes=os.urandom(16)), route, {"traceparent": TRACE})


async def until(condition: Callable[[], bool], seconds: float = 45.0) -> None:
    """Poll until a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the awaited did not happen in time"
        await asyncio.sleep(0.01)


async def eventually(call: Callable[[], Awaitable[bool]], seconds: float = 45.0) -> None:
    """Poll an asynchronous condition until it holds."""
    deadline = time.monotonic() + seconds
    while not await call():
        assert time.monotonic() < deadline, "the awaited did not happen in time"
        await asyncio.sleep(0.05)


class Inbox:
    """A handler that keeps what it is given, and settles it at once when told so."""

    def __init__(self, settle: Callable[[Received], None] | None = None) -> None:
        self.got: list[Received] = []
        self.times: list[float] = []
        self._settle = settle

    async def __call__(self, received: Received) -> None:
        self.got.append(received)
        self.times.append(time.monotonic())
        if self._settle is not None:
            self._settle(received)

    @property
    def ids(self) -> list[UUID]:
        return [received.parcel.delivery_id for received in self.got]


def acking() -> Inbox:
    return Inbox(lambda received: received.ack())


class Kit(Protocol):
    """Opens brokers that all talk to one server, each through a proxy of its own."""

    async def open(self) -> Broker: ...

    def proxy(self, broker: Broker) -> Proxy: ...

    async def set_aside(self) -> int:
        """How many parcels lie among the dead, where the broker keeps them."""
        ...

    keeps_dead: bool


async def publish_all(broker: Broker, parcels: list[Parcel]) -> None:
    confirmed = await broker.publish(parcels)
    assert {item.delivery_id for item in confirmed} == {item.delivery_id for item in parcels}


async def empties(broker: Broker) -> None:
    async def empty() -> bool:
        return await broker.depth(ROUTE) == 0

    await eventually(empty)


class BrokerBehaviour:
    """The properties."""

    async def test_a_confirmed_parcel_is_delivered_with_its_ids_and_trace(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = parcel()
        await publish_all(broker, [sent])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=10)
        await until(lambda: len(inbox.got) == 1)
        got = inbox.got[0].parcel
        assert (got.delivery_id, got.message_id, got.route) == (sent.delivery_id, sent.message_id, ROUTE)
        assert got.headers["traceparent"] == TRACE
        assert inbox.got[0].redelivered is False

    async def test_what_waits_is_counted_per_route(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE, "other"])
        await publish_all(broker, [parcel() for _ in range(3)])

        async def three() -> bool:
            return await broker.depth(ROUTE) == 3

        await eventually(three)
        assert await broker.depth("other") == 0

    async def test_many_parcels_are_confirmed_and_each_is_delivered_once(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = [parcel() for _ in range(3000)]
        await publish_all(broker, sent)
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=200)
        await until(lambda: len(inbox.got) >= 3000)
        await empties(broker)
        assert sorted(inbox.ids) == sorted(item.delivery_id for item in sent)

    async def test_one_consumer_gets_parcels_in_the_order_they_were_published(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = [parcel() for _ in range(300)]
        for start in range(0, 300, 50):
            await publish_all(broker, sent[start : start + 50])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=20)
        await until(lambda: len(inbox.got) == 300)
        assert inbox.ids == [item.delivery_id for item in sent]

    async def test_a_parcel_is_delivered_again_when_its_consumer_dies_before_settling(self, kit: Kit) -> None:
        first, second = await kit.open(), await kit.open()
        await first.declare([ROUTE])
        await publish_all(first, [sent := parcel()])
        held, again = Inbox(), acking()
        await first.consume(ROUTE, held, prefetch=10)
        await until(lambda: len(held.got) == 1)
        kit.proxy(first).leave()
        await second.consume(ROUTE, again, prefetch=10)
        await until(lambda: len(again.got) == 1)
        assert again.ids == [sent.delivery_id]
        assert again.got[0].redelivered is True

    async def test_an_acknowledged_parcel_never_comes_again(self, kit: Kit) -> None:
        first = await kit.open()
        await first.declare([ROUTE])
        await publish_all(first, [parcel() for _ in range(50)])
        inbox = acking()
        await first.consume(ROUTE, inbox, prefetch=7)
        await until(lambda: len(inbox.got) == 50)
        await first.close()
        second, later = await kit.open(), acking()
        await publish_all(second, [marker := parcel()])
        await second.consume(ROUTE, later, prefetch=10)
        await until(lambda: marker.delivery_id in later.ids)
        assert later.ids == [marker.delivery_id]

    async def test_parcels_settled_out_of_order_are_each_settled_once(self, kit: Kit) -> None:
        first = await kit.open()
        await first.declare([ROUTE])
        await publish_all(first, [parcel() for _ in range(20)])
        held = Inbox()
        await first.consume(ROUTE, held, prefetch=20)
        await until(lambda: len(held.got) == 20)
        kept = held.got[4]
        for turn in (held.got[10:20], held.got[:4], held.got[5:10]):
            for received in turn:
                received.ack()
                received.ack()
            await asyncio.sleep(0.02)
        await publish_all(first, [parcel() for _ in range(19)])
        await until(
            lambda: len(held.got) == 39
        )  # the channel lived through it and exactly 19 places became free
        kit.proxy(first).leave()
        second, rest = await kit.open(), acking()
        await second.consume(ROUTE, rest, prefetch=50)
        await until(lambda: len(rest.got) == 20)
        assert set(rest.ids) == {kept.parcel.delivery_id, *held.ids[20:]}

    async def test_a_retried_parcel_comes_back_and_not_before_its_delay(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [sent := parcel()])
        inbox = Inbox(lambda received: received.ack() if received.redelivered else received.retry(0.8))
        await broker.consume(ROUTE, inbox, prefetch=10)
        await until(lambda: len(inbox.got) == 2)
        assert inbox.ids == [sent.delivery_id] * 2
        assert inbox.times[1] - inbox.times[0] >= 0.8
        assert inbox.got[1].parcel.headers["traceparent"] == TRACE
        await empties(broker)

    async def test_a_retried_parcel_does_not_hold_up_the_others(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = [parcel() for _ in range(5)]
        await publish_all(broker, sent)
        stuck = sent[0].delivery_id
        inbox = Inbox(lambda r: r.retry(60) if r.parcel.delivery_id == stuck else r.ack())
        await broker.consume(ROUTE, inbox, prefetch=1)
        await until(lambda: len(inbox.got) == 5)
        assert inbox.ids == [item.delivery_id for item in sent]

    async def test_a_parcel_whose_handler_fails_comes_again(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [sent := parcel()])
        seen: list[bool] = []

        async def fails_once(received: Received) -> None:
            seen.append(received.redelivered)
            if not received.redelivered:
                raise LookupError("on purpose")
            received.ack()

        await broker.consume(ROUTE, fails_once, prefetch=10)
        await until(lambda: len(seen) == 2)
        assert seen == [False, True]
        assert sent.route == ROUTE

    async def test_no_more_than_prefetch_parcels_are_unsettled(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [parcel() for _ in range(20)])
        inbox = Inbox()
        await broker.consume(ROUTE, inbox, prefetch=5)
        await until(lambda: len(inbox.got) == 5)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 5
        for received in inbox.got[:3]:
            received.ack()
        await until(lambda: len(inbox.got) == 8)
        await asyncio.sleep(0.3)
        assert len(inbox.got) == 8

    async def test_two_consumers_share_a_route_without_doubles(self, kit: Kit) -> None:
        first, second = await kit.open(), await kit.open()
        await first.declare([ROUTE])
        one, two = acking(), acking()
        await first.consume(ROUTE, one, prefetch=5)
        await second.consume(ROUTE, two, prefetch=5)
        sent = [parcel() for _ in range(400)]
        for start in range(0, 400, 20):
            await publish_all(first, sent[start : start + 20])
        await until(lambda: len(one.got) + len(two.got) >= 400)
        assert sorted(one.ids + two.ids) == sorted(item.delivery_id for item in sent)

    async def test_declaring_again_changes_nothing(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [sent := parcel()])
        await broker.declare([ROUTE, "another"])
        await broker.declare([ROUTE])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=1)
        await until(lambda: inbox.ids == [sent.delivery_id])

    async def test_a_rejected_parcel_does_not_come_again(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = [parcel(), parcel()]
        await publish_all(broker, sent)
        bad = sent[0].delivery_id
        inbox = Inbox(lambda r: r.reject("unknown-route") if r.parcel.delivery_id == bad else r.ack())
        await broker.consume(ROUTE, inbox, prefetch=1)
        await until(lambda: len(inbox.got) == 2)
        await empties(broker)

        async def set_aside() -> bool:
            return await kit.set_aside() == (1 if kit.keeps_dead else 0)

        await eventually(set_aside)
        assert inbox.ids == [item.delivery_id for item in sent]

    async def test_a_cancelled_consumer_takes_no_more_and_may_still_settle(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [first := parcel()])
        held = Inbox()
        consumer = await broker.consume(ROUTE, held, prefetch=10)
        await until(lambda: len(held.got) == 1)
        await consumer.cancel()
        await publish_all(broker, [second := parcel()])
        held.got[0].ack()
        later = acking()
        await broker.consume(ROUTE, later, prefetch=10)
        await until(lambda: len(later.got) == 1)
        assert later.ids == [second.delivery_id]
        assert held.ids == [first.delivery_id]

    async def test_publishing_to_an_absent_broker_says_unavailable_and_loses_nothing(self, kit: Kit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [before := parcel()])
        kit.proxy(broker).leave()
        late = [parcel() for _ in range(5)]

        codes: list[str] = []

        async def refused() -> bool:
            try:
                await broker.publish(late)
            except Unavailable as error:
                codes.append(error.code)
            return bool(codes)

        await eventually(refused)
        assert codes == ["broker-unavailable"]
        assert not await broker.healthy()
        kit.proxy(broker).come_back()
        await eventually(broker.healthy, 25)
        await publish_all(broker, late)
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=10)
        await until(lambda: len(set(inbox.ids)) == 6)
        assert set(inbox.ids) == {before.delivery_id, *(item.delivery_id for item in late)}

    async def test_opening_without_a_server_says_unavailable(self, kit: Kit) -> None:
        broker = await kit.open()
        kit.proxy(broker).leave()

        async def refused() -> bool:
            try:
                await broker.open()
            except Unavailable:
                return True
            return False

        await eventually(refused)

    async def test_a_consumer_resumes_after_its_connection_is_cut(self, kit: Kit) -> None:
        broker, other = await kit.open(), await kit.open()
        await broker.declare([ROUTE])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=10)
        await publish_all(other, [before := parcel()])
        await until(lambda: before.delivery_id in inbox.ids)
        for _ in range(3):
            kit.proxy(broker).cut()
            await publish_all(other, [after := parcel()])
            await until(lambda: after.delivery_id in inbox.ids, 20)

    async def test_nothing_is_lost_while_connections_are_cut_under_load(self, kit: Kit) -> None:
        broker, worker = await kit.open(), await kit.open()
        await broker.declare([ROUTE])
        inbox = acking()
        await worker.consume(ROUTE, inbox, prefetch=20)
        waiting = {item.delivery_id: item for item in (parcel() for _ in range(600))}
        everything = set(waiting)
        cuts = 0
        deadline = time.monotonic() + 40
        while waiting:
            assert time.monotonic() < deadline
            try:
                for item in await broker.publish(list(waiting.values())[:60]):
                    waiting.pop(item.delivery_id, None)
            except Unavailable:
                await asyncio.sleep(0.05)
            if cuts < 4 and len(waiting) < 500 - 100 * cuts:
                cuts += 1
                kit.proxy(broker if cuts % 2 else worker).cut()
        await until(lambda: set(inbox.ids) == everything, 30)
        assert cuts == 4
