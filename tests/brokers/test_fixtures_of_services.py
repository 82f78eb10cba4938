"""The test fixtures themselves keep their word."""

from __future__ import annotations

import asyncpg
import pika
import pytest


async def test_each_test_gets_a_migrated_database(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    try:
        assert await connection.fetchval("SELECT count(*) FROM outbox") == 0
        assert await connection.fetchval("SELECT count(*) FROM message") == 0
    finally:
        await connection.close()


@pytest.mark.rabbitmq
def test_each_test_gets_a_broker_that_accepts_it(broker_url: str) -> None:
    pika.BlockingConnection(pika.URLParameters(broker_url)).close()
