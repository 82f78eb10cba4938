"""`hub serve`: one process of the hub, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli.output import OUT
from adapters.embedded import OPERATOR, OutsideWorld, write_config
from adapters.front import Front
from adapters.hub import Hub, Role
from canonical_model.errors import ConfigError
from registry import logs
from registry.logs import log
from registry.settings import HubSettings, load_settings
from registry.storage.database import stop_embedded

_LOG = logging.getLogger("hub.serve")


def serve(
    role: Annotated[Role, typer.Option(help="What this process does.")] = Role.ALL,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 picks one.")] = None,
    config: Annotated[
        Path | None, typer.Option(help="Folder with routes/, targets/ and partners.yaml.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder of the embedded database and generated keys.")
    ] = None,
    behind_tls_proxy: Annotated[
        bool, typer.Option(help="A proxy in front of this address ends TLS.")
    ] = False,
) -> None:
    """Run the hub; with no settings at all it brings its own database, keys and sandboxes, on loopback only.

    Example: hub serve --port 8080
    """
    given = {"host": host, "port": port, "config_dir": config, "data_dir": data}
    overrides = {name: value for name, value in given.items() if value is not None}
    if behind_tls_proxy:
        overrides["behind_tls_proxy"] = True
    settings = load_settings(**overrides)
    logs.configure(settings)
    try:
        run(_serve(settings, role))
    finally:
        stop_embedded()


def run(main: object) -> None:
    """Run a coroutine on uvloop where there is one."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(main)  # type: ignore[arg-type]
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main)  # type: ignore[arg-type]


async def _serve(settings: HubSettings, role: Role) -> None:
    # What is loaded by now lives as long as the process; looking through it again and again would cost a tenth.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    outside: OutsideWorld | None = None
    if settings.config_dir is None:
        if settings.host not in {"127.0.0.1", "localhost", "::1"}:
            raise ConfigError(
                f"Without a configuration the hub serves sandboxes, and on loopback only, not on {settings.host}.",
                code="embedded-not-loopback",
                remedy="Name your configuration folder in HUB_CONFIG_DIR; docs/quickstart.md shows how to make one.",
            )
        outside = OutsideWorld()
        await outside.start()
        write_config(settings.data_dir, webhook=outside.ministry.settings(), email=outside.mailbox.settings())
    hub = Hub(settings, role)
    front = Front(hub)
    try:
        await hub.open()
        url = await front.start() if role in {Role.ALL, Role.API} else ""
        log(_LOG, logging.INFO, "hub-started", state=role.value, count=len(hub.routes))
        if url:
            OUT.print(
                f"OpenSPP Hub ({role.value}) listens on {url}   console: {url}/console   API: {url}/docs"
            )
        else:
            OUT.print(f"OpenSPP Hub ({role.value}) runs.")
        if outside is not None:
            OUT.print(f"Sandboxes stand in for the outside systems. A token: hub token {OPERATOR}")
        await stop.wait()
        log(_LOG, logging.INFO, "hub-stopping", state=role.value)
    finally:
        await front.stop()
        await hub.close()
        if outside is not None:
            await outside.stop()
