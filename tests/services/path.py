"""The message path put together for tests: real database, real broker, and an outside system that follows a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

import asyncpg
import yaml

from canonical_model.message import Message, uuid7
from connectors.contract import Callback, Context, Health, Manifest, Receipt, Repeat, Settings
from connectors.runtime import ConnectorRuntime, TargetConfig
from mappings.engine import MappingStore
from registry.objects import open_object_store
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.vault import KeyEncryptionKey, Vault
from routing.brokers import open_broker
from routing.intake import Intake
from routing.relay import Relay
from routing.routes import RouteBook, parse_route
from routing.store import DeliveryStore, Sweeper
from routing.worker import Worker

TYPE = "org.openspp.payment.instructed.v1"
Answer = Callable[[Message, int], Awaitable[Receipt | None]]


def message(
    subject: str | None = None, *, originid: str | None = None, type_: str = TYPE, **data: Any
) -> Message:
    """Return a small canonical message."""
    return Message(
        source="urn:test:partner", type=type_, subject=subject, originid=originid, data=data or {"n": 1}
    )


def route(name: str = "pay", **options: Any) -> str:
    """Return the YAML of a route that takes every message and tries again fast."""
    document: dict[str, Any] = {
        "route": name,
        "when": {"type": "org.openspp.*"},
        "to": "bank",
        "retry": {"first": 0.05, "jitter": 0, "attempts": 6, "longest": 1.0},
    }
    retry = options.pop("retry", {})
    document |= options
    document["retry"] = {**document["retry"], **retry}
    return yaml.safe_dump(document)


class Script:
    """What the outside system does with each message, and what it saw."""

    def __init__(self) -> None:
        self.sent: list[Message] = []
        self.times: list[float] = []
        self.asked: list[UUID] = []
        self.tries: dict[UUID, int] = {}
        self.busy = 0
        self.busiest = 0
        self.on_send: Answer | None = None
        self.on_ask: Answer | None = None

    @property
    def ids(self) -> list[UUID]:
        """The ids that arrived, repeats too, in order."""
        return [one.id for one in self.sent]

    async def send(self, one: Message) -> Receipt:
        """Record the message and do what the script says."""
        number = self.tries[one.id] = self.tries.get(one.id, 0) + 1
        self.sent.append(one)
        self.times.append(time.monotonic())
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            answer = None if self.on_send is None else await self.on_send(one, number)
            return answer or Receipt(reference=f"ref-{len(self.sent)}")
        finally:
            self.busy -= 1

    async def ask(self, one: Message) -> Receipt | None:
        """Record the question and do what the script says."""
        self.asked.append(one.id)
        return None if self.on_ask is None else await self.on_ask(one, len(self.asked))


class ScriptedConnector:
    """A connector to the scripted outside system."""

    manifest: ClassVar[Manifest] = Manifest(
        name="scripted", version="1", title="Scripted", sends=("org.openspp.*",), repeat=Repeat.RECOGNISED
    )
    settings_model: ClassVar[type[Settings]] = Settings
    scripts: ClassVar[dict[str, Script]] = {}

    def __init__(self, settings: Any) -> None:
        self.name = ""

    async def open(self, ctx: Context) -> None:
        self.name = ctx.target

    async def close(self) -> None:
        return None

    async def probe(self) -> Health:
        return Health(True)

    async def send(self, message: Message, deadline: float) -> Receipt:
        return await self.scripts[self.name].send(message)

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        return await self.scripts[self.name].ask(message)

    async def receive(self, callback: Callback) -> Sequence[Message]:
        return ()


class Maps:
    """The shipped mappings as the worker asks them."""

    def __init__(self) -> None:
        self.store = MappingStore.load()

    def to_dialect(self, reference: str, data: dict[str, Any]) -> dict[str, Any]:
        return self.store.get(reference).to_dialect(data)


class MessagePath:
    """Everything between acceptance and delivery, in this process."""

    def __init__(
        self,
        database_url: str,
        folder: Path,
        routes: Sequence[str],
        *,
        broker_url: str | None = None,
        repeat: Repeat = Repeat.RECOGNISED,
        concurrency: int = 16,
        timeout: float = 5.0,
        targets: Sequence[str] = ("bank",),
        **settings: Any,
    ) -> None:
        self.settings = HubSettings(
            database_url=database_url, broker_url=broker_url, data_dir=folder, **settings
        )
        self.routes = RouteBook([parse_route(text, "test.yaml") for text in routes])
        self.scripts = {name: Script() for name in targets}
        ScriptedConnector.scripts = self.scripts
        self._configs = [
            TargetConfig(name, "scripted", concurrency=concurrency, timeout=timeout, repeat=repeat)
            for name in targets
        ]
        self.services: dict[str, Any] = {}
        self.connectors: dict[str, type[Any]] = {"scripted": ScriptedConnector}
        self._stack = AsyncExitStack()
        self.pool: asyncpg.Pool
        self.intake: Intake

    @property
    def bank(self) -> Script:
        """The script of the usual target."""
        return self.scripts["bank"]

    async def __aenter__(self) -> MessagePath:
        self.pool = await open_pool(self.settings)
        self._stack.push_async_callback(self.pool.close)
        self.vault = Vault(self.pool, KeyEncryptionKey.load(self.settings))
        self.objects = open_object_store(self.settings)
        self._stack.push_async_callback(self.objects.close)
        self.intake = self.new_intake()
        self.maps = Maps()
        return self

    async def __aexit__(self, *exc: Any) -> None:
        await self.intake.drain()
        await self._stack.aclose()

    def new_intake(self, **options: Any) -> Intake:
        """Return another intake over the same database."""
        options = {"claim_check_bytes": self.settings.claim_check_bytes, **options}
        return Intake(self.pool, self.vault, self.routes, self.objects, **options)

    async def start(self, *, dead_after: float = 10.0, lost_after: float = 60.0) -> Worker:
        """Start a relay where one is needed, and one worker; call again for another worker."""
        worker_id = uuid7()
        broker = await open_broker(self.settings, self.pool, worker_id)
        self._stack.push_async_callback(broker.close)
        await broker.declare([one.name for one in self.routes])
        if broker.name != "postgres":
            relay = Relay(self.pool, broker)
            task = asyncio.create_task(relay.run())

            async def end() -> None:
                relay.stop()
                await task

            self._stack.push_async_callback(end)
        runtime = ConnectorRuntime(self._configs, self.services, connectors=self.connectors)
        await runtime.open()
        self._stack.push_async_callback(runtime.close)
        worker = Worker(
            worker_id,
            DeliveryStore(self.pool, worker_id, self.intake),
            Sweeper(self.pool, dead_after=dead_after, lost_after=lost_after),
            broker,
            self.routes,
            runtime,
            self.vault,
            self.objects,
            self.intake,
            self.maps,
        )
        await worker.start()
        self._stack.push_async_callback(worker.stop, 5.0)
        return worker

    async def accept(self, *messages: Message, partner: str = "ministry") -> list[UUID]:
        """Accept messages one after the other; return their ids."""
        return [
            (await self.intake.accept(one, partner=partner, raw=one.to_json())).message_id for one in messages
        ]

    async def deliveries(self) -> list[asyncpg.Record]:
        """Return all deliveries in their order."""
        rows: list[asyncpg.Record] = await self.pool.fetch("SELECT * FROM delivery ORDER BY seq")
        return rows

    async def ended(self, count: int, seconds: float = 45.0) -> list[asyncpg.Record]:
        """Wait until that many deliveries have ended and return all of them."""
        await self.until(lambda rows: sum(row["ended_at"] is not None for row in rows) >= count, seconds)
        return await self.deliveries()

    async def until(self, holds: Callable[[list[asyncpg.Record]], bool], seconds: float = 45.0) -> None:
        """Wait until the deliveries are as asked, at most so long."""
        deadline = time.monotonic() + seconds
        while not holds(rows := await self.deliveries()):
            states = [(row["state"], row["code"], row["attempts"]) for row in rows[:20]]
            assert time.monotonic() < deadline, f"not so after {seconds} s: {states}"
            await asyncio.sleep(0.02)


async def eventually(holds: Callable[[], bool], seconds: float = 45.0) -> None:
    """Wait until something holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        await asyncio.sleep(0.01)


async def everything_as_text(pool: asyncpg.Pool) -> str:
    """Return all rows of all tables as text, bytes as they are and as hexadecimal."""
    tables = await pool.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE n.nspname = 'public' AND c.relkind = 'r'"
    )
    parts: list[str] = []
    for table in tables:
        for row in await pool.fetch(f"SELECT t.* FROM {table['name']} t"):
            for value in row.values():
                parts.append(value.decode("latin-1") if isinstance(value, bytes) else str(value))
    return "\n".join(parts)
