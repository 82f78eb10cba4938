"""One contract, two places: identity documents here, sealed, and at an ID system, by reference."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import Defect, Refused, Unavailable
from canonical_model.message import uuid7
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.vault import Entry, HereVault, PersonVault, ReferenceVault, Vault

TOKEN = "PSUT-7712-of-Ada"
DOCUMENT = b'{"names":"Ada Okafor"}'


class IdSystem:
    """An ID system that knows some tokens, slowly if told so."""

    def __init__(self) -> None:
        self.known = {TOKEN: DOCUMENT}
        self.down = False
        self.seconds = 0.0
        self.asked: list[str] = []
        self.most = self.under_way = 0

    async def identity(self, token: str, deadline: float) -> bytes | None:
        self.asked.append(token)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
            if self.down:
                raise Unavailable("The ID system is away.")
            return self.known.get(token)
        finally:
            self.under_way -= 1


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    yield opened
    await opened.close()


@pytest.fixture
async def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return await Vault.open(pool, HubSettings(data_dir=tmp_path))


@pytest.fixture
def system() -> IdSystem:
    return IdSystem()


@pytest.fixture
def here(pool: asyncpg.Pool, vault: Vault) -> HereVault:
    return HereVault(pool, vault)


@pytest.fixture
def reference(pool: asyncpg.Pool, vault: Vault, system: IdSystem) -> ReferenceVault:
    return ReferenceVault(pool, vault, system, system="mosip", deadline=0.2, questions=2)


async def someone(pool: asyncpg.Pool) -> UUID:
    id_ = uuid7()
    await pool.execute("INSERT INTO registrant (id, source) VALUES ($1, 'urn:test')", id_)
    return id_


async def put(pool: asyncpg.Pool, kept: PersonVault, *entries: Entry) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await kept.put(connection, entries)


@pytest.mark.parametrize("place", ["here", "reference"])
async def test_whoever_reads_need_not_know_where_a_document_lies(
    pool: asyncpg.Pool, here: HereVault, reference: ReferenceVault, place: str
) -> None:
    kept: PersonVault = here if place == "here" else reference
    ada, nobody = await someone(pool), await someone(pool)
    for _ in range(2):  # kept again is kept once
        await put(pool, kept, Entry(ada, DOCUMENT, TOKEN))
    assert await kept.get([ada, nobody]) == {ada: DOCUMENT}


async def test_by_reference_neither_document_nor_token_lies_in_the_database_in_clear(
    pool: asyncpg.Pool, reference: ReferenceVault
) -> None:
    ada = await someone(pool)
    await put(pool, reference, Entry(ada, DOCUMENT, TOKEN))
    assert await pool.fetchval("SELECT count(*) FROM registrant_vault") == 0
    row = await pool.fetchrow("SELECT * FROM registrant_reference")
    assert TOKEN.encode() not in row["sealed"]
    assert b"Okafor" not in row["sealed"]
    assert "Ada" not in repr(Entry(ada, DOCUMENT, TOKEN))


async def test_a_reference_that_was_moved_to_another_row_does_not_open(
    pool: asyncpg.Pool, reference: ReferenceVault, system: IdSystem
) -> None:
    ada, eve = await someone(pool), await someone(pool)
    await put(pool, reference, Entry(ada, token=TOKEN), Entry(eve, token="other"))
    await pool.execute(
        "UPDATE registrant_reference SET sealed = (SELECT sealed FROM registrant_reference WHERE registrant_id = $1) "
        "WHERE registrant_id = $2",
        ada, eve,
    )  # fmt: skip
    with pytest.raises(Defect) as caught:
        await reference.get([eve])
    assert caught.value.code == "sealed-value-broken"
    assert not system.asked


async def test_each_answer_confirms_and_the_first_denial_is_remembered(
    pool: asyncpg.Pool, reference: ReferenceVault, system: IdSystem
) -> None:
    ada = await someone(pool)
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    await put(pool, reference, Entry(ada, token=TOKEN, confirmed_at=long_ago))
    assert await reference.unconfirmed(datetime.now(UTC) - timedelta(days=1)) == [ada]
    await reference.get([ada])
    assert await reference.unconfirmed(datetime.now(UTC) - timedelta(days=1)) == []
    system.known.clear()
    assert await reference.get([ada]) == {}
    first = await pool.fetchrow("SELECT confirmed_at, unknown_since FROM registrant_reference")
    assert first["unknown_since"] >= first["confirmed_at"] > long_ago
    assert await reference.get([ada]) == {}
    assert await pool.fetchrow("SELECT confirmed_at, unknown_since FROM registrant_reference") == first
    system.known[TOKEN] = DOCUMENT
    await reference.get([ada])
    assert await pool.fetchval("SELECT unknown_since FROM registrant_reference") is None


async def test_an_id_system_that_is_away_or_silent_says_nothing_about_the_person(
    pool: asyncpg.Pool, reference: ReferenceVault, system: IdSystem
) -> None:
    ada = await someone(pool)
    await put(pool, reference, Entry(ada, token=TOKEN))
    before = await pool.fetchrow("SELECT * FROM registrant_reference")
    system.down = True
    with pytest.raises(Unavailable):
        await reference.get([ada])
    system.down, system.seconds = False, 30
    with pytest.raises(Unavailable) as caught:
        await reference.get([ada])
    assert caught.value.code == "ask-timeout"
    assert TOKEN not in str(caught.value)
    assert await pool.fetchrow("SELECT * FROM registrant_reference") == before


async def test_questions_under_way_are_bounded(
    pool: asyncpg.Pool, reference: ReferenceVault, system: IdSystem
) -> None:
    people = [await someone(pool) for _ in range(8)]
    await put(pool, reference, *(Entry(each, token=TOKEN) for each in people))
    system.seconds = 0.01
    assert len(await reference.get(people)) == 8
    assert system.most == 2


async def test_another_systems_references_are_not_asked_about(
    pool: asyncpg.Pool, vault: Vault, reference: ReferenceVault, system: IdSystem
) -> None:
    ada = await someone(pool)
    await put(pool, reference, Entry(ada, token=TOKEN))
    other = ReferenceVault(pool, vault, system, system="civil-registry")
    assert await other.get([ada]) == {}
    assert not system.asked


async def test_what_a_vault_cannot_keep_is_refused_and_nothing_of_the_call_is_kept(
    pool: asyncpg.Pool, here: HereVault, reference: ReferenceVault
) -> None:
    ada, eve = await someone(pool), await someone(pool)
    for kept, wrong, code in (
        (here, Entry(eve, token=TOKEN), "document-missing"),
        (reference, Entry(eve, DOCUMENT), "reference-missing"),
        (reference, Entry(eve, token="x" * 1025), "reference-missing"),
    ):
        with pytest.raises(Refused) as caught:
            await put(pool, kept, Entry(ada, DOCUMENT, TOKEN), wrong)
        assert caught.value.code == code
    assert await pool.fetchval("SELECT count(*) FROM registrant_vault") == 0
    assert await pool.fetchval("SELECT count(*) FROM registrant_reference") == 0
