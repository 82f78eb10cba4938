"""Imports written to a real registry: once each, in households, gone on with after a kill, every row accounted for."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import asyncpg
import pytest

HUB = str(Path(sys.executable).parent / "hub")
HEADER = "National ID,Family Name,Given Name,DOB,Gender,Phone,Household,Role"


def _file(folder: Path, lines: list[str], name: str = "people.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return path


def _row(number: int, household: int | None = None, role: str = "", name: str = "Amina") -> str:
    place = "" if household is None else f"HH-{household}"
    return f"ID-{number:06d},Barasa,{name},1990-05-0{number % 9 + 1},F,+2547{number:08d},{place},{role}"


class Registry:
    """A hub's data folder and database, used through its command line."""

    def __init__(self, folder: Path, url: str) -> None:
        self.url = url
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        self.env |= {"HUB_DATABASE_URL": url, "HUB_DATA_DIR": str(folder / "data"), "HUB_ERRORS": "json"}
        (folder / "data").mkdir()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [HUB, "import", *words], env=self.env, capture_output=True, text=True, timeout=90, check=False
        )

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([HUB, "import", *words], env=self.env, stdout=subprocess.DEVNULL)

    async def value(self, query: str) -> object:
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()


@pytest.fixture
def registry(tmp_path: Path, database_url: str) -> Registry:
    return Registry(tmp_path, database_url)


async def test_people_are_written_in_their_households(tmp_path: Path, registry: Registry) -> None:
    lines = [_row(n, n // 4, "head" if n % 4 == 0 else "child") for n in range(40)]
    done = registry.run("run", str(_file(tmp_path, lines)), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["created"] == 40
    assert await registry.value("SELECT count(*) FROM registrant WHERE kind = 'group'") == 10
    assert await registry.value("SELECT count(*) FROM membership WHERE 'head' = ANY (roles)") == 10
    assert (
        await registry.value("SELECT min(n) FROM (SELECT count(*) n FROM membership GROUP BY group_id) t")
        == 4
    )


async def test_known_people_are_updated_and_the_same_file_is_not_imported_by_accident(
    tmp_path: Path, registry: Registry
) -> None:
    first = _file(tmp_path, [_row(n) for n in range(10)])
    assert registry.run("run", str(first)).returncode == 0
    twice = registry.run("run", str(first))
    assert json.loads(twice.stderr)["code"] == "import-done-before"
    again = json.loads(registry.run("run", str(first), "--again", "--json").stdout)
    assert (again["created"], again["updated"]) == (0, 10)
    later = _file(tmp_path, [_row(n, name="Aisha") for n in range(12)], "later.csv")
    changed = json.loads(registry.run("run", str(later), "--json").stdout)
    assert (changed["created"], changed["updated"]) == (2, 10)
    assert await registry.value("SELECT count(*) FROM registrant") == 12


async def test_rows_that_cannot_be_taken_are_told_and_the_others_are_written(
    tmp_path: Path, registry: Registry
) -> None:
    lines = [_row(1), _row(2).replace("1990-05-03", "1990-02-31"), _row(3, 1, "head"), _row(4, 1, "head")]
    mend = tmp_path / "mend.csv"
    done = registry.run("run", str(_file(tmp_path, lines)), "--problems", str(mend), "--json")
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert (said["rows"], said["created"], said["untaken"]) == (4, 1, 3)
    assert said["problems"] == {"cell-invalid": 1, "group-head-taken": 2}
    rows = list(csv.DictReader(mend.read_text(encoding="utf-8-sig").splitlines()))
    assert [row["_row"] for row in rows] == ["3", "4", "5"]
    assert mend.stat().st_mode & 0o077 == 0
    clear = await registry.value("SELECT string_agg(problems::text, ' ') FROM import_problem")
    assert "1990" not in str(clear)
    assert "Barasa" not in str(clear)


@pytest.mark.crash
async def test_an_import_killed_in_the_middle_is_gone_on_with_and_doubles_nobody(
    tmp_path: Path, registry: Registry
) -> None:
    file = _file(tmp_path, [_row(n, n // 4, "head" if n % 4 == 0 else "child") for n in range(12_000)])
    begun = registry.start("run", str(file))
    deadline = time.monotonic() + 60
    while not await registry.value("SELECT coalesce(max(done), 0) > 0 AND max(done) < 12000 FROM job"):
        assert time.monotonic() < deadline, "no chunk was written in time"
        assert begun.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    begun.send_signal(signal.SIGKILL)
    begun.wait(10)
    # Another process takes a job over once its worker has been silent for long enough.
    connection = await asyncpg.connect(registry.url)
    await connection.execute("UPDATE job SET beat_at = beat_at - interval '10 minutes'")
    await connection.close()
    done = registry.run("run", str(file), "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["rows"], said["created"], said["untaken"]) == (12_000, 12_000, 0)
    assert await registry.value("SELECT count(*) FROM registrant WHERE kind = 'individual'") == 12_000
    assert await registry.value("SELECT count(*) FROM registrant WHERE kind = 'group'") == 3_000
    assert await registry.value("SELECT count(*) FROM membership") == 12_000
    assert await registry.value("SELECT max(version) FROM registrant WHERE kind = 'individual'") == 1
