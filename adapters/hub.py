"""The composition root: puts the floors together for one process and takes them apart again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg

from adapters import fitting
from adapters.jobs import kinds
from adapters.referring import AskerOnce, references_of, referring_of
from canonical_model.errors import ConfigError, HubError
from canonical_model.message import uuid7
from connectors.contract import Connector
from connectors.discovery import discover
from connectors.payments.driver import Driver
from connectors.payments.rails import SERVICE, with_rails
from connectors.runtime import ConnectorRuntime
from connectors.targets import TargetConfig, load_targets
from mappings.engine import MappingStore
from registry.attributes import Catalog, CatalogWatch
from registry.audit import Sealer, adopt
from registry.changes import ChangeStore, load_policies
from registry.imports.job import ImportJobs
from registry.imports.store import ImportStore
from registry.imports.uploads import UploadStore
from registry.jobs import JobRunner, JobStore
from registry.logs import log
from registry.objects import ObjectStore, open_object_store
from registry.people import PeopleStore
from registry.people.tokens import registrant_tokens
from registry.programs import Programs, submit_due
from registry.settings import HubSettings
from registry.storage import answers, migrate, origins, periods
from registry.storage.database import GONE, database_url, open_pool
from registry.storage.orphans import OrphanSweep
from registry.vault import Vault
from routing import metrics
from routing.brokers import open_broker
from routing.brokers.contract import Broker
from routing.intake import Intake
from routing.ledger import Books
from routing.ledger_rails import RailsBooks
from routing.ledger_results import Results
from routing.outbox import HubOutbox
from routing.relay import Relay
from routing.routes import RouteBook, load_routes
from routing.store import DeliveryStore, Sweeper
from routing.worker import Worker

_LOG = logging.getLogger(__name__)
KEEP_HOUSE = 600.0
"""Seconds between two rounds of housekeeping."""
LEAST_FREE = 512 * 1024 * 1024


class Role(StrEnum):
    """What a process does; a small hub does all in one."""

    ALL = "all"
    API = "api"
    RELAY = "relay"
    WORKER = "worker"


class StoredMappings:
    """The mapping store as the worker asks it."""

    def __init__(self, store: MappingStore) -> None:
        self._store = store

    def to_dialect(self, reference: str, data: dict[str, Any]) -> dict[str, Any]:
        """Map canonical data by the recorded `name@version`."""
        return self._store.get(reference).to_dialect(data)


class Hub:
    """One process of the hub; `open` starts its role's parts, `close` stops them in the order that loses nothing."""

    def __init__(self, settings: HubSettings, role: Role = Role.ALL) -> None:
        self.settings = settings
        self.role = role
        self.id = uuid7()
        self.pool: asyncpg.Pool
        self.vault: Vault
        self.objects: ObjectStore
        self.mappings: MappingStore
        self.routes: RouteBook
        self.intake: Intake
        self.broker: Broker
        self.targets: ConnectorRuntime | None = None
        self.attributes: CatalogWatch
        self.people: PeopleStore
        self.programs: Programs
        self.books: Books
        self.changes: ChangeStore
        self.jobs: JobStore
        self.uploads: UploadStore
        self._relay: Relay | None = None
        self._worker: Worker | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closers: list[Callable[[], Awaitable[Any]]] = []

    @property
    def catalog(self) -> Catalog:
        """The attributes in force, as this process heard of them last."""
        return self.attributes.catalog

    @property
    def config_dir(self) -> Path:
        """The folder with routes/, targets/, mappings/ and partners.yaml."""
        return self.settings.config_dir or self.settings.data_dir / "config"

    async def open(self, *, deliver: bool = True) -> None:
        """Open everything this role needs; raises `ConfigError` or `Unavailable`, closing what was opened.

        With `deliver=False` only the database side is opened, for commands.
        """
        try:
            await self._open_base()
            if deliver:
                await self._open_flow()
        except BaseException:
            await self.close()
            raise

    async def _open_base(self) -> None:
        settings = self.settings
        url = await asyncio.to_thread(database_url, settings)
        if settings.database_url is None:
            # The embedded database belongs to this hub alone, so its schema follows the code.
            await migrate.upgrade_async(url)
        self.pool = await open_pool(settings, url=url)
        self._closers.append(self.pool.close)
        async with self.pool.acquire() as connection:
            version = await migrate.current(connection)
        if version != migrate.head():
            raise ConfigError(
                f"The database schema is {version or 'empty'}, this hub needs {migrate.head()}. Nothing was started.",
                code="schema-outdated",
                remedy="Run `hub db upgrade` once; running hubs of the version before keep working meanwhile.",
            )
        await periods.ensure(self.pool, settings.partition)
        if settings.database_url is None:
            await adopt(self.pool)
        self.vault = await Vault.open(self.pool, settings)
        self._closers.append(self.vault.close)
        self.objects = open_object_store(settings)
        self._closers.append(self.objects.close)
        self.mappings, self.routes = load_configuration(self.config_dir)
        self.intake = Intake(
            self.pool,
            self.vault,
            self.routes,
            self.objects,
            retention_days=settings.retention_days,
            claim_check_bytes=settings.claim_check_bytes,
            group_commit_ms=settings.group_commit_ms,
        )
        self.jobs = JobStore(self.pool)
        self.books = Books(self.pool, self.vault, group_commit_ms=settings.group_commit_ms)
        self._closers.append(self.books.drain)
        chosen = {route.name: route.rails for route in self.routes if route.rails is not None}
        self.rails = RailsBooks(self.pool, self.books, chosen)
        self.asker = AskerOnce(self.config_dir, lambda: self.routes, lambda: self.pool, self._make_worker)
        self._closers.append(self.asker.close)
        self.references = references_of(settings, self.pool, self.vault, self.asker)
        self.uploads = UploadStore(self.pool, self.vault, self.objects)
        self.programs = Programs(self.pool, self.vault, HubOutbox(self.intake), references=self.references)
        self._closers.append(self.programs.close)
        self.attributes = CatalogWatch(self.pool)
        await self.attributes.load()
        self.people = PeopleStore(
            self.pool,
            self.vault,
            self.vault.blind,
            tokens=partial(registrant_tokens, self.vault.blind),
            declared=self.attributes.declared,
            nested=settings.nested_groups,
            region=settings.region,
            on_status=self.programs.on_registrant_status,
            referring=referring_of(settings),
            references=self.references,
        )
        self._closers.append(self.people.close)
        self.changes = ChangeStore(self.pool, self.vault, self.people, load_policies(self.config_dir))

    async def _open_flow(self) -> None:
        settings = self.settings
        self.broker = await open_broker(settings, self.pool, self.id)
        self._closers.append(self.broker.close)
        await self.broker.declare([route.name for route in self.routes])
        if self.role in {Role.ALL, Role.RELAY} and self.broker.name != "postgres":
            self._relay = Relay(self.pool, self.broker)
            self._tasks.append(asyncio.create_task(self._relay.run(), name="relay"))
        if self.role in {Role.ALL, Role.WORKER}:
            configured, connectors = with_rails(self.routes, self._targets(), discover())
            self.targets = self._runtime(configured, connectors)
            for route in self.routes:
                self.targets.get(route.target)
            fitting.check(self.routes, configured, connectors)
            await self.targets.open()
            self._closers.append(self.targets.close)
            self._worker = await self._make_worker(self.targets)
            await self._worker.start()
            self.asker.worker = self._worker
            runner = self.runner()
            runner.start()
            self._closers.append(runner.stop)
            results = Results(self.pool, HubOutbox(self.intake), self.rails)
            for target in map(self.targets.get, self.targets.names):
                if target.pays:
                    driver = Driver(target.name, self.books, target, settle=results.settle)
                    driver.start()
                    self._closers.append(driver.stop)
            if any(self.targets.get(name).pays for name in self.targets.names):
                self._tasks.append(asyncio.create_task(self.books.listen(), name="payments"))
            if settings.program_upkeep_seconds:
                self._tasks.append(asyncio.create_task(self._keep_programs(), name="programs"))
        elif self.role is Role.API:
            connectors = discover()
            called = [one for one in self._targets() if hasattr(connectors.get(one.connector), "answer")]
            if called:
                # A callback may reach any process that listens; what it says goes into the ledger all the same.
                self.targets = self._runtime(called, connectors)
                await self.targets.open()
                self._closers.append(self.targets.close)
        self._tasks.append(asyncio.create_task(self.attributes.run(), name="attributes"))
        self._tasks.append(asyncio.create_task(self._keep_house(), name="housekeeping"))
        self._tasks.append(asyncio.create_task(self._seal(), name="sealing"))
        self._tasks.append(asyncio.create_task(metrics.sample_backlog(self.pool), name="backlog"))

    async def _make_worker(self, targets: ConnectorRuntime) -> Worker:
        """Return a worker on these targets, not started; a process that only asks has one too."""
        settings = self.settings
        if not hasattr(self, "broker"):
            self.broker = await open_broker(settings, self.pool, self.id)
            self._closers.append(self.broker.close)
        return Worker(
            self.id,
            DeliveryStore(self.pool, self.id, self.intake, group_commit_ms=settings.group_commit_ms),
            Sweeper(self.pool),
            self.broker,
            self.routes,
            targets,
            self.vault,
            self.objects,
            self.intake,
            StoredMappings(self.mappings),
            prefetch=settings.prefetch,
        )

    def _targets(self) -> list[TargetConfig]:
        folder = self.config_dir / "targets"
        return load_targets(folder) if folder.is_dir() else []

    def _runtime(
        self, configured: list[TargetConfig], connectors: Mapping[str, type[Connector]]
    ) -> ConnectorRuntime:
        services = {
            "ledger": self.books,
            SERVICE: self.rails,
            "people": self.people,
            "pool": self.pool,
            "programs": self.programs,
            "rows": self.programs.rows,
        }
        return ConnectorRuntime(configured, services, connectors=connectors)

    def runner(self) -> JobRunner:
        """Return a runner of every kind of job; a command runs one job with it, a worker all of them."""
        store = ImportStore(self.pool, self.vault)
        imports = ImportJobs(self.uploads, store, self.people.writer, self.settings.region)
        return JobRunner(
            self.pool, self.id, kinds(self.vault, self.programs, imports), parallel=self.settings.job_parallel
        )

    async def close(self) -> None:
        """Stop taking, finish what is under way, then release everything; safe to call twice."""
        if hasattr(self, "asker"):
            await self.asker.close()
        if self._worker is not None:
            await self._worker.stop()
            self._worker = None
        if self._relay is not None:
            self._relay.stop()
        for task in self._tasks:
            if task.get_name() != "relay":
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=10)
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        if hasattr(self, "intake"):
            await self.intake.drain()
        while self._closers:
            with contextlib.suppress(*GONE):
                async with asyncio.timeout(15):
                    await self._closers.pop()()

    async def _keep_house(self) -> None:
        """Make partitions and keys ahead of need, destroy keys whose retention ended, drop what they sealed and what nobody points to."""
        orphans = OrphanSweep(
            self.pool, self.objects, self.vault.blind.digest("object-store", b"owner").hex()
        )
        while True:
            try:
                await periods.ensure(self.pool, self.settings.partition)
                await self.vault.make_ahead()
                destroyed = await self.vault.destroy_expired()
                dropped = await periods.drop_ended(self.pool, self.objects)
                await origins.forget(self.pool, self.settings.origin_retention_days)
                await answers.forget(self.pool)
                await self.uploads.forget()
                # What was agreed to when a process stopped is carried out by the next that looks.
                await self.changes.resume()
                if destroyed or dropped:
                    log(_LOG, logging.INFO, "retention-applied", count=destroyed + len(dropped))
                await orphans.round()
            except (HubError, asyncpg.PostgresError, *GONE) as error:
                log(_LOG, logging.WARNING, "housekeeping-waits", error=error)
            await asyncio.sleep(KEEP_HOUSE)

    async def _keep_programs(self) -> None:
        """Ask for the job of what programs need, again and again; of many processes one makes it."""
        every = self.settings.program_upkeep_seconds
        while True:
            try:
                await submit_due(self.pool, self.jobs, every, datetime.now(UTC))
            except (HubError, asyncpg.PostgresError, *GONE) as error:
                log(_LOG, logging.WARNING, "programs-wait", error=error)
            await asyncio.sleep(every)

    async def _seal(self) -> None:
        """Seal the audit trail again and again; of many processes one does it at a time."""
        sealer = Sealer(self.pool, self.vault)
        while True:
            try:
                done = await sealer.seal()
                if done.events:
                    log(_LOG, logging.DEBUG, "audit-sealed", count=done.events, number=done.checkpoints)
            except (HubError, asyncpg.PostgresError, *GONE) as error:
                log(_LOG, logging.WARNING, "audit-not-sealed", error=error)
            await asyncio.sleep(self.settings.audit_seal_seconds)

    async def check(self, part: str) -> tuple[bool, str]:
        """Return whether a part (`database`, `broker`, `disk`, `clock`, `schema`) is well, and in words what is not."""
        try:
            async with asyncio.timeout(5):
                well: tuple[bool, str] = await getattr(self, f"_check_{part}")()
                return well
        except (HubError, asyncpg.PostgresError, *GONE) as error:
            return False, f"does not answer ({type(error).__name__})"

    async def _check_database(self) -> tuple[bool, str]:
        started = time.perf_counter()
        version = await self.pool.fetchval("SELECT current_setting('server_version')")
        return (
            True,
            f"PostgreSQL {str(version).split()[0]} answers in {(time.perf_counter() - started) * 1000:.1f} ms",
        )

    async def _check_broker(self) -> tuple[bool, str]:
        well = await self.broker.healthy()
        return well, f"{self.broker.name} {'takes' if well else 'does not take'} messages"

    async def _check_disk(self) -> tuple[bool, str]:
        free = shutil.disk_usage(self.settings.data_dir if self.settings.data_dir.exists() else ".").free
        return free >= LEAST_FREE, f"{free / 2**30:.1f} GiB free where the hub keeps its files"

    async def _check_clock(self) -> tuple[bool, str]:
        before = datetime.now(UTC)
        theirs: datetime = await self.pool.fetchval("SELECT clock_timestamp()")
        off = abs((theirs - before).total_seconds())
        return off < 2.0, f"{off * 1000:.0f} ms apart from the database's clock"

    async def _check_schema(self) -> tuple[bool, str]:
        async with self.pool.acquire() as connection:
            version = await migrate.current(connection)
        return version == migrate.head(), f"schema {version}, code {migrate.head()}"


def load_configuration(folder: Path) -> tuple[MappingStore, RouteBook]:
    """Read mappings and routes and check them against each other; raises `ConfigError` on the first thing wrong."""
    own = folder / "mappings"
    mappings = MappingStore.load(*([own] if own.is_dir() else []))
    routes = load_routes(folder / "routes")
    fitting.check(routes)
    for route in routes:
        if route.mapping is not None:
            # A delivery records the exact version it was mapped with.
            route.mapping = mappings.get(route.mapping).header.reference
    return mappings, routes
