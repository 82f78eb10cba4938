"""What a benchmark makes for itself and takes away again: databases, and queues of the broker."""

from __future__ import annotations

from collections.abc import Sequence

import asyncpg

from routing.brokers.link import Link, open_channel, parse_urls
from routing.brokers.topology import Topology
from routing.brokers.wire import WireConnection


async def fresh_database(admin: str, name: str) -> str:
    """Make an empty database beside the one `admin` names, in place of one left over, and return its URL."""
    connection = await asyncpg.connect(admin, timeout=10)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {name}")
    finally:
        await connection.close()
    head, _, query = admin.partition("?")
    return f"{head.rpartition('/')[0]}/{name}" + (f"?{query}" if query else "")


async def drop_database(admin: str, name: str) -> None:
    """Drop a database of a benchmark, whoever is still connected to it."""
    connection = await asyncpg.connect(admin, timeout=10)
    try:
        await connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    finally:
        await connection.close()


async def drop_queues(broker_url: str | None, prefix: str, routes: Sequence[str]) -> None:
    """Delete the queues and exchanges a benchmark made under its prefix; nothing without a broker."""
    if not broker_url:
        return

    async def prepare(connection: WireConnection) -> None:
        channel = await open_channel(connection)
        await Topology(prefix).remove(channel, routes)
        await channel.close()

    link = Link(parse_urls(broker_url, None), prepare, "bench")
    try:
        await link.open()
    finally:
        await link.close()
