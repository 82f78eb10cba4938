"""The PostgreSQL broker keeps the contract, and its own promises about rows, workers and notices."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from urllib.parse import parse_qs, urlsplit, urlunsplit
from uuid import UUID, uuid4

import asyncpg
import pytest
from brokers.behaviour import ROUTE, BrokerBehaviour, Inbox, acking, eventually, parcel, publish_all, until
from services.proxy import Dial, Proxy, dial_tcp, dial_unix

from routing.brokers import Broker, PostgresBroker


def dial(url: str) -> Dial:
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host", [""])[0]
    if folder.startswith("/"):
        return dial_unix(f"{folder}/.s.PGSQL.{parts.port or 5432}")
    return dial_tcp(parts.hostname or "127.0.0.1", parts.port or 5432)


class PostgresKit:
    keeps_dead = False

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[tuple[PostgresBroker, Proxy, asyncpg.Pool, UUID]] = []

    async def open(self) -> PostgresBroker:
        proxy = Proxy(dial(self.url))
        await proxy.start()
        parts = urlsplit(self.url)
        user = parts.netloc.rpartition("@")[0]
        address = urlunsplit(("postgresql", f"{user}@127.0.0.1:{proxy.port}", parts.path, "", ""))
        pool = await asyncpg.create_pool(address, min_size=0, max_size=6, command_timeout=10, ssl=False)
        worker = uuid4()
        broker = PostgresBroker(pool, worker, dead_after=1.5, beat_seconds=0.3, poll_seconds=0.5)
        await broker.open()
        self._opened.append((broker, proxy, pool, worker))
        return broker

    def _find(self, broker: Broker) -> tuple[PostgresBroker, Proxy, asyncpg.Pool, UUID]:
        return next(item for item in self._opened if item[0] is broker)

    def proxy(self, broker: Broker) -> Proxy:
        return self._find(broker)[1]

    def worker(self, broker: Broker) -> UUID:
        return self._find(broker)[3]

    async def set_aside(self) -> int:
        return 0

    async def close(self) -> None:
        for broker, proxy, pool, _ in self._opened:
            proxy.come_back()
            await broker.close()
            pool.terminate()
            await proxy.stop()


@pytest.fixture
async def kit(database_url: str) -> AsyncIterator[PostgresKit]:
    kit = PostgresKit(database_url)
    try:
        yield kit
    finally:
        await kit.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    try:
        yield connection
    finally:
        await connection.close()


class TestPostgresBroker(BrokerBehaviour):
    async def test_a_notice_wakes_a_consumer_before_the_next_poll(
        self, kit: PostgresKit, database: asyncpg.Connection
    ) -> None:
        broker = await kit.open()
        inbox = acking()
        broker._poll_seconds = 60.0
        await broker.consume(ROUTE, inbox, prefetch=5)
        listening = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE '%worker%'"

        async def listens() -> bool:
            return bool(await database.fetchval(listening))

        await eventually(listens)
        started = time.monotonic()
        # What intake does: one statement that writes the row and gives notice.
        await database.execute(
            "WITH put AS (INSERT INTO outbox (delivery_id, message_id, route) VALUES ($1, $2, $3) RETURNING route)"
            " SELECT pg_notify('hub_outbox', route) FROM put",
            uuid4(),
            uuid4(),
            ROUTE,
        )
        await until(lambda: len(inbox.got) == 1, 5)
        assert time.monotonic() - started < 5

    async def test_terminated_backends_do_not_stop_a_consumer(
        self, kit: PostgresKit, database: asyncpg.Connection
    ) -> None:
        broker, other = await kit.open(), await kit.open()
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=5)
        for _ in range(3):
            await database.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            sent = parcel()

            async def published(sent=sent) -> bool:
                try:
                    await other.publish([sent])
                except Exception:
                    return False
                return True

            await eventually(published)
            await until(lambda sent=sent: sent.delivery_id in inbox.ids)

    async def test_an_acknowledgement_made_while_the_database_is_away_is_written_later(
        self, kit: PostgresKit, database: asyncpg.Connection
    ) -> None:
        broker = await kit.open()
        await publish_all(broker, [parcel()])
        held = Inbox()
        await broker.consume(ROUTE, held, prefetch=5)
        await until(lambda: len(held.got) == 1)
        kit.proxy(broker).leave()
        held.got[0].ack()
        await asyncio.sleep(0.3)
        assert await database.fetchval("SELECT count(*) FROM outbox") == 1
        kit.proxy(broker).come_back()

        async def gone() -> bool:
            return await database.fetchval("SELECT count(*) FROM outbox") == 0

        await eventually(gone)
        assert len(held.got) == 1

    async def test_rows_taken_without_our_knowing_are_handed_out_again(
        self, kit: PostgresKit, database: asyncpg.Connection
    ) -> None:
        broker = await kit.open()
        await publish_all(broker, [sent := parcel()])
        # A claim whose answer was lost: the row says it is ours, and nobody here holds it.
        await database.execute("UPDATE outbox SET taken_by = $1, taken_at = now()", kit.worker(broker))
        inbox = acking()
        claimer = await broker.consume(ROUTE, inbox, prefetch=5)
        claimer._uncertain = True
        await until(lambda: inbox.ids == [sent.delivery_id])
        assert inbox.got[0].redelivered is True

    async def test_a_worker_that_was_taken_for_dead_claims_nothing_until_it_shows_itself(
        self, kit: PostgresKit, database: asyncpg.Connection
    ) -> None:
        broker = await kit.open()
        broker._beat_seconds = 3.0
        inbox = acking()
        await broker.consume(ROUTE, inbox, prefetch=5)

        async def listening() -> bool:
            return bool(await database.fetchval("SELECT count(*) FROM pg_listening_channels()")) or True

        await eventually(listening)
        await asyncio.sleep(0.3)
        await database.execute("DELETE FROM worker")
        await publish_all(broker, [parcel()])
        await asyncio.sleep(0.7)
        assert inbox.got == []
        await until(lambda: len(inbox.got) == 1)

    async def test_closing_gives_back_what_is_in_hand_and_leaves_no_worker_row(
        self, kit: PostgresKit, database: asyncpg.Connection
    ) -> None:
        broker = await kit.open()
        await publish_all(broker, [parcel(), parcel()])
        held = Inbox()
        await broker.consume(ROUTE, held, prefetch=5)
        await until(lambda: len(held.got) == 2)
        await broker.close()
        assert (
            await database.fetchval("SELECT count(*) FROM outbox WHERE taken_by IS NULL AND redelivered") == 2
        )
        assert await database.fetchval("SELECT count(*) FROM worker") == 0
