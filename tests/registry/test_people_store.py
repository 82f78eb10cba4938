"""The people store on a real PostgreSQL: once, in any order, sealed, and one person for one identifier."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from canonical_model.errors import Defect, Refused, Unavailable
from canonical_model.message import uuid7
from registry.people import EventResult, PeopleStore, PersonResult
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
SOURCE = "urn:test:crvs"


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


def ident(value: str, kind: str = "UIN", **more: Any) -> dict[str, Any]:
    return {"id_type": kind, "value": value, **more}


def person(*ids: str, **more: Any) -> dict[str, Any]:
    return {"identifiers": [ident(each) for each in ids], **more}


def event(kind: str, subject: dict[str, Any], day: str | None = None, **more: Any) -> dict[str, Any]:
    return {"event_type": kind, "subject": subject, "event_date": day, **more}


async def put(
    people: PeopleStore, data: dict[str, Any], days: float = 0, message_id: UUID | None = None
) -> PersonResult:
    at = NOW + timedelta(days=days)
    return await people.upsert(data, source=SOURCE, message_id=message_id or uuid7(), at=at)


async def tell(
    people: PeopleStore, data: dict[str, Any], days: float = 0, message_id: UUID | None = None
) -> EventResult:
    at = NOW + timedelta(days=days)
    return await people.record_event(data, source=SOURCE, message_id=message_id or uuid7(), at=at)


async def test_a_person_is_created_once_then_updated(people: PeopleStore) -> None:
    first = await put(people, person("1001", sex="female", birthdate="1990-04-02"))
    again = await put(people, person("1001", sex="female"), 1)
    changed = await put(people, person("1001", marital_status="married"), 2)
    assert (first.created, first.changed) == (True, True)
    assert (again.id, again.created, again.changed) == (first.id, False, False)
    assert (changed.id, changed.created, changed.changed) == (first.id, False, True)
    found = await people.find_by_identifier("UIN", "1001")
    assert found is not None
    assert (found.id, found.sex, found.birthdate, found.marital_status) == (
        first.id,
        "female",
        date(1990, 4, 2),
        "married",
    )
    assert (found.status, found.version, found.source) == ("active", 2, SOURCE)
    assert await people.find_by_identifier("NID", "1001") is None


async def test_identifiers_compare_without_regard_to_spaces_and_case(people: PeopleStore) -> None:
    first = await put(people, person("ab 12-3"))
    assert (await put(people, person("AB12-3"))).id == first.id
    assert (await put(people, person("AB123"))).id != first.id
    with_space = {"identifiers": [ident("AB12-3", namespace="urn:gov:xx:other")]}
    assert (await put(people, with_space)).id != first.id


async def test_a_message_handed_in_twice_is_applied_once(people: PeopleStore, pool: asyncpg.Pool) -> None:
    one, two = uuid7(), uuid7()
    results = await asyncio.gather(
        *(tell(people, event("death", person("7"), "2026-10-01"), 0, one) for _ in range(5))
    )
    assert sum(each.repeated for each in results) == 4
    assert len({each.person_id for each in results}) == 1
    await put(people, person("7", sex="male"), 0, two)
    late = await put(people, person("7", sex="female"), 9, two)
    assert late.repeated
    assert not late.changed
    found = await people.find_by_identifier("UIN", "7")
    assert found is not None
    assert found.sex == "male"
    assert await pool.fetchval("SELECT count(*) FROM civil_event") == 1
    assert await pool.fetchval("SELECT count(*) FROM applied_message") == 2


async def test_a_crash_before_commit_leaves_nothing_applied(people: PeopleStore, pool: asyncpg.Pool) -> None:
    message_id = uuid7()
    await pool.execute(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE division_by_zero; END $$;"
        "CREATE CONSTRAINT TRIGGER fail AFTER INSERT ON civil_event DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    with pytest.raises(Refused) as caught:
        await tell(people, event("birth", person("8"), "2026-10-01"), 0, message_id)
    assert caught.value.code == "person-data-refused"
    assert await pool.fetchval("SELECT count(*) FROM applied_message") == 0
    assert await pool.fetchval("SELECT count(*) FROM registrant") == 0
    await pool.execute("DROP TRIGGER fail ON civil_event")
    assert (await tell(people, event("birth", person("8"), "2026-10-01"), 0, message_id)).created


async def test_identifiers_of_two_persons_in_one_message_are_refused(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    a, b = await put(people, person("A1")), await put(people, person("B1"))
    message_id = uuid7()
    good = put(people, person("C1"))
    bad = put(people, person("A1", "B1", sex="male"), 0, message_id)
    done, refused = await asyncio.gather(good, bad, return_exceptions=True)
    assert isinstance(done, PersonResult)
    assert isinstance(refused, Refused)
    assert refused.code == "identifier-ambiguous"
    assert str(a.id) in refused.detail
    assert str(b.id) in refused.detail
    assert "A1" not in str(refused)
    # Once somebody has corrected it, the same message can be replayed.
    await put(people, {"person_id": str(b.id), "identifiers": [ident("B1", status="invalid")]}, 1)
    assert (await put(people, person("A1", "B1"), 0, message_id)).id == a.id


async def test_a_message_without_a_valid_identifier_is_refused(people: PeopleStore) -> None:
    for data in (
        {"sex": "male"},
        {"identifiers": [ident("X", status="invalid")]},
        {"person_id": str(uuid4())},
    ):
        with pytest.raises(Refused) as caught:
            await put(people, data)
        assert caught.value.code == "identifier-missing"


async def test_the_hubs_own_id_finds_a_person_too(people: PeopleStore) -> None:
    first = await put(people, person("1"))
    assert (await put(people, {"person_id": str(first.id), "sex": "other"})).id == first.id


async def test_data_of_another_shape_is_refused_without_being_repeated(people: PeopleStore) -> None:
    with pytest.raises(Refused) as caught:
        await put(people, person("1", sex="Planted Value", **{"Planted Name": 1}))
    assert caught.value.code == "person-invalid"
    assert "sex" in caught.value.detail
    assert "Planted" not in str(caught.value)
    with pytest.raises(Refused) as caught:
        await tell(people, event("wake", person("1")))
    assert caught.value.code == "civil-event-invalid"
    assert caught.value.pointer == "/data/event_type"


async def test_an_event_makes_an_unknown_person_known_and_says_so(people: PeopleStore) -> None:
    done = await tell(people, event("death", person("9", sex="male"), "2026-10-30"))
    assert done.created
    found = await people.find_by_identifier("UIN", "9")
    assert found is not None
    assert (found.id, found.status, found.deathdate) == (done.person_id, "deceased", date(2026, 10, 30))
    assert found.source == f"civil-event:{SOURCE}"
    await put(people, person("9", sex="male"))
    found = await people.find_by_identifier("UIN", "9")
    assert found is not None
    assert (found.source, found.status) == (SOURCE, "deceased")


async def test_a_birth_makes_the_child_known_by_its_number_and_keeps_the_parents_sealed(
    people: PeopleStore, pool: asyncpg.Pool, vault: Vault
) -> None:
    child = {"names": [{"given_name": "Amina"}], "sex": "female"}
    born = event(
        "birth",
        child,
        "2026-09-09",
        registration_number=ident("2026/77", "BRN"),
        parent1_identifier=ident("M-1"),
    )
    done = await tell(people, born)
    found = await people.find_by_identifier("BRN", "2026/77")
    assert found is not None
    assert (found.id, found.birthdate, found.status) == (done.person_id, date(2026, 9, 9), "active")
    # The same child gets its national id later, known by the birth's number.
    later = await tell(people, born | {"status": "corrected", "subject": child | person("UIN-1")}, 1)
    assert later.person_id == done.person_id
    row = await pool.fetchrow("SELECT * FROM civil_event WHERE id = $1", done.id)
    key = await vault.key(row["key_id"])
    sealed = key.open(row["sealed"], b"civil_event\x00sealed\x00" + done.id.bytes)
    assert b'"M-1"' in sealed
    with pytest.raises(Defect):
        key.open(row["sealed"], b"civil_event\x00sealed\x00" + later.id.bytes)


async def test_a_fetal_death_is_recorded_and_counts_nobody_as_active(people: PeopleStore) -> None:
    await tell(
        people,
        event("fetal_death", {"sex": "unknown"}, "2026-09-09", registration_number=ident("F1", "FDRN")),
    )
    found = await people.find_by_identifier("FDRN", "F1")
    assert found is not None
    assert found.status == "inactive"


async def test_a_cancelled_death_brings_the_record_back(people: PeopleStore) -> None:
    await put(people, person("5"))
    await tell(people, event("death", person("5", death_date="2026-10-01"), "2026-10-01"), 1)
    await tell(
        people, event("death", person("5", death_date="2026-10-01"), "2026-10-01", status="cancelled"), 2
    )
    found = await people.find_by_identifier("UIN", "5")
    assert found is not None
    assert (found.status, found.deathdate) == ("active", None)


async def test_a_partners_fast_clock_does_not_lock_a_value(people: PeopleStore) -> None:
    await people.upsert(
        person("4", sex="male"), source=SOURCE, message_id=uuid7(), at=datetime(2999, 1, 1, tzinfo=UTC)
    )
    await people.upsert(person("4", sex="female"), source=SOURCE, message_id=uuid7())
    found = await people.find_by_identifier("UIN", "4")
    assert found is not None
    assert found.sex == "female"


FACTS: list[tuple[str, dict[str, Any], float]] = [
    ("person", person("1", sex="male", marital_status="never_married", birthdate="1980"), -9000),
    ("person", person("1", sex="female", names=[{"full_name": "New Name"}], birthdate="1980-02-03"), -10),
    ("event", event("marriage", person("1", marital_status="married"), "2010-05-05"), -3),
    ("event", event("divorce", person("1", marital_status="divorced"), "2015-05-05"), -5),
    ("event", event("death", person("1", death_date="2026-01-01"), "2026-01-01"), -2),
    ("event", event("death", person("1"), "2026-01-02", status="corrected"), -1),
]


async def test_every_order_of_arrival_ends_in_the_same_record(people: PeopleStore) -> None:
    ids = [uuid7() for _ in FACTS]
    orders = list(itertools.permutations(range(len(FACTS))))[::37]

    async def play(number: int, order: tuple[int, ...]) -> tuple[Any, ...]:
        for index in order:
            what, data, days = FACTS[index]
            mine = [ident(f"P{number}")]
            if what == "person":
                await put(people, data | {"identifiers": mine}, days, UUID(int=ids[index].int + number))
            else:
                renamed = data | {"subject": data["subject"] | {"identifiers": mine}}
                await tell(people, renamed, days, UUID(int=ids[index].int + number))
        found = await people.find_by_identifier("UIN", f"P{number}")
        assert found is not None
        shown = await people.reveal(found.id, "test", "tester")
        assert shown is not None
        whole = shown.model_dump(mode="json", exclude={"person_id", "identifiers"}, exclude_none=True)
        return found.status, found.deathdate, found.marital_status, found.sex, found.birthdate, str(whole)

    ended = await asyncio.gather(*(play(number, order) for number, order in enumerate(orders)))
    assert len({each[:5] for each in ended}) == 1
    assert ended[0][:5] == ("deceased", date(2026, 1, 2), "divorced", "female", date(1980, 2, 3))


async def test_two_processes_with_one_new_identifier_end_with_one_person(
    database_url: str, pool: asyncpg.Pool, vault: Vault
) -> None:
    other_pool = await open_pool(HubSettings(), url=database_url, size=8)
    try:
        stores = [
            PeopleStore(each, vault, vault.blind, delay=0, group=group)
            for each in (pool, other_pool)
            for group in (1, 7)
        ]
        work = [
            tell(
                stores[number % 4],
                event("death", person(f"N{number // 8}", f"N{(number // 8 + 1) % 10}x"), "2026-10-01"),
                number,
            )
            for number in range(80)
        ]
        done = await asyncio.gather(*work)
        for first in range(0, 80, 8):
            assert len({each.person_id for each in done[first : first + 8]}) == 1
        assert sum(each.created for each in done) == 10
        assert await pool.fetchval("SELECT count(*) FROM registrant") == 10
    finally:
        await other_pool.close()


async def test_chains_of_shared_identifiers_do_not_deadlock(
    database_url: str, pool: asyncpg.Pool, vault: Vault
) -> None:
    stores = [PeopleStore(pool, vault, vault.blind, delay=0, group=3) for _ in range(3)]
    for number in range(6):
        await put(stores[0], person(f"K{number}"))
    work = [
        put(stores[n % 3], person(f"K{n % 6}" if n % 2 else f"K{5 - n % 6}", sex="male"), n)
        for n in range(150)
    ]
    assert all(isinstance(each, PersonResult) for each in await asyncio.gather(*work))


async def test_no_planted_value_lies_in_clear_in_any_table(people: PeopleStore, pool: asyncpg.Pool) -> None:
    planted = [
        "Zebulonia",
        "Quixotry",
        "PLANT-99812",
        "+23276555123",
        "planted@example.org",
        "17 Hidden Lane",
        "M-PLANT",
    ]
    subject = person(
        planted[2],
        names=[{"given_name": planted[0], "family_name": planted[1]}],
        contact_points=[{"kind": "mobile", "value": planted[3]}, {"kind": "email", "value": planted[4]}],
        addresses=[{"address_line_1": planted[5]}],
    )
    await put(people, subject)
    done = await tell(people, event("birth", subject, "2026-10-10", parent1_identifier=ident(planted[6])))
    assert done.person_id is not None
    shown = await people.reveal(done.person_id, "complaint 12", "officer-1", request_id="r-1")
    assert shown is not None
    assert shown.names[0].display == "Zebulonia Quixotry"
    tables = await pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert len(tables) > 8
    for table in tables:
        for row in await pool.fetch(f"SELECT t::text AS line FROM {table['tablename']} t"):
            for value in planted:
                assert value.lower() not in row["line"].lower()
                assert value.encode().hex() not in row["line"].lower()


async def test_a_reveal_is_audited_with_its_purpose_and_refused_without(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    first = await put(people, person("1"))
    assert first.id is not None
    absent = uuid7()
    assert await people.reveal(absent, "just looking", "officer-2") is None
    await people.reveal(first.id, "complaint 12", "officer-1")
    with pytest.raises(Refused) as caught:
        await people.reveal(first.id, "  ", "officer-1")
    assert caught.value.code == "purpose-missing"
    rows = await pool.fetch(
        "SELECT actor, action, object_id, outcome, details FROM audit_event "
        "WHERE action = 'person.reveal' ORDER BY id"
    )
    assert [tuple(row) for row in rows] == [
        ("officer-2", "person.reveal", str(absent), "absent", {"purpose": "just looking"}),
        ("officer-1", "person.reveal", str(first.id), "ok", {"purpose": "complaint 12"}),
    ]


async def test_a_new_process_opens_what_an_old_one_sealed(
    people: PeopleStore, pool: asyncpg.Pool, tmp_path: Path
) -> None:
    first = await put(people, person("1", sex="male"))
    await pool.execute(
        "UPDATE data_key SET scope = 'registrant_vault:2020-01:' WHERE scope LIKE 'registrant_vault:%'"
    )
    vault = Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))
    other = PeopleStore(pool, vault, vault.blind)
    assert (await put(other, person("1", sex="female"), 1)).id == first.id
    assert await pool.fetchval("SELECT count(*) FROM data_key WHERE scope LIKE 'registrant_vault:%'") == 2


async def test_one_broken_record_does_not_fail_its_neighbours(
    people: PeopleStore, pool: asyncpg.Pool
) -> None:
    broken = await put(people, person("1"))
    await pool.execute(
        "UPDATE registrant_vault SET sealed = overlay(sealed placing '\\x00' from 20) WHERE registrant_id = $1",
        broken.id,
    )
    done = await asyncio.gather(
        *(put(people, person(str(n), sex="male"), 1) for n in range(5)), return_exceptions=True
    )
    assert [type(each) for each in done] == [PersonResult, Defect, PersonResult, PersonResult, PersonResult]


async def test_a_closed_database_is_unavailable(people: PeopleStore, pool: asyncpg.Pool) -> None:
    await put(people, person("1"))
    await pool.close()
    for call in (put(people, person("2")), people.find_by_identifier("UIN", "1"), people.probe()):
        with pytest.raises(Unavailable):
            await call
