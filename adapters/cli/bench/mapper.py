"""`hub bench mapper`: ids resolved a thousand at a time, beside the bare SELECT of the same rows."""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from adapters.cli.bench.load import percentile
from adapters.cli.bench.scratch import drop_database, fresh_database
from canonical_model.errors import Defect
from registry.accounts import MANY, Accounts, Link, Question
from registry.settings import HubSettings
from registry.storage import migrate, periods
from registry.storage.database import open_pool
from registry.vault import Vault

GOAL_RATE: Final = 20_000.0
BATCHES: Final = 50
_WARM: Final = 5
_BY: Final = "user:bench"
_BARE: Final = (
    "SELECT id_hash, key_id, sealed FROM account_link WHERE id_hash = ANY ($1::bytea[]) AND ended_at IS NULL"
)


@dataclass(slots=True)
class Figures:
    """What one run measured: seconds of each list of a thousand."""

    links: int
    link_seconds: float = 0.0
    seconds: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    wrong: int = 0


async def measure(database: str, links: int, say: Callable[[str], None]) -> Figures:
    """Link ids in a database of its own, then resolve lists of a thousand of them, each list once by the bare statement too."""
    figures = Figures(links)
    name = f"hub_bench_mapper_{os.getpid()}"
    try:
        url = await fresh_database(database, name)
        await migrate.upgrade_async(url)
        with tempfile.TemporaryDirectory(prefix="hub-bench-") as folder:
            settings = HubSettings(data_dir=Path(folder))
            pool = await open_pool(settings, url=url, size=2)
            try:
                await periods.ensure(pool, settings.partition)
                vault = await Vault.open(pool, settings)
                try:
                    await _run(pool, vault, figures, say)
                finally:
                    await vault.close()
            finally:
                await pool.close()
    finally:
        await drop_database(database, name)
    return figures


async def _run(pool: Any, vault: Vault, figures: Figures, say: Callable[[str], None]) -> None:
    accounts = Accounts(pool, vault)
    say(f"linking {figures.links:,} ids")
    begun = time.perf_counter()
    for first in range(0, figures.links, MANY):
        some = range(first, min(first + MANY, figures.links))
        await accounts.link([Link(_id(number), _fa(number)) for number in some], actor=_BY)
    figures.link_seconds = time.perf_counter() - begun
    await pool.execute("ANALYZE account_link")
    say(f"resolving {BATCHES} lists of {MANY:,}")
    chance = random.Random(5)  # noqa: S311
    for number in range(_WARM + BATCHES):
        some_ids = chance.sample(range(figures.links), min(MANY, figures.links))
        hashes = [vault.blind.index("account-id", _id(each)) for each in some_ids]
        begun = time.perf_counter()
        rows = await pool.fetch(_BARE, hashes)
        bare = time.perf_counter() - begun
        if len(rows) != len(some_ids):
            raise Defect("The bare statement did not find what was linked.", code="bench-failed")
        begun = time.perf_counter()
        found = await accounts.resolve([Question(_id(each)) for each in some_ids], actor=_BY, purpose="bench")
        taken = time.perf_counter() - begun
        figures.wrong += sum(one.address != _fa(each) for one, each in zip(found, some_ids, strict=True))
        if number >= _WARM:
            figures.bare.append(bare)
            figures.seconds.append(taken)


def _id(number: int) -> str:
    return f"vid:{number:010d}@nid"


def _fa(number: int) -> str:
    return f"account:{number:012d}@national-bank"


def rows(figures: Figures, row: Callable[..., dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the results, each beside its limit."""
    size = min(MANY, figures.links)
    rate = size * len(figures.seconds) / sum(figures.seconds)
    bare = size * len(figures.bare) / sum(figures.bare)
    yield row("mapper.resolve", rate, "ids/s", bare, GOAL_RATE, least=True)
    yield row("raw.select", bare, "ids/s")
    for share, label in ((0.5, "p50"), (0.99, "p99")):
        yield row(
            f"mapper.{label}",
            percentile(figures.seconds, share) * 1000,
            "ms/list",
            percentile(figures.bare, share) * 1000,
        )
    yield row("mapper.link", figures.links / figures.link_seconds, "ids/s")
    yield row("mapper.wrong", figures.wrong, "ids", None, 0)
