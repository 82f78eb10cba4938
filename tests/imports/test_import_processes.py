"""An import that other processes make ready writes what one without them writes, and goes on when they break."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
from services import postgres

from canonical_model.message import uuid7
from registry.attributes import Attribute, ValueType
from registry.imports import ahead, run, source
from registry.imports.columns import Kind
from registry.imports.files import Row, Table, open_table
from registry.imports.job import known_areas
from registry.imports.run import Import, propose
from registry.imports.source import Reading, Source
from registry.imports.store import ImportStore
from registry.imports.writing import PeopleWriter
from registry.jobs import JobRunner, JobStore
from registry.people import Writer
from registry.people.idtypes import IdentifierTypes
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import BlindIndex, DataKey, KeyEncryptionKey, Vault, sealed_place

HEADER = "National ID,Full name,DOB,Gender,Phone,Household,Role,Area code,band"
DECLARED = {"band": Attribute(name="band", type=ValueType.INTEGER)}
AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
CHUNK = 50
_CONTENT = """
SELECT r.kind, r.status, r.group_kind, r.sex, r.birthdate, r.area_id, r.attributes, r.version, r.source,
    (SELECT array_agg((i.type, i.hash, i.live) ORDER BY i.hash) FROM registrant_identifier i WHERE i.registrant_id = r.id) AS ids,
    (SELECT (s.names, s.contacts, s.facets) FROM registrant_search s WHERE s.registrant_id = r.id) AS search,
    (SELECT array_agg(h.version ORDER BY h.version) FROM registrant_change h WHERE h.registrant_id = r.id) AS history,
    (SELECT array_agg(m.roles::text ORDER BY m.roles::text) FROM membership m WHERE m.group_id = r.id) AS members
FROM registrant r ORDER BY ids, search
"""


def _row(number: int, **said: str) -> str:
    row = {
        "id": f"N{number:05d}", "name": f"Ama{chr(97 + number % 26)} Nyambura", "born": f"19{50 + number % 50}-02-1{number % 9}",
        "sex": "F" if number % 2 else "M", "phone": f"+2547{number:08d}", "household": f"H{number // 4}",
        "role": "head" if number % 4 == 0 else "child", "area": "XX01", "band": str(number % 7), **said,
    }  # fmt: skip
    return ",".join(row.values())


def _lines() -> list[str]:
    lines = [_row(number) for number in range(400)]
    lines[10] = _row(10, born="1990-02-31")
    lines[61] = _row(61, role="head")  # a second head beside 60
    lines[120] = _row(3, name="Ama Known", household="", role="")  # somebody of an earlier chunk
    lines[121] = _row(122, household="", role="")  # twice in one chunk
    lines[200] = _row(200, id="", household="", role="", area="", name="عمر bin Ali")
    lines[301] = _row(301, household="H2", role="")  # joins a household of an earlier chunk
    return lines


class Office:
    """A registry of its own and a file for it."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, folder: Path) -> None:
        self.pool, self.vault, self.folder = pool, vault, folder
        self.types = IdentifierTypes(pool)

    async def run(self, lines: list[str], told: Callable[[int, int | None], None] = lambda *_: None) -> Any:
        path = self.folder / "people.csv"
        path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
        source = Source(path)
        mapping = propose(source, Kind.INDIVIDUAL, [*DECLARED])
        reading = Reading(mapping, DECLARED, await known_areas(self.pool))
        tokens = partial(registrant_tokens, self.vault.blind)
        writer = Writer(self.vault, tokens=tokens, declared={"band"}, types=self.types)
        write = PeopleWriter(writer, source="office", actor="clerk", at=AT)
        work = Import(self.pool, ImportStore(self.pool, self.vault), write, source, reading, chunk=CHUNK)
        job = (await JobStore(self.pool).submit("import", actor="clerk", params={})).job
        return (await JobRunner(self.pool, uuid7(), {"import": work.run}).run(job.id, told)).result

    async def content(self) -> tuple[list[Any], int]:
        """Return all there is but ids and times, and how many documents can be opened."""
        rows = [tuple(row) for row in await self.pool.fetch(_CONTENT)]
        opened = 0
        for row in await self.pool.fetch("SELECT * FROM registrant_vault"):
            key = await self.vault.key(row["key_id"])
            key.open(row["sealed"], sealed_place(row["format"], row["registrant_id"]))
            opened += 1
        return rows, opened


@asynccontextmanager
async def _office(url: str, folder: Path) -> AsyncIterator[Office]:
    pool = await open_pool(HubSettings(), url=url, size=3)
    try:
        await ensure(pool, "month")
        await pool.execute(
            "INSERT INTO area (id, code, path, level, names) VALUES (1, 'XX01', '{1}', 0, '{}')"
        )
        yield Office(pool, Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=folder))), folder)
    finally:
        await pool.close()


@pytest.fixture
async def office(database_url: str, tmp_path: Path) -> AsyncIterator[Office]:
    async with _office(database_url, tmp_path) as made:
        yield made


@pytest.fixture
async def another(databases: postgres.Stock, tmp_path: Path) -> AsyncIterator[Office]:
    """A second registry, with the same keys."""
    url = databases.take()
    async with _office(url, tmp_path) as made:
        yield made
    databases.give_back(url)


@pytest.fixture
def helped(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every file is worth processes; the chunks they made are counted."""
    made: list[int] = []
    original = ahead.Ahead.next

    async def next_(self: ahead.Ahead) -> ahead.MadeChunk | bool:
        found = await original(self)
        if isinstance(found, ahead.MadeChunk):
            made.append(len(found.units))
        return found

    monkeypatch.setattr(ahead, "WORTH", 0)
    monkeypatch.setattr(ahead, "PROCESSES", 2)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(ahead.Ahead, "next", next_)
    return made


async def test_processes_write_what_one_alone_writes(
    office: Office, another: Office, helped: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as alone:
        alone.setattr(ahead, "WORTH", 1 << 40)
        expected = await another.run(_lines())
    rows = await another.content()
    assert not helped
    assert await office.run(_lines()) == expected
    assert await office.content() == rows
    assert len(helped) == 8
    assert expected["created"] > 380
    assert expected["codes"].keys() == {"cell-invalid", "group-head-taken"}


async def test_a_file_the_processes_read_to_its_end_is_not_read_again(
    office: Office, helped: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []

    def counted(table: Table) -> Iterator[Row]:
        for row in table.rows:
            read.append(row.number)
            yield row

    @contextmanager
    def opened(path: Path, **how: Any) -> Iterator[Table]:
        with open_table(path, **how) as table:
            yield replace(table, rows=counted(table))

    lines = [_row(number) for number in range(4 * CHUNK)]
    monkeypatch.setattr(source, "open_table", opened)
    done = await office.run(lines)
    assert (len(helped), done["created"]) == (4, 200)
    # The suggestion of a mapping looks at the first rows; the rows themselves are the other processes'.
    assert len(read) <= run.SAMPLE


async def test_known_people_are_updated_and_then_no_processes_are_kept(
    office: Office, helped: list[int]
) -> None:
    await office.run(_lines())
    helped.clear()
    later = await office.run([line.replace("Ama", "Efua") for line in _lines()])
    # Whoever has no identifier is always new.
    assert (later["created"], later["updated"] > 380) == (1, True)
    assert len(helped) <= 2, "processes went on making ready what has to be merged"
    assert await office.pool.fetchval("SELECT count(*) FROM registrant WHERE kind = 'group'") == 99


async def test_a_process_that_dies_is_done_without(office: Office, helped: list[int]) -> None:
    killed = []

    def told(done: int, _: int | None) -> None:
        if done and not killed:
            for child in psutil.Process().children(recursive=True):
                if "registry.imports.ahead" in " ".join(child.cmdline()):
                    child.send_signal(signal.SIGKILL)
                    killed.append(child.pid)

    lines = [_row(number) for number in range(40 * CHUNK)]
    done = await office.run(lines, told)
    assert killed
    assert len(helped) < 40
    assert (done["rows"], done["created"], done["untaken"]) == (2000, 2000, 0)
    assert await office.pool.fetchval("SELECT count(*) FROM registrant WHERE kind = 'individual'") == 2000
    assert await office.pool.fetchval("SELECT max(version) FROM registrant WHERE kind = 'individual'") == 1


async def test_a_rule_made_in_the_meantime_holds_for_what_was_made_ready(
    office: Office, helped: list[int]
) -> None:
    made = False

    def told(done: int, _: int | None) -> None:
        nonlocal made
        made = made or done > 0

    lines = [_row(number) for number in range(8 * CHUNK)]
    original = office.types.look

    async def look(connection: Any) -> None:
        if made and not office.types.held["NATIONAL_ID"].pattern:
            await connection.execute(
                "UPDATE identifier_type SET pattern = '[A-Z]' WHERE type = 'NATIONAL_ID'"
            )
            office.types._read_at = float("-inf")
        await original(connection)

    await office.types.put({"type": "NATIONAL_ID", "names": {"en": "National ID"}})
    office.types.look = look  # type: ignore[method-assign]
    done = await office.run(lines, told)
    assert 0 < done["created"] < len(lines)
    assert done["created"] + done["untaken"] == len(lines)


async def test_no_process_outlives_its_import(office: Office, helped: list[int]) -> None:
    await office.run([_row(number) for number in range(100)])
    assert helped
    async with asyncio.timeout(45):
        while any("registry.imports.ahead" in " ".join(one.cmdline()) for one in psutil.Process().children()):
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("secret", [DataKey(1, b"k" * 32), BlindIndex(b"b" * 32)])
def test_a_key_is_never_pickled_unasked(secret: object) -> None:
    with pytest.raises(TypeError):
        pickle.dumps(secret)
