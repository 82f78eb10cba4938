"""The database pool and what every connection agrees on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import orjson

from canonical_model.errors import ConfigError, Unavailable
from registry.settings import HubSettings
from registry.storage.embedded import EmbeddedPostgres

OLDEST, NEWEST = 150000, 190000
"""Server versions the schema runs on: PostgreSQL 15 to 18."""

GONE = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # what a connection says whose server died between two of its statements
    EOFError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InsufficientResourcesError,  # disk or memory full, too many connections
    asyncpg.OperatorInterventionError,  # cancelled, shut down, crashed
    asyncpg.TransactionRollbackError,  # deadlock or serialization: nothing was written, the same may be tried again
    asyncpg.LockNotAvailableError,
    asyncpg.PostgresSystemError,
    OSError,
    TimeoutError,
)
"""What asyncpg raises while the server is away; the work may be tried again once it is back."""

_embedded: dict[str, EmbeddedPostgres] = {}


def database_url(settings: HubSettings) -> str:
    """Return the URL to connect to, starting the embedded server when none is configured (blocking, 1 to 5 s)."""
    if settings.database_url is not None:
        return settings.database_url.get_secret_value()
    folder = settings.data_dir / "postgres"
    server = _embedded.setdefault(str(folder.resolve()), EmbeddedPostgres(folder))
    return server.start()


def stop_embedded() -> None:
    """Release every embedded server this process started."""
    for server in _embedded.values():
        server.stop()
    _embedded.clear()


async def _prepare(connection: asyncpg.Connection) -> None:
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda raw: orjson.loads(raw[1:]),
    )


async def _leave_as_it_is(_: Any) -> None:
    """Spare the round trip of RESET ALL at every release: nothing here changes a session beyond its transaction.

    The driver itself still rolls back an open transaction and forgets listeners before this is called.
    """


async def open_pool(
    settings: HubSettings, *, size: int | None = None, url: str | None = None
) -> asyncpg.Pool:
    """Open a pool; raises `Unavailable` when no server answers and `ConfigError` when it is the wrong one."""
    target = url or await asyncio.to_thread(database_url, settings)
    try:
        pool = await asyncpg.create_pool(
            target,
            min_size=1,
            max_size=size or settings.database_pool,
            init=_prepare,
            reset=_leave_as_it_is,
            timeout=10,
            command_timeout=30,
            statement_cache_size=settings.database_statement_cache,
            max_inactive_connection_lifetime=300,
            server_settings={
                "application_name": "openspp-hub",
                "jit": "off",
                "plan_cache_mode": "force_generic_plan",
            },
        )
    except (
        asyncpg.InvalidPasswordError,
        asyncpg.InvalidCatalogNameError,
        asyncpg.InvalidAuthorizationSpecificationError,
    ) as error:
        raise ConfigError(
            f"The database refused the connection ({type(error).__name__}). Nothing was started.",
            code="database-refused",
            remedy="Check user, password and database name in HUB_DATABASE_URL.",
        ) from error
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        # The driver's own text would show the URL.
        raise ConfigError(
            f"HUB_DATABASE_URL is not a PostgreSQL URL ({type(error).__name__}). Nothing was started.",
            code="database-refused",
            remedy="Write it as postgresql://user:password@host:5432/database, special characters percent-encoded.",
        ) from None
    except GONE as error:
        raise Unavailable(
            f"The database does not answer ({type(error).__name__}).",
            code="database-unavailable",
            remedy="Start PostgreSQL, or correct host and port in HUB_DATABASE_URL; `hub doctor` checks it.",
        ) from error
    version = await pool.fetchval("SELECT current_setting('server_version_num')::int")
    if not OLDEST <= version < NEWEST:
        await pool.close()
        raise ConfigError(
            f"The database is PostgreSQL {version // 10000}; the hub runs on 15 to 18.",
            code="database-version",
            remedy="Point HUB_DATABASE_URL at a supported server.",
        )
    return pool


@contextlib.asynccontextmanager
async def database_errors(what: str) -> AsyncIterator[None]:
    """Turn a vanished server into `Unavailable`; `what` says in words what was being done."""
    try:
        yield
    except GONE as error:
        raise Unavailable(
            f"The database went away while {what}; nothing was recorded.",
            code="database-unavailable",
            remedy="The hub reconnects by itself; `hub doctor` shows whether the server answers.",
            retry_after=2,
        ) from error
