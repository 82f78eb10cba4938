"""Groups and memberships: dated, one head, active asked of a day, in any order, and refused by name."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import Refused
from canonical_model.household import Household
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.people import Draft, PeopleStore, PersonResult, Writer
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
TODAY = date(2026, 11, 1)


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
    return PeopleStore(pool, vault, vault.blind)


def ident(value: str, kind: str = "UIN") -> dict[str, Any]:
    return {"id_type": kind, "value": value}


def member(value: str, *roles: str, **more: Any) -> dict[str, Any]:
    said: dict[str, Any] = {"identifiers": [ident(value)]}
    return said | ({"roles": list(roles)} if roles else {}) | more


async def put(
    people: PeopleStore, value: str, *members: dict[str, Any], days: float = 0, **more: Any
) -> PersonResult:
    return await people.upsert_group(
        {"identifiers": [ident(value, "HH")], "memberships": list(members), **more},
        source="urn:test",
        message_id=uuid7(),
        at=NOW + timedelta(days=days),
    )


async def refused(
    people: PeopleStore, value: str, *members: dict[str, Any], days: float = 0, **more: Any
) -> str:
    with pytest.raises(Refused) as caught:
        await put(people, value, *members, days=days, **more)
    assert "P1" not in str(caught.value)
    return caught.value.code


async def persons(people: PeopleStore, *values: str) -> list[UUID]:
    found = []
    for value in values:
        done = await people.upsert(
            {"identifiers": [ident(value)]},
            source="urn:test",
            message_id=uuid7(),
            at=NOW - timedelta(days=100),
        )
        assert done.id is not None
        found.append(done.id)
    return found


async def state(people: PeopleStore, group: PersonResult, on: date = TODAY) -> dict[UUID, set[str]]:
    assert group.id is not None
    return {each.member_id: set(each.roles) for each in await people.members(group.id, on)}


async def test_a_household_is_made_with_its_members_and_found_by_its_identifier(people: PeopleStore) -> None:
    a, b = await persons(people, "P1", "P2")
    done = await put(people, "H1", member("P1", "head"), member("P2", "spouse"), name="Planted", group_size=4)
    assert (done.created, done.changed) == (True, True)
    assert await state(people, done) == {a: {"head"}, b: {"spouse"}}
    found = await people.find_by_identifier("HH", "H1")
    assert found is not None
    assert (found.kind, found.group_kind, found.group_size, found.version) == ("group", "household", 4, 1)
    again = await put(people, "H1", member("P1", "head"), days=1)
    assert (again.id, again.created, again.changed) == (done.id, False, False)
    assert done.id is not None
    shown = await people.reveal(done.id, "test", "tester")
    assert isinstance(shown, Household)
    assert shown.name == "Planted"
    assert {each.person_id for each in shown.memberships} == {a, b}
    assert [each.group_id for each in await people.groups_of(a)] == [done.id]


async def test_a_membership_ended_now_is_over_now(people: PeopleStore) -> None:
    a, b = await persons(people, "P1", "P2")
    today = datetime.now(UTC).date()
    group = await put(people, "H1", member("P1", "head"), member("P2"))
    assert group.id is not None
    done = await people.end_membership(group.id, b, source="urn:desk", actor="user:ann")
    assert done.changed
    assert set(await state(people, group, today)) == {a}
    assert set(await state(people, group, today - timedelta(days=1))) == {a, b}
    past = await people.members(group.id, past=True)
    assert {each.member_id: each.active for each in past} == {a: True, b: False}
    with pytest.raises(Refused) as caught:
        await people.end_membership(group.id, uuid7(), source="urn:desk", actor="user:ann")
    assert caught.value.code == "member-unknown"


async def test_active_is_a_matter_of_the_day_asked_about(people: PeopleStore) -> None:
    (a,) = await persons(people, "P1")
    group = await put(people, "H1", member("P1", start_date="2026-01-10", ended_date="2026-03-10"))
    for day, there in (
        ("2026-01-09", False),
        ("2026-01-10", True),
        ("2026-03-09", True),
        ("2026-03-10", False),
    ):
        assert (set(await state(people, group, date.fromisoformat(day))) == {a}) is there, day


async def test_a_household_has_one_head_and_one_recipient_at_a_time(people: PeopleStore) -> None:
    a, b = await persons(people, "P1", "P2")
    group = await put(people, "H1", member("P1", "head", "principal_recipient"), member("P2"))
    assert await refused(people, "H1", member("P2", "head"), days=1) == "group-head-taken"
    assert await refused(people, "H1", member("P2", "principal_recipient"), days=1) == "group-recipient-taken"
    assert await state(people, group) == {a: {"head", "principal_recipient"}, b: set()}
    # Head and recipient move in one request, whichever way the members are listed.
    for days, first, second in ((2, "P2", "P1"), (3, "P1", "P2")):
        await put(
            people, "H1", member(first, "head", "principal_recipient"), member(second, "spouse"), days=days
        )
    assert await state(people, group) == {a: {"head", "principal_recipient"}, b: {"spouse"}}
    # A head of the past leaves room for a later one.
    await put(people, "H1", member("P1", ended_date="2026-11-20"), days=4)
    await put(people, "H1", member("P2", ended_date="2026-11-20"), days=4)
    await put(people, "H1", member("P2", "head", start_date="2026-11-20"), days=5)
    assert await state(people, group, date(2026, 11, 25)) == {b: {"head"}}
    assert await refused(people, "H1", member("P2", start_date="2026-11-25"), days=6) == "membership-overlaps"
    assert (
        await refused(people, "H1", member("P2", start_date="2026-11-20", ended_date="2026-11"), days=6)
        == "membership-dates-reversed"
    )


async def test_two_writers_who_make_two_heads_end_with_one(
    database_url: str, pool: asyncpg.Pool, vault: Vault
) -> None:
    stores = [PeopleStore(pool, vault, vault.blind, delay=0, group=1) for _ in range(4)]
    await persons(stores[0], "P1", "P2", "P3", "P4")
    group = await put(stores[0], "H1")
    done = await asyncio.gather(
        *(put(store, "H1", member(f"P{n + 1}", "head"), days=1) for n, store in enumerate(stores)),
        return_exceptions=True,
    )
    assert sorted(getattr(each, "code", "done") for each in done) == ["done"] + ["group-head-taken"] * 3
    assert len(await state(stores[0], group, TODAY)) == 1


async def test_the_database_keeps_one_head_against_whoever_writes_it(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    a, b = await persons(people, "P1", "P2")
    group = await put(people, "H1", member("P1", "head", start_date="2026-01-01"))
    with pytest.raises(asyncpg.UniqueViolationError):
        await pool.execute(
            "INSERT INTO membership (id, group_id, member_id, roles, source) VALUES ($1, $2, $3, '{head}', 'by hand')",
            uuid7(), group.id, b,
        )  # fmt: skip
    # What was slipped in between reading and writing is refused by name, too.
    await pool.execute("ALTER TABLE membership DISABLE TRIGGER membership_apart_insert")
    await pool.execute(
        "CREATE FUNCTION slip() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.source <> 'slip' THEN INSERT INTO membership "
        f"(id, group_id, member_id, roles, source) VALUES (gen_random_uuid(), NEW.group_id, '{a}', '{{head}}', 'slip'); "
        "END IF; RETURN NEW; END $$; CREATE TRIGGER slip BEFORE INSERT ON membership FOR EACH ROW EXECUTE FUNCTION slip()"
    )
    assert await refused(people, "H2", member("P2", "head"), days=1) == "group-head-taken"


async def test_a_member_known_by_an_identifier_alone_becomes_known_by_it(people: PeopleStore) -> None:
    group = await put(people, "H1", member("P1", "head"), member("P1x"))
    found = await people.find_by_identifier("UIN", "P1")
    assert found is not None
    assert found.source == "household:urn:test"
    assert await state(people, group) != {}
    (a,) = await persons(people, "P1")
    assert a == found.id
    found = await people.find_by_identifier("UIN", "P1")
    assert found is not None
    assert found.source == "urn:test"
    assert await refused(people, "H1", {"person_id": str(uuid7())}, days=1) == "member-unknown"


async def test_a_refused_household_leaves_no_trace_of_its_members(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    await put(people, "H1", member("P1", "head"))
    assert await refused(people, "H1", member("P7", "head"), days=1) == "group-head-taken"
    assert await people.find_by_identifier("UIN", "P7") is None
    # Once the other has stepped back, the same household is taken.
    await put(people, "H1", member("P1", "spouse"), member("P7", "head"), days=2)
    assert await people.find_by_identifier("UIN", "P7") is not None


async def test_a_list_said_to_be_whole_ends_the_membership_of_who_is_missing(people: PeopleStore) -> None:
    a, b = await persons(people, "P1", "P2")
    group = await put(people, "H1", member("P1", "head"), member("P2"))
    await put(people, "H1", member("P1"), days=1)
    assert set(await state(people, group, date(2026, 11, 9))) == {a, b}
    await put(people, "H1", member("P1"), days=2, is_partial_group=False)
    assert set(await state(people, group, date(2026, 11, 9))) == {a}
    assert set(await state(people, group, date(2026, 11, 2))) == {a, b}
    # Said to belong again without a day: since the day it was said.
    await put(people, "H1", member("P2"), days=10)
    assert set(await state(people, group, date(2026, 11, 10))) == {a}
    assert set(await state(people, group, date(2026, 11, 11))) == {a, b}


FACTS: list[tuple[float, tuple[dict[str, Any], ...]]] = [
    (1, (member("P1", "head"), member("P2", "spouse"))),
    (2, (member("P1", "spouse"), member("P2", "head"))),
    (3, (member("P1", ended_date="2026-06-01"),)),
    (4, (member("P2", start_date="2020-01-01"),)),
]


async def test_facts_about_members_end_in_the_same_group_in_any_order(people: PeopleStore) -> None:
    a, _ = await persons(people, "P1", "P2")
    ended = []
    for number, order in enumerate(itertools.permutations(FACTS)):
        for days, members in order:
            group = await put(people, f"H{number}", *members, days=days)
        assert group.id is not None
        ended.append(
            sorted(
                (each.member_id == a, each.roles, each.start_date, each.ended_date)
                for each in await people.members(group.id, past=True)
            )
        )
    assert ended[0] == [
        (False, ["head"], date(2020, 1, 1), None),
        (True, ["spouse"], None, date(2026, 6, 1)),
    ]
    assert all(each == ended[0] for each in ended)


async def test_an_older_word_about_the_head_gives_way_to_a_later_one(people: PeopleStore) -> None:
    a, b = await persons(people, "P1", "P2")
    group = await put(people, "H1", member("P2", "head"), days=5)
    late = await put(people, "H1", member("P1", "head", "caregiver"), days=1)
    assert late.id == group.id
    assert await state(people, group, date(2026, 12, 1)) == {a: {"caregiver"}, b: {"head"}}


async def test_an_identifier_of_the_other_kind_is_refused(people: PeopleStore) -> None:
    await persons(people, "P1")
    with pytest.raises(Refused) as caught:
        await people.upsert_group(
            {"identifiers": [ident("P1")]}, source="urn:test", message_id=uuid7(), at=NOW
        )
    assert caught.value.code == "registrant-kind-differs"
    with pytest.raises(Refused) as caught:
        await people.upsert_group(
            {"identifiers": [ident("P1")], "kind": "club"}, source="urn:test", message_id=uuid7()
        )
    assert caught.value.code == "household-invalid"


async def test_groups_in_groups_need_the_switch_and_never_form_a_circle(
    people: PeopleStore, pool: asyncpg.Pool, vault: Vault
) -> None:
    await put(people, "H1")
    await put(people, "H2")
    inner = {"identifiers": [ident("H1", "HH")]}
    assert await refused(people, "H2", inner, days=1) == "group-nested"
    nested = PeopleStore(pool, vault, vault.blind, nested=True)
    outer = await put(nested, "H2", inner, days=1)
    assert len(await state(nested, outer, date(2026, 12, 1))) == 1
    assert await refused(nested, "H1", {"identifiers": [ident("H2", "HH")]}, days=2) == "group-cycle"
    assert await refused(nested, "H1", {"identifiers": [ident("H1", "HH")]}, days=2) == "group-cycle"
    await put(nested, "H3", {"identifiers": [ident("H2", "HH")]}, days=2)
    assert await refused(nested, "H1", {"identifiers": [ident("H3", "HH")]}, days=3) == "group-cycle"
    # Who would close a circle that another has not yet committed waits for it, and is refused then.
    a, b = await asyncio.gather(put(nested, "A"), put(nested, "B"))

    def nesting(group: PersonResult, inner: PersonResult) -> dict[str, Any]:
        return {"household_id": str(group.id), "memberships": [{"person_id": str(inner.id)}]}

    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await nested.writer.write(connection, [Draft(Household.model_validate(nesting(a, b)), "urn:test")])
        other = asyncio.create_task(nested.upsert_group(nesting(b, a), source="urn:test"))
        await asyncio.wait({other}, timeout=1)
        await transaction.commit()
    with pytest.raises(Refused) as caught:
        await other
    assert caught.value.code == "group-cycle"


async def test_people_and_groups_of_one_call_find_each_other_by_the_ids_given(
    pool: asyncpg.Pool, vault: Vault, people: PeopleStore
) -> None:
    (there,) = await persons(people, "P1")
    ids = [uuid7() for _ in range(3)]
    writer = Writer(vault)
    household = Household.model_validate(
        {
            "identifiers": [ident("H1", "HH")],
            "memberships": [
                {"person_id": str(each), "roles": ["head"] if n == 0 else []} for n, each in enumerate(ids)
            ],
        }
    )
    drafts = [
        Draft(household, "urn:file"),
        Draft(Person.model_validate({"identifiers": [ident("P1")]}), "urn:file", new_id=ids[0]),
        Draft(
            Person.model_validate({"names": [{"full_name": "No Id"}]}),
            "urn:file",
            new_id=ids[1],
            unidentified=True,
        ),
        Draft(Person.model_validate({"names": [{"full_name": "No Id"}]}), "urn:file", new_id=ids[2]),
        Draft(Person.model_validate({"identifiers": [ident("P3")]}), "urn:file"),
    ]
    async with pool.acquire() as connection, connection.transaction():
        done = await writer.write(connection, drafts)
    # The one without an identifier was refused, so its household names somebody nobody knows.
    assert [getattr(each, "code", "done") for each in done] == [
        "member-unknown", "done", "done", "identifier-missing", "done",
    ]  # fmt: skip
    async with pool.acquire() as connection:
        done = await writer.write(connection, [drafts[0], drafts[1], *drafts[3:4]])
    assert getattr(done[0], "code", "") == "member-unknown"
    whole = household.model_copy(update={"memberships": household.memberships[:2]})
    async with pool.acquire() as connection:
        done = await writer.write(connection, [Draft(whole, "urn:file"), drafts[1]])
    assert [getattr(each, "created", None) for each in done] == [True, False]
    group_id = getattr(done[0], "id", None)
    assert {each.member_id for each in await people.members(group_id)} == {there, ids[1]}
