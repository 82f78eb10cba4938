"""`hub bench path`: the message path end to end, beside the raw limits in the same run."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

import aiohttp
import asyncpg
import orjson
import psutil
import yaml

from adapters.cli.bench import bare
from adapters.cli.bench.load import Load, Receiver, http_request, percentile
from adapters.cli.bench.scratch import drop_database, drop_queues, fresh_database
from adapters.front import free_port
from adapters.http.security.secrets import hash_secret, new_secret
from canonical_model.errors import Unavailable
from registry.storage import migrate

EVENT_TYPE: Final = "org.openspp.civil_event.registered.v1"
MARK: Final = b'"originid":"'
GOAL_CPU_MS: Final = 0.6
GOAL_RATE: Final = 1500.0
GOAL_RATIO: Final = 1.5
GOAL_GROWTH: Final = 16.0
GOAL_GROWTH_SHARE: Final = 0.1
_LOOK: Final = 0.25
"""Seconds between two looks at memory and progress."""


class Tell(Protocol):
    """Told which step is under way and how far it is."""

    def __call__(self, step: str, done: int = 0, total: int | None = None) -> None:
        """Take note of a step; `total` None where no part of it can be counted."""


def event(number: int, run: str) -> bytes:
    """Return one civil event of an invented person as a structured CloudEvent of about a kilobyte."""
    return orjson.dumps(
        {
            "specversion": "1.0",
            "id": f"{run}-{number}",
            "source": "/civil-registry",
            "type": EVENT_TYPE,
            "subject": f"UIN:{number:09d}",
            "time": "2026-03-01T08:00:00Z",
            "datacontenttype": "application/json",
            "data": {
                "event_type": "birth",
                "event_date": "2026-02-27",
                "subject": {
                    "identifiers": [
                        {"id_type": "UIN", "value": f"{number:09d}"},
                        {"id_type": "BRN", "value": f"B-2026-{number:07d}"},
                    ],
                    "names": [{"family_name": "Barasa", "given_name": "Amina", "addl_name": "Wanjiru"}],
                    "sex": "female",
                    "birthdate": "2026-02-27",
                    "birth_place": {
                        "name": "Busia County Hospital",
                        "latitude": 0.4608,
                        "longitude": 34.1115,
                    },
                    "addresses": [
                        {"address_line_1": "Hospital Road 4", "locality": "Busia", "country_code": "KE"}
                    ],
                },
                "parent1_identifier": {"id_type": "UIN", "value": f"{number + 500000000:09d}"},
                "parent2_identifier": {"id_type": "UIN", "value": f"{number + 600000000:09d}"},
            },
        }
    )


@dataclass(slots=True)
class Arrivals:
    """When each numbered message reached the receiver; a second arrival is counted, not stored."""

    at: dict[int, float] = field(default_factory=dict)
    twice: int = 0

    def arrived(self, body: bytes) -> None:
        """Note one body, found by the originid (or the id) it carries."""
        place = body.find(MARK)
        start = place + len(MARK) if place >= 0 else body.find(b'"id":"') + 6
        if start < 6:
            return  # a probe
        number = int(body[start : body.index(b'"', start)].rpartition(b"-")[2])
        if number in self.at:
            self.twice += 1
        else:
            self.at[number] = time.perf_counter()


class Process:
    """One measured process: its CPU seconds and memory."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self._process = process
        self._info = psutil.Process(process.pid)

    @classmethod
    async def start(cls, name: str, words: list[str], env: dict[str, str], ready: bytes) -> Process:
        """Start a process and wait (60 s at most) for the word that says it is ready."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, env=env, stdout=asyncio.subprocess.PIPE, stderr=sys.stderr
        )
        assert process.stdout is not None
        try:
            async with asyncio.timeout(60):
                while ready not in (line := await process.stdout.readline()):
                    if not line:
                        raise Unavailable(
                            f"The {name} process of the benchmark did not start.", code="bench-failed"
                        )
        except TimeoutError:
            process.kill()
            raise Unavailable(
                f"The {name} process of the benchmark was not ready in 60 s.", code="bench-failed"
            ) from None
        return cls(name, process)

    def cpu(self) -> float:
        """Return CPU seconds used so far, user and system."""
        times = self._info.cpu_times()
        return float(times.user + times.system)

    def memory(self) -> float:
        """Return resident memory in MiB."""
        return float(self._info.memory_info().rss) / 2**20

    async def stop(self) -> None:
        """End the process, by force after 20 s."""
        if self._process.returncode is None:
            self._process.terminate()
        try:
            async with asyncio.timeout(20):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


@dataclass(slots=True)
class Memory:
    """Resident memory of one process in MiB: after the warm-up, when all was delivered, and the most between."""

    before: float
    after: float
    most: float

    @property
    def growth(self) -> float:
        """What it has more than before."""
        return self.after - self.before

    @property
    def allowed(self) -> float:
        """The growth that still counts as flat: 16 MiB or a tenth, whichever is more."""
        return max(GOAL_GROWTH, self.before * GOAL_GROWTH_SHARE)


@dataclass(slots=True)
class Run:
    """The figures of one composition."""

    name: str
    accepted: float = 0.0
    delivered: float = 0.0
    cpu_ms: dict[str, float] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Memory] = field(default_factory=dict)
    lost: int = 0
    twice: int = 0

    @property
    def cpu_total(self) -> float:
        """CPU ms per message in all roles together."""
        return sum(self.cpu_ms.values())


async def measure(
    name: str,
    processes: list[Process],
    load: Load,
    arrivals: Arrivals,
    messages: int,
    tell: Tell,
) -> Run:
    """Warm up, then send everything at full speed, then a tenth at half speed for the latencies."""
    run = Run(name)
    warm = min(2000, messages // 5)
    async with _looking(f"{name}: warming up", arrivals, warm, tell, processes):
        await load.run(0, warm)
        await _all(arrivals, warm)
    before = {p.name: (p.cpu(), p.memory()) for p in processes}
    async with _looking(f"{name}: full speed", arrivals, messages, tell, processes) as most:
        started = time.perf_counter()
        seconds = await load.run(warm, messages)
        await _all(arrivals, warm + messages)
    whole = max(max(arrivals.at.values(), default=started) - started, 1e-9)
    run.accepted = messages / seconds
    run.delivered = messages / whole
    for process in processes:
        cpu, memory = before[process.name]
        run.cpu_ms[process.name] = (process.cpu() - cpu) / messages * 1000
        now = process.memory()
        run.memory[process.name] = Memory(memory, now, max(memory, now, most.get(process.name, 0.0)))
    half = max(200, min(messages // 5, 4000))
    first = warm + messages
    async with _looking(f"{name}: half speed", arrivals, half, tell, processes):
        await load.run(first, half, rate=run.delivered / 2)
        await _all(arrivals, first + half)
    accept = [load.answered[n] for n in range(first, first + half) if n in load.answered]
    through = [arrivals.at[n] - load.sent_at[n] for n in range(first, first + half) if n in arrivals.at]
    run.latency = {
        "accept_p50": percentile(accept, 0.5) * 1000,
        "accept_p99": percentile(accept, 0.99) * 1000,
        "delivered_p50": percentile(through, 0.5) * 1000,
        "delivered_p99": percentile(through, 0.99) * 1000,
    }
    run.lost = first + half - len(arrivals.at) + load.failed
    run.twice = arrivals.twice
    return run


@asynccontextmanager
async def _looking(
    step: str, arrivals: Arrivals, total: int, tell: Tell, processes: list[Process]
) -> AsyncIterator[dict[str, float]]:
    """Tell how far a step is and keep the most memory (MiB) each process has had, by looking four times a second."""
    first = len(arrivals.at)
    most: dict[str, float] = {}

    async def look() -> None:
        while True:
            tell(step, min(len(arrivals.at) - first, total), total)
            for process in processes:
                most[process.name] = max(most.get(process.name, 0.0), process.memory())
            await asyncio.sleep(_LOOK)

    task = asyncio.create_task(look())
    try:
        yield most
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    tell(step, min(len(arrivals.at) - first, total), total)


async def _all(arrivals: Arrivals, count: int, patience: float = 30.0) -> None:
    """Wait until `count` messages arrived, or nothing new for `patience` seconds."""
    last, since = -1, time.perf_counter()
    while len(arrivals.at) < count and time.perf_counter() - since < patience:
        if len(arrivals.at) != last:
            last, since = len(arrivals.at), time.perf_counter()
        await asyncio.sleep(0.02)


class Bench:
    """Everything one run needs: a database of its own, a receiver, configuration, processes."""

    def __init__(self, database_url: str, broker_url: str | None, tell: Tell) -> None:
        self._admin = database_url
        self._broker = broker_url
        self._tell = tell
        self._prefix = f"bench{os.getpid()}"

    async def hub(self, broker: str, messages: int) -> Run:
        """Measure the hub itself with everything on, over one broker."""
        loop = asyncio.get_running_loop()
        name = f"hub_bench_{os.getpid()}"
        database = await fresh_database(self._admin, name)
        await migrate.upgrade_async(database)
        arrivals = Arrivals()
        server = await loop.create_server(lambda: Receiver(arrivals.arrived), "127.0.0.1", 0)
        target = server.sockets[0].getsockname()[1]
        port = free_port("127.0.0.1")
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            secret = _configure(Path(folder), target)
            env = {
                **os.environ,
                "HUB_DATABASE_URL": database,
                "HUB_DATA_DIR": folder,
                "HUB_CONFIG_DIR": f"{folder}/config",
                "HUB_HOST": "127.0.0.1",
                "HUB_PORT": str(port),
                "HUB_LOG_LEVEL": "ERROR",
                "HUB_RATE_LIMIT": "1000000",
                "HUB_RATE_BURST": "1000000",
                "HUB_BROKER_PREFIX": self._prefix,
                "BENCH_SECRET": "b" * 40,
            }
            env.pop("HUB_BROKER_URL", None)
            roles = ["api", "worker"]
            if broker == "rabbitmq" and self._broker:
                env["HUB_BROKER_URL"] = self._broker
                roles = ["api", "relay", "worker"]
            processes: list[Process] = []
            try:
                for role in roles:
                    words = ["-m", "adapters.cli", "serve", "--role", role]
                    processes.append(await Process.start(role, words, env, b"OpenSPP Hub"))
                token = await token_of(port, secret)
                headers = {"Content-Type": "application/cloudevents+json", "Authorization": f"Bearer {token}"}
                load = Load(
                    "127.0.0.1", port, lambda n: http_request("/v1/messages", event(n, self._prefix), headers)
                )
                return await measure(f"hub over {broker}", processes, load, arrivals, messages, self._tell)
            finally:
                for process in reversed(processes):
                    await process.stop()
                server.close()
                await drop_queues(env.get("HUB_BROKER_URL"), self._prefix, ["bench"])
                await drop_database(self._admin, name)

    async def bare(self, messages: int) -> tuple[Run, dict[str, float]]:
        """Measure the raw limits and the bare composition of the same parts."""
        loop = asyncio.get_running_loop()
        name = f"hub_bare_{os.getpid()}"
        database = await fresh_database(self._admin, name)
        arrivals = Arrivals()
        server = await loop.create_server(lambda: Receiver(arrivals.arrived), "127.0.0.1", 0)
        target = server.sockets[0].getsockname()[1]
        sink = await loop.create_server(lambda: Receiver(lambda _: None), "127.0.0.1", 0)
        port = free_port("127.0.0.1")
        limits: dict[str, float] = {}
        processes: list[Process] = []
        try:
            pool = await asyncpg.create_pool(database, min_size=1, max_size=2)
            await pool.execute(bare.TABLES)
            self._tell("raw limits of the parts")
            limits["grouped_insert"] = await bare.raw_insert(pool)
            await pool.execute("TRUNCATE bench_message")
            await pool.close()
            limits["http_client"] = await bare.raw_client(
                f"http://127.0.0.1:{sink.sockets[0].getsockname()[1]}/"
            )
            if self._broker:
                limits["publish_confirm"], limits["consume_ack"] = await bare.raw_broker(
                    self._broker, self._prefix
                )
            code = "from adapters.cli.bench.bare import main; main()"
            broker = self._broker or ""
            words = ["-c", code, "in", database, broker, str(port), self._prefix]
            processes.append(await Process.start("in", words, dict(os.environ), b"ready"))
            echo = Load("127.0.0.1", port, lambda n: http_request("/echo", event(n, "echo"), {}))
            limits["http_echo"] = 5000 / await echo.run(0, 5000)
            if not broker:
                return Run("bare composition"), limits
            words = ["-c", code, "out", database, broker, f"http://127.0.0.1:{target}/", self._prefix]
            processes.append(await Process.start("out", words, dict(os.environ), b"ready"))
            headers = {"Content-Type": "application/json"}
            load = Load("127.0.0.1", port, lambda n: http_request("/in", event(n, self._prefix), headers))
            return await measure("bare composition", processes, load, arrivals, messages, self._tell), limits
        finally:
            for process in reversed(processes):
                await process.stop()
            server.close()
            sink.close()
            await drop_queues(self._broker, self._prefix, ["bare", "raw"])
            await drop_database(self._admin, name)


def _configure(folder: Path, target: int) -> str:
    config = folder / "config"
    for name in ("routes", "targets"):
        (config / name).mkdir(parents=True)
    secret = new_secret()
    partner = {
        "name": "civil-registry",
        "clients": [{"id": "civil-registry", "secret": hash_secret(secret)}],
        "scopes": ["messages:write"],
    }
    route = {"route": "bench", "when": {"type": "org.openspp.civil_event.*"}, "to": "ministry"}
    ministry = {
        "target": "ministry",
        "connector": "webhook",
        "concurrency": 64,
        "settings": {
            "url": f"http://127.0.0.1:{target}/events",
            "allow_private_networks": ["127.0.0.0/8"],
            "signing": "hmac",
            "secrets": [{"env": "BENCH_SECRET"}],
            "connections": 64,
        },
    }
    (config / "partners.yaml").write_text(yaml.safe_dump({"partners": [partner]}))
    (config / "routes" / "bench.yaml").write_text(yaml.safe_dump(route))
    (config / "targets" / "ministry.yaml").write_text(yaml.safe_dump(ministry))
    return secret


async def token_of(port: int, secret: str) -> str:
    """Return a token of the partner every benchmark calls as."""
    login = base64.b64encode(f"civil-registry:{secret}".encode()).decode()
    async with (
        aiohttp.ClientSession() as http,
        http.post(
            f"http://127.0.0.1:{port}/oauth2/token",
            data={"grant_type": "client_credentials"},
            headers={"Authorization": f"Basic {login}"},
        ) as answer,
    ):
        return str((await answer.json())["access_token"])
