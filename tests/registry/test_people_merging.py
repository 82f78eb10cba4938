"""Two registrants become one and are parted again on a real PostgreSQL: nothing is lost either way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import HubError, Refused
from canonical_model.person import Person
from registry.people import PeopleStore
from registry.people.search import Search
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

BY = {"actor": "user:ada", "source": "test", "request_id": "r1"}


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
    return PeopleStore(pool, vault, vault.blind, tokens=partial(registrant_tokens, vault.blind))


def person(value: str, name: str, **more: Any) -> dict[str, Any]:
    return {"identifiers": [{"id_type": "NID", "value": value}], "names": [{"full_name": name}]} | more


async def make(people: PeopleStore, value: str, name: str, **more: Any) -> UUID:
    done = await people.upsert(person(value, name, **more), source="test")
    assert done.id is not None
    return done.id


async def group(people: PeopleStore, value: str, *members: tuple[UUID, tuple[str, ...], str | None]) -> UUID:
    done = await people.upsert_group(
        {
            "identifiers": [{"id_type": "HH", "value": value}],
            "memberships": [
                {"person_id": str(one), "roles": list(roles)} | ({"start_date": start} if start else {})
                for one, roles, start in members
            ],
        },
        source="test",
    )
    assert done.id is not None
    return done.id


async def merge(pool: asyncpg.Pool, people: PeopleStore, survivor: UUID, absorbed: UUID) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await people.merging.merge(connection, survivor, absorbed, **BY)


async def split(pool: asyncpg.Pool, people: PeopleStore, absorbed: UUID) -> UUID:
    async with pool.acquire() as connection, connection.transaction():
        return await people.merging.split(connection, absorbed, **BY)


async def everything(pool: asyncpg.Pool, people: PeopleStore) -> dict[str, Any]:
    """What a registry holds, but for versions and times."""
    rows = await pool.fetch(
        "SELECT id, status, merged_into, birthdate, deathdate FROM registrant ORDER BY id"
    )
    found: dict[str, Any] = {"registrants": [tuple(row) for row in rows]}
    for name, query in {
        "identifiers": "SELECT registrant_id, encode(hash, 'hex'), live FROM registrant_identifier ORDER BY 1, 2",
        "memberships": "SELECT id, group_id, member_id, roles, start_date, ended_date FROM membership ORDER BY id",
        "search": "SELECT registrant_id, names, contacts FROM registrant_search ORDER BY 1",
    }.items():
        found[name] = [tuple(row) for row in await pool.fetch(query)]
    found["people"] = [
        (await people.reveal(row["id"], "test", "user:test")).model_dump(mode="json")  # type: ignore[union-attr]
        for row in rows
        if row["merged_into"] is None
    ]
    return found


async def test_the_survivor_has_what_either_had_and_the_absorbed_leads_to_it(
    pool: asyncpg.Pool, people: PeopleStore, vault: Vault
) -> None:
    keep = await make(people, "1", "Amina Diallo", sex="female",
                      contact_points=[{"kind": "mobile", "value": "+23276000001"}])  # fmt: skip
    gone = await make(people, "2", "Aminata Diallo", sex="male", birthdate="1990-02-01", attributes={"roof": "tin"},
                      contact_points=[{"kind": "mobile", "value": "+23276000002"}])  # fmt: skip
    await merge(pool, people, keep, gone)
    for way in (keep, gone):
        told = await people.reveal(way, "test", "user:test")
        assert isinstance(told, Person)
        assert told.person_id == keep
        assert {each.value for each in told.identifiers} == {"1", "2"}
        assert [each.value for each in told.contact_points] == ["+23276000001", "+23276000002"]
        assert (str(told.sex), str(told.birthdate), told.attributes) == (
            "female",
            "1990-02-01",
            {"roof": "tin"},
        )
        assert [(each.display, each.use) for each in told.names] == [
            ("Amina Diallo", None), ("Aminata Diallo", "alias"),
        ]  # fmt: skip
        read = await people.get(way)
        assert read is not None
        assert (read.id, read.status) == (keep, "active")
    for value in ("1", "2"):
        found = await people.find_by_identifier("NID", value)
        assert found is not None
        assert found.id == keep
    by_name = await Search(pool, vault, vault.blind).by_name("Aminata Diallo", purpose="t", actor="user:t")
    assert [each.id for each in by_name.candidates] == [keep]
    row = await pool.fetchrow("SELECT status, merged_into FROM registrant WHERE id = $1", gone)
    assert row is not None
    assert tuple(row) == ("merged", keep)
    assert next(version.fields for version in await people.history(gone)) == ("merged_into", "status")
    assert {"identifiers", "names", "contact_points", "birthdate"} <= set(
        (await people.history(keep))[0].fields
    )


async def test_what_is_written_to_the_absorbed_reaches_the_survivor(
    pool: asyncpg.Pool, people: PeopleStore
) -> None:
    keep, gone = await make(people, "1", "A B"), await make(people, "2", "A B")
    await merge(pool, people, keep, gone)
    assert (await people.upsert(person("2", "A B", sex="female"), source="test")).id == keep
    by_id = {"person_id": str(gone), "language": "fr"}
    assert (await people.upsert(by_id, source="test")).id == keep


async def test_a_death_told_of_the_absorbed_holds_for_the_survivor(
    pool: asyncpg.Pool, people: PeopleStore
) -> None:
    keep, gone = await make(people, "1", "A B"), await make(people, "2", "A B", death_date="2026-01-03")
    await merge(pool, people, keep, gone)
    read = await people.get(keep)
    assert read is not None
    assert read.status == "deceased"
    await split(pool, people, gone)
    one, other = await people.get(keep), await people.get(gone)
    assert one is not None
    assert other is not None
    assert (one.status, other.status) == ("active", "deceased")


async def test_memberships_go_over_and_two_in_one_group_become_one(
    pool: asyncpg.Pool, people: PeopleStore
) -> None:
    keep, gone = await make(people, "1", "A B"), await make(people, "2", "A B")
    other = await make(people, "3", "C D")
    both = await group(people, "H1", (keep, ("other",), "2022-01-01"), (gone, ("head",), "2020-01-01"))
    alone = await group(people, "H2", (gone, ("child",), "2019-01-01"), (other, ("head",), None))
    await merge(pool, people, keep, gone)
    (one,) = await people.members(both)
    assert (one.member_id, set(one.roles), str(one.start_date)) == (keep, {"other", "head"}, "2020-01-01")
    assert {each.member_id for each in await people.members(alone)} == {keep, other}
    assert {each.group_id for each in await people.groups_of(gone)} == {both, alone}
    assert (await people.history(both))[0].fields == ("memberships",)
    assert (await people.history(alone))[0].version == 2


async def test_a_split_takes_everything_back(pool: asyncpg.Pool, people: PeopleStore) -> None:
    keep = await make(
        people, "1", "Amina Diallo", contact_points=[{"kind": "mobile", "value": "+23276000001"}]
    )
    gone = await make(people, "2", "Aminata Diallo", birthdate="1990-02-01",
                      contact_points=[{"kind": "mobile", "value": "+23276000002"}])  # fmt: skip
    await group(people, "H1", (keep, ("other",), "2022-01-01"), (gone, ("head",), "2020-01-01"))
    await group(people, "H2", (gone, ("child",), "2019-01-01"))
    before = await everything(pool, people)
    await merge(pool, people, keep, gone)
    assert await everything(pool, people) != before
    assert await split(pool, people, gone) == keep
    assert await everything(pool, people) == before
    assert await pool.fetchval("SELECT count(*) FROM registrant_merge") == 0


async def test_what_was_said_of_the_survivor_since_stays_with_it_at_a_split(
    pool: asyncpg.Pool, people: PeopleStore
) -> None:
    keep, gone = await make(people, "1", "A B"), await make(people, "2", "A B", birthdate="1990-02-01")
    await merge(pool, people, keep, gone)
    await people.upsert(person("1", "A B", birthdate="1991-03-01"), source="test")
    await split(pool, people, gone)
    one, other = await people.get(keep), await people.get(gone)
    assert one is not None
    assert other is not None
    assert (str(one.birthdate), str(other.birthdate)) == ("1991-03-01", "1990-02-01")


async def test_who_came_with_the_absorbed_leads_to_the_last_survivor_and_goes_back_with_it(
    pool: asyncpg.Pool, people: PeopleStore
) -> None:
    a, b, c = [await make(people, value, "A B") for value in "123"]
    await merge(pool, people, b, a)
    await merge(pool, people, c, b)
    read = await people.get(a)
    assert read is not None
    assert read.id == c
    with pytest.raises(Refused) as caught:
        await split(pool, people, a)
    assert caught.value.code == "split-impossible"
    await split(pool, people, b)
    read = await people.get(a)
    assert read is not None
    assert read.id == b
    await split(pool, people, a)
    read = await people.get(a)
    assert read is not None
    assert read.id == a


async def test_groups_merge_and_keep_one_head(pool: asyncpg.Pool, people: PeopleStore) -> None:
    a, b, c = [await make(people, value, "A B") for value in "123"]
    one = await group(people, "H1", (a, ("head",), None), (b, ("child",), None))
    other = await group(people, "H2", (c, ("head", "spouse"), None), (b, ("relative",), None))
    before = await everything(pool, people)
    await merge(pool, people, one, other)
    roles = {each.member_id: set(each.roles) for each in await people.members(one)}
    assert roles == {a: {"head"}, b: {"child", "relative"}, c: {"spouse"}}
    assert await people.members(other) == await people.members(one)
    await split(pool, people, other)
    assert await everything(pool, people) == before


@pytest.mark.parametrize("case", ["kinds", "merged", "unknown"])
async def test_what_cannot_be_one_is_refused_and_nothing_changes(
    pool: asyncpg.Pool, people: PeopleStore, case: str
) -> None:
    a, b, c = [await make(people, value, "A B") for value in "123"]
    house = await group(people, "H1", (a, (), None))
    await merge(pool, people, b, c)
    before = await everything(pool, people)
    survivor, absorbed = {"kinds": (a, house), "merged": (a, c), "unknown": (a, UUID(int=7))}[case]
    with pytest.raises(Refused) as caught:
        await merge(pool, people, survivor, absorbed)
    assert caught.value.code == "merge-impossible"
    assert await everything(pool, people) == before


async def test_crossing_merges_end_in_one_and_a_refusal(pool: asyncpg.Pool, people: PeopleStore) -> None:
    a, b = await make(people, "1", "A B"), await make(people, "2", "A B")
    ended = await asyncio.gather(
        merge(pool, people, a, b), merge(pool, people, b, a),
        people.upsert(person("2", "A B", sex="female"), source="test"), return_exceptions=True,
    )  # fmt: skip
    assert sum(isinstance(each, HubError) for each in ended) == 1
    assert await pool.fetchval("SELECT count(*) FROM registrant WHERE status = 'merged'") == 1
    assert await pool.fetchval("SELECT count(*) FROM registrant_identifier WHERE live") == 2


async def test_the_survivor_takes_over_enrollments_once_in_a_program_and_a_split_gives_them_back(
    pool: asyncpg.Pool, people: PeopleStore
) -> None:
    keep, gone = await make(people, "1", "A B"), await make(people, "2", "A B")
    first, second = UUID(int=1), UUID(int=2)
    for program, who in ((first, keep), (first, gone), (second, gone)):
        await pool.execute(
            "INSERT INTO enrollment (program_id, registrant_id, state, cause, actor, since) "
            "VALUES ($1, $2, 'draft', 'rule', 'x', now())", program, who,
        )  # fmt: skip
    states = "SELECT program_id, registrant_id, state FROM enrollment"
    await merge(pool, people, keep, gone)
    assert {tuple(row) for row in await pool.fetch(states)} == {
        (first, keep, "draft"), (first, gone, "duplicated"), (second, gone, "duplicated"), (second, keep, "draft"),
    }  # fmt: skip
    await split(pool, people, gone)
    assert {tuple(row) for row in await pool.fetch(states)} == {
        (first, keep, "draft"), (first, gone, "draft"), (second, gone, "draft"), (second, keep, "exited"),
    }  # fmt: skip
