"""The database of the command line: one piece of work on a small pool, what the server refuses said in words."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar

import asyncpg

from canonical_model.errors import ConfigError, Unavailable
from registry.settings import HubSettings, load_settings
from registry.storage.database import GONE, database_url, open_pool, stop_embedded

T = TypeVar("T")


def actor() -> str:
    """Return who runs this command, as the audit trail names people: `user:NAME`."""
    return f"user:{getpass.getuser()}"


def on_database(work: Callable[[asyncpg.Pool, str], Awaitable[T]]) -> T:
    """Run one piece of work on a small pool of the configured database, translating what the server refuses."""

    async def main(settings: HubSettings) -> T:
        url = await asyncio.to_thread(database_url, settings)
        pool = await open_pool(settings, size=2, url=url)
        try:
            return await work(pool, url)
        except asyncpg.InsufficientPrivilegeError as error:
            raise not_allowed() from error
        except asyncpg.UndefinedTableError as error:
            raise ConfigError(
                "The schema of the database is older than this code. Nothing was done.",
                code="schema-outdated",
                remedy="Run `hub db upgrade` once.",
            ) from error
        except GONE as error:
            raise Unavailable(
                f"The database went away ({type(error).__name__}); nothing was changed.",
                code="database-unavailable",
                remedy="Run the command again; `hub doctor` shows whether the server answers.",
            ) from error
        finally:
            await pool.close()

    try:
        return asyncio.run(main(load_settings()))
    finally:
        stop_embedded()


def not_allowed() -> ConfigError:
    """Return the error of a database user who lacks a privilege."""
    return ConfigError(
        "The database user may not do this.",
        code="database-privileges",
        remedy="Use the user who owns the hub's tables, or grant it CREATE on the schema; docs/settings.md names the setting.",
    )
