"""Schema upgrades: Alembic over the migrations that ship with the hub."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

LOCK = 0x6F70_656E  # one upgrade at a time, whoever starts it


def config() -> Config:
    """Return the Alembic configuration of the shipped migrations."""
    settings = Config()
    settings.set_main_option("script_location", str(files("deploy").joinpath("migrations")))
    settings.set_main_option("path_separator", "os")
    return settings


def engine_for(url: str) -> AsyncEngine:
    """Return an engine that opens asyncpg connections to any libpq-style URL, unix sockets included."""

    async def connect() -> Any:
        return await asyncpg.connect(url, timeout=15, statement_cache_size=0)

    return create_async_engine("postgresql+asyncpg://", async_creator=connect, poolclass=NullPool)


def head() -> str | None:
    """Return the newest schema version this code knows."""
    return ScriptDirectory.from_config(config()).get_current_head()


async def upgrade_async(
    url: str, revision: str = "head", *, progress: Callable[[int, int], None] | None = None
) -> tuple[str | None, str | None]:
    """Bring the schema to `revision`; return the versions before and after. Safe to run from many processes at once.

    `progress` is told before the first migration and after each how many of how many are done.
    """
    engine = engine_for(url)
    logging.getLogger("alembic").setLevel(logging.WARNING)

    def work(connection: Connection) -> tuple[str | None, str | None]:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")
        before = MigrationContext.configure(connection).get_current_revision()
        settings = config()
        settings.attributes["connection"] = connection
        if progress is not None:
            scripts = ScriptDirectory.from_config(settings)
            left = len(list(scripts.iterate_revisions(scripts.as_revision_number(revision), before)))
            done = iter(range(1, left + 1))
            settings.attributes["on_version_apply"] = lambda **_: progress(next(done), left)
            progress(0, left)
        command.upgrade(settings, revision)
        return before, MigrationContext.configure(connection).get_current_revision()

    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()


def upgrade(url: str, revision: str = "head") -> tuple[str | None, str | None]:
    """Bring the schema of the database at `url` to `revision` (blocking form of `upgrade_async`)."""
    return asyncio.run(upgrade_async(url, revision))


async def current(connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy) -> str | None:
    """Return the schema version of the connected database, None when it was never upgraded."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None
    value = await connection.fetchval("SELECT version_num FROM alembic_version")
    return None if value is None else str(value)
