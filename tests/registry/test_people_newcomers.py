"""New people written straight to their tables are the same as those that went through merging."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from canonical_model.household import Household
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.people import Draft, Writer
from registry.people.newcomers import is_plain
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault, sealed_place

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
TABLES = {
    "registrant": "id",
    "registrant_identifier": "hash",
    "registrant_search": "registrant_id",
    "registrant_change": "registrant_id, version",
    "membership": "group_id, member_id",
}
OWN = {"event_id", "created_at", "updated_at", "at"}
_TURN = re.compile(rb"~[0-9a-f]{31}")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=2)
    await ensure(opened, "month")
    await opened.execute("INSERT INTO area (id, code, path, level, names) VALUES (1, 'XX01', '{1}', 0, '{}')")
    yield opened
    await opened.close()


@pytest.fixture
def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))


@pytest.fixture
def writer(vault: Vault) -> Writer:
    return Writer(
        vault, tokens=lambda said: registrant_tokens(vault.blind, said), declared={"band", "occupation"}
    )


def person(value: str | None, **more: Any) -> Person:
    identifiers = [] if value is None else [{"id_type": "UIN", "value": value}]
    return Person.model_validate({"identifiers": identifiers, **more})


PEOPLE = (
    person("plain"),
    person("name", names=[{"full_name": "Ama Nyambura"}], sex="female", birthdate="1990-05-03"),
    person("rough", birthdate="1971", birthdate_not_exact=False, registration_date="2020-02", language="sw"),
    person("reached", contact_points=[{"kind": "phone", "value": "+254700000001"}], addresses=[{"text": "Here"}]),
    person("empty", contact_points=[], attributes={}, names=[]),
    person("off", status="inactive", disabled_reason="moved", area_code="XX01", marital_status="married"),
    person("known", occupation="farmer", attributes={"band": 3, "other": "x", "occupation": "y"}, area_code="XX99"),
    person(None, names=[{"family_name": "bin Ali", "given_name": "عمر"}], accounts=[
        {"kind": "bank", "account_number": "12 34", "provider": "BANK"}]),
    person(None, identifiers=[
        {"id_type": "NID", "value": "7 a", "namespace": "urn:gov:xx:nid", "issue_date": "2020", "expiry_date": "2030-01",
         "status": "valid", "verification_method": "scanned", "description": "old card"},
        {"id_type": "BRN", "value": "8", "namespace": "urn:gov:xx:brn"}]),
)  # fmt: skip


def drafts() -> list[Draft]:
    made = [
        Draft(
            each, "census", "clerk", NOW, new_id=uuid7(), unidentified=True, request_id=f"r{number}",
            message_id=uuid7() if number % 2 else None,
        )
        for number, each in enumerate(PEOPLE)
    ]  # fmt: skip
    ids = [each.new_id for each in made]
    groups: list[dict[str, Any]] = [
        {"memberships": [{"person_id": ids[0], "roles": ["head", "child"]}, {"person_id": ids[1]}]},
        {"name": "The house", "kind": "family", "group_size": 4, "is_partial_group": False, "area_code": "XX01",
         "memberships": [{"person_id": ids[2], "roles": []}]},
        {"attributes": {"band": 1}},
    ]  # fmt: skip
    for number, group in enumerate(groups):
        value = Household.model_validate({"identifiers": [{"id_type": "HH", "value": f"h{number}"}], **group})
        made.append(Draft(value, "census", "clerk", NOW, new_id=uuid7()))
    return made


async def written(connection: Any, vault: Vault, writer: Writer, given: list[Draft]) -> dict[str, Any]:
    """Write drafts, return the rows there are then, and take all back."""
    transaction = connection.transaction()
    await transaction.start()
    try:
        done = await writer.write(connection, given)
        seen: dict[str, Any] = {"answers": done}
        for table, order in TABLES.items():
            seen[table] = [
                {name: each for name, each in row.items() if name not in OWN and (name != "id" or table == "registrant")}
                for row in await connection.fetch(f"SELECT * FROM {table} ORDER BY {order}")
            ]  # fmt: skip
        seen["sealed"] = []
        for row in await connection.fetch("SELECT * FROM registrant_vault ORDER BY registrant_id"):
            key = await vault.key(row["key_id"])
            opened = key.open(row["sealed"], sealed_place(row["format"], row["registrant_id"]))
            seen["sealed"].append(orjson.loads(_TURN.sub(b"~", opened)))
        return seen
    finally:
        await transaction.rollback()


async def test_what_is_written_straight_is_what_merging_would_write(
    pool: asyncpg.Pool, vault: Vault, writer: Writer
) -> None:
    given = drafts()
    assert all(is_plain(writer.prepare(each)) for each in given)
    # A draft that expects a version is merged; a new registrant has version 0 until it is written.
    merged = [replace(each, version=0) for each in given]
    assert not any(is_plain(writer.prepare(each)) for each in merged)
    async with pool.acquire() as connection:
        straight = await written(connection, vault, writer, given)
        ahead = await written(connection, vault, writer, writer.ahead(given))  # type: ignore[arg-type]
        through = await written(connection, vault, writer, merged)
    assert len(straight["registrant"]) == len(given)
    for table in through:
        assert straight[table] == through[table], table
        assert ahead[table] == through[table], table


async def test_a_known_person_is_updated_though_the_draft_was_made_ready_as_new(
    pool: asyncpg.Pool, writer: Writer
) -> None:
    first, second = (
        Draft(person("same", sex=sex), "census", at=NOW, new_id=uuid7()) for sex in ("male", "female")
    )
    house = Household.model_validate(
        {
            "identifiers": [{"id_type": "HH", "value": "h"}],
            "memberships": [{"person_id": second.new_id, "roles": ["head"]}],
        }
    )
    async with pool.acquire() as connection:
        await writer.write(connection, [Draft(person("warm"), "census")])
        (made,) = await writer.write(connection, writer.ahead([first]))
        again = await writer.write(connection, writer.ahead([second, Draft(house, "census", at=NOW)]))
    assert [getattr(each, "created", each) for each in (made, *again)] == [True, False, True]
    assert await pool.fetchval("SELECT sex FROM registrant WHERE id = $1", first.new_id) == "female"
    assert await pool.fetchval("SELECT member_id FROM membership") == first.new_id


async def test_of_two_drafts_of_one_new_person_the_second_corrects_the_first(
    pool: asyncpg.Pool, writer: Writer
) -> None:
    ids = [uuid7(), uuid7()]
    given = [
        Draft(person("twice", sex=sex), "census", at=NOW, new_id=id_)
        for sex, id_ in zip(("male", "female"), ids, strict=True)
    ]
    house = Household.model_validate(
        {"identifiers": [{"id_type": "HH", "value": "h"}], "memberships": [{"person_id": id_} for id_ in ids]}
    )
    async with pool.acquire() as connection:
        done = await writer.write(connection, [*given, Draft(house, "census", at=NOW)])
    assert [getattr(each, "created", each) for each in done] == [True, False, True]
    assert await pool.fetch("SELECT sex FROM registrant WHERE kind = 'individual'") == [("female",)]
    assert await pool.fetchval("SELECT count(*) FROM membership") == 1
    assert await pool.fetchval("SELECT max(version) FROM registrant_change") == 2


async def test_a_message_given_twice_in_one_call_makes_one_person(pool: asyncpg.Pool, writer: Writer) -> None:
    given = Draft(person("once"), "civil", at=NOW, message_id=uuid7())
    async with pool.acquire() as connection:
        first, second = await writer.write(connection, [given, given])
        (third,) = await writer.write(connection, [given])
    assert [getattr(each, "repeated", None) for each in (first, second, third)] == [False, True, True]
    assert await pool.fetchval("SELECT count(*) FROM registrant") == 1
