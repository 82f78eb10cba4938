"""`hub bench people`: single creates of people through the HTTP API, beside the same rows written bare."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg
import orjson
import yaml

from adapters.cli.bench.crowd import Somebody, crowd
from adapters.cli.bench.load import Load, http_request, percentile
from adapters.cli.bench.path import Process, token_of
from adapters.cli.bench.scratch import drop_database, fresh_database
from adapters.front import free_port
from adapters.http.security.secrets import hash_secret, new_secret
from canonical_model.errors import Unavailable
from registry.settings import HubSettings
from registry.storage import migrate
from registry.storage.database import open_pool

GOAL_RATE: Final = 500.0
WARM: Final = 300
CONNECTIONS: Final = 64
GROUP: Final = 64
"""People of one transaction in the bare run: as many as the hub puts together at most."""
TABLES: Final = {
    "registrant": "id",
    "registrant_vault": "registrant_id",
    "registrant_identifier": "registrant_id",
    "registrant_search": "registrant_id",
    "registrant_change": "registrant_id",
}
_COLUMNS: Final = """
SELECT column_name FROM information_schema.columns
WHERE table_schema = current_schema() AND table_name = $1 AND is_generated = 'NEVER' ORDER BY ordinal_position
"""


@dataclass(slots=True)
class Figures:
    """What one run measured."""

    people: int
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    failed: int = 0
    made: int = 0
    bare_rate: float = 0.0
    latency: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Creates a second."""
        return self.people / self.seconds


async def measure(database: str, people: int, say: Callable[[str], None]) -> Figures:
    """Create people one by one over HTTP in a database of its own, then write the same rows bare into another."""
    figures = Figures(people)
    names = [f"hub_bench_people_{os.getpid()}", f"hub_bench_bare_{os.getpid()}"]
    try:
        urls = [await fresh_database(database, name) for name in names]
        for url in urls:
            await migrate.upgrade_async(url)
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            await _served(urls[0], Path(folder), figures, say)
            say("writing the same rows bare")
            figures.bare_rate = await _bare(HubSettings(data_dir=Path(folder) / "bare"), *urls)
    finally:
        for name in names:
            await drop_database(database, name)
    return figures


async def _served(url: str, folder: Path, figures: Figures, say: Callable[[str], None]) -> None:
    port, secret = free_port("127.0.0.1"), new_secret()
    (folder / "config").mkdir()
    partner = {
        "name": "civil-registry",
        "clients": [{"id": "civil-registry", "secret": hash_secret(secret)}],
        "scopes": ["registrants:write"],
    }
    (folder / "config" / "partners.yaml").write_text(yaml.safe_dump({"partners": [partner]}))
    env = {
        **os.environ, "HUB_DATABASE_URL": url, "HUB_DATA_DIR": str(folder), "HUB_CONFIG_DIR": str(folder / "config"),
        "HUB_HOST": "127.0.0.1", "HUB_PORT": str(port), "HUB_LOG_LEVEL": "ERROR", "HUB_RATE_LIMIT": "1000000",
        "HUB_RATE_BURST": "1000000",
    }  # fmt: skip
    env.pop("HUB_BROKER_URL", None)
    process = await Process.start(
        "api", ["-m", "adapters.cli", "serve", "--role", "api"], env, b"OpenSPP Hub"
    )
    try:
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Bearer {await token_of(port, secret)}",
        }
        bodies = [_body(one) for one in islice(crowd(WARM + figures.people), WARM + figures.people)]
        load = Load(
            "127.0.0.1", port, lambda number: http_request("/v1/registrants", bodies[number], headers),
            connections=CONNECTIONS,
        )  # fmt: skip
        say("warming up")
        await load.run(0, WARM)
        say(f"creating {figures.people:,} people over {CONNECTIONS} connections")
        cpu = process.cpu()
        figures.seconds = await load.run(WARM, figures.people)
        figures.cpu_seconds = process.cpu() - cpu
        figures.latency = [load.answered[number] for number in range(WARM, WARM + figures.people)]
        figures.failed = load.failed
    finally:
        await process.stop()
    connection = await asyncpg.connect(url, timeout=10)
    try:
        figures.made = await connection.fetchval("SELECT count(*) FROM registrant") - WARM
    finally:
        await connection.close()
    if figures.made <= 0:
        raise Unavailable("No create of the benchmark was taken.", code="bench-failed")


def _body(one: Somebody) -> bytes:
    return orjson.dumps(
        {
            "kind": "individual",
            "identifiers": [
                {"id_type": "NID", "namespace": "urn:gov:xx:national-id", "value": f"N{one.number:09d}"}
            ],
            "names": [one.name],
            "sex": one.sex,
            "birthdate": one.born.isoformat(),
            "contact_points": [{"kind": "mobile", "value": f"+2547{one.number % 10**8:08d}"}],
        }
    )


async def _bare(settings: HubSettings, source: str, destination: str) -> float:
    """Return people a second that asyncpg alone writes: the same rows, one transaction for each group of people."""
    reading = await open_pool(settings, url=source, size=1)
    writing = await open_pool(settings, url=destination, size=1)
    try:
        columns = {table: tuple(row[0] for row in await reading.fetch(_COLUMNS, table)) for table in TABLES}
        rows: dict[Any, dict[str, list[tuple[Any, ...]]]] = {}
        for table, owner in TABLES.items():
            place = columns[table].index(owner)
            for row in await reading.fetch(f"SELECT {', '.join(columns[table])} FROM {table}"):
                rows.setdefault(row[place], {}).setdefault(table, []).append(tuple(row))
        # What rows refer to besides each other.
        for row in await reading.fetch("SELECT * FROM data_key"):
            named = dict(row)
            places = ", ".join(f"${number}" for number in range(1, len(named) + 1))
            await writing.execute(
                f"INSERT INTO data_key ({', '.join(named)}) OVERRIDING SYSTEM VALUE VALUES ({places}) "
                "ON CONFLICT DO NOTHING",
                *named.values(),
            )
        whole = list(rows.values())
        started = time.perf_counter()
        async with writing.acquire() as connection:
            for first in range(0, len(whole), GROUP):
                await _group(connection, columns, whole[first : first + GROUP])
        return len(whole) / (time.perf_counter() - started)
    finally:
        await reading.close()
        await writing.close()


async def _group(
    connection: Any, columns: Mapping[str, tuple[str, ...]], group: list[dict[str, list[tuple[Any, ...]]]]
) -> None:
    async with connection.transaction():
        for table in TABLES:
            records = [row for one in group for row in one.get(table, ())]
            await connection.copy_records_to_table(table, records=records, columns=columns[table])


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the results, each beside its limit."""
    yield row("people.create", figures.rate, "people/s", figures.bare_rate, GOAL_RATE, least=True)
    yield row("raw.group_insert", figures.bare_rate, "people/s")
    yield row("people.cpu", figures.cpu_seconds / figures.people * 1000, "ms/person")
    yield row("people.p50", percentile(figures.latency, 0.5) * 1000, "ms")
    yield row("people.p99", percentile(figures.latency, 0.99) * 1000, "ms")
    yield row("people.failed", figures.failed, "requests", None, 0)
    yield row("people.lost", figures.people - figures.made, "people", None, 0)
