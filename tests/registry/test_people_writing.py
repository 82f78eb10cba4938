"""The writer and the history it keeps: many at once as each alone, one bad draft harms no other, every version told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import Refused
from canonical_model.household import Household
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.people import Draft, PeopleStore, Writer
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=8)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))


@pytest.fixture
def people(pool: asyncpg.Pool, vault: Vault) -> PeopleStore:
    return PeopleStore(pool, vault, vault.blind, declared={"band"})


def person(value: str, **more: Any) -> Person:
    return Person.model_validate({"identifiers": [{"id_type": "UIN", "value": value}], **more})


def household(value: str, *members: str) -> Household:
    return Household.model_validate(
        {
            "identifiers": [{"id_type": "HH", "value": value}],
            "memberships": [
                {"identifiers": [{"id_type": "UIN", "value": each}], "roles": [] if n else ["head"]}
                for n, each in enumerate(members)
            ],
        }
    )


def codes(done: list[Any]) -> list[str]:
    return [getattr(each, "code", "new" if getattr(each, "created", None) else "old") for each in done]


async def statements(pool: asyncpg.Pool, writer: Writer, drafts: list[Draft]) -> int:
    seen: list[Any] = []
    async with pool.acquire() as connection:
        connection.add_query_logger(seen.append)
        done = await writer.write(connection, drafts)
        connection.remove_query_logger(seen.append)
        assert all(each.id is not None for each in done if not isinstance(each, Refused))
        assert not any(isinstance(each, Refused) for each in done)
    return len(seen)


async def test_the_number_of_statements_does_not_grow_with_the_drafts(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    writer = Writer(vault)
    counts = []
    for size in (40, 400):
        drafts = [Draft(person(f"{size}-{n}", sex="male"), "urn:file") for n in range(size)]
        drafts += [
            Draft(household(f"{size}-{n}", f"{size}-{n}", f"{size}-{n + 1}"), "urn:file")
            for n in range(size - 1)
        ]
        new = await statements(pool, writer, drafts)
        again = await statements(
            pool, writer, [Draft(person(f"{size}-{n}", sex="female"), "urn:file") for n in range(size)]
        )
        counts.append((new, again))
    # The larger one does without the locks of single identifiers.
    assert counts[1][0] <= counts[0][0] <= 16
    assert counts[1][1] <= counts[0][1] <= 16
    assert await pool.fetchval("SELECT count(*) FROM membership") == 2 * (39 + 399)


async def test_a_draft_the_database_does_not_take_harms_no_other(pool: asyncpg.Pool, vault: Vault) -> None:
    writer = Writer(vault, declared={"note"})
    drafts = [Draft(person(f"{n}"), "urn:file") for n in range(50)]
    drafts[17] = Draft(person("17", attributes={"note": "\x00"}), "urn:file")
    async with pool.acquire() as connection, connection.transaction():
        done = await writer.write(connection, drafts)
    assert [place for place, code in enumerate(codes(done)) if code != "new"] == [17]
    assert codes(done)[17] == "person-data-refused"
    assert await pool.fetchval("SELECT count(*) FROM registrant") == 49


async def test_the_same_person_twice_in_one_call_is_one_person(pool: asyncpg.Pool, vault: Vault) -> None:
    async with pool.acquire() as connection:
        done = await Writer(vault).write(
            connection,
            [Draft(person("1", sex="male"), "urn:file"), Draft(person("1", sex="female"), "urn:file")],
        )
    assert codes(done) == ["new", "old"]
    assert done[0].id == done[1].id  # type: ignore[union-attr]
    assert await pool.fetchval("SELECT sex FROM registrant") == "female"
    assert await pool.fetchval("SELECT count(*) FROM registrant_change") == 2


async def test_many_writers_of_the_same_people_end_with_each_once(
    database_url: str, pool: asyncpg.Pool, vault: Vault
) -> None:
    async def write(turn: int) -> list[Any]:
        order = list(range(600))[:: -1 if turn % 2 else 1]
        async with pool.acquire() as connection:
            return await Writer(vault).write(connection, [Draft(person(f"{n}"), "urn:file") for n in order])

    done = await asyncio.gather(*(write(turn) for turn in range(4)))
    assert sum(codes(each).count("new") for each in done) == 600
    assert await pool.fetchval("SELECT count(*) FROM registrant") == 600


async def test_what_the_caller_rolls_back_was_never_written(pool: asyncpg.Pool, vault: Vault) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        assert codes(await Writer(vault).write(connection, [Draft(person("1"), "urn:file")])) == ["new"]
        await transaction.rollback()
    assert await pool.fetchval("SELECT count(*) FROM registrant") == 0


async def put(people: PeopleStore, days: float, **said: Any) -> UUID:
    done = await people.upsert(
        {"identifiers": [{"id_type": "UIN", "value": "1"}], **said},
        source=f"urn:{days:g}",
        message_id=uuid7(),
        at=NOW + timedelta(days=days),
    )
    assert done.id is not None
    return done.id


async def test_every_version_tells_who_made_it_and_what_it_changed(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    one = await put(
        people, 0, sex="male", names=[{"full_name": "Planted One"}], attributes={"band": 1, "shoe": 40}
    )
    await put(people, 1, sex="female", attributes={"band": 2})
    await put(people, 2, sex="female")
    await put(
        people, 3, names=[{"full_name": "Planted Two"}], attributes={"shoe": 41}, area_code="XX1",
    )  # fmt: skip
    versions = await people.history(one)
    assert [(each.version, each.source, each.created) for each in versions] == [
        (3, "urn:3", False),
        (2, "urn:1", False),
        (1, "urn:0", True),
    ]
    assert versions[1].fields == ("attributes.band", "sex")
    assert versions[1].changes == {"attributes.band": [1, 2], "sex": ["male", "female"]}
    assert versions[0].fields == ("area", "attributes.shoe", "names")
    assert versions[0].changes == {"area": [None, "XX1"]}
    told = await people.reveal_history(one, "complaint 3", "officer-1", limit=1)
    assert told[0].changes == {
        "area": [None, "XX1"],
        "attributes.shoe": [40, 41],
        "names": [[{"full_name": "Planted One"}], [{"full_name": "Planted Two"}]],
    }
    assert [each.version for each in await people.history(one, before=2)] == [1]
    with pytest.raises(Refused):
        await people.reveal_history(one, "", "officer-1")
    row = await pool.fetchrow(
        "SELECT actor, action, details FROM audit_event WHERE action = 'person.history'"
    )
    assert (row["actor"], row["details"]) == ("officer-1", {"purpose": "complaint 3", "versions": 1})
    lines = await pool.fetch("SELECT c::text AS line FROM registrant_change c")
    assert not any("Planted" in row["line"] or "shoe\\x" in row["line"] for row in lines)


async def test_history_tells_identifiers_facts_and_members_without_their_values_in_clear(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    one = await put(people, 0, names=[{"full_name": "Planted"}])
    await put(
        people, 1, identifiers=[{"id_type": "UIN", "value": "1"}, {"id_type": "NID", "value": "PLANT-7"}]
    )
    event = {
        "event_type": "marriage",
        "subject": {"identifiers": [{"id_type": "UIN", "value": "1"}]},
        "event_date": "2026-10-01",
        "registration_number": {"id_type": "MRN", "value": "PLANT-8"},
    }
    await people.record_event(event, source="urn:crvs", message_id=uuid7(), at=NOW + timedelta(days=2))
    versions = await people.history(one)
    assert [each.fields for each in versions] == [("marital_status", "marriage"), ("identifiers",), ()]
    told = await people.reveal_history(one, "complaint 3", "officer-1")
    assert told[1].changes == {"identifiers": [[None, {"id_type": "NID", "value": "PLANT-7"}]]}
    group = await people.upsert_group(
        {"identifiers": [{"id_type": "HH", "value": "1"}]},
        source="urn:desk",
        actor="user:ann",
        request_id="r-1",
    )
    assert group.id is not None
    await people.upsert_group(
        {"household_id": str(group.id), "memberships": [{"person_id": str(one), "roles": ["head"]}]},
        source="urn:desk",
        actor="user:ann",
        request_id="r-2",
    )
    versions = await people.history(group.id)
    assert (versions[0].actor, versions[0].request_id, versions[0].fields) == (
        "user:ann",
        "r-2",
        ("memberships",),
    )
    assert versions[0].changes == {"memberships": [[], [[str(one), ["head"], None, None]]]}
    for row in await pool.fetch("SELECT c::text AS line FROM registrant_change c"):
        assert "PLANT" not in row["line"]


async def test_history_can_be_neither_changed_nor_removed(people: PeopleStore, pool: asyncpg.Pool) -> None:
    await put(people, 0)
    for statement in (
        "UPDATE registrant_change SET actor = 'x'",
        "DELETE FROM registrant_change",
        "TRUNCATE registrant_change",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pool.execute(statement)


async def test_a_draft_for_another_version_is_refused_and_a_field_can_be_taken_away(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    one = await put(
        people, 0, contact_points=[{"kind": "mobile", "value": "+23276555123"}], attributes={"band": 1}, sex="male",
        death_date="2026-01-01", marital_status="married",
    )  # fmt: skip
    said = Person(person_id=one)
    gone = ("contact_points", "attributes.band", "sex", "death_date", "marital_status")
    async with pool.acquire() as connection:
        done = await people.writer.write(connection, [Draft(said, "urn:desk", version=7, cleared=gone)])
        assert codes(done) == ["registrant-changed"]
        done = await people.writer.write(connection, [Draft(said, "urn:desk", version=1, cleared=gone)])
    assert codes(done) == ["old"]
    assert getattr(done[0], "version", None) == 2
    shown = await people.reveal(one, "test", "tester")
    assert isinstance(shown, Person)
    assert (shown.contact_points, shown.attributes, shown.sex, shown.death_date) == ((), {}, None, None)
    found = await people.get(one)
    assert found is not None
    assert (found.status, found.attributes, found.marital_status) == ("active", {}, None)
    # An older fact that arrives late does not bring back what was taken away later.
    await put(people, 1, sex="male", attributes={"band": 3})
    found = await people.get(one)
    assert found is not None
    assert (found.sex, found.attributes) == (None, {})


async def test_a_number_written_as_in_the_country_is_kept_in_international_form(
    pool: asyncpg.Pool, vault: Vault
) -> None:
    at_home = PeopleStore(pool, vault, vault.blind, region="SL")
    data = {
        "identifiers": [{"id_type": "UIN", "value": "1"}],
        "contact_points": [
            {"kind": "mobile", "value": "076 123 456"},
            {"kind": "email", "value": "a@example.org"},
        ],
    }
    done = await at_home.upsert(data, source="urn:desk")
    assert done.id is not None
    shown = await at_home.reveal(done.id, "test", "tester")
    assert isinstance(shown, Person)
    assert [each.value for each in shown.contact_points] == ["+23276123456", "a@example.org"]
    abroad = PeopleStore(pool, vault, vault.blind)
    with pytest.raises(Refused) as caught:
        await abroad.upsert(data, source="urn:desk")
    assert caught.value.code == "phone-invalid"
    assert "123" not in caught.value.detail
