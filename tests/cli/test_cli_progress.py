"""Long work shows bars to a person at a terminal, and to nobody else."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from services import postgres
from services.messages import Planter

from registry.settings import load_settings
from registry.storage import periods
from registry.storage.database import open_pool

ROUTE = 'route: crvs-to-registry\nwhen: {type: "org.openspp.*"}\nto: registry\n'


@pytest.fixture
def empty_database(postgres_server: str) -> Iterator[str]:
    name = postgres.fresh_name()
    try:
        yield postgres.create(postgres_server, name)
    finally:
        postgres.drop(postgres_server, name)


def at_terminal(folder: Path, database: str, *words: str) -> tuple[str, str]:
    """Run `hub WORDS` with standard error on a terminal; return what came on it and on standard output."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    env |= {
        "HUB_DATABASE_URL": database, "HUB_DATA_DIR": str(folder), "COLUMNS": "100", "TERM": "xterm",
    }  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, "-m", "adapters.cli", *words],
            cwd=folder, env=env, stdout=subprocess.PIPE, stderr=theirs, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # the other side is closed and everything was read
        pass
    finally:
        os.close(ours)
    assert done.returncode == 0, shown.decode(errors="replace")
    return shown.decode(), done.stdout.decode()


def test_an_upgrade_shows_its_migrations_and_partitions(tmp_path: Path, empty_database: str) -> None:
    shown, _ = at_terminal(tmp_path, empty_database, "db", "upgrade")
    assert "migrations" in shown
    number = len(list((Path(__file__).parents[2] / "deploy" / "migrations" / "versions").glob("0*.py")))
    assert f"{number}/{number}" in shown
    made = 4 * (4 + 1)
    shown, out = at_terminal(tmp_path, empty_database, "db", "partitions", "--make")
    assert "partitions" in shown
    assert any(f"{number}/{number}" in shown for number in (made - 4, made)), shown
    assert "partitions" in out


def test_a_long_replay_shows_how_far_it_is(tmp_path: Path, database_url: str) -> None:
    (tmp_path / "config" / "routes").mkdir(parents=True)
    (tmp_path / "config" / "routes" / "one.yaml").write_text(ROUTE)

    async def plant() -> None:
        pool = await open_pool(load_settings(), size=2, url=database_url)
        try:
            await periods.ensure(pool, "month")
            planter = Planter(pool)
            for _ in range(550):
                await planter.delivery(await planter.message(), state="dead")
        finally:
            await pool.close()

    asyncio.run(plant())
    words = ("messages", "replay", "--route", "crvs-to-registry")
    for quiet in (("--json", "--dry-run"), ("--json", "--most", "10")):
        assert at_terminal(tmp_path, database_url, *words, *quiet)[0] == ""
    shown, out = at_terminal(tmp_path, database_url, *words)
    assert "540/540" in shown
    assert out.startswith("540 of 540 deliveries sent again.")
    assert "replaying" not in out


def test_a_log_file_gets_no_bars(tmp_path: Path, empty_database: str) -> None:
    env = {**os.environ, "HUB_DATABASE_URL": empty_database, "HUB_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "adapters.cli", "db", "upgrade"],
        cwd=tmp_path, env=env, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == b""
