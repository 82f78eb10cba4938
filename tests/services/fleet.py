"""Real processes of the hub, a sender that remembers what was acknowledged, and an outside system that remembers all."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import yaml
from services.apart import free_port

from adapters.http.security import hash_secret
from connectors.webhook.sandbox import WebhookSandbox

HUB = str(Path(sys.executable).parent / "hub")
PARTNER = "civil-registry"


def birth(id_: str, subject: str | None = None, **names: str) -> dict[str, Any]:
    """Return the event of a birth under a partner's own id."""
    person: dict[str, Any] = {"sex": "female", "birthdate": "2026-03-01"}
    if names:
        person["names"] = [names]
    found: dict[str, Any] = {
        "specversion": "1.0",
        "id": id_,
        "source": "/civil-registry",
        "type": "org.openspp.civil_event.registered.v1",
        "time": "2026-03-04T09:30:00Z",
        "data": {"event_type": "birth", "subject": person},
    }
    if subject is not None:
        found["subject"] = subject
    return found


@dataclass
class Process:
    """One process of the hub."""

    role: str
    running: subprocess.Popen[bytes]
    log: Path

    def signal(self, number: int) -> None:
        """Send a signal to this process alone."""
        self.running.send_signal(number)


@dataclass
class Fleet:
    """Processes of one hub that share a database, a broker and a configuration."""

    folder: Path
    database_url: str
    broker_url: str | None
    processes: list[Process] = field(default_factory=list)
    port: int = field(default_factory=free_port)
    number: int = 0
    env: dict[str, str] = field(default_factory=dict)

    def configure(
        self,
        sandbox: WebhookSandbox,
        *,
        repeat: str = "recognised",
        retry: dict[str, Any] | None = None,
        timeout: str = "5s",
        concurrency: int = 16,
        connector: str = "webhook",
        port: int | None = None,
        **route: Any,
    ) -> None:
        """Write one partner, one route and one target that reaches the sandbox, by `port` where a proxy stands before it."""
        config = self.folder / "config"
        for name in ("routes", "targets"):
            (config / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "data").mkdir(exist_ok=True)
        settings = sandbox.settings()
        if port is not None:
            settings["url"] = f"http://127.0.0.1:{port}/events"
        for name, value in (("secret", settings.pop("secrets")[0]), ("token", settings.pop("bearer_token"))):
            (config / f"{name}.txt").write_text(value)
            (config / f"{name}.txt").chmod(0o600)
        settings |= {"secrets": [{"file": "../secret.txt"}], "bearer_token": {"file": "../token.txt"}}
        self._write(
            "targets/ministry.yaml",
            {
                "target": "ministry",
                "connector": connector,
                "concurrency": concurrency,
                "timeout": timeout,
                "repeat": repeat,
                "settings": settings,
            },
        )
        policy = {"attempts": 100, "first": "200ms", "longest": "1s", **(retry or {})}
        self._write(
            "routes/births.yaml",
            {
                "route": "births",
                "when": {"type": "org.openspp.*"},
                "to": "ministry",
                "retry": policy,
                **route,
            },
        )
        client = {"id": PARTNER, "secret": hash_secret("a secret of the tests only", cost=1024)}
        self._write(
            "partners.yaml",
            {
                "partners": [
                    {
                        "name": PARTNER,
                        "clients": [client],
                        "scopes": ["messages:write", "messages:read", "dead:read", "metrics:read"],
                    }
                ]
            },
        )

    def _write(self, name: str, document: dict[str, Any]) -> None:
        (self.folder / "config" / name).write_text(yaml.safe_dump(document))

    def environment(self) -> dict[str, str]:
        """Return the environment of the hub's processes."""
        found = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        found |= {
            "HUB_DATABASE_URL": self.database_url,
            "HUB_DATA_DIR": str(self.folder / "data"),
            "HUB_CONFIG_DIR": str(self.folder / "config"),
            "HUB_DATABASE_POOL": "8",
            "HUB_PORT": str(self.port),
            "HUB_LOG_LEVEL": "INFO",
        }
        if self.broker_url is not None:
            found["HUB_BROKER_URL"] = self.broker_url
        return found | self.env

    def launch(self, role: str, **env: str) -> Process:
        """Start one process without waiting for it; `env` is for this one alone."""
        self.number += 1
        log = self.folder / f"{role}-{self.number}.log"
        with log.open("wb") as out:
            running = subprocess.Popen(
                [HUB, "serve", "--role", role],
                env=self.environment() | env,
                cwd=self.folder,
                stdout=out,
                stderr=out,
            )
        process = Process(role, running, log)
        self.processes.append(process)
        return process

    async def start(self, *roles: str) -> list[Process]:
        """Start processes and wait until each says that it runs."""
        started = [self.launch(role) for role in roles]
        for process in started:
            await self.ready(process)
        return started

    async def ready(self, process: Process, seconds: float = 60.0) -> None:
        """Wait until a process says that it runs."""
        deadline = time.monotonic() + seconds
        while "OpenSPP Hub (" not in process.log.read_text(errors="replace"):
            assert process.running.poll() is None, process.log.read_text(errors="replace")[-3000:]
            assert time.monotonic() < deadline, process.log.read_text(errors="replace")[-3000:]
            await asyncio.sleep(0.05)

    async def kill(self, process: Process) -> None:
        """Kill a process as a power cut would."""
        process.signal(signal.SIGKILL)
        await asyncio.to_thread(process.running.wait, 20)
        self.processes.remove(process)

    async def replace(self, process: Process) -> Process:
        """Kill a process and start another in its place, as a supervisor would; does not wait until it is ready."""
        await self.kill(process)
        return self.launch(process.role)

    def token(self) -> str:
        """Return an access token of the partner."""
        done = subprocess.run(
            [HUB, "token", PARTNER, "--json", "--issuer", f"http://127.0.0.1:{self.port}"],
            env=self.environment(), cwd=self.folder, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        return str(json.loads(done.stdout)["access_token"])

    @property
    def url(self) -> str:
        """Where messages are posted."""
        return f"http://127.0.0.1:{self.port}/v1/messages"

    async def stop(self) -> None:
        """End every process that was started here."""
        for process in self.processes:
            process.signal(signal.SIGCONT)
            process.signal(signal.SIGKILL)
        for process in self.processes:
            await asyncio.to_thread(process.running.wait, 20)
        self.processes.clear()

    def logs(self) -> str:
        """Return all that the processes wrote."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("*.log")))

    async def states(self) -> Counter[tuple[str, str | None]]:
        """Return how many deliveries are in each state, with their codes."""
        connection = await asyncpg.connect(self.database_url, timeout=10)
        try:
            rows = await connection.fetch("SELECT state, code, count(*) AS n FROM delivery GROUP BY 1, 2")
        finally:
            await connection.close(timeout=5)
        return Counter({(row["state"], row["code"]): row["n"] for row in rows})

    async def settled(self, seconds: float = 60.0) -> Counter[tuple[str, str | None]]:
        """Wait until every delivery has ended; return the states."""
        deadline = time.monotonic() + seconds
        while True:
            states = await self.states()
            if not any(state in {"queued", "waiting", "sending"} for state, _ in states):
                return states
            assert time.monotonic() < deadline, (
                f"not settled after {seconds} s: {states}\n{self.logs()[-3000:]}"
            )
            await asyncio.sleep(0.2)


class Sender:
    """A partner that repeats a message until it is acknowledged, and remembers what was."""

    def __init__(self, fleet: Fleet, *, lanes: int = 8, subjects: int = 40, pause: float = 0.02) -> None:
        self.fleet = fleet
        self.lanes = lanes
        self.subjects = subjects
        self.pause = pause
        self.acknowledged: dict[str, str] = {}
        self.order: dict[str, list[str]] = {}
        self.faults: Counter[str] = Counter()
        self._token = fleet.token()
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._lane(lane)) for lane in range(self.lanes)]

    async def stop(self) -> None:
        """Finish what was begun: every message in hand is repeated until it is acknowledged."""
        self._stopping = True
        await asyncio.wait_for(asyncio.gather(*self._tasks), 90)

    async def _lane(self, lane: int) -> None:
        number = 0
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=6)) as http:
            while not self._stopping:
                number += 1
                # A subject belongs to one lane, so that its messages have an order.
                subject = f"s-{lane}-{number % max(1, self.subjects // self.lanes)}"
                await self._until_acknowledged(http, f"e-{lane}-{number}", subject)
                await asyncio.sleep(random.uniform(0, 2 * self.pause))

    async def _until_acknowledged(self, http: aiohttp.ClientSession, id_: str, subject: str) -> None:
        while True:
            try:
                headers = {"Authorization": f"Bearer {self._token}"}
                async with http.post(self.fleet.url, json=birth(id_, subject), headers=headers) as reply:
                    body = await reply.json(content_type=None)
                    if reply.status == 202:
                        self.acknowledged[id_] = body["id"]
                        self.order.setdefault(subject, []).append(body["id"])
                        return
                    self.faults[str(reply.status)] += 1
                    assert reply.status in {429, 500, 503}, body
            except (aiohttp.ClientError, TimeoutError, ValueError) as error:
                self.faults[type(error).__name__] += 1
            await asyncio.sleep(0.1)


def reconcile(sender: Sender, sandbox: WebhookSandbox) -> None:
    """Hold the accounts of both sides against each other: nothing lost, nothing made up, no id under two numbers."""
    wanted, found = set(sender.acknowledged.values()), set(sandbox.effects())
    assert len(wanted) == len(sender.acknowledged), "two of the sender's ids got one message"
    assert not wanted - found, f"{len(wanted - found)} of {len(wanted)} acknowledged messages were lost"
    assert not found - wanted, f"{len(found - wanted)} messages were delivered that nobody sent"


def in_order(sender: Sender, sandbox: WebhookSandbox) -> None:
    """Hold that the messages of each subject first arrived in the order in which they were acknowledged."""
    place = {id_: number for number, id_ in enumerate(sandbox.effects())}
    for subject, ids in sender.order.items():
        places = [place[id_] for id_ in ids]
        assert places == sorted(places), f"the messages of {subject} arrived out of order"


async def wait_for(holds: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait until something holds, at most so long."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what}: not after {seconds} s"
        await asyncio.sleep(0.05)
