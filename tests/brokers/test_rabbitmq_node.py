"""The RabbitMQ broker against a node of our own: killed and started again, and reached by TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from brokers.behaviour import ROUTE, acking, eventually, parcel, publish_all, until
from services.apart import free_port
from services.certificates import certificate
from services.rabbitmq import SETTLED_SECONDS, PrivateNode, private_node

from canonical_model.errors import ConfigError, HubError, Unavailable
from routing.brokers import RabbitMQBroker

pytestmark = [pytest.mark.rabbitmq, pytest.mark.crash, pytest.mark.slow]


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[PrivateNode, int, Path, Path]]:
    """A node with a TLS port whose certificate names 127.0.0.1, its CA file, and the file of a CA it does not know."""
    folder = tmp_path_factory.mktemp("tls")
    ours, other = certificate(folder, "broker", "127.0.0.1"), certificate(folder, "other", "127.0.0.1")
    port = free_port()
    extra = "\n".join(
        (
            f"listeners.ssl.1 = 127.0.0.1:{port}",
            f"ssl_options.cacertfile = {ours}",
            f"ssl_options.certfile = {folder / 'broker.pem'}",
            f"ssl_options.keyfile = {folder / 'broker.key'}",
            "ssl_options.verify = verify_none",
        )
    )
    with private_node(extra=extra) as node:
        yield node, port, ours, other


@pytest.fixture
async def broker(secured: tuple[PrivateNode, int, Path, Path]) -> AsyncIterator[RabbitMQBroker]:
    broker = RabbitMQBroker(secured[0].url, prefix="crash", confirm_seconds=10)
    await broker.open()
    try:
        yield broker
    finally:
        await broker.close()


async def test_a_trusted_certificate_carries_parcels(secured: tuple[PrivateNode, int, Path, Path]) -> None:
    _, port, ours, _ = secured
    broker = RabbitMQBroker(f"amqps://guest:guest@127.0.0.1:{port}/", ca=ours, prefix="tls")
    await broker.open()
    try:
        await broker.declare([ROUTE])
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=50)
        sent = [parcel() for _ in range(500)]
        await publish_all(broker, sent)
        await until(lambda: len(inbox.got) == 500)
    finally:
        await broker.close()


async def test_a_certificate_of_an_unknown_authority_is_refused(
    secured: tuple[PrivateNode, int, Path, Path],
) -> None:
    _, port, _, other = secured
    with pytest.raises(ConfigError) as caught:
        await RabbitMQBroker(f"amqps://guest:guest@127.0.0.1:{port}/", ca=other).open()
    assert caught.value.code == "broker-tls-untrusted"


async def test_a_certificate_of_another_host_is_refused(secured: tuple[PrivateNode, int, Path, Path]) -> None:
    _, port, ours, _ = secured
    with pytest.raises(ConfigError) as caught:
        await RabbitMQBroker(f"amqps://guest:guest@localhost:{port}/", ca=ours).open()
    assert caught.value.code == "broker-tls-untrusted"


async def test_confirmed_parcels_survive_the_killing_of_the_broker(
    secured: tuple[PrivateNode, int, Path, Path], broker: RabbitMQBroker
) -> None:
    node = secured[0]
    await broker.declare([ROUTE])
    confirmed: set[object] = set()
    stop = asyncio.Event()

    async def keep_publishing() -> None:
        while not stop.is_set():
            try:
                confirmed.update(
                    item.delivery_id for item in await broker.publish([parcel() for _ in range(50)])
                )
            except Unavailable:
                await asyncio.sleep(0.05)

    publishing = asyncio.create_task(keep_publishing())
    await asyncio.sleep(SETTLED_SECONDS)
    await until(lambda: len(confirmed) > 500)
    await asyncio.to_thread(node.kill)
    before = len(confirmed)
    await asyncio.to_thread(node.start)
    await until(lambda: len(confirmed) > before, 40)
    stop.set()
    await publishing
    inbox = acking()

    async def consumes() -> bool:
        try:
            await broker.consume(ROUTE, inbox, prefetch=200)
        except HubError:
            return False
        return True

    await eventually(consumes)
    await until(lambda: confirmed <= set(inbox.ids), 40)


async def test_parcels_waiting_in_a_delay_tier_survive_the_killing_of_the_broker(
    secured: tuple[PrivateNode, int, Path, Path], broker: RabbitMQBroker
) -> None:
    node = secured[0]
    route = "delayed"
    await broker.declare([route])
    await asyncio.sleep(SETTLED_SECONDS)
    sent = {item.delivery_id for item in await broker.publish([parcel(route) for _ in range(50)])}
    again = set()
    first = 0

    async def handler(received) -> None:  # type: ignore[no-untyped-def]
        nonlocal first
        if received.redelivered and first >= 50:
            again.add(received.parcel.delivery_id)
            received.ack()
        else:
            first += 1
            received.retry(5)

    await broker.consume(route, handler, prefetch=100)
    await until(lambda: first >= 50)
    await asyncio.sleep(0.5)
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.start)
    await until(lambda: again == sent, 60)
