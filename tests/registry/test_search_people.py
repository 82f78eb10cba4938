"""Searching registrants by name on a real PostgreSQL: who is found, who is left out, and what the trail says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from canonical_model.names import PersonName
from registry.audit import AuditTrail
from registry.people import PeopleStore
from registry.people import search as searching
from registry.people.search import Found, Search
from registry.people.tokens import facets_of, name_tokens, registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault, sealed_place

WHY = {"purpose": "complaint 17", "actor": "user:ada"}


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(HubSettings(), url=database_url, size=4)
    await ensure(opened, "month")
    yield opened
    await opened.close()


@pytest.fixture
def vault(pool: asyncpg.Pool, tmp_path: Path) -> Vault:
    return Vault(pool, KeyEncryptionKey.load(HubSettings(data_dir=tmp_path)))


@pytest.fixture
def search(pool: asyncpg.Pool, vault: Vault) -> Search:
    return Search(pool, vault, vault.blind)


async def put(
    pool: asyncpg.Pool, vault: Vault, name: str | dict[str, str], *, form: int = 2, **columns: Any
) -> UUID:
    """Write one registrant as the registry lays it down."""
    id_ = uuid7()
    key = await vault.current_key("registrant_vault")
    columns = {"kind": "individual", "source": "urn:test"} | columns
    group = columns["kind"] == "group"
    held = {"full_name": name} if isinstance(name, str) else name
    values = {"name": [name, [0]]} if group else {"names": [[held], [0]]}
    document = orjson.dumps({"values": values, "identifiers": {}, "facts": {}})
    names: list[Any] = [name] if group else [PersonName(**held)]
    places = ", ".join(f"${number + 2}" for number in range(len(columns)))
    await pool.execute(
        f"INSERT INTO registrant (id, {', '.join(columns)}) VALUES ($1, {places})", id_, *columns.values()
    )
    await pool.execute(
        "INSERT INTO registrant_vault VALUES ($1, $2, $3, $4)",
        id_, key.id, form, key.seal(document, sealed_place(form, id_)),
    )  # fmt: skip
    await pool.execute(
        "INSERT INTO registrant_search (registrant_id, names, facets) VALUES ($1, $2, $3)",
        id_,
        name_tokens(vault.blind, names),
        facets_of(columns.get("birthdate"), columns.get("area_id")),
    )
    return id_


def ids(found: Found) -> list[UUID]:
    return [each.id for each in found.candidates]


async def test_the_whole_name_stands_first_then_the_near_ones(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    longer = await put(pool, vault, "Fatima Hassan Omar")
    near = await put(pool, vault, "Fatma Hasan")
    meant = await put(pool, vault, {"given_name": "Fatima", "family_name": "Hassan"})
    await put(pool, vault, "Juan de la Cruz")
    found = await search.by_name("Hassan Fatima", **WHY)
    assert ids(found)[0] == meant
    assert set(ids(found)) == {meant, near, longer}
    assert found.candidates[0].score == pytest.approx(100)
    assert found.complete


async def test_beginnings_of_the_words_are_enough_in_any_order(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    meant = await put(pool, vault, {"given_name": "Wanjiru", "family_name": "Kamau"})
    await put(pool, vault, {"given_name": "Wanjiku", "family_name": "Otieno"})
    found = await search.by_name("kam wanj", **WHY)
    assert ids(found) == [meant]
    assert found.candidates[0].score >= 88


async def test_what_the_writer_of_registrants_writes_is_found(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    people = PeopleStore(pool, vault, vault.blind, tokens=partial(registrant_tokens, vault.blind))
    person = {
        "identifiers": [{"id_type": "UIN", "value": "1"}],
        "names": [{"given_name": "Ada", "family_name": "Eze"}],
    }
    written = await people.upsert(person, source="urn:test", message_id=uuid7())
    found = await search.by_name("Eze Ada", **WHY)
    assert ids(found) == [written.id]
    assert found.candidates[0].names == ({"given_name": "Ada", "family_name": "Eze"},)
    await people.close()


async def test_filters_follow_what_the_writer_changes(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    for number, code in enumerate(("KE01", "KE02"), 1):
        await pool.execute(
            "INSERT INTO area (id, code, path, level, names) VALUES ($1, $2, ARRAY[$1::int], 0, '{}')",
            number,
            code,
        )
    people = PeopleStore(pool, vault, vault.blind, tokens=partial(registrant_tokens, vault.blind))
    known = {"identifiers": [{"id_type": "UIN", "value": "1"}], "names": [{"full_name": "Ada Eze"}]}
    at = datetime(2026, 11, 1, tzinfo=UTC)
    await people.upsert(
        known | {"birthdate": "1990-12-31", "area_code": "KE01"}, source="t", message_id=uuid7(), at=at
    )
    year = {"born_from": date(1990, 12, 31), "born_to": date(1991, 1, 1)}
    assert len(ids(await search.by_name("Ada Eze", area="KE01", **year, **WHY))) == 1
    later = {"identifiers": known["identifiers"], "birthdate": "1975-01-01", "area_code": "KE02"}
    await people.upsert(later, source="t", message_id=uuid7(), at=at + timedelta(days=1))
    assert not ids(await search.by_name("Ada Eze", area="KE01", **WHY))
    assert not ids(await search.by_name("Ada Eze", **year, **WHY))
    narrow = {"born_from": date(1975, 1, 1), "born_to": date(1975, 1, 1)}
    assert len(ids(await search.by_name("Ada Eze", area="KE02", **narrow, **WHY))) == 1
    # The index narrows by the year; the day is held against the row.
    assert not ids(
        await search.by_name("Ada Eze", born_from=date(1975, 1, 2), born_to=date(1975, 2, 1), **WHY)
    )
    for wide in (
        {"born_from": date(1900, 1, 1)},
        {"born_from": date(1900, 1, 1), "born_to": date(2000, 1, 1)},
    ):
        assert len(ids(await search.by_name("Ada Eze", **wide, **WHY))) == 1
    await people.close()


async def test_a_name_in_another_script_is_found_and_ranked(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    meant = await put(pool, vault, "ተስፋዬ አበበ")
    await put(pool, vault, "Suharto")
    found = await search.by_name("Abebe Tesfaye", **WHY)
    assert ids(found) == [meant]
    assert ids(await search.by_name("አበበ", **WHY)) == [meant]


async def test_a_mononym_a_group_and_an_old_seal_are_found(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    alone = await put(pool, vault, "Suharto", form=1)
    group = await put(pool, vault, "Suharto household", kind="group")
    assert set(ids(await search.by_name("suharto", **WHY))) == {alone, group}
    assert ids(await search.by_name("suharto", kind="group", **WHY)) == [group]


async def test_one_wrong_word_does_not_hide_the_person(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    meant = await put(pool, vault, "Achieng Otieno")
    assert ids(await search.by_name("Achieng Qtieno", **WHY)) == [meant]


async def test_filters_leave_others_out(pool: asyncpg.Pool, vault: Vault, search: Search) -> None:
    for number, (code, path) in enumerate((("KE", [1]), ("KE01", [1, 2]), ("UG", [3])), 1):
        await pool.execute(
            "INSERT INTO area (id, code, path, level, names) VALUES ($1, $2, $3, $4, '{}')",
            number, code, path, len(path) - 1,
        )  # fmt: skip
    inside = await put(pool, vault, "Ada Okafor", area_id=2, birthdate=date(1990, 5, 4))
    outside = await put(pool, vault, "Ada Okafor", area_id=3, birthdate=date(1970, 1, 1))
    dead = await put(pool, vault, "Ada Okafor", status="deceased")
    await put(pool, vault, "Ada Okafor", status="merged", merged_into=inside)
    assert set(ids(await search.by_name("Ada Okafor", **WHY))) == {inside, outside, dead}
    assert ids(await search.by_name("Ada Okafor", area="KE", **WHY)) == [inside]
    assert ids(await search.by_name("Ada Okafor", status="deceased", **WHY)) == [dead]
    assert ids(await search.by_name("Ada Okafor", born_to=date(1980, 1, 1), **WHY)) == [outside]
    by_birth = await search.by_name("Ada Okafor", born=date(1990, 4, 5), **WHY)
    assert ids(by_birth)[0] == inside  # day and month swapped still stands above another birth date


async def test_the_trail_has_actor_purpose_and_whose_names_were_shown_and_never_the_text(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    meant = await put(pool, vault, "Wanjiru Kamau")
    await put(pool, vault, "Wanjiku Kamau")
    found = await search.by_name("Wanjiru Kamau", limit=1, request_id="r1", **WHY)
    row = await pool.fetchrow("SELECT * FROM audit_event WHERE action = 'registrant.search'")
    assert (row["actor"], row["action"], row["request_id"]) == ("user:ada", "registrant.search", "r1")
    assert row["details"] == {"purpose": "complaint 17", "opened": found.opened, "shown": [str(meant)]}
    assert "Wanjiru" not in repr(found)


async def test_who_saw_a_person_tells_of_searches_that_showed_the_name_and_of_no_others(
    pool: asyncpg.Pool, vault: Vault, search: Search
) -> None:
    seen, other = await put(pool, vault, "Wanjiru Kamau"), await put(pool, vault, "Suharto")
    await search.by_name("Kamau", **WHY)
    await search.by_name("Suharto", **WHY)
    trail = AuditTrail(pool, vault)
    assert [each.action for each in await trail.who(seen, looks=True)] == ["registrant.search"]
    assert len(await trail.who(other)) == 1
    assert await trail.who(uuid7()) == []


async def test_a_search_that_opens_nothing_is_in_the_trail_too(pool: asyncpg.Pool, search: Search) -> None:
    assert not (await search.by_name("Nobody", **WHY)).candidates
    assert (
        await pool.fetchval("SELECT details->>'opened' FROM audit_event WHERE action = 'registrant.search'")
        == "0"
    )


async def test_more_people_than_are_looked_at_are_said_to_be_more(
    pool: asyncpg.Pool, vault: Vault, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "OPENED", 3)
    for _ in range(4):
        await put(pool, vault, "Mary Wanjiru")
    found = await search.by_name("Mary", limit=2, **WHY)
    assert (len(found.candidates), found.opened, found.complete) == (2, 3, False)


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"text": "Ada", "purpose": " ", "actor": "user:ada"}, "purpose-missing"),
        ({"text": "Ada", "purpose": "x", "actor": ""}, "purpose-missing"),
        ({"text": " \u200f-.'", **WHY}, "search-invalid"),
        ({"text": "a" * 201, **WHY}, "search-invalid"),
        ({"text": "Ada", "limit": 101, **WHY}, "search-invalid"),
        ({"text": "Ada", "kind": "person", **WHY}, "search-invalid"),
        ({"text": "Ada", "status": "alive", **WHY}, "search-invalid"),
        ({"text": "Ada", "area": "XX", **WHY}, "search-invalid"),
    ],
)
async def test_a_search_that_makes_no_sense_is_refused_without_repeating_it(
    search: Search, given: dict[str, Any], code: str
) -> None:
    with pytest.raises(Refused) as caught:
        await search.by_name(given.pop("text"), **given)
    assert caught.value.code == code
    assert "Ada" not in str(caught.value)


async def test_whom_one_may_not_see_takes_nobodys_place(
    pool: asyncpg.Pool, vault: Vault, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "SIFTED", 2)
    monkeypatch.setattr(searching, "OPENED", 2)
    for _ in range(6):
        await put(pool, vault, "Fatima Hassan", sex="male")
    mine = await put(pool, vault, "Fatima Hassan", sex="female")

    def visible(given: list[Any]) -> str | None:
        given.append("female")
        return f"r.sex = ${len(given)}"

    found = await search.by_name("Fatima Hassan", visible=visible, **WHY)
    assert (ids(found), found.opened, found.complete) == ([mine], 1, True)
    trail = await pool.fetchval("SELECT details FROM audit_event WHERE action = 'registrant.search'")
    assert trail["shown"] == [str(mine)]
    assert mine not in ids(await search.by_name("Fatima Hassan", limit=1, **WHY))
