"""`hub db`: bring the schema up to date and see what lies in the store."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
import typer
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from adapters.cli.output import OUT, Told, print_json, progress
from adapters.cli.store import not_allowed, on_database
from canonical_model.errors import ConfigError, Unavailable
from canonical_model.message import uuid7_time
from registry.audit import adopt, clock
from registry.people import retoken
from registry.settings import load_settings
from registry.storage import migrate, periods
from registry.vault import Vault

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
_QUERY_SECONDS: Final = 20.0
_PARTITIONS: Final = """
SELECT p.relname AS parent, c.relname AS name, pg_get_expr(c.relpartbound, c.oid) AS bound,
       greatest(c.reltuples, 0)::bigint AS rows, pg_total_relation_size(c.oid) AS bytes
FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
WHERE p.relname = ANY($1) AND c.relkind = 'r' ORDER BY p.relname, c.relname
"""
_PRIVILEGES: Final = """
SELECT has_schema_privilege(current_schema(), 'CREATE') AS create,
       has_database_privilege(current_database(), 'CONNECT') AS connect,
       current_user = (SELECT tableowner FROM pg_tables WHERE tablename = 'message' AND schemaname = current_schema())
           AS owner
"""


@app.command("upgrade")
def upgrade_command(
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds the upgrade may take, waiting for another one included.")
    ] = 3600,
    as_json: Json = False,
) -> None:
    """Bring the schema to the version of this code; safe to repeat and to run from many machines at once.

    Example: hub db upgrade
    """

    async def work(pool: asyncpg.Pool, url: str, told: Told) -> dict[str, Any]:
        try:
            async with asyncio.timeout(timeout):
                before, after = await migrate.upgrade_async(url, progress=partial(told, "migrations"))
        except TimeoutError as error:
            raise Unavailable(
                f"The upgrade did not end within {timeout:g} seconds and was undone.",
                code="schema-upgrade-failed",
                remedy="Another upgrade may be running; look at pg_stat_activity, then run it again.",
            ) from error
        except DBAPIError as error:
            if isinstance(_cause(error), asyncpg.InsufficientPrivilegeError):
                raise not_allowed() from error
            raise _failed(error) from error
        except SQLAlchemyError as error:
            raise _failed(error) from error
        made = await periods.ensure(pool, load_settings().partition, progress=partial(told, "partitions"))
        await clock.wind(pool)
        adopted = await adopt(pool, partial(told, "rows of the history"))
        return {
            "before": before,
            "after": after,
            "changed": before != after,
            "partitions_made": made,
            "history_adopted": adopted,
        }

    with progress(as_json=as_json) as told:
        found = on_database(lambda pool, url: work(pool, url, told))
    if as_json:
        print_json(found)
        return
    if found["changed"]:
        OUT.print(f"The schema is now {found['after']} (it was {found['before'] or 'empty'}).", markup=False)
    else:
        OUT.print(f"The schema is {found['after']} already.", markup=False)
    OUT.print(f"{len(found['partitions_made'])} partitions were made ahead.", markup=False)
    if found["history_adopted"]:
        OUT.print(
            f"{found['history_adopted']:,} changes from before were taken into the audit trail.", markup=False
        )


def _cause(error: DBAPIError) -> BaseException | None:
    return error.orig.__cause__ if error.orig is not None else None


def _failed(error: Exception) -> ConfigError:
    cause = _cause(error) if isinstance(error, DBAPIError) else None
    return ConfigError(
        f"The schema could not be upgraded ({type(cause or error).__name__}); the database is as it was.",
        code="schema-upgrade-failed",
        remedy="The server's log names the statement; `hub db status` shows the version in place.",
    )


@app.command("tokens")
def tokens_command(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count the registrants that lack tokens.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make the search tokens that registrants lack, after an upgrade that says so; online, and safe to break off.

    Example: hub db tokens --dry-run
    """

    async def work(pool: asyncpg.Pool, told: Told) -> dict[str, Any]:
        lacking = await retoken.count(pool)
        if dry_run or not lacking:
            return {"lacking": lacking, "made": 0}
        vault = await Vault.open(pool, load_settings())
        try:
            made = await retoken.retoken(pool, vault, lambda done: told("registrants", done, lacking))
        finally:
            await vault.close()
        return {"lacking": await retoken.count(pool), "made": made}

    with progress(as_json=as_json) as told:
        found = on_database(lambda pool, _url: work(pool, told))
    if as_json:
        print_json(found)
    else:
        OUT.print(
            f"{found['made']:,} registrants got search tokens, {found['lacking']:,} lack them.", markup=False
        )


@app.command("status")
def status_command(as_json: Json = False) -> None:
    """Show the schema's version, its size and how much is waiting; exit code 1 when the schema is not current.

    Example: hub db status --json
    """

    async def work(pool: asyncpg.Pool, _url: str) -> dict[str, Any]:
        async with pool.acquire() as connection:
            current = await migrate.current(connection)
            found: dict[str, Any] = {
                "schema": current,
                "code": migrate.head(),
                "current": current == migrate.head(),
                "server": str(await connection.fetchval("SELECT current_setting('server_version')")).split()[
                    0
                ],
                "bytes": await connection.fetchval("SELECT pg_database_size(current_database())"),
            }
            if current is None:
                return found
            found["privileges"] = dict(await connection.fetchrow(_PRIVILEGES) or {})
            rows = await connection.fetch(_PARTITIONS, list(periods.PARTITIONED), timeout=_QUERY_SECONDS)
            found["partitions"] = len(rows)
            found["outbox"] = await connection.fetchval("SELECT count(*) FROM outbox", timeout=_QUERY_SECONDS)
            states = await connection.fetch(
                "SELECT state, count(*) AS number FROM delivery WHERE ended_at IS NULL GROUP BY state ORDER BY state",
                timeout=_QUERY_SECONDS,
            )
            found["live"] = {row["state"]: row["number"] for row in states}
            return found

    found = on_database(work)
    if as_json:
        print_json(found)
    else:
        OUT.print(f"PostgreSQL {found['server']}, {found['bytes'] / 2**20:.1f} MiB", markup=False)
        OUT.print(f"schema {found['schema'] or 'empty'}, code {found['code']}", markup=False)
        if not found["current"]:
            OUT.print("Run `hub db upgrade` once.", markup=False)
        else:
            live = ", ".join(f"{number} {state}" for state, number in found["live"].items()) or "none"
            OUT.print(
                f"{found['partitions']} partitions, {found['outbox']} in the outbox, live deliveries: {live}",
                markup=False,
            )
    if not found["current"]:
        raise typer.Exit(1)


@app.command("partitions")
def partitions_command(
    make: Annotated[
        bool, typer.Option("--make", help="Make the partitions of the coming periods first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the partitions of the message store: which time each holds, how many rows (estimated) and bytes.

    Example: hub db partitions
    """

    async def work(pool: asyncpg.Pool, told: Told) -> dict[str, Any]:
        made: list[str] = []
        if make:
            made = await periods.ensure(pool, load_settings().partition, progress=partial(told, "partitions"))
        rows = await pool.fetch(_PARTITIONS, list(periods.PARTITIONED), timeout=_QUERY_SECONDS)
        return {"made": made, "partitions": [_described(row) for row in rows]}

    with progress(as_json=as_json) as told:
        found = on_database(lambda pool, _url: work(pool, told))
    if as_json:
        print_json(found)
        return
    for part in found["partitions"]:
        span = (
            "everything else"
            if part["from"] is None
            else f"{part['from']:%Y-%m-%d} to {part['until']:%Y-%m-%d}"
        )
        OUT.print(
            f"{part['name']:<24} {span:<26} {part['rows']:>12} rows {part['bytes'] / 2**20:>10.1f} MiB",
            markup=False,
        )
    OUT.print(
        f"{len(found['partitions'])} partitions, {len(found['made'])} of them made just now.", markup=False
    )


def _described(row: asyncpg.Record) -> dict[str, Any]:
    """Read the bounds of a partition, which are UUIDv7 and so instants, out of its definition."""
    parts = str(row["bound"]).split("'")
    bounds = [uuid7_time(UUID(parts[place])) for place in (1, 3)] if len(parts) >= 4 else [None, None]
    return {
        "table": row["parent"], "name": row["name"], "from": bounds[0], "until": bounds[1],
        "rows": row["rows"], "bytes": row["bytes"],
    }  # fmt: skip
