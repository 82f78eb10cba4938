"""`hub serve`: one process of the hub, until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import asyncpg
import pika.exceptions
import typer

from adapters.cli.output import OUT
from adapters.embedded import OPERATOR, OutsideWorld, write_config
from adapters.front import Front, checks_of
from adapters.http.watch import Watch
from adapters.hub import Hub, Role
from canonical_model.errors import ConfigError, HubError, Unavailable
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


def settle() -> None:
    """Have the garbage collector leave alone what is loaded by now; for processes with long work before them.

    It lives as long as the process, and looking through it again and again costs a tenth, in an import a third.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


async def _serve(settings: HubSettings, role: Role) -> None:
    settle()
    stop = _Stop()
    serving = _Serving(settings, role)
    try:
        with starting():
            said = await serving.start()
        stop.started()
        for line in said:
            OUT.print(line)
        await stop.wait()
        log(_LOG, logging.INFO, "hub-stopping", role=role.value)
    except asyncio.CancelledError:
        if not stop.asked:
            raise
        log(_LOG, logging.INFO, "hub-start-given-up", role=role.value)
    finally:
        await serving.stop()


class _Stop:
    """The wish to end: the first signal ends in order, also in the middle of the start, the second one at once."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.asked = False
        self._event = asyncio.Event()
        self._starting = asyncio.current_task(loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._ask, number)

    def _ask(self, number: int) -> None:
        if self.asked:
            # Somebody is out of patience; what was not finished is found again by the next start.
            os._exit(128 + number)
        self.asked = True
        self._event.set()
        if self._starting is not None:
            self._starting.cancel()

    def started(self) -> None:
        """From now on a signal is waited for and interrupts nothing."""
        self._starting = None

    async def wait(self) -> None:
        """Return when the first signal has come."""
        await self._event.wait()


class _Serving:
    """The parts of one process, started and stopped together."""

    def __init__(self, settings: HubSettings, role: Role) -> None:
        self._settings = settings
        self._role = role
        self._outside: OutsideWorld | None = None
        self._hub = Hub(settings, role)
        self._front = Front(self._hub)
        self._watch = Watch(settings.metrics_host, settings.metrics_port, checks_of(self._hub))

    async def start(self) -> list[str]:
        """Start every part and return what to say of it."""
        settings, role, hub = self._settings, self._role, self._hub
        if settings.config_dir is None:
            await self._start_outside()
        await hub.open()
        url = await self._front.start() if role in {Role.ALL, Role.API} else ""
        watched = await self._watch.start() if settings.metrics_port else ""
        log(
            _LOG, logging.INFO, "hub-started", role=role.value, version=version("openspp-hub"),
            broker=hub.broker.name, routes=len(hub.routes),
        )  # fmt: skip
        said = [
            f"OpenSPP Hub ({role.value}) listens on {url}   console: {url}/console   API: {url}/docs"
            if url
            else f"OpenSPP Hub ({role.value}) runs."
        ]
        if watched:
            said.append(f"Metrics: {watched}/metrics")
        if self._outside is not None:
            said.append(f"Sandboxes stand in for the outside systems. A token: hub token {OPERATOR}")
        return said

    async def _start_outside(self) -> None:
        settings = self._settings
        if settings.host not in {"127.0.0.1", "localhost", "::1"}:
            raise ConfigError(
                f"Without a configuration the hub serves sandboxes, and on loopback only, not on {settings.host}.",
                code="embedded-not-loopback",
                remedy="Name your configuration folder in HUB_CONFIG_DIR; docs/quickstart.md shows how to make one.",
            )
        self._outside = OutsideWorld()
        await self._outside.start()
        write_config(
            settings.data_dir,
            webhook=self._outside.ministry.settings(),
            email=self._outside.mailbox.settings(),
            mobile=self._outside.mobile.settings(),
        )

    async def stop(self) -> None:
        """Stop what was started, in the order that loses nothing."""
        await self._front.stop()
        await self._watch.stop()
        await self._hub.close()
        if self._outside is not None:
            await self._outside.stop()


@contextmanager
def starting() -> Iterator[None]:
    """Turn what the drivers raise during the start into errors of the hub, which say what to do."""
    try:
        yield
    except HubError:
        raise
    except asyncpg.InsufficientPrivilegeError as error:
        raise ConfigError(
            "The database user may not do what the hub needs. Nothing was started.",
            code="database-privileges",
            remedy="Use the user who owns the hub's tables; `hub doctor` shows what is missing.",
        ) from error
    except (
        asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, EOFError, TimeoutError,
    ) as error:  # fmt: skip
        raise Unavailable(
            f"The database failed during the start ({type(error).__name__}). Nothing was started.",
            code="database-unavailable",
            remedy="Look into the database's log; `hub doctor` checks it. Then start again.",
        ) from error
    except pika.exceptions.AMQPError as error:
        raise Unavailable(
            f"The broker failed during the start ({type(error).__name__}). Nothing was started.",
            code="broker-unavailable",
            remedy="Look into the broker's log; `hub doctor` checks it. Then start again.",
        ) from error
    except ConnectionError as error:
        raise Unavailable(
            f"A connection broke during the start ({type(error).__name__}). Nothing was started.",
            code="hub-unavailable",
            remedy="`hub doctor` says which part does not answer.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"A file the hub needs cannot be used: {error.filename or 'unnamed'} ({type(error).__name__}). "
            "Nothing was started.",
            code="settings-invalid",
            remedy="Give the hub's user the right to read its configuration and to write its data folder.",
        ) from error
