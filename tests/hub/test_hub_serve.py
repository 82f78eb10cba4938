"""`hub serve` as a supervisor has it: how it starts, what it says, how it ends, and what keeps it from starting."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import orjson
import pytest
from services.apart import free_port
from services.fleet import HUB, Fleet, Process

from connectors.webhook.sandbox import WebhookSandbox


@pytest.fixture
async def fleet(database_url: str, tmp_path: Path) -> AsyncIterator[Fleet]:
    sandbox = WebhookSandbox()
    await sandbox.start()
    found = Fleet(tmp_path, database_url, None)
    found.configure(sandbox)
    yield found
    await found.stop()
    await sandbox.stop()


def _events(process: Process) -> list[dict[str, object]]:
    lines = process.log.read_bytes().splitlines()
    return [orjson.loads(line) for line in lines if line.startswith(b"{")]


def _ended(fleet: Fleet, process: Process, seconds: float = 45.0) -> int:
    code = process.running.wait(seconds)
    fleet.processes.remove(process)
    return code


def _refused(fleet: Fleet, role: str = "all", **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HUB, "serve", "--role", role],
        env=fleet.environment() | {"HUB_ERRORS": "json"} | environment,
        cwd=fleet.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("role", ["api", "relay", "worker"])
async def test_every_role_serves_health_and_metrics_on_its_own_port(fleet: Fleet, role: str) -> None:
    port = free_port()
    fleet.env["HUB_METRICS_PORT"] = str(port)
    (process,) = await fleet.start(role)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        for path, words in (
            ("/healthz/live", '"live"'),
            ("/healthz/ready", '"ready"'),
            ("/metrics", "hub_messages_accepted_total"),
        ):
            async with session.get(path) as answer:
                assert (answer.status, words in await answer.text()) == (200, True), path
        for method, path, status in (
            ("POST", "/metrics", 405),
            ("GET", "/v1/messages", 404),
            ("GET", "/console", 404),
            ("GET", "/docs", 404),
        ):
            async with session.request(method, path) as answer:
                assert answer.status == status, path
    process.signal(signal.SIGTERM)
    assert _ended(fleet, process) == 0


async def test_the_start_says_version_role_broker_and_routes(fleet: Fleet) -> None:
    (process,) = await fleet.start("all")
    (event,) = [one for one in _events(process) if one["event"] == "hub-started"]
    assert (event["role"], event["version"], event["broker"], event["routes"]) == (
        "all",
        "0.1.0",
        "postgres",
        1,
    )
    process.signal(signal.SIGTERM)
    assert _ended(fleet, process) == 0
    assert _events(process)[-1]["event"] == "hub-stopping"


async def test_a_signal_in_the_middle_of_the_start_ends_it_cleanly(fleet: Fleet) -> None:
    """The database takes the connection and says nothing: the start hangs there until the signal comes."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        fleet.database_url = f"postgresql://hub@127.0.0.1:{silent.getsockname()[1]}/hub"
        process = fleet.launch("all")
        silent.settimeout(30)
        taken, _ = await asyncio.to_thread(silent.accept)
        began = time.monotonic()
        process.signal(signal.SIGTERM)
        assert await asyncio.to_thread(_ended, fleet, process) == 0
        assert time.monotonic() - began < 8
        taken.close()
    text = process.log.read_text()
    assert "hub-start-given-up" in text
    assert "Traceback" not in text


async def test_the_second_signal_ends_at_once(fleet: Fleet) -> None:
    """Both come while it stands still, so that the first has no time to end it."""
    (process,) = await fleet.start("all")
    process.signal(signal.SIGSTOP)
    process.signal(signal.SIGTERM)
    process.signal(signal.SIGINT)
    began = time.monotonic()
    process.signal(signal.SIGCONT)
    assert await asyncio.to_thread(_ended, fleet, process) in {128 + signal.SIGTERM, 128 + signal.SIGINT}
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("setting", "url", "code", "exit_code"),
    [
        (
            "HUB_DATABASE_URL",
            "postgresql://hub:hidden-word@127.0.0.1:{closed}/hub",
            "database-unavailable",
            3,
        ),
        ("HUB_BROKER_URL", "amqp://hub:hidden-word@127.0.0.1:{closed}/", "broker-unavailable", 3),
        ("HUB_DATABASE_URL", "postgresql://hub:hidden-word@127.0.0.1:no/hub", "database-refused", 2),
        ("HUB_DATABASE_URL", "mysql://hub:hidden-word@127.0.0.1/hub", "database-refused", 2),
        ("HUB_DATA_DIR", "/proc/nowhere", "settings-invalid", 2),
    ],
)
async def test_what_is_away_or_wrong_is_told_with_a_remedy_and_never_as_a_traceback(
    fleet: Fleet, setting: str, url: str, code: str, exit_code: int
) -> None:
    given = {setting: url.replace("{closed}", str(free_port()))}
    ran = await asyncio.to_thread(_refused, fleet, **given)
    said = orjson.loads(ran.stderr.strip().splitlines()[-1])
    assert (said["code"], ran.returncode) == (code, exit_code), ran.stderr
    assert said["remedy"]
    assert "Traceback" not in ran.stderr
    assert "hidden-word" not in ran.stdout + ran.stderr


async def test_a_missing_database_is_refused_without_a_traceback(fleet: Fleet) -> None:
    ran = await asyncio.to_thread(_refused, fleet, HUB_DATABASE_URL=f"{fleet.database_url}_not_there")
    said = orjson.loads(ran.stderr.strip().splitlines()[-1])
    assert (said["code"], ran.returncode) == ("database-refused", 2)
    assert "Traceback" not in ran.stderr


async def test_a_taken_metrics_port_is_told(fleet: Fleet) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        ran = await asyncio.to_thread(_refused, fleet, "relay", HUB_METRICS_PORT=str(holder.getsockname()[1]))
    assert orjson.loads(ran.stderr.strip().splitlines()[-1])["code"] == "address-in-use"
    assert ran.returncode == 2
