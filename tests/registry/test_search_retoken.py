"""Search tokens of registrants who were there before: made online, once, and never behind a writer's back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from canonical_model.message import uuid7
from registry.people import PeopleStore
from registry.people.retoken import WAY, count, retoken
from registry.people.search import Search
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import Vault


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
async def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return await Vault.open(pool, HubSettings(data_dir=tmp_path))


async def put(people: PeopleStore, number: int, name: str) -> UUID:
    person = {"identifiers": [{"id_type": "UIN", "value": str(number)}], "names": [{"full_name": name}]}
    written = await people.upsert(person, source="urn:test", message_id=uuid7())
    assert written.id is not None
    return written.id


async def test_registrants_of_before_are_found_once_their_tokens_are_made(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    before = PeopleStore(pool, vault, vault.blind)  # wrote no tokens
    ids = [await put(before, number, f"Achieng Otieno{number}") for number in range(7)]
    search = Search(pool, vault, vault.blind)
    assert not (await search.by_name("Achieng", purpose="x", actor="user:a")).candidates
    assert await count(pool) == 7
    assert await retoken(pool, vault, chunk=3) == 7
    found = await search.by_name("Achieng", purpose="x", actor="user:a")
    assert {each.id for each in found.candidates} == set(ids)
    assert await count(pool) == 0
    assert await retoken(pool, vault) == 0


async def test_tokens_of_an_earlier_way_are_replaced_and_others_left(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    people = PeopleStore(pool, vault, vault.blind, tokens=partial(registrant_tokens, vault.blind))
    old, fresh = await put(people, 1, "Ada Eze"), await put(people, 2, "Ngozi Eze")
    tokens = await pool.fetchval("SELECT names FROM registrant_search WHERE registrant_id = $1", old)
    await pool.execute(
        "UPDATE registrant_search SET names = '{1}', made = $2 WHERE registrant_id = $1", old, WAY - 1
    )
    await pool.execute("UPDATE registrant_search SET names = '{2}' WHERE registrant_id = $1", fresh)
    assert await retoken(pool, vault) == 1
    rows = await pool.fetch("SELECT registrant_id, names, made FROM registrant_search")
    assert {row["registrant_id"]: (row["names"], row["made"]) for row in rows} == {
        old: (tokens, WAY),
        fresh: ([2], WAY),
    }


async def test_a_broken_document_does_not_keep_the_others_from_being_found(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    before = PeopleStore(pool, vault, vault.blind)
    broken = await put(before, 1, "Ada Eze")
    await put(before, 2, "Ngozi Eze")
    await pool.execute("UPDATE registrant_vault SET sealed = '\\x01ff' WHERE registrant_id = $1", broken)
    assert await retoken(pool, vault, chunk=1) == 1
    assert await count(pool) == 1


async def test_the_default_of_the_table_is_the_way_of_the_code(pool: asyncpg.Pool) -> None:
    default = await pool.fetchval(
        "SELECT column_default FROM information_schema.columns WHERE table_name = 'registrant_search' AND column_name = 'made'"
    )
    assert int(str(default)) == WAY
