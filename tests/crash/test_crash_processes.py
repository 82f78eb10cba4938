"""Processes are killed, stopped and started under load; afterwards the accounts of sender and receiver are settled."""

from __future__ import annotations

import asyncio
import random
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from services import rabbitmq
from services.fleet import Fleet, Sender, in_order, reconcile, wait_for

from connectors.testing.sandbox import Mode
from connectors.webhook.sandbox import WebhookSandbox
from registry.storage.embedded import EmbeddedPostgres
from registry.storage.migrate import upgrade_async

pytestmark = [pytest.mark.crash, pytest.mark.slow]


@pytest.fixture
async def sandbox() -> AsyncIterator[WebhookSandbox]:
    found = WebhookSandbox()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def fleet(tmp_path: Path, database_url: str) -> AsyncIterator[Fleet]:
    found = Fleet(tmp_path, database_url, None)
    yield found
    await found.stop()


async def audited_ends(url: str) -> int:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return int(
            await connection.fetchval("SELECT count(*) FROM audit_event WHERE action = 'delivery.end'")
        )
    finally:
        await connection.close(timeout=5)


@pytest.mark.rabbitmq
async def test_killing_any_role_at_any_instant_loses_nothing(
    fleet: Fleet, sandbox: WebhookSandbox, broker_url: str
) -> None:
    fleet.broker_url = broker_url
    fleet.configure(sandbox)
    sandbox.switch(Mode.SLOW, seconds=0.01)
    await fleet.start("api", "relay", "worker", "worker")
    sender = Sender(fleet)
    sender.start()
    for role in ("worker", "relay", "api", "worker"):
        await asyncio.sleep(random.uniform(0.2, 1.5))
        victim = random.choice([one for one in fleet.processes if one.role == role])
        await fleet.ready(victim)
        await asyncio.sleep(random.uniform(0, 0.3))
        await fleet.replace(victim)
    await sender.stop()
    assert len(sender.acknowledged) > 50
    states = await fleet.settled()
    assert set(states) == {("delivered", None)}
    reconcile(sender, sandbox)
    in_order(sender, sandbox)
    assert await audited_ends(fleet.database_url) == len(sender.acknowledged)


async def test_killing_the_one_process_of_a_small_hub_loses_nothing(
    fleet: Fleet, sandbox: WebhookSandbox
) -> None:
    fleet.configure(sandbox)
    sandbox.switch(Mode.SLOW, seconds=0.01)
    await fleet.start("all")
    sender = Sender(fleet)
    sender.start()
    for _ in range(3):
        (process,) = fleet.processes
        await fleet.ready(process)
        await asyncio.sleep(random.uniform(0.1, 1.0))
        await fleet.replace(process)
    await fleet.ready(fleet.processes[0])
    await sender.stop()
    states = await fleet.settled()
    assert set(states) == {("delivered", None)}
    reconcile(sender, sandbox)
    in_order(sender, sandbox)


@pytest.mark.parametrize("repeat", ["never", "ask"])
async def test_a_worker_that_stands_still_sends_nothing_twice(
    fleet: Fleet, sandbox: WebhookSandbox, repeat: str
) -> None:
    fleet.configure(sandbox, repeat=repeat, retry={"attempts": 3, "longest": "300ms"}, timeout="2s")
    sandbox.switch(Mode.SLOW, seconds=0.05)
    api, first, _ = await fleet.start("api", "worker", "worker")
    assert api.role == "api"
    sender = Sender(fleet, lanes=6, subjects=6000)
    sender.start()
    await asyncio.sleep(1.5)
    first.signal(signal.SIGSTOP)
    await asyncio.sleep(
        15
    )  # beyond the ten seconds after which a silent worker's deliveries are given to others
    first.signal(signal.SIGCONT)
    await asyncio.sleep(1.5)
    await sender.stop()
    states = await fleet.settled()
    times = Counter(seen.id for seen in sandbox.received)
    assert max(times.values()) == 1, f"{sum(n > 1 for n in times.values())} messages were sent twice"
    assert {state for state, _ in states} <= {"delivered", "dead"}
    assert {code for state, code in states if state == "dead"} <= {"outcome-unknown"}
    # What was not delivered is a dead letter that says so: acknowledged and neither is no third kind.
    assert sum(states.values()) == len(sender.acknowledged)
    delivered = states[("delivered", None)]
    assert delivered <= len(times) <= len(sender.acknowledged)


@pytest.mark.rabbitmq
@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_broker_that_is_killed_or_stopped_and_comes_back_loses_nothing(
    fleet: Fleet, sandbox: WebhookSandbox, end: str
) -> None:
    with rabbitmq.private_node() as node:
        fleet.broker_url = node.url
        fleet.configure(sandbox)
        await fleet.start("api", "relay", "worker")
        sender = Sender(fleet)
        sender.start()
        await asyncio.sleep(1.5)
        await asyncio.to_thread(node.kill if end == "kill" else node.stop)
        before = len(sender.acknowledged)
        await wait_for(
            lambda: len(sender.acknowledged) > before + 20, 20, "messages are taken without a broker"
        )
        await asyncio.to_thread(node.start)
        await asyncio.sleep(1)
        await sender.stop()
        states = await fleet.settled(90)
        assert set(states) == {("delivered", None)}
        reconcile(sender, sandbox)
        in_order(sender, sandbox)
        await fleet.stop()


@pytest.mark.parametrize("end", ["kill", "restart"])
async def test_a_database_that_is_killed_or_restarted_loses_nothing(
    tmp_path: Path, sandbox: WebhookSandbox, end: str
) -> None:
    with tempfile.TemporaryDirectory(prefix="hubtest-pg-", ignore_cleanup_errors=True) as folder:
        server = EmbeddedPostgres(Path(folder) / "data")
        url = await asyncio.to_thread(server.start)
        fleet = Fleet(tmp_path, url, None)
        try:
            await upgrade_async(url)
            fleet.configure(sandbox)
            await fleet.start("api", "worker", "worker")
            sender = Sender(fleet)
            sender.start()
            for away in (0.0, 1.0):
                await asyncio.sleep(1.5)
                await asyncio.to_thread(
                    kill_postmaster if end == "kill" else stop_postmaster, Path(folder) / "data"
                )
                await asyncio.sleep(away)
                server._forget()
                assert await asyncio.to_thread(server.start) == url
            await asyncio.sleep(1.0)
            await sender.stop()
            assert len(sender.acknowledged) > 50
            states = await fleet.settled()
            assert set(states) == {("delivered", None)}
            reconcile(sender, sandbox)
            in_order(sender, sandbox)
        finally:
            await fleet.stop()
            await asyncio.to_thread(server.stop)


def kill_postmaster(data: Path) -> None:
    """Kill the server we started ourselves and wait until its children are gone too."""
    import psutil

    process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    family = [process, *process.children(recursive=True)]
    process.kill()
    psutil.wait_procs(family, timeout=20)


def stop_postmaster(data: Path) -> None:
    """Stop it as an upgrade of the server does: it ends every session at once, then itself in order."""
    import psutil

    process = psutil.Process(int((data / "postmaster.pid").read_text().split()[0]))
    process.send_signal(signal.SIGINT)
    process.wait(30)


async def test_whatever_the_target_does_nothing_is_lost_and_no_refusal_repeated(
    fleet: Fleet, sandbox: WebhookSandbox
) -> None:
    fleet.configure(sandbox, timeout="1s")
    await fleet.start("api", "worker")
    sender = Sender(fleet, subjects=6000, lanes=6)
    sender.start()
    faults: list[tuple[Mode, dict[str, Any]]] = [
        (Mode.SLOW, {"seconds": 0.2}),
        (Mode.STATUS, {"status": 500}),
        (Mode.STATUS, {"status": 408}),
        (Mode.STATUS, {"status": 429, "retry_after": 1}),
        (Mode.GARBAGE, {}),
        (Mode.CLOSE_AFTER_BODY, {}),
        (Mode.HANG, {}),
    ]
    for mode, options in faults:
        sandbox.switch(mode, **options)
        await asyncio.sleep(1.5)
        sandbox.switch(Mode.OK)
        await asyncio.sleep(0.5)
    await sender.stop()
    states = await fleet.settled(90)
    assert set(states) == {("delivered", None)}
    reconcile(sender, sandbox)
    sandbox.switch(Mode.STATUS, status=400)
    refused = Sender(fleet, lanes=2)
    # Other ids than before, so that they are new messages.
    refused.lanes, refused.subjects = 2, 10
    refused._tasks = [asyncio.create_task(refused._lane(lane)) for lane in (100, 101)]
    await asyncio.sleep(1.0)
    await refused.stop()
    states = await fleet.settled()
    count = len(refused.acknowledged)
    assert states[("refused", "target-refused")] == count > 0
    connection = await asyncpg.connect(fleet.database_url, timeout=10)
    attempts = await connection.fetchval("SELECT max(attempts) FROM delivery WHERE state = 'refused'")
    await connection.close(timeout=5)
    assert attempts == 1
