"""The RabbitMQ broker keeps the contract, and its own promises about confirms, topology and nodes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from urllib.parse import urlsplit, urlunsplit

import orjson
import pika
import pytest
from brokers.behaviour import (
    ROUTE,
    TRACE,
    BrokerBehaviour,
    Inbox,
    acking,
    eventually,
    parcel,
    publish_all,
    until,
)
from services.apart import missing
from services.proxy import Proxy, dial_tcp
from services.rabbitmq import Server

from canonical_model.errors import ConfigError
from registry.logs import LogFormatter
from routing.brokers import Broker, RabbitMQBroker
from routing.brokers.topology import TIERS, tier_for

pytestmark = pytest.mark.rabbitmq


class RabbitKit:
    keeps_dead = True

    def __init__(self, url: str, prefix: str) -> None:
        self.url, self.prefix = url, prefix
        self._opened: list[tuple[RabbitMQBroker, Proxy]] = []

    async def open(self, **options: object) -> RabbitMQBroker:
        parts = urlsplit(self.url)
        proxy = Proxy(dial_tcp(parts.hostname or "127.0.0.1", parts.port or 5672))
        await proxy.start()
        user = parts.netloc.rpartition("@")[0]
        address = urlunsplit((parts.scheme, f"{user}@127.0.0.1:{proxy.port}", parts.path, "", ""))
        broker = RabbitMQBroker(address, prefix=self.prefix, **options)
        await broker.open()
        self._opened.append((broker, proxy))
        return broker

    def proxy(self, broker: Broker) -> Proxy:
        return next(proxy for found, proxy in self._opened if found is broker)

    @contextlib.contextmanager
    def raw(self):
        """A plain channel beside the hub's own."""
        connection = pika.BlockingConnection(pika.URLParameters(self.url))
        try:
            yield connection.channel()
        finally:
            connection.close()

    async def set_aside(self) -> int:
        return await self._opened[0][0].dead()

    async def close(self) -> None:
        for broker, proxy in self._opened:
            await broker.close()
            await proxy.stop()
        with self.raw() as channel:
            names = [f"{self.prefix}.dead", *(f"{self.prefix}.delay.{tier}" for tier in TIERS)]
            for queue in [
                *names,
                f"{self.prefix}.route.{ROUTE}",
                f"{self.prefix}.route.other",
                f"{self.prefix}.route.another",
            ]:
                channel.queue_delete(queue)
            for exchange in [*names, f"{self.prefix}.routes"]:
                channel.exchange_delete(exchange)


@pytest.fixture
async def kit(broker_url: str, broker_prefix: str) -> AsyncIterator[RabbitKit]:
    kit = RabbitKit(broker_url, broker_prefix)
    try:
        yield kit
    finally:
        await kit.close()


@pytest.mark.parametrize(("delay", "tier"), [(0, 1), (1, 1), (1.1, 5), (15, 15), (61, 300), (4000, 300)])
def test_a_delay_is_rounded_up_to_a_tier(delay: float, tier: int) -> None:
    assert tier_for(delay) == tier


@pytest.mark.parametrize(
    "url",
    ["http://host/", "amqp://", "amqp://u:secret-word@:5672/", "nonsense", "amqp://u:secret-word@h:x/", ""],
)
def test_a_wrong_url_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RabbitMQBroker(url)
    assert caught.value.code == "broker-url-invalid"
    assert "secret-word" not in str(caught.value)


class TestRabbitMQBroker(BrokerBehaviour):
    async def test_a_parcel_in_the_queue_is_its_two_ids_and_nothing_of_a_person(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = parcel()
        sent = type(sent)(sent.delivery_id, sent.message_id, ROUTE, {"traceparent": TRACE, "name": "Amina"})
        await publish_all(broker, [sent])
        with kit.raw() as channel:
            _, properties, body = channel.basic_get(broker.topology.queue(ROUTE))
        assert body == sent.delivery_id.bytes + sent.message_id.bytes
        assert set(properties.headers) - {"x-delivery-count"} == {
            "traceparent",
            "published-at",
        }  # the broker adds its count
        assert properties.delivery_mode == 2

    async def test_a_parcel_no_queue_takes_is_not_confirmed(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        good = [parcel() for _ in range(20)]
        mixed = [*good[:10], parcel("nowhere"), *good[10:], parcel("nowhere")]
        confirmed = await broker.publish(mixed)
        assert {item.delivery_id for item in confirmed} == {item.delivery_id for item in good}

    async def test_a_refused_parcel_is_not_confirmed(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        with kit.raw() as channel:
            full = {"x-max-length": 1, "x-overflow": "reject-publish"}
            channel.queue_declare(f"{kit.prefix}.full", arguments=full, durable=True)
            channel.queue_bind(f"{kit.prefix}.full", broker.topology.routes, "full")
            try:
                first = await broker.publish([parcel("full")])
                rest = await broker.publish([parcel("full") for _ in range(5)])
            finally:
                channel.queue_delete(f"{kit.prefix}.full")
        assert (len(first), len(rest)) == (1, 0)

    async def test_more_parcels_than_the_window_holds_are_all_confirmed(self, kit: RabbitKit) -> None:
        broker = await kit.open(window=16)
        await broker.declare([ROUTE])
        batches = [[parcel() for _ in range(100)] for _ in range(4)]
        results = await asyncio.gather(*(broker.publish(batch) for batch in batches))
        assert [len(result) for result in results] == [100] * 4

    async def test_what_is_not_a_parcel_goes_to_the_dead_queue(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        with kit.raw() as channel:
            for body in (b"", b"x" * 31, b"y" * 300_000):
                channel.basic_publish(broker.topology.routes, ROUTE, body)
        await publish_all(broker, [sent := parcel()])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=1)
        await until(lambda: inbox.ids == [sent.delivery_id])

        async def three() -> bool:
            return await broker.dead() == 3

        await eventually(three)

    async def test_a_parcel_from_another_publisher_is_read_too(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        sent = parcel()
        with kit.raw() as channel:
            properties = pika.BasicProperties(content_type="x", headers={"deep": {"a": [1]}}, message_id="m")
            channel.basic_publish(
                broker.topology.routes, ROUTE, sent.delivery_id.bytes + sent.message_id.bytes, properties
            )
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=1)
        await until(lambda: inbox.ids == [sent.delivery_id])
        assert inbox.got[0].parcel.headers == {}

    async def test_a_deleted_queue_is_made_again_and_its_consumer_returns(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        await broker.declare([ROUTE])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=5)
        with kit.raw() as channel:
            channel.queue_delete(broker.topology.queue(ROUTE))
        sent = parcel()

        async def published() -> bool:
            return bool(await broker.publish([sent]))

        await eventually(published)
        await until(lambda: inbox.ids == [sent.delivery_id])

    async def test_a_queue_with_other_arguments_is_reported_and_left_alone(self, kit: RabbitKit) -> None:
        broker = await kit.open()
        with kit.raw() as channel:
            channel.queue_declare(broker.topology.queue(ROUTE), durable=True)
        with pytest.raises(ConfigError) as caught:
            await broker.declare([ROUTE])
        assert caught.value.code == "broker-topology-differs"
        assert await broker.healthy()

    async def test_a_delay_beyond_the_last_tier_is_kept(
        self, kit: RabbitKit, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("routing.brokers.topology.TIERS", (1,))
        monkeypatch.setattr("routing.brokers.rabbitmq.TIERS", (1,))
        broker = await kit.open()
        await broker.declare([ROUTE])
        await publish_all(broker, [parcel()])
        inbox = Inbox(lambda received: received.ack() if received.redelivered else received.retry(2.5))
        await broker.consume(ROUTE, inbox, prefetch=10)
        await until(lambda: len(inbox.got) == 2)
        assert inbox.times[1] - inbox.times[0] >= 2.5

    async def test_a_wrong_password_is_a_matter_of_configuration(self, broker_url: str) -> None:
        parts = urlsplit(broker_url)
        wrong = urlunsplit(
            (parts.scheme, f"guest:wrong-word@{parts.hostname}:{parts.port or 5672}", parts.path, "", "")
        )
        with pytest.raises(ConfigError) as caught:
            await RabbitMQBroker(wrong).open()
        assert caught.value.code == "broker-refused"
        assert "wrong-word" not in str(caught.value)

    async def test_the_next_node_is_used_when_the_first_does_not_answer(
        self, kit: RabbitKit, broker_url: str
    ) -> None:
        broker = RabbitMQBroker(f"amqp://guest:guest@127.0.0.1:1/,{broker_url}", prefix=kit.prefix)
        await broker.open()
        try:
            assert await broker.healthy()
        finally:
            await broker.close()

    async def test_connections_closed_by_the_operator_are_made_again(
        self, kit: RabbitKit, rabbitmq_server: Server
    ) -> None:
        if rabbitmq_server.control is None:
            missing("rabbitmqctl for this broker", "Run the tests beside the broker.")
        broker = await kit.open()
        await broker.declare([ROUTE])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=5)
        vhost = urlsplit(kit.url).path[1:]
        await asyncio.to_thread(
            rabbitmq_server.control, "close_all_connections", "--vhost", vhost, "maintenance"
        )
        await until(lambda: not broker._sender.usable.is_set() or not broker._receiver.usable.is_set())
        await eventually(broker.healthy)
        await publish_all(broker, [sent := parcel()])
        await until(lambda: inbox.ids == [sent.delivery_id])

    async def test_a_lost_connection_is_told_by_its_event_name_and_code(
        self, kit: RabbitKit, caplog: pytest.LogCaptureFixture
    ) -> None:
        broker = await kit.open()
        kit.proxy(broker).cut()

        def told() -> list[dict[str, object]]:
            lines = (orjson.loads(LogFormatter().format(record)) for record in caplog.records)
            return [line for line in lines if line["event"] == "broker-connection-lost"]

        await until(lambda: bool(told()))
        line = told()[0]
        assert (line["broker"], line["code"]) == ("rabbitmq", "broker-unavailable")
        assert line["phase"] in {"publish", "consume"}
        assert "dropped" not in line
