"""The raw limits of the parts, and their bare composition with none of the hub's guarantees."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

import aiohttp
import asyncpg
import orjson
from aiohttp import web

from canonical_model.message import uuid7
from registry.storage.group import GroupCommit
from routing.brokers.contract import Parcel, Received
from routing.brokers.rabbitmq import RabbitMQBroker

TABLES: Final = """
DROP TABLE IF EXISTS bench_message, bench_result;
CREATE TABLE bench_message (id uuid PRIMARY KEY, body bytea NOT NULL);
CREATE TABLE bench_result (id uuid PRIMARY KEY, status int NOT NULL);
"""


async def _insert(pool: asyncpg.Pool, rows: Sequence[tuple[UUID, bytes]]) -> list[None]:
    await pool.execute(
        "INSERT INTO bench_message SELECT * FROM unnest($1::uuid[], $2::bytea[])",
        [r[0] for r in rows],
        [r[1] for r in rows],
    )
    return [None] * len(rows)


async def _result(pool: asyncpg.Pool, rows: Sequence[tuple[UUID, int]]) -> list[None]:
    await pool.execute(
        "INSERT INTO bench_result SELECT * FROM unnest($1::uuid[], $2::int[])",
        [r[0] for r in rows],
        [r[1] for r in rows],
    )
    return [None] * len(rows)


async def serve_in(database: str, broker_url: str | None, port: int, prefix: str) -> None:
    """The entrance of the bare composition: aiohttp in, grouped insert, windowed publish."""
    pool = await asyncpg.create_pool(database, min_size=2, max_size=6)
    group: GroupCommit[tuple[UUID, bytes], None] = GroupCommit(lambda rows: _insert(pool, rows), delay=0.003)
    broker: RabbitMQBroker | None = None
    parcels: list[Parcel] = []
    publishing: set[asyncio.Task[Any]] = set()
    if broker_url:
        broker = RabbitMQBroker(broker_url, prefix=prefix)
        await broker.open()
        await broker.declare(["bare"])

    def flush() -> None:
        assert broker is not None
        batch, parcels[:] = list(parcels), []
        task = asyncio.get_running_loop().create_task(broker.publish(batch))
        publishing.add(task)
        task.add_done_callback(publishing.discard)

    async def take(request: web.Request) -> web.Response:
        body = await request.read()
        id_ = uuid7()
        await group.submit((id_, body))
        if broker is not None:
            if not parcels:
                asyncio.get_running_loop().call_later(0.003, flush)
            parcels.append(Parcel(id_, id_, "bare"))
        return web.Response(body=orjson.dumps({"id": str(id_)}), status=202, content_type="application/json")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read(), content_type="application/json")

    app = web.Application()
    app.router.add_post("/in", take)
    app.router.add_post("/echo", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def serve_out(database: str, broker_url: str, target: str, prefix: str) -> None:
    """The exit of the bare composition: consume, read the row, aiohttp client out, grouped result row."""
    pool = await asyncpg.create_pool(database, min_size=2, max_size=6)
    group: GroupCommit[tuple[UUID, int], None] = GroupCommit(lambda rows: _result(pool, rows), delay=0.003)

    async def _fetch(ids: Sequence[UUID]) -> list[bytes | Exception]:
        rows = await pool.fetch("SELECT id, body FROM bench_message WHERE id = ANY($1)", list(ids))
        found = {row[0]: row[1] for row in rows}
        return [found[id_] for id_ in ids]

    reading: GroupCommit[UUID, bytes] = GroupCommit(_fetch, delay=0.003)
    http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=64))
    broker = RabbitMQBroker(broker_url, prefix=prefix)
    await broker.open()
    await broker.declare(["bare"])

    async def handle(received: Received) -> None:
        body = await reading.submit(received.parcel.message_id)
        async with http.post(target, data=body, headers={"Content-Type": "application/json"}) as answer:
            await answer.read()
        await group.submit((received.parcel.delivery_id, answer.status))
        received.ack()

    await broker.consume("bare", handle, prefetch=200)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await asyncio.Event().wait()


async def raw_insert(pool: asyncpg.Pool, count: int = 20_000) -> float:
    """Return rows a second of grouped inserts, one group after another."""
    body = os.urandom(1200)
    started = time.perf_counter()
    for _ in range(count // 200):
        await _insert(pool, [(uuid7(), body) for _ in range(200)])
    return count / (time.perf_counter() - started)


async def raw_broker(broker_url: str, prefix: str, count: int = 10_000) -> tuple[float, float]:
    """Return publishes with confirm a second and consumes with ack a second."""
    broker = RabbitMQBroker(broker_url, prefix=prefix)
    await broker.open()
    try:
        await broker.declare(["raw"])
        parcels = [Parcel(uuid7(), uuid7(), "raw") for _ in range(count)]
        started = time.perf_counter()
        for place in range(0, count, 500):
            await broker.publish(parcels[place : place + 500])
        published = count / (time.perf_counter() - started)
        done = asyncio.Event()
        seen = 0

        async def handle(received: Received) -> None:
            nonlocal seen
            received.ack()
            seen += 1
            if seen >= count:
                done.set()

        started = time.perf_counter()
        consumer = await broker.consume("raw", handle, prefetch=500)
        async with asyncio.timeout(60):
            await done.wait()
        consumed = count / (time.perf_counter() - started)
        await consumer.cancel()
        return published, consumed
    finally:
        await broker.close()


async def raw_client(url: str, count: int = 5_000) -> float:
    """Return POSTs a second of one aiohttp client with 32 under way."""
    body = os.urandom(1200)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32)) as http:
        numbers = iter(range(count))

        async def one() -> None:
            for _ in numbers:
                async with http.post(url, data=body) as answer:
                    await answer.read()

        started = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(32)))
        return count / (time.perf_counter() - started)


def main() -> None:
    """Run one half of the bare composition as a process of its own: `in` or `out`, with its arguments."""
    import uvloop

    half, database, broker_url, rest, prefix = sys.argv[1:6]
    work = (
        serve_in(database, broker_url or None, int(rest), prefix)
        if half == "in"
        else serve_out(database, broker_url, rest, prefix)
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


if __name__ == "__main__":
    main()
