"""`hub console-link`: an address that signs the operator in to the console, once."""

from __future__ import annotations

import asyncio
from typing import Annotated

import asyncpg
import typer

from adapters.cli.output import OUT, print_json
from adapters.console.session import LINK_LIFETIME, issue_login_link
from adapters.front import own_url
from canonical_model.errors import ConfigError
from registry.settings import HubSettings, load_settings
from registry.storage.database import open_pool, stop_embedded
from registry.vault import BlindIndex, load_blind, open_keys


def console_link(
    url: Annotated[str | None, typer.Option(help="The hub's own address; else the configured one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print an address that signs you in to the console as operator; it works once, within five minutes.

    Example: hub console-link
    """
    settings = load_settings()
    blind = asyncio.run(_blind(settings))
    link = issue_login_link(blind, url or own_url(settings, settings.port))
    if as_json:
        print_json({"url": link, "expires_in": LINK_LIFETIME})
    else:
        OUT.print(link, markup=False)


async def _blind(settings: HubSettings) -> BlindIndex:
    """Return the blind index that the running hub checks links with; its key lies in the database."""
    keys = open_keys(settings)
    try:
        pool = await open_pool(settings, size=2)
        try:
            return await load_blind(pool, keys)
        except asyncpg.UndefinedTableError as error:
            raise ConfigError(
                "The database is empty: no hub has ever run here. No link was made.",
                code="schema-outdated",
                remedy="Start the hub first: `hub serve`.",
            ) from error
        finally:
            await pool.close()
    finally:
        await keys.close()
        stop_embedded()
