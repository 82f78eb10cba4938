"""Every sealed value is declared, counted, and sealed anew, wherever it lies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from canonical_model.message import uuid7
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault, open_keys
from registry.vault.rotation import reseal, standing
from registry.vault.sealed import OPEN, SEALED, SealedColumn

_BY_TYPE = {
    "uuid": uuid4, "text": lambda: uuid4().hex, "bytea": lambda: os.urandom(16), "integer": lambda: 1, "bigint": lambda: 1,
    "smallint": lambda: 1, "jsonb": dict, "ARRAY": list, "boolean": lambda: False,
    "timestamp with time zone": lambda: datetime.now(UTC), "date": lambda: datetime.now(UTC).date(),
}  # fmt: skip
_ALSO: dict[str, dict[str, Any]] = {
    "message": {"id": uuid7, "body": None},
    "registrant_vault": {"format": lambda: 2},
    "cycle": {"state": lambda: "draft", "end_date": lambda: datetime(2090, 1, 1, tzinfo=UTC).date(), "steps": list,
        "makers": lambda: ["x"]},
    "disbursement_request": {"kind": lambda: "disburse"},
    "change_request": {"state": lambda: "pending"},
    "registrant_merge": {"status": lambda: "active"},
}  # fmt: skip


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
async def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return await Vault.open(pool, HubSettings(data_dir=tmp_path))


async def test_every_column_of_bytes_is_declared_sealed_or_says_why_it_is_not(pool: asyncpg.Pool) -> None:
    rows = await pool.fetch(
        "SELECT c.table_name || '.' || c.column_name AS name FROM information_schema.columns c "
        "JOIN pg_class k ON k.relname = c.table_name AND k.relnamespace = 'public'::regnamespace "
        "WHERE c.table_schema = 'public' AND c.data_type = 'bytea' AND NOT k.relispartition"
    )
    there = {row["name"] for row in rows}
    sealed = {column.name for column in SEALED}
    assert there == sealed | OPEN.keys()
    assert not sealed & OPEN.keys()


async def old_key(pool: asyncpg.Pool, vault: Vault, column: SealedColumn) -> int:
    """Return a key of 2020 for a column; for messages one that is destroyed some day."""
    retention = 36_500 if column.table == "message" else None
    key = await vault.current_key(column.table, retention)
    await pool.execute(
        "UPDATE data_key SET scope = $2 WHERE id = $1",
        key.id,
        f"{column.table}:2020-01:{retention or ''}",
    )
    return key.id


async def plant(pool: asyncpg.Pool, vault: Vault, column: SealedColumn, key_id: int) -> tuple[Any, ...]:
    """Write one row with a sealed value; everything else in it is filler, and nothing it refers to is there."""
    columns = await pool.fetch(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = 'public' "
        "AND table_name = $1 AND is_nullable = 'NO' AND column_default IS NULL AND is_identity = 'NO'",
        column.table,
    )
    also = _ALSO.get(column.table, {})
    row = {each["column_name"]: _BY_TYPE[each["data_type"]]() for each in columns}
    row |= {name: make() for name, make in also.items() if make is not None}
    if column.table == "change_request":
        row |= {"key_id": 1, "sealed": b"x"}
    row[column.key] = key_id
    key = await vault.key(key_id)
    row[column.column] = key.seal(column.name.encode(), column.place(row))
    names = list(row)
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(
            f"INSERT INTO {column.table} ({', '.join(names)}) "
            f"VALUES ({', '.join(f'${n + 1}' for n in range(len(names)))})",
            *row.values(),
        )
    return tuple(row[name] for name in column.primary)


async def opened(pool: asyncpg.Pool, vault: Vault, column: SealedColumn, primary: tuple[Any, ...]) -> bytes:
    where = " AND ".join(f"{name} = ${n + 1}" for n, name in enumerate(column.primary))
    row = await pool.fetchrow(f"SELECT * FROM {column.table} WHERE {where}", *primary)
    key = await vault.key(row[column.key])
    return key.open(row[column.column], column.place(row))


@pytest.mark.parametrize("column", SEALED, ids=lambda column: column.name)
async def test_a_value_is_counted_as_stale_and_sealed_anew_where_it_lies(
    pool: asyncpg.Pool, vault: Vault, tmp_path: Path, column: SealedColumn
) -> None:
    old = await old_key(pool, vault, column)
    vault = await Vault.open(pool, HubSettings(data_dir=tmp_path))
    rows = [await plant(pool, vault, column, old) for _ in range(3)]
    keys = open_keys(HubSettings(data_dir=tmp_path))
    counted = [each for each in (await standing(pool, keys)).sealed if each["column"] == column.name]
    assert [(each["key"], each["values"], each["stale"]) for each in counted] == [(old, 3, True)]
    seen: list[tuple[int, int]] = []
    result = await reseal(
        pool, vault, lambda done, total: seen.append((done, total)), chunk=2, columns=[column]
    )
    assert (result.done, result.left, result.broken, seen[-1]) == (3, 0, [], (3, 3))
    for primary in rows:
        assert await opened(pool, vault, column, primary) == column.name.encode()
    counted = [each for each in (await standing(pool, keys)).sealed if each["column"] == column.name]
    assert [(each["values"], each["stale"]) for each in counted] == [(3, False)]
    assert counted[0]["key"] != old
    # Nothing is left, so a second run does nothing.
    assert (await reseal(pool, vault, columns=[column])).done == 0


async def test_a_value_with_a_retention_is_destroyed_on_the_same_day_as_before(
    pool: asyncpg.Pool, vault: Vault, tmp_path: Path
) -> None:
    column = next(each for each in SEALED if each.table == "message")
    old = await old_key(pool, vault, column)
    vault = await Vault.open(pool, HubSettings(data_dir=tmp_path))
    (id_,) = await plant(pool, vault, column, old)
    await reseal(pool, vault, columns=[column])
    new = await pool.fetchval("SELECT key_id FROM message WHERE id = $1", id_)
    ends = await pool.fetch("SELECT expires_at FROM data_key WHERE id = ANY($1)", [old, new])
    assert new != old
    assert ends[0] == ends[1]


async def test_of_a_change_in_the_history_only_its_seal_can_be_replaced(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    column = next(each for each in SEALED if each.table == "registrant_change")
    key = await vault.current_key(column.table)
    id_: UUID = (await plant(pool, vault, column, key.id))[0]
    for wrong in (
        "UPDATE registrant_change SET actor = 'somebody'",
        "UPDATE registrant_change SET sealed = '\\x01'",
        "UPDATE registrant_change SET key_id = 7, sealed = '\\x01', version = 9",
        "UPDATE registrant_change SET key_id = NULL, sealed = NULL",
        "DELETE FROM registrant_change",
        "TRUNCATE registrant_change",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(wrong)
    await pool.execute(
        "UPDATE registrant_change SET key_id = 7, sealed = $2 WHERE registrant_id = $1", id_, os.urandom(9)
    )
