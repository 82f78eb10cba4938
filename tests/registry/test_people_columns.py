"""What of a registrant lies in clear for rules, and that all else stays sealed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from canonical_model.household import Household
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.people import PeopleStore
from registry.people.refresh import refresh
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))


def person(value: str, **more: Any) -> dict[str, Any]:
    return {"identifiers": [{"id_type": "UIN", "value": value}], **more}


async def put(people: PeopleStore, data: dict[str, Any], days: int = 0) -> Any:
    return await people.upsert(data, source="urn:test", message_id=uuid7(), at=NOW + timedelta(days=days))


async def test_declared_attributes_lie_in_clear_and_others_stay_sealed(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    people = PeopleStore(pool, vault, vault.blind, declared={"poverty_band", "occupation"})
    done = await put(
        people, person("1", attributes={"poverty_band": 3, "shoe_size": 41}, occupation="weaver")
    )
    assert await pool.fetchval("SELECT attributes FROM registrant") == {
        "poverty_band": 3,
        "occupation": "weaver",
    }
    await put(people, person("1", attributes={"poverty_band": 4}), 1)
    assert await pool.fetchval("SELECT attributes FROM registrant") == {
        "poverty_band": 4,
        "occupation": "weaver",
    }
    shown = await people.reveal(done.id, "test", "tester")
    assert shown is not None
    assert shown.attributes == {"poverty_band": 4, "shoe_size": 41}
    # Without a declaration nothing lies in clear once the record is written again.
    plain = PeopleStore(pool, vault, vault.blind)
    await put(plain, person("1", sex="male"), 2)
    assert await pool.fetchval("SELECT attributes FROM registrant") == {}


async def test_an_area_that_is_known_is_linked_and_an_unknown_one_is_kept(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    await pool.execute("INSERT INTO area (id, code, path, level, names) VALUES (7, 'XX07', '{7}', 0, '{}')")
    people = PeopleStore(pool, vault, vault.blind)
    first = await put(
        people, person("1", area_code="XX07", registration_date="2020-05", language="fr", status="inactive")
    )
    found = await people.get(first.id)
    assert found is not None
    assert (found.area_code, found.registration_date, found.language, found.status) == (
        "XX07",
        date(2020, 5, 1),
        "fr",
        "inactive",
    )
    second = await put(people, person("2", area_code="XX99"))
    found = await people.get(second.id)
    assert found is not None
    assert found.area_code is None
    shown = await people.reveal(second.id, "test", "tester")
    assert isinstance(shown, Person)
    assert shown.area_code == "XX99"


async def test_search_tokens_are_written_with_the_person_and_follow_a_new_name(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    asked: list[Person | Household] = []

    def tokens(value: Person | Household) -> tuple[list[int], list[int]]:
        asked.append(value)
        names = [len(name.display) for name in value.names] if isinstance(value, Person) else []
        return names, [-1] * len(value.contact_points)

    people = PeopleStore(pool, vault, vault.blind, tokens=tokens)
    await put(people, person("1", names=[{"full_name": "Ann"}]))
    assert tuple(await pool.fetchrow("SELECT names, contacts FROM registrant_search")) == ([3], [])
    await put(people, person("1", sex="female"), 1)
    assert len(asked) == 1
    await put(people, person("1", contact_points=[{"kind": "mobile", "value": "+23276555123"}]), 2)
    # All of the person counts, not only what was said last.
    assert tuple(await pool.fetchrow("SELECT names, contacts FROM registrant_search")) == ([3], [-1])
    await put(people, person("1", names=[{"full_name": "Annabel"}]), 3)
    assert tuple(await pool.fetchrow("SELECT names, contacts FROM registrant_search")) == ([7], [-1])


async def test_an_identifier_that_was_withdrawn_can_belong_to_another_from_then_on(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    people = PeopleStore(pool, vault, vault.blind)
    first = await put(
        people, {"identifiers": [{"id_type": "UIN", "value": "1"}, {"id_type": "NID", "value": "9"}]}
    )
    taken = {
        "identifiers": [
            {"id_type": "UIN", "value": "1", "status": "invalid"},
            {"id_type": "NID", "value": "9"},
        ]
    }
    await put(people, taken, 1)
    second = await put(people, person("1", sex="male"), 2)
    assert second.created
    assert second.id != first.id
    rows = await pool.fetch(
        "SELECT registrant_id, live FROM registrant_identifier WHERE type = 'UIN' ORDER BY live"
    )
    assert [tuple(row) for row in rows] == [(first.id, False), (second.id, True)]


async def test_the_validity_of_an_identifier_lies_in_clear(pool: asyncpg.Pool, vault: Vault) -> None:
    people = PeopleStore(pool, vault, vault.blind)
    await put(
        people,
        {
            "identifiers": [
                {
                    "id_type": "PASSPORT",
                    "value": "P1",
                    "issue_date": "2020-02",
                    "expiry_date": "2030-02",
                    "verification_method": "scanned",
                }
            ]
        },
    )
    row = await pool.fetchrow(
        "SELECT valid_from, expiry_date, verification_method FROM registrant_identifier"
    )
    assert tuple(row) == (date(2020, 2, 1), date(2030, 2, 28), "scanned")


async def test_areas_and_attributes_that_came_after_the_people_are_set_by_a_refresh(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    people = PeopleStore(pool, vault, vault.blind)
    done = [await put(people, person(f"{n}", area_code="XX07", attributes={"band": n})) for n in range(5)]
    broken = await put(people, person("b", area_code="XX07"))
    await pool.execute(
        "UPDATE registrant_vault SET sealed = overlay(sealed placing '\\x00' from 20) WHERE registrant_id = $1",
        broken.id,
    )
    await pool.execute("INSERT INTO area (id, code, path, level, names) VALUES (7, 'XX07', '{7}', 0, '{}')")
    planned = await refresh(pool, vault, {"band"}, dry_run=True)
    assert (planned.seen, planned.changed, planned.unreadable) == (6, 5, 1)
    assert await pool.fetchval("SELECT count(*) FROM registrant WHERE area_id IS NOT NULL") == 0
    first = await refresh(pool, vault, {"band"}, after=done[2].id, chunk=2)
    assert first.changed == 2
    second = await refresh(pool, vault, {"band"}, chunk=2)
    assert (second.seen, second.changed) == (6, 3)
    rows = await pool.fetch(
        "SELECT area_id, attributes, version FROM registrant WHERE id <> $1 ORDER BY id", broken.id
    )
    assert [tuple(row) for row in rows] == [(7, {"band": n}, 1) for n in range(5)]
    assert (await refresh(pool, vault, {"band"})).changed == 0
