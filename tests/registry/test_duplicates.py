"""Looking for people who are registered twice, on a real PostgreSQL: who is found, who is not, and what a decision does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from canonical_model.errors import Refused
from canonical_model.person import Person
from registry.changes import ChangeStore
from registry.duplicates import DuplicateFinder, DuplicateStore, Tally
from registry.people import Draft, PeopleStore
from registry.people.rows import Connection
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

TODAY = date(2026, 11, 1)
ADA = "user:ada"


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


@pytest.fixture
def finder(pool: asyncpg.Pool, vault: Vault) -> DuplicateFinder:
    return DuplicateFinder(pool, vault)


@pytest.fixture
def changes(pool: asyncpg.Pool, vault: Vault, people: PeopleStore) -> ChangeStore:
    return ChangeStore(pool, vault, people)


@pytest.fixture
def store(pool: asyncpg.Pool, vault: Vault, changes: ChangeStore) -> DuplicateStore:
    return DuplicateStore(pool, vault, changes)


def named(
    name: str | dict[str, str], born: str | None = None, phone: str | None = None, **more: Any
) -> Person:
    data: dict[str, Any] = {"names": [{"full_name": name} if isinstance(name, str) else name], **more}
    if born:
        data["birthdate"] = born
    if phone:
        data["contact_points"] = [{"kind": "mobile", "value": phone}]
    return Person.model_validate(data)


async def register(pool: asyncpg.Pool, people: PeopleStore, *persons: Person) -> list[UUID]:
    async with pool.acquire() as connection:
        written = await people.writer.write(
            connection, [Draft(one, "test", unidentified=True) for one in persons]
        )
    return [one.id for one in written if not isinstance(one, Exception) and one.id is not None]


async def pairs(finder: DuplicateFinder, store: DuplicateStore, **more: Any) -> set[frozenset[UUID]]:
    await finder.run(ADA, today=TODAY, **more)
    return {frozenset((one.first, one.second)) for one in await store.listed(limit=200)}


SAME = {
    "the same phone and name": (named("Amina Diallo", phone="+23276000001"),
                                named("Amina Diallo", phone="+23276000001")),
    "the same name and birth date": (named("Amina Diallo", "1990-02-01"), named("AMINA  DIALLO", "1990-02-01")),
    "names in another order": (named({"given_name": "Amina", "family_name": "Diallo"}, "1990-02-01"),
                               named("Diallo Amina", "1990-02-01")),
    "a name in another script": (named("Mohammed Hassan", "1985-05-05"), named("محمد حسن", "1985-05-05")),
    "a name in Cyrillic": (named("Olena Shevchenko", "1985-05-05"), named("Олена Шевченко", "1985-05-05")),
    "a name spelt a little differently": (named("Mariama Bangura", "1990-02-01"),
                                          named("Mariam Bangura", "1990-02-01")),
    "day and month swapped": (named("Amina Diallo", "1990-02-01"), named("Amina Diallo", "1990-01-02")),
    "an account both have": (
        named("Amina Diallo", accounts=[{"kind": "mobile_money", "account_number": "077", "provider": "OM"}]),
        named("Amina Diallo", accounts=[{"kind": "mobile_money", "account_number": "077", "provider": "OM"}])),
    "a birth date that is an estimate": (named("Amina Diallo", "1990-02-01", "+23276000001"),
                                         named("Amina Diallo", "1990", "+23276000001")),
}  # fmt: skip
OTHERS = {
    "a household's phone": (named("Amina Diallo", "1990-02-01", "+23276000001"),
                            named("Ibrahim Sesay", "1988-05-12", "+23276000001")),
    "a mother and a daughter of one name": (named("Amina Diallo", "1970-02-01", "+23276000001"),
                                            named("Amina Diallo", "1995-07-11", "+23276000001")),
    "a common name and nothing else": (named("Amina Diallo", "1990-02-01"), named("Amina Diallo", "1961-09-30")),
    "one birth date": (named("Amina Diallo", "1990-02-01"), named("Fatou Kamara", "1990-02-01")),
    "twins": (named("Hassan Ali", "2015-02-01"), named("Hussein Ali", "2015-02-01")),
    "a brother and a sister": (named("Mohamed Kamara", "2015-02-01", sex="male"),
                               named("Mohamed Kamara", "2013-01-15", sex="female")),
}  # fmt: skip


@pytest.mark.parametrize("case", SAME)
async def test_who_shares_enough_is_found(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore, case: str
) -> None:
    await register(pool, people, named("Nobody Else", "1999-09-09", "+23276999999"))
    one, other = await register(pool, people, *SAME[case])
    assert await pairs(finder, store) == {frozenset((one, other))}


@pytest.mark.parametrize("case", OTHERS)
async def test_who_shares_too_little_is_not(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore, case: str
) -> None:
    await register(pool, people, *OTHERS[case])
    assert await pairs(finder, store) == set()


async def test_an_agents_phone_that_hundreds_have_says_nothing(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    crowd = [named(f"Person{each} Of{each}", f"{1950 + each % 50}-03-{each % 27 + 1:02}", "+23276000001")
             for each in range(300)]  # fmt: skip
    await register(pool, people, *crowd)
    one, other = await register(pool, people, named("Amina Diallo", None, "+23276000001"),
                                named("Amina Diallo", None, "+23276000001"))  # fmt: skip
    third, fourth = await register(pool, people, named("Mary Conteh", "1980-01-05", "+23276000001"),
                                   named("Mary Conteh", "1980-01-05", "+23276000001"))  # fmt: skip
    found = await pairs(finder, store)
    assert frozenset((one, other)) not in found
    assert found == {frozenset((third, fourth))}
    (pair,) = await store.listed()
    assert "contact-shared" not in pair.reasons


async def test_an_identifier_that_one_of_two_had_brings_them_together(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    nid = {"id_type": "NID", "value": "1"}
    one = (
        await people.upsert({"identifiers": [nid], "names": [{"full_name": "Amina Diallo"}]}, source="t")
    ).id
    assert one is not None
    ended = {"person_id": str(one), "identifiers": [{**nid, "status": "invalid"}]}
    await people.upsert(ended, source="t")
    other = (
        await people.upsert({"identifiers": [nid], "names": [{"full_name": "Aminata Dialo"}]}, source="t")
    ).id
    assert other != one
    assert await pairs(finder, store) == {frozenset((one, other))}
    assert "identifier-shared" in (await store.listed())[0].reasons


async def test_a_search_stays_within_those_given(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    a, b, c = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 3)
    assert await pairs(finder, store, within=[a, b, b]) == {frozenset((a, b))}
    assert await pairs(finder, store) == {frozenset((a, b)), frozenset((a, c)), frozenset((b, c))}


async def test_a_search_stays_within_who_takes_part_in_a_program(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    await pool.execute(
        "DROP TABLE IF EXISTS enrollment CASCADE; "
        "CREATE TABLE enrollment (program_id uuid, registrant_id uuid, state text)"
    )
    a, b, c, d = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 4)
    program, other = UUID(int=1), UUID(int=2)
    for of, who, state in (
        (program, a, "enrolled"), (program, b, "paused"), (program, c, "exited"), (other, d, "enrolled"),
    ):  # fmt: skip
        await pool.execute("INSERT INTO enrollment VALUES ($1, $2, $3)", of, who, state)
    assert await pairs(finder, store, program=program) == {frozenset((a, b))}


async def test_nothing_is_kept_of_a_dry_run_and_the_trail_has_how_many_were_opened(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 2)
    assert (await finder.run(ADA, today=TODAY, keep=False)).found == 1
    assert await store.listed() == []
    row = await pool.fetchrow("SELECT actor, details FROM audit_event WHERE action = 'registrant.compare'")
    assert row is not None
    assert (row["actor"], row["details"]["opened"]) == (ADA, 2)


async def test_a_search_in_parts_finds_what_one_in_whole_finds_and_goes_on_where_it_was_stopped(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    await register(
        pool, people, *[named(f"Amina{each // 2} Diallo{each // 2}", "1990-02-01") for each in range(40)]
    )
    saved: list[int] = []

    async def save(connection: Connection, tally: Tally) -> None:
        saved.append(tally.done)

    first = await finder.run(ADA, today=TODAY, parts=4, save=save, stopped=lambda: len(saved) == 2)
    assert (first.parts, first.done) == (4, 2)
    await finder.run(ADA, today=TODAY, parts=4, start=2, save=save)
    assert saved == [1, 2, 3, 4]
    found = {frozenset((one.first, one.second)) for one in await store.listed(limit=200)}
    await pool.execute("DELETE FROM duplicate_pair")
    assert await pairs(finder, store) == found
    assert len(found) >= 20


async def test_distinct_people_are_never_shown_again(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    one, other = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 2)
    assert len(await pairs(finder, store)) == 1
    decided = await store.decide(other, one, "distinct", ADA, note="cousins, seen at the office")
    assert (decided.state, decided.decided_by, decided.request_id) == ("distinct", ADA, None)
    assert await pairs(finder, store) == set()
    (kept,) = await store.listed(state="distinct")
    assert (kept.first, kept.note) == (min(one, other), "cousins, seen at the office")


async def test_a_duplicate_asks_for_a_merge_that_somebody_else_agrees_to(
    pool: asyncpg.Pool,
    people: PeopleStore,
    finder: DuplicateFinder,
    store: DuplicateStore,
    changes: ChangeStore,
) -> None:
    one, other, third = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 3)
    assert len(await pairs(finder, store)) == 3
    decided = await store.decide(one, other, "duplicate", ADA, survivor=other)
    assert (decided.state, decided.request_state) == ("duplicate", "pending")
    assert decided.request_id is not None
    with pytest.raises(Refused) as caught:
        await store.decide(one, other, "distinct", ADA)
    assert caught.value.code == "duplicate-decided"
    await changes.decide(decided.request_id, "user:ben", ("approver",), agrees=True)
    read = await people.get(one)
    assert read is not None
    assert read.id == other
    # The pair of the absorbed with somebody else is nobody's question any more.
    assert await pairs(finder, store) == {frozenset((other, third))}


async def test_a_pair_whose_merge_was_refused_can_be_decided_anew(
    pool: asyncpg.Pool,
    people: PeopleStore,
    finder: DuplicateFinder,
    store: DuplicateStore,
    changes: ChangeStore,
) -> None:
    one, other = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 2)
    await pairs(finder, store)
    decided = await store.decide(one, other, "duplicate", ADA)
    assert decided.request_id is not None
    await changes.decide(decided.request_id, "user:ben", ("approver",), agrees=False)
    assert (await store.decide(one, other, "distinct", ADA)).state == "distinct"


async def test_two_who_decide_at_once_ask_for_one_merge(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    one, other = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 2)
    await pairs(finder, store)
    ended = await asyncio.gather(
        *(store.decide(one, other, "duplicate", f"user:{each}") for each in range(4)), return_exceptions=True
    )
    assert sum(isinstance(each, Refused) for each in ended) == 3
    assert await pool.fetchval("SELECT count(*) FROM change_request") == 1


async def test_names_are_shown_for_a_purpose_that_the_trail_keeps(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    one, other = await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 2)
    await pairs(finder, store)
    (pair,) = await store.listed()
    assert pair.names is None
    with pytest.raises(Refused):
        await store.listed(purpose=" ")
    (pair,) = await store.listed(purpose="review", actor=ADA)
    assert pair.names == {one: [{"full_name": "Amina Diallo"}], other: [{"full_name": "Amina Diallo"}]}
    assert "Amina" not in repr(pair)
    seen = await pool.fetch("SELECT object_id FROM audit_event WHERE action = 'duplicate.reveal'")
    assert {row["object_id"] for row in seen} == {str(one), str(other)}


async def test_what_is_no_pair_or_no_decision_is_refused(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    one, other = await register(pool, people, named("Amina Diallo"), named("Fatou Kamara"))
    for state, survivor, code in (
        ("distinct", None, "duplicate-not-found"),
        ("open", None, "decision-invalid"),
        ("duplicate", UUID(int=1), "decision-invalid"),
    ):
        with pytest.raises(Refused) as caught:
            await store.decide(one, other, state, ADA, survivor=survivor)
        assert caught.value.code == code


async def test_pairs_are_listed_page_by_page_the_most_alike_first(
    pool: asyncpg.Pool, people: PeopleStore, finder: DuplicateFinder, store: DuplicateStore
) -> None:
    await register(pool, people, *[named("Amina Diallo", "1990-02-01")] * 4)
    await register(
        pool, people, named("Mariama Bangura", "1990-02-01"), named("Mariam Bangura", "1990-02-01")
    )
    await pairs(finder, store)
    whole = await store.listed(limit=200)
    paged = await store.listed(limit=3)
    while page := await store.listed(limit=3, cursor=paged[-1].cursor):
        paged += page
    assert paged == whole
    assert [one.score for one in whole] == sorted((one.score for one in whole), reverse=True)
    assert len(whole) == 7
