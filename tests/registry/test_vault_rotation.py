"""Replacing keys on a real PostgreSQL: online, resumable, with everything readable at every instant."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest
from services.transit import transit

from canonical_model.errors import ConfigError
from canonical_model.message import uuid7
from registry.audit.values import change_place
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import (
    KeyEncryptionKey,
    KeyRing,
    Vault,
    Wrapped,
    load_blind,
    open_keys,
    private_file,
    sealed_place,
)
from registry.vault.rotation import reseal, rewrap, standing


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
def old(tmp_path: Path) -> HubSettings:
    return HubSettings(kek_file=new_key(tmp_path / "old"))


@pytest.fixture
def both(tmp_path: Path, old: HubSettings) -> HubSettings:
    return HubSettings(kek_file=new_key(tmp_path / "new"), kek_old_file=old.kek_file)


@pytest.fixture
def new(both: HubSettings) -> HubSettings:
    return HubSettings(kek_file=both.kek_file)


def new_key(path: Path) -> Path:
    import base64

    private_file(path, base64.b64encode(os.urandom(32)))
    return path


async def fill(
    pool: asyncpg.Pool, vault: Vault, count: int, *, form: int = 2, month: str = "2020-01"
) -> list[UUID]:
    """Write documents sealed with the data key of an earlier month."""
    key = await vault.current_key("registrant_vault")
    await pool.execute("UPDATE data_key SET scope = $2 WHERE id = $1", key.id, f"registrant_vault:{month}:")
    ids = [uuid7() for _ in range(count)]
    await pool.execute(
        "INSERT INTO registrant (id, source) SELECT id, 'urn:test' FROM unnest($1::uuid[]) AS t (id)", ids
    )
    await pool.execute(
        "INSERT INTO registrant_vault SELECT id, $2, $3, sealed FROM unnest($1::uuid[], $4::bytea[]) AS t (id, sealed)",
        ids, key.id, form, [key.seal(each.bytes, sealed_place(form, each)) for each in ids],
    )  # fmt: skip
    return ids


async def all_open(pool: asyncpg.Pool, settings: HubSettings) -> int:
    """Open every document and every data key with these settings alone; return how many documents there are."""
    vault = await Vault.open(pool, settings)
    for row in await pool.fetch(
        "SELECT id FROM data_key WHERE wrapped IS NOT NULL AND scope <> 'blind_index'"
    ):
        await vault.key(row["id"])
    rows = await pool.fetch("SELECT * FROM registrant_vault")
    for row in rows:
        key = await vault.key(row["key_id"])
        assert (
            key.open(row["sealed"], sealed_place(row["format"], row["registrant_id"]))
            == row["registrant_id"].bytes
        )
    await vault.close()
    return len(rows)


async def test_after_a_rotation_the_new_key_alone_opens_everything_and_the_index_is_the_same(
    pool: asyncpg.Pool, old: HubSettings, both: HubSettings, new: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    for table in range(150):
        await vault.current_key(f"table{table}")
    await fill(pool, vault, 20)
    index = vault.blind.index("identifier", "1")
    keys = open_keys(both)
    before = await standing(pool, keys)
    assert before.left == 152
    seen: list[tuple[int, int]] = []
    assert await rewrap(pool, keys, lambda done, total: seen.append((done, total))) == 152
    assert seen == [(100, 152), (152, 152)]
    after = await standing(pool, keys)
    assert (after.left, after.wrapped) == (0, {await keys.current(): 152})
    assert await all_open(pool, new) == 20
    assert (await Vault.open(pool, new)).blind.index("identifier", "1") == index
    assert await rewrap(pool, keys) == 0
    with pytest.raises(ConfigError) as caught:
        await Vault.open(pool, old)
    assert caught.value.code == "key-file-wrong"


async def test_a_key_destroyed_by_retention_stays_destroyed(
    pool: asyncpg.Pool, old: HubSettings, both: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    key = await vault.current_key("message", 90)
    await pool.execute("UPDATE data_key SET wrapped = NULL, destroyed_at = now() WHERE id = $1", key.id)
    keys = open_keys(both)
    await rewrap(pool, keys)
    assert await pool.fetchval("SELECT wrapped FROM data_key WHERE id = $1", key.id) is None
    assert (await standing(pool, keys)).destroyed == 1


async def test_a_key_that_is_destroyed_or_rewrapped_meanwhile_is_not_written_over(
    pool: asyncpg.Pool, old: HubSettings, both: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    doomed, kept = await vault.current_key("message", 90), await vault.current_key("person")

    class Meddled(KeyRing):
        """Somebody else is at work while this one asks for a key."""

        async def rewrap(self, wrapped: Wrapped) -> Wrapped:
            if wrapped.kek == "other":
                return await super().rewrap(wrapped)
            await pool.execute("UPDATE data_key SET wrapped = NULL WHERE id = $1", doomed.id)
            await pool.execute("UPDATE data_key SET wrapped = 'other', kek = 'other' WHERE id = $1", kept.id)
            return await super().rewrap(wrapped)

    current, previous = KeyEncryptionKey.load(both), KeyEncryptionKey.load(old)
    with pytest.raises(ConfigError):  # of the key that is another's now
        await rewrap(pool, Meddled(current, [previous]))
    rows = await pool.fetch(
        "SELECT wrapped FROM data_key WHERE id = ANY($1) ORDER BY id", [doomed.id, kept.id]
    )
    assert [row["wrapped"] for row in rows] == [None, b"other"]


async def test_a_rotation_without_the_old_key_changes_nothing(
    pool: asyncpg.Pool, old: HubSettings, new: HubSettings
) -> None:
    await fill(pool, await Vault.open(pool, old), 3)
    before = await pool.fetch("SELECT * FROM data_key ORDER BY id")
    with pytest.raises(ConfigError) as caught:
        await rewrap(pool, open_keys(new))
    assert caught.value.code == "key-file-wrong"
    assert await pool.fetch("SELECT * FROM data_key ORDER BY id") == before


async def test_a_hub_that_runs_meanwhile_goes_on_reading_and_writing(
    pool: asyncpg.Pool, old: HubSettings, both: HubSettings, new: HubSettings
) -> None:
    running = await Vault.open(pool, old.model_copy(update={"kek_old_file": both.kek_file}))
    ids = await fill(pool, running, 5)
    await rewrap(pool, open_keys(both))
    fresh = await running.current_key("made_meanwhile")
    row = await pool.fetchrow("SELECT * FROM registrant_vault WHERE registrant_id = $1", ids[0])
    again = await Vault.open(pool, old.model_copy(update={"kek_old_file": both.kek_file}))
    assert (await again.key(row["key_id"])).open(row["sealed"], sealed_place(2, ids[0])) == ids[0].bytes
    # What it wrapped with its own key is taken along by the next run.
    assert await rewrap(pool, open_keys(both)) == 1
    assert await (await Vault.open(pool, new)).key(fresh.id)


async def test_a_new_version_at_the_key_service_is_taken_over_without_the_secret_leaving_it(
    pool: asyncpg.Pool, old: HubSettings, tmp_path: Path
) -> None:
    await fill(pool, await Vault.open(pool, old), 3)
    async with transit(tmp_path) as sandbox:
        service = HubSettings(kek_url=sandbox.url, kek_token_file=sandbox.token_file)
        moving = open_keys(service.model_copy(update={"kek_old_file": old.kek_file}))
        assert await rewrap(pool, moving) == 2
        await moving.close()
        sandbox.rotate()
        keys = open_keys(service)
        decrypted = sandbox.calls["decrypt"]
        assert await rewrap(pool, keys) == 2
        assert sandbox.calls["decrypt"] == decrypted
        await keys.close()
        sandbox.min_decryption_version = 2
        assert await all_open(pool, service) == 3


async def test_documents_are_sealed_anew_with_this_months_key_in_the_newest_format(
    pool: asyncpg.Pool, old: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    await fill(pool, vault, 25, form=1)
    vault = await Vault.open(pool, old)
    await fill(pool, vault, 5, month="2021-01")
    vault = await Vault.open(pool, old)
    seen: list[tuple[int, int]] = []
    result = await reseal(pool, vault, lambda done, total: seen.append((done, total)), chunk=7)
    assert (result.done, result.left, result.broken) == (30, 0, [])
    assert seen[-1] == (30, 30)
    key = await vault.current_key("registrant_vault")
    assert await pool.fetch("SELECT DISTINCT key_id, format FROM registrant_vault") == [(key.id, 2)]
    assert await all_open(pool, old) == 30
    assert (await reseal(pool, vault)).done == 0


async def test_a_broken_document_is_named_and_left_and_the_others_are_done(
    pool: asyncpg.Pool, old: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    ids = await fill(pool, vault, 5)
    await pool.execute("UPDATE registrant_vault SET sealed = '\\x01ff' WHERE registrant_id = $1", ids[2])
    result = await reseal(pool, await Vault.open(pool, old), chunk=2)
    assert (result.done, result.left, result.broken) == (4, 0, [f"registrant_vault.sealed {ids[2]}"])
    assert (
        await pool.fetchval("SELECT sealed FROM registrant_vault WHERE registrant_id = $1", ids[2])
        == b"\x01\xff"
    )


async def test_a_document_that_is_being_written_is_waited_for_and_its_new_content_kept(
    pool: asyncpg.Pool, old: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    ids = await fill(pool, vault, 5)
    row = await pool.fetchrow("SELECT * FROM registrant_vault WHERE registrant_id = $1", ids[1])
    written = (await vault.key(row["key_id"])).seal(b"newer", sealed_place(2, ids[1]))
    vault = await Vault.open(pool, old)
    async with pool.acquire() as writer:
        transaction = writer.transaction()
        await transaction.start()
        await writer.execute(
            "UPDATE registrant_vault SET sealed = $2 WHERE registrant_id = $1", ids[1], written
        )
        task = asyncio.create_task(reseal(pool, vault))
        while (
            await pool.fetchval("SELECT count(*) FROM registrant_vault WHERE key_id <> $1", row["key_id"]) < 4
        ):
            await asyncio.sleep(0.02)
        await transaction.commit()
    assert (await task).done == 5
    row = await pool.fetchrow("SELECT * FROM registrant_vault WHERE registrant_id = $1", ids[1])
    assert (await vault.key(row["key_id"])).open(row["sealed"], sealed_place(2, ids[1])) == b"newer"


async def hub(url: str, *words: str, **env: Any) -> asyncio.subprocess.Process:
    """Start the command line as a process of its own."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "adapters.cli", *words,
        env=clean | {"HUB_DATABASE_URL": url} | {name: str(value) for name, value in env.items()},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def test_the_commands_tell_what_they_do_and_what_is_left(
    pool: asyncpg.Pool, database_url: str, old: HubSettings, tmp_path: Path
) -> None:
    await fill(pool, await Vault.open(pool, old), 30, form=1)
    made = await hub(database_url, "keys", "new", str(tmp_path / "made"), "--json")
    out, _ = await made.communicate()
    kek = orjson.loads(out)["kek"]
    assert (tmp_path / "made").stat().st_mode & 0o777 == 0o600
    twice = await hub(database_url, "keys", "new", str(tmp_path / "made"))
    assert b"key-file-exists" in (await twice.communicate())[1]
    env = {"HUB_KEK_FILE": tmp_path / "made", "HUB_KEK_OLD_FILE": old.kek_file}
    status = await hub(database_url, "keys", "status", "--json", **env)
    found = orjson.loads((await status.communicate())[0])
    assert (status.returncode, found["kek"], found["left"]) == (1, kek, 2)
    assert [(each["column"], each["values"], each["stale"]) for each in found["sealed"]] == [
        ("registrant_vault.sealed", 30, True)
    ]
    assert found["stale"] == 30
    dry = await hub(database_url, "keys", "rotate", "--dry-run", "--json", **env)
    assert orjson.loads((await dry.communicate())[0])["rewrap"] == 2
    rotate = await hub(database_url, "keys", "rotate", "--data", "--json", **env)
    result = orjson.loads((await rotate.communicate())[0])
    assert (rotate.returncode, result["rewrapped"], result["resealed"], result["left"]) == (0, 2, 30, 0)
    assert await all_open(pool, HubSettings(kek_file=tmp_path / "made")) == 30
    event = await pool.fetchrow("SELECT action, details FROM audit_event")
    assert (event["action"], event["details"]["kek"], event["details"]["resealed"]) == (
        "keys.rotate",
        kek,
        30,
    )
    status = await hub(database_url, "keys", "status", HUB_KEK_FILE=tmp_path / "made")
    out, _ = await status.communicate()
    assert status.returncode == 0
    assert kek in out.decode()


_DONE = """
SELECT (SELECT count(*) FROM registrant_vault WHERE format = 2)
    + (SELECT count(*) FROM registrant_change WHERE key_id <> $1)
"""


@pytest.mark.crash
@pytest.mark.slow
async def test_a_rotation_that_is_killed_at_any_instant_loses_nothing_and_is_run_to_its_end(
    pool: asyncpg.Pool, database_url: str, old: HubSettings, both: HubSettings, new: HubSettings
) -> None:
    vault = await Vault.open(pool, old)
    for table in range(400):
        await vault.current_key(f"table{table}")
    await fill(pool, vault, 12_000, form=1)
    # The history is sealed anew after the documents: a kill may fall between two tables as well as within one.
    change = await vault.current_key("registrant_change")
    await pool.execute("UPDATE data_key SET scope = 'registrant_change:2020-01:' WHERE id = $1", change.id)
    ids = [row["registrant_id"] for row in await pool.fetch("SELECT registrant_id FROM registrant_vault")]
    await pool.execute(
        "INSERT INTO registrant_change (registrant_id, version, actor, source, fields, key_id, sealed) "
        "SELECT id, 1, 'a', 's', '{}', $2, sealed FROM unnest($1::uuid[], $3::bytea[]) AS t (id, sealed)",
        ids, change.id, [change.seal(each.bytes, change_place(each, 1)) for each in ids],
    )  # fmt: skip
    index = vault.blind.index("identifier", "1")
    env = {"HUB_KEK_FILE": both.kek_file, "HUB_KEK_OLD_FILE": both.kek_old_file}
    halves = killed = 0
    for _ in range(60):
        process = await hub(database_url, "keys", "rotate", "--data", **env)
        # The program starts for most of a second; rows it has sealed anew show that it is at work.
        half = random.random() < 0.8
        while process.returncode is None and half:
            done = await pool.fetchval(_DONE, change.id)
            if done > halves:
                break
            await asyncio.sleep(0.002)
        if not half:
            await asyncio.sleep(random.uniform(0.4, 1.0))
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
            killed += 1
        await process.communicate()
        halves = await pool.fetchval(_DONE, change.id)
        assert await all_open(pool, both) == 12_000
        if halves == 24_000:
            break
    last = await hub(database_url, "keys", "rotate", "--data", "--json", **env)
    out, _ = await last.communicate()
    assert last.returncode == 0, out
    assert killed >= 2
    assert await all_open(pool, new) == 12_000
    fresh = await Vault.open(pool, new)
    for row in await pool.fetch("SELECT * FROM registrant_change"):
        assert row["key_id"] != change.id
        key = await fresh.key(row["key_id"])
        assert key.open(row["sealed"], change_place(row["registrant_id"], 1)) == row["registrant_id"].bytes
    assert (await load_blind(pool, open_keys(new))).index("identifier", "1") == index
