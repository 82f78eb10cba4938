"""A process is killed at each named step of the way a message takes, held there from outside; then the accounts are settled."""

from __future__ import annotations

import asyncio
import contextlib
import textwrap
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pika
import pytest
from aiohttp import web
from services.fleet import Fleet, Process, birth, wait_for
from services.holds import HoldingProxy, Plain, broker_proxy, database_proxy, through
from services.proxy import dial_tcp

from connectors.testing.sandbox import Mode
from connectors.webhook.sandbox import WebhookSandbox
from connectors.webhook.signing import ID_HEADER
from routing.brokers.topology import Topology

pytestmark = [pytest.mark.crash, pytest.mark.slow]

EVENT = birth("e-1", "s-1")
ACCEPT = "INSERT INTO accepted_origin"
CLAIM = "SET state = 'sending'"
OUTCOME = "INSERT INTO attempt"
UNPOINT = "DELETE FROM outbox"


class Outside(WebhookSandbox):
    """A receiver that can also be asked what it has."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return await super()._handle(request)
        self.asked.append(request.headers[ID_HEADER])
        return web.Response(status=200 if self.asked[-1] in self.effects() else 404)


ASKABLE = """
from connectors.webhook import WebhookConnector
from connectors.webhook.signing import ID_HEADER
from routing.contract import Receipt, Repeat


class Askable(WebhookConnector):
    manifest = WebhookConnector.manifest.model_copy(update={"name": "askable", "repeat": Repeat.ASK})

    def __init__(self, settings):
        super().__init__(settings)
        self.repeat = Repeat.ASK

    async def ask(self, message, deadline):
        headers = {**self._fixed, ID_HEADER: str(message.id)}
        reply = await self._ready().request("GET", headers, None, deadline)
        return Receipt("found") if reply.status == 200 else None
"""


def install(folder: Path) -> str:
    """Lay out a package of another party with a connector that can ask; return its place."""
    place = folder / "installed"
    about = place / "askable-1.0.dist-info"
    about.mkdir(parents=True)
    (place / "askable.py").write_text(textwrap.dedent(ASKABLE))
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: askable\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[openspp.connectors]\naskable = askable:Askable\n")
    return str(place)


@dataclass
class Scene:
    """One hub of processes, proxies before all it speaks to, and the outside system."""

    fleet: Fleet
    outside: Outside
    database: HoldingProxy
    target: HoldingProxy
    broker: HoldingProxy | None
    token: str = ""

    async def start(self, *roles: str, held: str) -> Process:
        """Start one process of each role, and one of the role to be killed whose connections lead through the proxies."""
        env = {"HUB_DATABASE_URL": through(self.fleet.database_url, self.database)}
        if self.broker is not None and self.fleet.broker_url is not None:
            env["HUB_BROKER_URL"] = through(self.fleet.broker_url, self.broker)
        victim = self.fleet.launch(held, **env)
        for role in roles:
            self.fleet.launch(role)
        self.token = await asyncio.to_thread(self.fleet.token)
        for process in self.fleet.processes:
            await self.fleet.ready(process)
        return victim

    async def kill(self, victim: Process) -> None:
        """Kill a process where it is held, and let the servers notice."""
        await self.fleet.kill(victim)
        for proxy in (self.database, self.broker, self.target):
            if proxy is not None:
                proxy.release()
        if victim.role == "worker":
            # What follows needs the worker to be silent for ten seconds and its send to be out of time.
            await self.sql(
                "UPDATE worker SET seen_at = seen_at - interval '1 minute'",
                "UPDATE delivery SET claimed_at = claimed_at - interval '1 minute', "
                "held_until = held_until - interval '1 minute' WHERE state = 'sending'",
            )

    async def sql(self, *statements: str) -> None:
        connection = await asyncpg.connect(self.fleet.database_url, timeout=10)
        try:
            for statement in statements:
                await connection.execute(statement, timeout=10)
        finally:
            await connection.close(timeout=5)

    async def ask(self, query: str) -> Any:
        connection = await asyncpg.connect(self.fleet.database_url, timeout=10)
        try:
            return await connection.fetchval(query, timeout=10)
        finally:
            await connection.close(timeout=5)

    async def until(self, query: str, wanted: Any, seconds: float = 30.0) -> None:
        """Wait until the database answers as wanted."""
        deadline = time.monotonic() + seconds
        while (found := await self.ask(query)) != wanted:
            assert time.monotonic() < deadline, (
                f"{query}: {found!r}, not {wanted!r}\n{self.fleet.logs()[-3000:]}"
            )
            await asyncio.sleep(0.05)

    async def post(self) -> dict[str, Any]:
        """Send the event once; raises when no answer comes."""
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as http,
            http.post(self.fleet.url, json=EVENT, headers={"Authorization": f"Bearer {self.token}"}) as reply,
        ):
            body: dict[str, Any] = await reply.json(content_type=None)
            assert reply.status == 202, body
            return body

    @contextlib.asynccontextmanager
    async def unanswered(self) -> AsyncIterator[None]:
        """Send the event to a process that dies before it answers."""
        sending = asyncio.create_task(self.post())
        yield
        with pytest.raises(aiohttp.ClientError):
            await sending

    async def settle(self, first: str | None = None) -> str:
        """Repeat the event until it is answered, twice; hold that all answers tell of one message; return its id."""
        answers = [await self.post() for _ in range(2)]
        ids = {answer["id"] for answer in answers} | ({first} if first else set())
        assert len(ids) == 1, "a repeat got another answer than the first"
        assert answers[1]["duplicate"]
        assert await self.ask("SELECT count(*) FROM message") == 1
        await self.fleet.settled(40)
        await self.until("SELECT count(*) FROM outbox", 0)
        return str(answers[0]["id"])

    async def finish(self) -> None:
        """Let the workers finish what is in their hands, so that whatever still comes has come."""
        if self.fleet.broker_url is not None:
            await asyncio.to_thread(until_empty, self.fleet.broker_url)
        workers = [one for one in self.fleet.processes if one.role == "worker"]
        for worker in workers:
            worker.running.terminate()
        for worker in workers:
            await asyncio.to_thread(worker.running.wait, 40)

    async def delivered_once(self, id_: str) -> None:
        """Hold that the message ended as delivered, and that the target got it once."""
        await self.finish()
        assert await self.fleet.states() == {("delivered", None): 1}
        assert [seen.id for seen in self.outside.received] == [id_]
        assert await self.ask("SELECT count(*) FROM audit_event WHERE action = 'delivery.end'") == 1


def until_empty(url: str, seconds: float = 30.0) -> None:
    """Wait until the broker has handed out all it had."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        channel = connection.channel()
        queue = Topology("hub").queue("births")
        deadline = time.monotonic() + seconds
        while count := channel.queue_declare(queue, passive=True).method.message_count:
            assert time.monotonic() < deadline, f"{count} parcels still wait after {seconds} s"
            connection.process_data_events(0.05)
    finally:
        connection.close()


Build = Callable[..., Awaitable[Scene]]


@pytest.fixture
async def build(tmp_path: Path, database_url: str, request: pytest.FixtureRequest) -> AsyncIterator[Build]:
    stack = contextlib.AsyncExitStack()

    async def scene(broker: str = "postgres", repeat: str = "never") -> Scene:
        url = request.getfixturevalue("broker_url") if broker == "rabbitmq" else None
        outside = Outside()
        await outside.start()
        stack.push_async_callback(outside.stop)
        fleet = Fleet(tmp_path, database_url, url)
        proxies = [database_proxy(database_url), HoldingProxy(dial_tcp("127.0.0.1", outside.port), Plain)]
        if url is not None:
            proxies.append(broker_proxy(url))
        for proxy in proxies:
            await proxy.start()
            stack.push_async_callback(proxy.stop)
        stack.push_async_callback(fleet.stop)
        fleet.env["PYTHONPATH"] = install(tmp_path)
        fleet.configure(
            outside,
            repeat=repeat,
            connector="askable" if repeat == "ask" else "webhook",
            port=proxies[1].port,
            retry={"attempts": 20, "longest": "300ms"},
        )
        return Scene(fleet, outside, proxies[0], proxies[1], proxies[2] if url else None)

    yield scene
    await stack.aclose()


async def test_killed_before_the_commit_reaches_the_server_nothing_is_stored_and_the_repeat_is_new(
    build: Build,
) -> None:
    scene = await build()
    victim = await scene.start("worker", held="api")
    hold = scene.database.hold(ACCEPT)
    async with scene.unanswered():
        await hold.wait()
        await scene.kill(victim)
    assert await scene.ask("SELECT count(*) FROM message") == 0
    await scene.fleet.start("api")
    await scene.delivered_once(await scene.settle())


async def test_killed_while_the_server_commits_the_repeat_is_one_message_with_it(build: Build) -> None:
    scene = await build()
    victim = await scene.start("worker", held="api")
    waiting = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' "
        f"AND query LIKE '%{ACCEPT}%'"
    )
    lock = await asyncpg.connect(scene.fleet.database_url, timeout=10)
    try:
        transaction = lock.transaction()
        await transaction.start()
        await lock.execute("LOCK TABLE accepted_origin IN EXCLUSIVE MODE")
        async with scene.unanswered():
            await scene.until(waiting, 1)
            await scene.kill(victim)
        await transaction.rollback()
    finally:
        await lock.close(timeout=5)
    await scene.until(waiting, 0)
    await scene.fleet.start("api")
    await scene.delivered_once(await scene.settle())


async def test_killed_after_the_commit_before_the_202_the_repeat_gets_the_first_answer(build: Build) -> None:
    scene = await build()
    victim = await scene.start("worker", held="api")
    hold = scene.database.hold(ACCEPT, reply=True)
    async with scene.unanswered():
        await hold.wait()
        await scene.until("SELECT count(*) FROM message", 1)
        await scene.kill(victim)
    stored = str(await scene.ask("SELECT id FROM message"))
    await scene.fleet.start("api")
    answer = await scene.post()
    assert (answer["id"], answer["duplicate"]) == (stored, True)
    await scene.delivered_once(await scene.settle(stored))


@pytest.mark.rabbitmq
@pytest.mark.parametrize("step", ["before publish", "before confirm", "before the row is gone"])
async def test_a_relay_killed_at_any_step_loses_no_pointer_and_a_second_one_sends_nothing(
    build: Build, step: str
) -> None:
    scene = await build("rabbitmq")
    victim = await scene.start("api", "worker", held="relay")
    assert scene.broker is not None
    hold = scene.broker.hold("basic.publish", reply=step != "before publish")
    first = await scene.post()
    await hold.wait()
    if step == "before publish":
        assert await scene.ask("SELECT count(*) FROM outbox") == 1
        assert scene.outside.received == []
    else:
        # The pointer is with the broker, and the row still in the outbox.
        await wait_for(lambda: len(scene.outside.received) == 1, 20, "the message arrives")
        assert await scene.ask("SELECT count(*) FROM outbox") == 1
    if step == "before the row is gone":
        # Confirmed now, the relay deletes; what it says last is held.
        commit = scene.database.hold("COMMIT")
        hold.let_go()
        await commit.wait()
        assert await scene.ask("SELECT count(*) FROM outbox") == 1
    await scene.kill(victim)
    await scene.fleet.start("relay")
    await scene.delivered_once(await scene.settle(first["id"]))


BROKERS = [pytest.param("rabbitmq", marks=pytest.mark.rabbitmq), "postgres"]


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_worker_killed_between_receiving_and_claiming_sends_nothing_and_another_sends_once(
    build: Build, broker: str
) -> None:
    scene = await build(broker)
    victim = await scene.start(*roles(broker), held="worker")
    hold = scene.database.hold(CLAIM)
    first = await scene.post()
    await hold.wait()
    await scene.kill(victim)
    assert await scene.ask("SELECT state FROM delivery") == "queued"
    assert scene.outside.received == []
    await scene.fleet.start("worker")
    await scene.delivered_once(await scene.settle(first["id"]))


@pytest.mark.parametrize("broker", BROKERS)
@pytest.mark.parametrize("repeat", ["recognised", "ask", "never"])
@pytest.mark.parametrize("step", ["before sending", "while the target works", "before the outcome"])
async def test_a_worker_killed_around_its_send_repeats_asks_or_leaves_it_as_the_target_allows(
    build: Build, broker: str, repeat: str, step: str
) -> None:
    scene = await build(broker, repeat)
    victim = await scene.start(*roles(broker), held="worker")
    arrived = step != "before sending"
    if step == "while the target works":
        scene.outside.switch(Mode.SLOW, seconds=60)
        first = await scene.post()
        await wait_for(lambda: len(scene.outside.received) == 1, 20, "the message arrives")
    else:
        hold = scene.target.hold("POST /events") if not arrived else scene.database.hold(OUTCOME)
        first = await scene.post()
        await hold.wait()
    assert len(scene.outside.received) == arrived
    assert await scene.ask("SELECT state FROM delivery") == "sending"
    await scene.kill(victim)
    scene.outside.switch(Mode.OK)
    await scene.fleet.start("worker")
    id_ = await scene.settle(first["id"])
    await scene.finish()
    states = await scene.fleet.states()
    received = [seen.id for seen in scene.outside.received]
    if repeat == "recognised":
        assert states == {("delivered", None): 1}
        assert received == [id_] * (1 + arrived)
        assert list(scene.outside.effects()) == [id_]
    elif repeat == "ask":
        assert states == {("delivered", None): 1}
        assert received == [id_]
        assert scene.outside.asked == [id_]
    else:
        assert states == {("dead", "outcome-unknown"): 1}
        assert received == [id_] * arrived
    outcomes = await scene.ask("SELECT array_agg(outcome ORDER BY number) FROM attempt")
    assert outcomes == ["abandoned", "unknown" if repeat == "never" else "delivered"]


@pytest.mark.parametrize("broker", BROKERS)
async def test_a_worker_killed_between_outcome_and_ack_sends_nothing_again(build: Build, broker: str) -> None:
    scene = await build(broker)
    victim = await scene.start(*roles(broker), held="worker")
    hold = scene.broker.hold("basic.ack") if scene.broker is not None else scene.database.hold(UNPOINT)
    first = await scene.post()
    await hold.wait()
    await scene.until("SELECT state FROM delivery", "delivered")
    await scene.kill(victim)
    await scene.fleet.start("worker")
    await scene.delivered_once(await scene.settle(first["id"]))


def roles(broker: str) -> tuple[str, ...]:
    """Return the roles beside the worker's."""
    return ("api", "relay") if broker == "rabbitmq" else ("api",)
