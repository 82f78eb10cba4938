"""The whole examination, part after part, whatever the parts before said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import asyncpg

from adapters.cli.examine import config, machine
from adapters.cli.examine.broker import broker
from adapters.cli.examine.findings import Finding, fail, of_error, ok
from adapters.cli.examine.store import store
from adapters.hub import Hub
from canonical_model.errors import HubError
from registry.people import PeopleStore
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.vault import Vault
from routing.ledger import Books


async def examine(settings: HubSettings, *, probe: bool = False) -> list[Finding]:
    """Return what each part of a hub looks like; changes nothing, waits for each part at most a minute."""
    hub = Hub(settings)
    found = [ok("settings", f"Read; {len(settings.model_fields_set)} of them are set.")]
    well, says = await hub.check("disk")
    found.append(ok("disk", says) if well else fail("disk", says, "Free space, or move HUB_DATA_DIR."))
    found += await asyncio.to_thread(lambda: [*machine.key_files(settings), *machine.tls(settings)])
    found.append(await asyncio.to_thread(machine.port, settings))
    pool = await _pool(settings, found)
    vault: Vault | None = None
    try:
        if pool is not None:
            hub.pool = pool
            found += [finding async for finding in store(hub)]
        found.append(await broker(settings))
        found += await asyncio.to_thread(lambda: list(config.files(hub.config_dir)))
        if probe:
            vault = await _vault(settings, pool)
            services: dict[str, Any] = {} if pool is None else {"pool": pool}
            if pool is not None and vault is not None:
                services |= {"people": PeopleStore(pool, vault, vault.blind), "ledger": Books(pool, vault)}
            found += [finding async for finding in config.probe(hub.config_dir, services)]
    finally:
        if vault is not None:
            await vault.close()
        if pool is not None:
            await pool.close()
    return found


def embedded_folder(settings: HubSettings) -> Path:
    """Return the folder of the embedded database."""
    return settings.data_dir / "postgres"


async def _pool(settings: HubSettings, found: list[Finding]) -> asyncpg.Pool | None:
    if settings.database_url is None and not embedded_folder(settings).is_dir():
        # Looking must not make a database.
        found.append(ok("database", "Not made yet; `hub serve` makes a private one at its first start."))
        return None
    try:
        return await open_pool(settings, size=2)
    except HubError as error:
        found.append(of_error("database", error))
        return None


async def _vault(settings: HubSettings, pool: asyncpg.Pool | None) -> Vault | None:
    """Return the vault that connectors borrow people from; without database or key they say themselves what they miss."""
    path = settings.kek_file or settings.data_dir / "kek"
    if pool is None or (settings.kek_url is None and not path.exists()):
        return None
    try:
        return await Vault.open(pool, settings)
    except (HubError, asyncpg.UndefinedTableError):
        return None  # the findings of key and schema say what is wrong
