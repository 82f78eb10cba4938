"""A filled database of the first schema, upgraded: its people are found, shown and changed as before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
import orjson
import pytest
from services import postgres

from canonical_model.message import uuid7
from registry.people import PeopleStore
from registry.people.identity import identifier_hash
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.migrate import upgrade_async
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault, aad

CLOCK = [1_700_000_000_000, 1_700_000_000_000, "0" * 32]


@pytest.fixture
def empty_url(postgres_server: str) -> Iterator[str]:
    name = postgres.fresh_name()
    try:
        yield postgres.create(postgres_server, name)
    finally:
        postgres.drop(postgres_server, name)


@pytest.fixture
async def pool(empty_url: str) -> AsyncIterator[asyncpg.Pool]:
    await upgrade_async(empty_url, "0001")
    opened = await open_pool(HubSettings(), url=empty_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


async def fill(pool: asyncpg.Pool, vault: Vault, value: str, name: str) -> UUID:
    """Write a person as the first schema had them: one row, its document with a clock at every value."""
    person_id, key = uuid7(), await vault.current_key("person")
    document = {
        "values": {
            "names": [[{"full_name": name}], CLOCK],
            "sex": ["female", CLOCK],
            "attributes.shelter": ["tent", CLOCK],
        },
        "identifiers": {f"UIN\x00{value}": [{"id_type": "UIN", "value": value}, CLOCK]},
        "facts": {"death": [{"date": "2026-02-03"}, CLOCK]},
    }
    await pool.execute(
        "INSERT INTO person (id, status, sex, deathdate, key_id, sealed, source, message_id) "
        "VALUES ($1, 'deceased', 'female', '2026-02-03', $2, $3, 'urn:old', $1)",
        person_id,
        key.id,
        key.seal(orjson.dumps(document), aad("person", "sealed", person_id.bytes)),
    )
    await pool.execute(
        "INSERT INTO person_identifier (value_hash, person_id, type) VALUES ($1, $2, 'UIN')",
        identifier_hash(vault.blind, "UIN", value),
        person_id,
    )
    event = await vault.current_key("civil_event")
    await pool.execute(
        "INSERT INTO civil_event (id, person_id, event_type, source, key_id, sealed) VALUES ($1, $1, 'death', 'urn:old', $2, $3)",
        person_id,
        event.id,
        event.seal(b"{}", aad("civil_event", "sealed", person_id.bytes)),
    )
    return person_id


async def test_people_of_the_first_schema_are_found_shown_and_changed_after_an_upgrade(
    empty_url: str, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    kek = KeyEncryptionKey.load(HubSettings(data_dir=tmp_path))
    ids = [await fill(pool, Vault(pool, kek), f"OLD-{n}", f"Name {n}") for n in range(5)]
    before, after = await upgrade_async(empty_url)
    assert (before, after is not None and after > "0001") == ("0001", True)
    await pool.expire_connections()

    vault = Vault(pool, kek)
    people = PeopleStore(pool, vault, vault.blind, declared={"shelter"})
    for number, person_id in enumerate(ids):
        found = await people.find_by_identifier("UIN", f"old-{number}")
        assert found is not None
        assert (found.id, found.kind, found.status, found.deathdate) == (
            person_id,
            "individual",
            "deceased",
            date(2026, 2, 3),
        )
        shown = await people.reveal(person_id, "upgrade", "tester")
        assert shown is not None
        assert shown.names[0].full_name == f"Name {number}"  # type: ignore[union-attr]

    changed = await people.upsert(
        {"identifiers": [{"id_type": "UIN", "value": "OLD-1"}], "sex": "male"},
        source="urn:new",
        message_id=uuid7(),
        at=datetime.now(UTC),
    )
    assert (changed.id, changed.created, changed.changed) == (ids[1], False, True)
    row = await pool.fetchrow(
        "SELECT v.format, r.attributes, r.sex FROM registrant_vault v JOIN registrant r ON r.id = v.registrant_id "
        "WHERE r.id = $1",
        ids[1],
    )
    assert tuple(row) == (2, {"shelter": "tent"}, "male")
    shown = await people.reveal(ids[1], "upgrade", "tester")
    assert shown is not None
    assert shown.names[0].full_name == "Name 1"  # type: ignore[union-attr]
    assert await pool.fetchval("SELECT count(*) FROM registrant") == 5
