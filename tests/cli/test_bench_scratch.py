"""What a benchmark made for itself is gone when it ends."""

from __future__ import annotations

import pika
import pika.exceptions
import pytest

from adapters.cli.bench.scratch import drop_queues
from routing.brokers.rabbitmq import RabbitMQBroker
from routing.brokers.topology import TIERS, Topology


@pytest.mark.rabbitmq
async def test_the_queues_of_a_benchmark_are_deleted_and_those_of_others_stay(
    broker_url: str, broker_prefix: str
) -> None:
    other = f"{broker_prefix}other"
    for prefix in (broker_prefix, other):
        broker = RabbitMQBroker(broker_url, prefix=prefix)
        await broker.open()
        await broker.declare(["bench"])
        await broker.close()
    await drop_queues(broker_url, broker_prefix, ["bench", "never-made"])
    await drop_queues(None, broker_prefix, ["bench"])

    def there(prefix: str) -> list[bool]:
        topology = Topology(prefix)
        names = [topology.queue("bench"), topology.dead, *(topology.delay(tier) for tier in TIERS)]
        connection = pika.BlockingConnection(pika.URLParameters(broker_url))
        found = []
        for name in names:
            channel = connection.channel()
            try:
                channel.queue_declare(name, passive=True)
                found.append(True)
            except pika.exceptions.ChannelClosedByBroker:
                found.append(False)
        connection.close()
        return found

    assert not any(there(broker_prefix))
    assert all(there(other))
    await drop_queues(broker_url, other, ["bench"])
