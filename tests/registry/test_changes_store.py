"""Change requests on a real PostgreSQL: agreed to by others, carried out once, refused where others changed the same."""

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

from canonical_model.errors import HubError, Refused
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.changes import ChangeStore, Policies, Policy, Request
from registry.changes.policy import Step
from registry.people import PeopleStore
from registry.people.search import Search
from registry.people.tokens import registrant_tokens
from registry.settings import HubSettings
from registry.storage.database import open_pool
from registry.storage.periods import ensure
from registry.vault import KeyEncryptionKey, Vault

MAKER, ADA, BEN = "user:maker", "user:ada", "user:ben"
ROLES = ("approver",)


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
def changes(pool: asyncpg.Pool, vault: Vault, people: PeopleStore) -> ChangeStore:
    return ChangeStore(pool, vault, people)


def ident(value: str, kind: str = "NID") -> dict[str, Any]:
    return {"id_type": kind, "value": value}


async def make(people: PeopleStore, value: str, name: str = "Amina Diallo", **more: Any) -> UUID:
    done = await people.upsert(
        {"identifiers": [ident(value)], "names": [{"full_name": name}]} | more, source="test"
    )
    assert done.id is not None
    return done.id


async def group(people: PeopleStore, value: str, **roles: UUID) -> UUID:
    members = [
        {"person_id": str(one), "roles": [role.rstrip("_")], "start_date": "2024-01-01"}
        for role, one in roles.items()
    ]
    done = await people.upsert_group(
        {"identifiers": [ident(value, "HH")], "memberships": members}, source="test"
    )
    assert done.id is not None
    return done.id


async def told(people: PeopleStore, who: UUID) -> dict[str, Any]:
    found = await people.reveal(who, "test", "user:test")
    assert found is not None
    return found.model_dump(mode="json", exclude_none=True)


def edit(who: UUID, **fields: Any) -> dict[str, Any]:
    return {"type": "edit", "registrant": str(who), "set": fields}


async def done(changes: ChangeStore, change: dict[str, Any], **more: Any) -> Request:
    asked = await changes.submit(change, MAKER, **more)
    return await changes.decide(asked.id, ADA, ROLES, agrees=True)


async def refusal(work: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        await work
    return caught.value


async def test_a_change_is_made_once_somebody_else_agrees(
    changes: ChangeStore, people: PeopleStore, pool: asyncpg.Pool, vault: Vault
) -> None:
    who = await make(people, "1", sex="female", language="fr")
    asked = await changes.submit(
        edit(who, names=[{"full_name": "Mariama Bah"}], language=None, attributes={"roof": "tin"}), MAKER
    )
    assert (asked.state, asked.waits_for, asked.subjects) == ("pending", "approver", [who])
    assert (await told(people, who))["language"] == "fr"
    after = await changes.decide(asked.id, ADA, ROLES, agrees=True)
    assert (after.state, [each.actor for each in after.decisions]) == ("applied", [ADA])
    now = await told(people, who)
    assert (now["names"], now.get("language"), now["attributes"]) == (
        [{"full_name": "Mariama Bah"}], None, {"roof": "tin"},
    )  # fmt: skip
    assert now["sex"] == "female"
    (version, *_) = await people.history(who)
    assert (version.actor, version.request_id, version.version) == (MAKER, str(asked.id), 2)
    found = await Search(pool, vault, vault.blind).by_name("Mariama", purpose="t", actor="user:t")
    assert [each.id for each in found.candidates] == [who]
    trail = await pool.fetch("SELECT action, actor FROM audit_event WHERE object_type = 'change' ORDER BY id")
    assert [tuple(row) for row in trail] == [
        ("change.submit", MAKER), ("change.agree", ADA), ("change.apply", ADA),
    ]  # fmt: skip


async def test_nothing_of_a_person_lies_in_clear(
    changes: ChangeStore, people: PeopleStore, pool: asyncpg.Pool
) -> None:
    who = await make(people, "1")
    await done(changes, edit(who, names=[{"full_name": "Planted Person"}], occupation="planted job"))
    for table in ("change_request", "change_subject", "change_decision", "audit_event", "registrant_change"):
        for row in await pool.fetch(f"SELECT {table}::text AS text FROM {table}"):
            assert "lanted" not in row["text"]
            assert "Diallo" not in row["text"]
            assert b"lanted".hex() not in row["text"]


async def test_the_maker_never_decides_and_nobody_decides_twice(
    pool: asyncpg.Pool, vault: Vault, people: PeopleStore
) -> None:
    two = Policies([Policy(name="two", steps=(Step(role="clerk"), Step(role="head", people=2)))])
    changes = ChangeStore(pool, vault, people, two)
    who = await make(people, "1")
    asked = await changes.submit(edit(who, language="fr"), MAKER)
    both = ("clerk", "head")
    assert (await refusal(changes.decide(asked.id, MAKER, both, agrees=True))).code == "change-maker-checks"
    assert (
        await refusal(changes.decide(asked.id, ADA, ("head",), agrees=True))
    ).code == "change-role-missing"
    assert (await changes.decide(asked.id, ADA, both, agrees=True)).step == 1
    assert (await refusal(changes.decide(asked.id, ADA, both, agrees=True))).code == "change-decided-twice"
    assert (await changes.decide(asked.id, BEN, both, agrees=True)).state == "pending"
    assert (await changes.decide(asked.id, "user:cy", both, agrees=True)).state == "applied"
    late = await refusal(changes.decide(asked.id, "user:dan", both, agrees=True))
    assert late.code == "change-state-wrong"


async def test_the_database_itself_keeps_maker_and_checker_apart(
    changes: ChangeStore, people: PeopleStore, pool: asyncpg.Pool
) -> None:
    asked = await changes.submit(edit(await make(people, "1"), language="fr"), MAKER)
    with pytest.raises(asyncpg.CheckViolationError):
        await pool.execute(
            "INSERT INTO change_decision (request_id, step, role, actor, maker, agreed) "
            "VALUES ($1, 0, 'approver', $2, 'somebody else', true)", asked.id, MAKER,
        )  # fmt: skip


async def test_two_who_agree_at_once_have_one_effect(changes: ChangeStore, people: PeopleStore) -> None:
    who = await make(people, "1")
    asked = await changes.submit(edit(who, language="fr"), MAKER)
    ended = await asyncio.gather(
        *(changes.decide(asked.id, actor, ROLES, agrees=True) for actor in (ADA, BEN, "user:cy")),
        *(changes.apply(asked.id, "hub") for _ in range(3)),
        return_exceptions=True,
    )
    assert all(isinstance(each, Request | HubError) for each in ended), ended
    after = await changes.get(asked.id)
    assert (after.state, len(after.decisions)) == ("applied", 1)
    assert len(await people.history(who)) == 2


async def test_a_refused_change_changes_nothing_and_stays_refused(
    changes: ChangeStore, people: PeopleStore
) -> None:
    who = await make(people, "1")
    asked = await changes.submit(edit(who, language="fr"), MAKER)
    named = changes.decide(asked.id, ADA, ROLES, agrees=False, reason="Amina Diallo lied")
    assert (await refusal(named)).code == "reason-invalid"
    refused = await changes.decide(asked.id, ADA, ROLES, agrees=False)
    assert (refused.state, refused.reason) == ("rejected", "refused")
    assert (await refusal(changes.apply(asked.id, BEN))).code == "change-state-wrong"
    assert "language" not in await told(people, who)


async def test_only_the_maker_cancels(changes: ChangeStore, people: PeopleStore) -> None:
    asked = await changes.submit(edit(await make(people, "1"), language="fr"), MAKER)
    assert (await refusal(changes.cancel(asked.id, ADA))).code == "change-not-maker"
    assert (await changes.cancel(asked.id, MAKER)).state == "cancelled"
    assert (await refusal(changes.decide(asked.id, ADA, ROLES, agrees=True))).code == "change-state-wrong"
    assert await changes.listed() == []


async def test_a_draft_waits_until_its_maker_hands_it_in(changes: ChangeStore, people: PeopleStore) -> None:
    asked = await changes.submit(edit(await make(people, "1"), language="fr"), MAKER, draft=True)
    assert (asked.state, asked.waits_for) == ("draft", None)
    assert (await refusal(changes.decide(asked.id, ADA, ROLES, agrees=True))).code == "change-state-wrong"
    assert (await refusal(changes.hand_in(asked.id, ADA))).code == "change-not-maker"
    assert (await changes.hand_in(asked.id, MAKER)).state == "pending"


async def test_the_same_field_changed_by_others_is_a_conflict_that_names_it(
    changes: ChangeStore, people: PeopleStore
) -> None:
    who = await make(people, "1")
    asked = await changes.submit(
        edit(who, area_code="SL01", names=[{"full_name": "X"}], marital_status="married"), MAKER
    )
    same = {"identifiers": [ident("1")], "area_code": "SL02", "marital_status": "widowed", "sex": "female"}
    await people.upsert(same, source="other")
    caught = await refusal(changes.decide(asked.id, ADA, ROLES, agrees=True))
    assert caught.code == "change-conflict"
    assert "area_code, marital_status since" in caught.detail
    after = await changes.get(asked.id)
    assert (after.state, after.reason, after.conflicts) == (
        "rejected", "change-conflict", ["area_code", "marital_status"],
    )  # fmt: skip
    assert (await told(people, who))["area_code"] == "SL02"


async def test_other_fields_changed_by_others_are_no_conflict(
    changes: ChangeStore, people: PeopleStore
) -> None:
    who = await make(people, "1", attributes={"roof": "tin"})
    asked = await changes.submit(edit(who, language="fr", attributes={"roof": "tile"}), MAKER)
    await people.upsert(
        {"identifiers": [ident("1"), ident("2")], "sex": "female", "attributes": {"wall": "mud"}}, source="o"
    )
    assert (await changes.decide(asked.id, ADA, ROLES, agrees=True)).state == "applied"
    assert (await told(people, who))["attributes"] == {"roof": "tile", "wall": "mud"}


async def test_a_change_made_on_an_old_version_is_refused_at_once(
    changes: ChangeStore, people: PeopleStore, pool: asyncpg.Pool
) -> None:
    who = await make(people, "1")
    await people.upsert({"identifiers": [ident("1")], "language": "en"}, source="other")
    old = changes.submit(edit(who, language="fr"), MAKER, bases={who: 1})
    assert (await refusal(old)).code == "change-conflict"
    future = changes.submit(edit(who, language="fr"), MAKER, bases={who: 9})
    assert (await refusal(future)).code == "change-invalid"
    assert await pool.fetchval("SELECT count(*) FROM change_request") == 0


async def test_a_preview_says_before_and_after_field_by_field_and_leaves_a_trace(
    changes: ChangeStore, people: PeopleStore, pool: asyncpg.Pool
) -> None:
    who = await make(people, "1", sex="female")
    asked = await changes.submit(edit(who, sex="other", occupation="teacher"), MAKER)
    assert (await refusal(changes.preview(asked.id, " ", ADA))).code == "purpose-missing"
    before = await pool.fetchval("SELECT xmin::text FROM registrant WHERE id = $1", who)
    seen = await changes.preview(asked.id, "complaint 17", ADA)
    assert [(each.registrant, each.name, each.before, each.after) for each in seen.differences] == [
        (who, "occupation", None, "teacher"), (who, "sex", "female", "other"),
    ]  # fmt: skip
    assert "teacher" not in repr(seen)
    assert await pool.fetchval("SELECT xmin::text FROM registrant WHERE id = $1", who) == before
    assert len(await people.history(who)) == 1
    row = await pool.fetchrow("SELECT * FROM audit_event WHERE action = 'change.reveal'")
    assert row is not None
    assert (row["actor"], row["object_id"], row["details"]["purpose"]) == (ADA, str(who), "complaint 17")
    await people.upsert({"identifiers": [ident("1")], "sex": "male"}, source="other")
    late = await changes.preview(asked.id, "complaint 17", ADA)
    assert late.problem is not None
    assert (late.problem.code, late.differences) == ("change-conflict", ())


async def test_asking_twice_with_one_id_asks_once(changes: ChangeStore, people: PeopleStore) -> None:
    who, id_ = await make(people, "1"), uuid7()
    first = await changes.submit(edit(who, language="fr"), MAKER, id_=id_)
    assert await changes.submit(edit(who, language="fr"), MAKER, id_=id_) == first
    other = changes.submit(edit(who, language="en"), MAKER, id_=id_)
    assert (await refusal(other)).code == "change-id-reused"
    assert len(await changes.listed(registrant=who)) == 1


async def test_where_nobody_has_to_agree_it_is_made_at_once(
    pool: asyncpg.Pool, vault: Vault, people: PeopleStore
) -> None:
    free = Policy(name="free", types=("edit",), when="fields == ['language']", steps=())
    changes = ChangeStore(pool, vault, people, Policies([free]))
    who = await make(people, "1")
    assert (await changes.submit(edit(who, language="fr"), MAKER)).state == "applied"
    assert (await changes.submit(edit(who, language="en", sex="male"), MAKER)).state == "pending"


def test_an_unclear_condition_never_lets_a_change_pass_by_itself() -> None:
    unclear = "attributes[0] == 'roof'"
    facts = {"type": "edit", "fields": ["names"], "attributes": [], "area": "", "maker": MAKER}
    strict = Policy(name="strict", when=unclear, steps=(Step(role="head"),))
    lax = Policy(name="lax", when=unclear, steps=())
    assert Policies([lax, strict]).choose(facts).name == "strict"
    assert Policies([lax]).choose(facts).name == "one-other-person"
    assert Policies([lax]).choose(facts | {"attributes": ["roof"]}).name == "lax"


async def test_identifiers_are_added_and_ended_and_that_is_undone(
    changes: ChangeStore, people: PeopleStore, pool: asyncpg.Pool
) -> None:
    who = await make(people, "1")
    asked = {"type": "identify", "registrant": str(who), "add": [ident("77", "UIN")], "end": [ident("1")]}
    made = await done(changes, asked)
    assert await people.find_by_identifier("NID", "1") is None
    found = await people.find_by_identifier("UIN", "77")
    assert found is not None
    assert found.id == who
    again = await refusal(changes.submit({**asked, "add": []}, MAKER))
    assert again.code == "change-impossible"
    back = await changes.undo(made.id, MAKER)
    assert (back.undoes, back.waits_for) == (made.id, "approver")
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    assert await people.find_by_identifier("UIN", "77") is None
    found = await people.find_by_identifier("NID", "1")
    assert found is not None
    assert found.id == who


async def test_an_identifier_of_somebody_else_is_refused_when_asked_for(
    changes: ChangeStore, people: PeopleStore
) -> None:
    who, _ = await make(people, "1"), await make(people, "2")
    asked = {"type": "identify", "registrant": str(who), "add": [ident("2")]}
    caught = await refusal(changes.submit(asked, MAKER))
    assert caught.code == "identifier-ambiguous"


async def test_members_are_added_moved_and_removed(changes: ChangeStore, people: PeopleStore) -> None:
    a, b = await make(people, "1"), await make(people, "2")
    one, other = await group(people, "H1", head=a), await group(people, "H2", head=b)
    c = await make(people, "3")
    add = {"type": "add_member", "group": str(one), "member": str(c), "roles": ["child"], "on": "2025-01-01"}
    await done(changes, add)
    assert (await refusal(changes.submit(add, MAKER))).code == "change-impossible"
    move = {"type": "transfer_member", "member": str(c), "source": str(one), "destination": str(other),
            "roles": ["relative"], "on": "2025-06-01"}  # fmt: skip
    moved = await done(changes, move)
    on = date(2025, 5, 31)
    assert [each.member_id for each in await people.members(one, on)] == [a, c]
    assert [each.member_id for each in await people.members(one)] == [a]
    assert {tuple(each.roles) for each in await people.members(other)} == {("head",), ("relative",)}
    back = await changes.undo(moved.id, BEN)
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    assert [each.member_id for each in await people.members(one)] == [a, c]
    assert [each.member_id for each in await people.members(other)] == [b]
    gone = {"type": "remove_member", "group": str(one), "member": str(c), "on": "2025-07-01"}
    await done(changes, gone)
    assert [each.member_id for each in await people.members(one)] == [a]
    assert (await refusal(changes.submit(gone, MAKER))).code == "change-impossible"


async def test_the_head_changes_on_a_day_and_back(changes: ChangeStore, people: PeopleStore) -> None:
    a, b = await make(people, "1"), await make(people, "2")
    house = await group(people, "H1", head=a, spouse=b)
    made = await done(
        changes, {"type": "change_head", "group": str(house), "member": str(b), "on": "2025-01-01"}
    )

    async def roles(on: date) -> dict[UUID, set[str]]:
        return {each.member_id: set(each.roles) for each in await people.members(house, on)}

    before, after = {a: {"head"}, b: {"spouse"}}, {a: set(), b: {"head", "spouse"}}
    assert await roles(date(2024, 12, 31)) == before
    assert await roles(date(2025, 1, 1)) == after
    back = await changes.undo(made.id, MAKER)
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    assert await roles(date(2025, 1, 1)) == before
    again = await changes.undo(back.id, MAKER)
    await changes.decide(again.id, ADA, ROLES, agrees=True)
    assert await roles(date(2025, 1, 1)) == after
    assert await roles(date(2024, 12, 31)) == before


async def test_memberships_of_others_are_no_conflict_and_ones_own_are(
    changes: ChangeStore, people: PeopleStore
) -> None:
    a, b, c = [await make(people, each) for each in "123"]
    house = await group(people, "H1", head=a, spouse=b, child=c)
    end = {"type": "remove_member", "group": str(house), "member": str(b), "on": "2025-01-01"}
    one, two = await changes.submit(end, MAKER), await changes.submit(end, MAKER)
    await people.end_membership(house, c, source="o", actor="user:o", on=date(2025, 1, 1))
    assert (await changes.decide(one.id, ADA, ROLES, agrees=True)).state == "applied"
    caught = await refusal(changes.decide(two.id, ADA, ROLES, agrees=True))
    assert "Others changed memberships since" in caught.detail


async def test_a_group_is_made_and_taken_back(changes: ChangeStore, people: PeopleStore) -> None:
    a = await make(people, "1")
    household = {"name": "House of A", "memberships": [{"person_id": str(a), "roles": ["head"]}]}
    made = await done(changes, {"type": "create_group", "household": household})
    (house,) = [each for each in made.subjects if each != a]
    assert [each.member_id for each in await people.members(house)] == [a]
    back = await changes.undo(made.id, MAKER)
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    assert await people.members(house) == []
    found = await people.get(house)
    assert found is not None
    assert found.status == "inactive"
    await group(people, "H1", head=a)
    taken = {"identifiers": [ident("H1", "HH")], "memberships": []}
    caught = await refusal(changes.submit({"type": "create_group", "household": taken}, MAKER))
    assert caught.code == "change-impossible"


async def test_who_leaves_comes_back_by_undo(changes: ChangeStore, people: PeopleStore) -> None:
    who = await make(people, "1")
    made = await done(changes, {"type": "exit", "registrant": str(who), "reason": "moved abroad"})
    assert (await told(people, who))["disabled_reason"] == "moved abroad"
    caught = await refusal(changes.submit({"type": "exit", "registrant": str(who), "reason": "x"}, MAKER))
    assert caught.code == "change-impossible"
    back = await changes.undo(made.id, MAKER)
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    found = await people.get(who)
    assert found is not None
    assert found.status == "active"
    assert "disabled_reason" not in await told(people, who)


async def test_a_merge_is_previewed_made_and_undone(changes: ChangeStore, people: PeopleStore) -> None:
    keep, gone = await make(people, "1"), await make(people, "2", birthdate="1990-01-01")
    asked = await changes.submit({"type": "merge", "survivor": str(keep), "absorbed": str(gone)}, MAKER)
    seen = await changes.preview(asked.id, "check", ADA)
    named = {(each.registrant, each.name): each.after for each in seen.differences}
    assert (named[keep, "birthdate"], named[gone, "merged_into"]) == ("1990-01-01", str(keep))
    made = await changes.decide(asked.id, ADA, ROLES, agrees=True)
    found = await people.find_by_identifier("NID", "2")
    assert found is not None
    assert found.id == keep
    caught = await refusal(changes.submit(edit(gone, language="fr"), MAKER))
    assert caught.code == "change-impossible"
    assert str(keep) in caught.detail
    back = await changes.undo(made.id, MAKER)
    assert back.type == "split"
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    found = await people.find_by_identifier("NID", "2")
    assert found is not None
    assert found.id == gone
    one = await people.reveal(keep, "t", "user:t")
    assert isinstance(one, Person)
    assert (one.birthdate, len(one.identifiers)) == (None, 1)


async def test_an_edit_is_undone_field_by_field_and_only_once(
    changes: ChangeStore, people: PeopleStore
) -> None:
    who = await make(
        people, "1", sex="female", language="en", death_date="2026-01-02", marital_status="married"
    )
    before = await told(people, who)
    made = await done(
        changes,
        edit(who, names=[{"full_name": "B"}], sex=None, language="fr", death_date=None, marital_status="widowed",
             occupation="teacher", attributes={"roof": "tin"}),
    )  # fmt: skip
    assert await told(people, who) != before
    back = await changes.undo(made.id, BEN)
    assert (await refusal(changes.undo(made.id, MAKER))).code == "change-undone"
    await changes.decide(back.id, ADA, ROLES, agrees=True)
    assert await told(people, who) == before
    assert (await changes.get(made.id)).undone_by == back.id


async def test_an_undo_over_what_others_changed_since_is_a_conflict(
    changes: ChangeStore, people: PeopleStore
) -> None:
    who = await make(people, "1", language="en")
    made = await done(changes, edit(who, language="fr"))
    await people.upsert({"identifiers": [ident("1")], "language": "es"}, source="other")
    caught = await refusal(changes.undo(made.id, MAKER))
    assert (caught.code, "language" in caught.detail) == ("change-conflict", True)


@pytest.mark.parametrize(
    "asked",
    [
        {"type": "Planted"},
        {"type": "edit", "registrant": str(UUID(int=1)), "set": {"Planted": 1}},
        {"type": "edit", "registrant": str(UUID(int=1)), "set": {"identifiers": []}},
        {"type": "edit", "registrant": str(UUID(int=1)), "set": {}, "Planted": 1},
        {"type": "identify", "registrant": str(UUID(int=1))},
        {"type": "merge", "survivor": str(UUID(int=1)), "absorbed": str(UUID(int=1))},
        {"type": "exit", "registrant": "Planted", "reason": "x"},
    ],
)
async def test_what_is_no_change_is_refused_without_being_repeated(
    changes: ChangeStore, asked: dict[str, Any]
) -> None:
    caught = await refusal(changes.submit(asked, MAKER))
    assert caught.code == "change-invalid"
    assert "Planted" not in str(caught)


@pytest.mark.parametrize("field", [{"sex": "Planted"}, {"group_size": 3}, {"names": [{"Planted": "x"}]}])
async def test_a_value_the_model_does_not_take_is_refused_with_its_place(
    changes: ChangeStore, people: PeopleStore, field: dict[str, Any]
) -> None:
    caught = await refusal(changes.submit(edit(await make(people, "1"), **field), MAKER))
    assert (caught.code, (caught.pointer or "").startswith("/set/")) == ("change-invalid", True)
    assert "Planted" not in str(caught)


async def test_a_registrant_nobody_knows_is_refused(changes: ChangeStore) -> None:
    caught = await refusal(changes.submit(edit(UUID(int=9), language="fr"), MAKER))
    assert caught.code == "registrant-not-found"
    assert (await refusal(changes.get(UUID(int=9)))).code == "change-not-found"


async def test_requests_are_listed_page_by_page(changes: ChangeStore, people: PeopleStore) -> None:
    who = await make(people, "1")
    asked = [(await changes.submit(edit(who, language=each), MAKER)).id for each in ("fr", "en", "es")]
    first = await changes.listed(limit=2)
    rest = await changes.listed(limit=2, before=first[-1].id)
    assert [each.id for each in (*first, *rest)] == asked[::-1]
    assert await changes.listed(maker="user:other") == []
    assert await changes.listed(registrant=uuid7()) == []
    assert (await refusal(changes.listed(states=("wrong",)))).code == "filter-invalid"
