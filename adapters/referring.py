"""The ID system that keeps people's identity, as the settings name it, and the question it is asked over a route."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from canonical_model.errors import ConfigError
from connectors.runtime import ConnectorRuntime
from connectors.targets import load_targets
from registry.people.referring import Referring
from registry.settings import HubSettings
from registry.vault import ReferenceVault, Vault
from routing.asking import Asker
from routing.identity import REQUESTED, RoutedIdentity
from routing.routes import RouteBook
from routing.worker import Worker

MakeWorker = Callable[[ConnectorRuntime], Awaitable[Worker]]


def referring_of(settings: HubSettings) -> Referring | None:
    """Return whose identity stays at which ID system, None where all of it is kept here; raises `ConfigError`."""
    if settings.reference_system is None:
        return None
    if not settings.reference_identifier:
        raise ConfigError(
            "HUB_REFERENCE_SYSTEM is set and HUB_REFERENCE_IDENTIFIER is not. Nothing was started.",
            code="settings-invalid",
            remedy="Name the identifier that is the ID system's token, by its namespace or type.",
        )
    sources = tuple(each.strip() for each in settings.reference_sources.split(",") if each.strip())
    return Referring(
        settings.reference_system, settings.reference_identifier, sources, settings.reference_indexes
    )


def references_of(
    settings: HubSettings, pool: Any, vault: Vault, asker: Callable[[], Awaitable[Asker]]
) -> ReferenceVault | None:
    """Return the vault by reference, None where nothing is kept so."""
    rules = referring_of(settings)
    if rules is None:
        return None
    source = RoutedIdentity(asker, system=rules.system, identifier=rules.identifier)
    return ReferenceVault(pool, vault, source, system=rules.system, deadline=settings.reference_deadline)


class AskerOnce:
    """Makes the asker of one process when the first question comes: a command that asks nothing opens no target.

    `worker` is the running one where there is one; else targets of routes that take such questions are opened for it.
    """

    def __init__(
        self, folder: Path, routes: Callable[[], RouteBook], pool: Callable[[], Any], make: MakeWorker
    ) -> None:
        self._folder, self._routes, self._pool, self._make = folder, routes, pool, make
        self._lock = asyncio.Lock()
        self._asker: Asker | None = None
        self._targets: ConnectorRuntime | None = None
        self.worker: Worker | None = None

    async def __call__(self) -> Asker:
        """Return the asker; raises `ConfigError` and `Unavailable`."""
        async with self._lock:
            if self._asker is None:
                worker = self.worker
                if worker is None:
                    wanted = {route.target for route in self._routes() if route.takes_type(REQUESTED)}
                    folder = self._folder / "targets"
                    known = load_targets(folder) if folder.is_dir() else []
                    targets = ConnectorRuntime([each for each in known if each.name in wanted])
                    await targets.open()
                    self._targets = targets
                    worker = await self._make(targets)
                asker = Asker(worker, self._pool())
                await asker.start()
                self._asker = asker
            return self._asker

    async def close(self) -> None:
        """Finish what is being asked and close what was opened; safe to call twice."""
        asker, self._asker = self._asker, None
        if asker is not None:
            await asker.stop(5.0)
        targets, self._targets = self._targets, None
        if targets is not None:
            await targets.close()
