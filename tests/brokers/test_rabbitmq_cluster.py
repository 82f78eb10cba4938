"""The RabbitMQ broker against a cluster of three nodes of which one is lost, disk and all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from brokers.behaviour import ROUTE, acking, eventually, parcel, until
from services.rabbitmq import SETTLED_SECONDS, PrivateNode, private_cluster

from canonical_model.errors import HubError, Unavailable
from routing.brokers import RabbitMQBroker

pytestmark = [pytest.mark.rabbitmq, pytest.mark.crash, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[list[PrivateNode]]:
    with private_cluster() as nodes:
        yield nodes


def _members(node: PrivateNode, queue: str) -> tuple[str, list[str]]:
    """Return the leader and the members of a queue as one node sees them."""
    listed = json.loads(node.control("list_queues", "--formatter=json", "name", "leader", "members"))
    found = next(one for one in listed if one["name"] == queue)
    return found["leader"], found["members"]


async def test_confirmed_parcels_survive_the_loss_of_a_node_with_its_disk(cluster: list[PrivateNode]) -> None:
    broker = RabbitMQBroker(",".join(node.url for node in cluster), prefix="lost", confirm_seconds=10)
    await broker.open()
    confirmed: set[object] = set()
    stop = asyncio.Event()

    async def keep_publishing() -> None:
        while not stop.is_set():
            try:
                confirmed.update(
                    one.delivery_id for one in await broker.publish([parcel() for _ in range(50)])
                )
                # No more than is then fetched in little time, also by a machine that is busy.
                await asyncio.sleep(0.02)
            except Unavailable:
                await asyncio.sleep(0.05)

    try:
        await broker.declare([ROUTE])
        queue = f"lost.route.{ROUTE}"
        _, members = await asyncio.to_thread(_members, cluster[0], queue)
        assert len(members) == 3, "a queue on one node would go with its disk"
        publishing = asyncio.create_task(keep_publishing())
        await asyncio.sleep(SETTLED_SECONDS)
        await until(lambda: len(confirmed) > 500, 60)
        leader, _ = await asyncio.to_thread(_members, cluster[0], queue)
        lost = next(node for node in cluster if node.environment["RABBITMQ_NODENAME"] == leader)
        await asyncio.to_thread(lost.kill)
        await asyncio.to_thread(lost.erase)
        before = len(confirmed)
        await until(lambda: len(confirmed) > before + 500, 120)
        stop.set()
        await publishing
        inbox = acking()

        async def consumes() -> bool:
            try:
                await broker.consume(ROUTE, inbox, prefetch=200)
            except HubError:
                return False
            return True

        await eventually(consumes, 90)
        # Counted first: the comparison of all ids at every look would take the time that fetching them needs.
        await until(lambda: len(inbox.got) >= len(confirmed) and confirmed <= set(inbox.ids), 180)
    finally:
        stop.set()
        await broker.close()
