"""Fixtures every test may use: a migrated database of its own and a broker of its own."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# A console keeps the width it was made with; tests say the width they need, whoever starts them with one set.
for _size in ("COLUMNS", "LINES"):
    os.environ.pop(_size, None)

# Tests are imported by file (importlib mode); what they share lies in tests/services and needs a place on the path.
sys.path.append(str(Path(__file__).resolve().parent))

pytest.register_assert_rewrite("brokers.behaviour")

from services import postgres, rabbitmq  # noqa: E402


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of an administration database of a real PostgreSQL."""
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated_template(postgres_server: str) -> Iterator[str]:
    """The name of a migrated, empty database that others are copied from."""
    name = f"{postgres.fresh_name()}_template"
    try:
        postgres.migrate(postgres.create(postgres_server, name))
        yield name
    finally:
        postgres.drop(postgres_server, name)


@pytest.fixture(scope="session")
def databases(postgres_server: str, migrated_template: str) -> Iterator[postgres.Stock]:
    """Fresh, migrated databases, some of them made ahead."""
    stock = postgres.Stock(postgres_server, migrated_template)
    try:
        yield stock
    finally:
        stock.close()


@pytest.fixture
def database_url(databases: postgres.Stock) -> Iterator[str]:
    """The URL of a fresh, migrated database, dropped after the test."""
    url = databases.take()
    try:
        yield url
    finally:
        databases.give_back(url)


@pytest.fixture(scope="session")
def rabbitmq_server() -> Iterator[rabbitmq.Server]:
    """A real RabbitMQ and, where it is ours to command, its control program."""
    with rabbitmq.server() as found:
        yield found


@pytest.fixture
def broker_url(rabbitmq_server: rabbitmq.Server) -> str:
    """The AMQP URL of an empty virtual host; of the shared one where none can be made: then use `broker_prefix` too."""
    return rabbitmq_server.fresh_url()


@pytest.fixture
def broker_prefix() -> str:
    """A prefix of queue names that no other test uses."""
    return f"hub-{secrets.token_hex(4)}"
