"""The database: reachable, supported, current, allowed to us, in step with our clock, sealed with our key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import asyncpg

from adapters.cli.examine.findings import Finding, fail, of_error, ok, warn
from adapters.hub import Hub
from canonical_model.errors import HubError
from registry.storage.database import GONE
from registry.vault import Wrapped, open_keys

_SECONDS: Final = 10.0
_NEEDED: Final = (
    ("SELECT", "INSERT", "UPDATE", "DELETE"),
    ("message", "delivery", "attempt", "outbox", "worker", "data_key"),
)
_MAY_WRITE: Final = """
SELECT name, right_ FROM unnest($1::text[]) name, unnest($2::text[]) right_
WHERE to_regclass(name) IS NOT NULL AND NOT has_table_privilege(name, right_)
"""
_MAY_MAKE: Final = """
SELECT has_schema_privilege(current_schema(), 'CREATE')
   AND pg_has_role((SELECT relowner FROM pg_class WHERE oid = to_regclass('message')), 'MEMBER')
"""
_KEYS: Final = "SELECT id, kek, wrapped FROM data_key WHERE wrapped IS NOT NULL ORDER BY id DESC LIMIT 1"
_HOLDS: Final = {
    "database": ("Start PostgreSQL or correct HUB_DATABASE_URL.", "database-unavailable"),
    "schema": ("Run `hub db upgrade` once.", "schema-outdated"),
    "clock": ("Keep both machines' clocks with NTP.", ""),
}


async def store(hub: Hub) -> AsyncIterator[Finding]:
    """Look at the database of a hub whose pool is open."""
    current = True
    for part, (mend, code) in _HOLDS.items():
        well, says = await hub.check(part)
        current = current and well
        yield ok(part, says) if well else fail(part, says, mend, code)
    if not current:
        return
    try:
        async with asyncio.timeout(_SECONDS):
            yield await _privileges(hub.pool)
            yield await _sealed(hub)
    except (asyncpg.PostgresError, *GONE) as error:
        yield fail("privileges", f"The database does not answer ({type(error).__name__}).", "Run this again.")


async def _privileges(pool: asyncpg.Pool) -> Finding:
    rights, tables = _NEEDED
    missing = await pool.fetch(_MAY_WRITE, list(tables), list(rights))
    if missing:
        named = ", ".join(f"{row['right_']} on {row['name']}" for row in missing[:4])
        return fail(
            "privileges",
            f"The database user lacks {named}{' and more' if len(missing) > 4 else ''}.",
            "Grant them, or use the user who ran `hub db upgrade`.",
            "database-privileges",
        )
    if not await pool.fetchval(_MAY_MAKE):
        return warn(
            "privileges",
            "The database user may write but not make partitions.",
            "Run `hub db partitions --make` from a schedule as the owner of the tables.",
        )
    return ok("privileges", "The database user may write and make partitions.")


async def _sealed(hub: Hub) -> Finding:
    row = await hub.pool.fetchrow(_KEYS)
    if row is None:
        return ok("sealed data", "The database holds no sealed data yet.")
    settings = hub.settings
    path = settings.kek_file or settings.data_dir / "kek"
    if settings.kek_url is None and not path.exists():
        return fail(
            "sealed data",
            f"The database holds data sealed under {row['kek']} and the key file {path} is not there.",
            "Restore the key file from your backup; without it the data cannot be read.",
            "key-file-missing",
        )
    try:
        keys = open_keys(settings)
        try:
            await keys.unwrap(Wrapped(row["kek"], row["wrapped"]))
            current = await keys.current()
        finally:
            await keys.close()
    except HubError as error:
        return of_error("sealed data", error)
    if row["kek"] != current:
        return warn(
            "sealed data",
            f"The key opens the data keys; the newest is still under {row['kek']}, the key in use is {current}.",
            "Run `hub keys rotate`.",
        )
    return ok("sealed data", f"The key opens the data keys ({row['kek']}).")
