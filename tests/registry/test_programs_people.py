"""Who is in and who is held: what a person decided stays, who died is not paid, a batch that has not gone out can be stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from services.programs import CHECKER, MAKER, World, terms

from canonical_model.errors import ConfigError, Refused
from canonical_model.message import uuid7
from canonical_model.program import ProgramStatus
from registry.programs import EXIT, PAUSE, RESUME, VoucherChecker
from routing.replay import Actor, Replayer


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(database_url, tmp_path) as found:
        yield found


async def states(world: World, code: str = "cash") -> dict[UUID, str]:
    rows = await world.pool.fetch(
        "SELECT registrant_id, e.state FROM enrollment e JOIN program p ON p.id = e.program_id WHERE p.code = $1",
        code,
    )
    return {row[0]: row[1] for row in rows}


async def test_a_mass_enrollment_never_undoes_what_a_person_decided(world: World) -> None:
    ids = await world.persons(8)
    await world.program()
    await world.enroll()
    await world.programs.move_enrollments("cash", ids[:2], PAUSE, "user:desk", reason="moved-away")
    await world.programs.move_enrollments("cash", ids[2:3], EXIT, "user:desk", reason="asked")
    done = await world.enroll()
    assert done.result == {"enrolled": 0, "duplicated": 0}
    assert await world.programs.preview("cash") == {"eligible": 8, "enrolled": 5, "new": 0, "left_alone": 3}
    assert await world.programs.enroll_list("cash", ids, "user:desk") == {
        "enrolled": 1,
        "unfit": 0,
        "unchanged": 7,
    }
    found = await states(world)
    assert [found[one] for one in ids[:3]] == ["paused", "paused", "enrolled"]
    # Not even by hand, in the database.
    with pytest.raises(asyncpg.CheckViolationError):
        await world.pool.execute(
            "UPDATE enrollment SET state = 'enrolled', cause = 'rule' WHERE registrant_id = $1", ids[0]
        )
    assert await world.programs.move_enrollments("cash", ids[:3], RESUME, "user:desk") == {
        "enrolled": 2,
        "unchanged": 1,
    }


async def test_every_state_an_enrollment_had_is_kept_with_who_and_why(world: World) -> None:
    (one,) = await world.persons(1)
    await world.program()
    await world.enroll()
    await world.programs.move_enrollments("cash", [one], PAUSE, "user:desk", reason="moved-away")
    await world.programs.move_enrollments("cash", [one], RESUME, "user:head", reason="back")
    found = await world.programs.place("cash", one)
    assert [(row["state"], row["cause"], row["reason"], row["actor"]) for row in found] == [
        ("enrolled", "rule", "eligible", MAKER),
        ("paused", "person", "moved-away", "user:desk"),
        ("enrolled", "person", "back", "user:head"),
    ]
    assert [row["until"] for row in found][:2] == [row["since"] for row in found][1:]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await world.pool.execute("DELETE FROM enrollment_past")


async def test_a_double_click_on_enroll_is_one_job(world: World) -> None:
    await world.persons(5)
    await world.program()
    jobs = await asyncio.gather(*(world.programs.enroll("cash", MAKER) for _ in range(4)))
    assert len(set(jobs)) == 1
    await asyncio.gather(*(world.drive(jobs[0]) for _ in range(3)))
    assert await world.programs.enrollments("cash") == {"enrolled": 5}
    assert await world.pool.fetchval("SELECT count(*) FROM job") == 1


async def test_a_list_tells_who_does_not_fit(world: World) -> None:
    ids = await world.persons(2)
    gone = await world.persons(1, status="deceased")
    group = await world.group({ids[0]: ["head"]})
    await world.program()
    done = await world.programs.enroll_list("cash", [*ids, *gone, group, uuid7()], "user:desk")
    assert done == {"enrolled": 2, "unfit": 3, "unchanged": 0}
    with pytest.raises(Refused) as refused:
        await world.programs.enroll_list("cash", [], "user:desk")
    assert refused.value.code == "list-length"


async def test_groups_that_share_a_member_are_in_once(world: World) -> None:
    a, b, c, d = await world.persons(4)
    first = await world.group({a: ["head"], b: ["child"]})
    second = await world.group({b: ["head"], c: ["child"]})
    third = await world.group({c: ["head"], d: ["child"]})
    await world.program(target_type="group", managers={"deduplication": {"builtin": "one_per_person"}})
    assert (await world.enroll()).result == {"enrolled": 2, "duplicated": 1}
    # The third shares a member with the second only, which is out.
    assert await states(world) == {first: "enrolled", second: "duplicated", third: "enrolled"}


async def test_one_of_each_household_is_in(world: World) -> None:
    a, b, c = await world.persons(3)
    await world.group({a: ["head"], b: ["spouse"]})
    await world.program(managers={"deduplication": {"builtin": "one_per_household"}})
    await world.enroll()
    assert await states(world) == {a: "enrolled", b: "duplicated", c: "enrolled"}


async def test_a_paused_program_enrolls_nobody_and_an_ended_one_stays_ended(world: World) -> None:
    await world.persons(1)
    await world.program()
    await world.programs.set_state("cash", ProgramStatus.PAUSED, "user:admin")
    for call in (
        world.programs.enroll("cash", MAKER),
        world.programs.open_cycle("cash", MAKER, start=date(2026, 1, 1)),
    ):
        with pytest.raises(Refused) as refused:
            await call
        assert refused.value.code == "program-state"
    await world.programs.set_state("cash", ProgramStatus.ENDED, "user:admin")
    with pytest.raises(Refused):
        await world.programs.set_state("cash", ProgramStatus.ACTIVE, "user:admin")


@pytest.mark.parametrize(
    "wrong",
    [
        {"benefit": {"kind": "cash", "amounts": []}},
        {"benefit": {"kind": "in_kind", "amounts": [{"amount": "1"}]}},
        {"benefit": {"amounts": [{"amount": "1", "most": -5}]}},
        {"fund": None},
        {"currency": "XAU"},
        {"managers": {"approval": {"steps": [{"role": "boss", "above": 5}]}}},
        {"managers": {"payment": {"builtin": "batch", "route": "bank"}}},
        {"managers": {"deduplication": {"builtin": "one_per_person"}}},
        {"schedule": {"start": "2026-01-01", "rrule": "FREQ=SECONDLY"}},
        {"schedule": {"rrule": "FREQ=MONTHLY"}},
        {"schedule": {"start": "2026-01-01", "rrule": "FREQ=NEVER"}},
        {"unknown": 1},
        {"code": "Not a code"},
    ],
)
async def test_terms_that_cannot_be_are_refused_with_the_place(
    world: World, wrong: dict[str, object]
) -> None:
    with pytest.raises(Refused) as refused:
        await world.programs.define(
            terms(**wrong) if "code" not in wrong else {**terms(), **wrong}, "user:admin"
        )
    assert refused.value.code == "program-invalid"


async def died(world: World, *ids: UUID) -> int:
    async with world.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE registrant SET status = 'deceased' WHERE id = ANY ($1)", list(ids))
        return await world.programs.on_registrant_status(connection, list(ids))


async def test_a_death_takes_the_payment_out_of_a_batch_that_has_not_gone_out(world: World) -> None:
    ids = await world.persons(3)
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    assert await died(world, ids[1]) == 1
    old, new = await world.messages("org.openspp.payment.batch_instructed.v1")
    assert (old.data["count"], new.data["count"], new.data["total"]["minor_units"]) == (3, 2, 10_000)
    with pytest.raises(Refused) as refused:
        async for _ in world.programs.rows.stream(old.data["rows_claim"]):
            pass
    assert refused.value.code == "batch-superseded"
    rows = [row async for row in world.programs.rows.stream(new.data["rows_claim"])]
    assert [UUID(row["payee"]["registrant_id"]) for row in rows] == [ids[0], ids[2]]
    # Fetched again, after a break, it is the same.
    assert [row async for row in world.programs.rows.stream(new.data["rows_claim"])] == rows
    account = await world.programs.reconcile(cycle.id)
    assert (account["ordered"], account["cancelled"], account["unknown"], account["balanced"]) == (
        15_000,
        5000,
        10_000,
        True,
    )
    (held,) = await world.programs.entitlements(cycle.id, held="registrant-deceased")
    assert held["registrant_id"] == ids[1]
    assert await world.programs.resume([held["id"]], MAKER) == {"resumed": 0, "unchanged": 1}
    assert (await states(world))[ids[1]] == "exited"


async def test_a_death_after_the_batch_went_out_stops_only_what_comes_later(world: World) -> None:
    ids = await world.persons(2)
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    await died(world, ids[0])
    assert {row["state"] for row in await world.payments(cycle)} == {"sent"}
    payment = next(iter(await world.payments(cycle)))
    await world.say(payment["id"], "failed")
    await world.distribute(cycle)
    assert len(await world.payments(cycle)) == 2


async def test_a_death_before_distribution_stops_a_household_until_somebody_else_receives(
    world: World,
) -> None:
    head, spouse = await world.persons(2)
    group = await world.group({head: ["head"], spouse: ["spouse"]})
    await world.program(target_type="group")
    await world.enroll()
    cycle = await world.approved()
    assert await died(world, head) == 1
    assert (await world.distribute(cycle)).result == {"batches": 0, "payments": 0, "ordered": 0, "held": 1}
    await world.pool.execute("UPDATE membership SET roles = '{}' WHERE member_id = $1", head)
    await world.pool.execute("UPDATE membership SET roles = '{head}' WHERE member_id = $1", spouse)
    (held,) = await world.programs.entitlements(cycle.id)
    await world.programs.resume([held["id"]], MAKER)
    await world.distribute(cycle)
    assert [row["recipient_id"] for row in await world.payments(cycle)] == [spouse]
    assert (await states(world))[group] == "enrolled"


async def test_whoever_died_without_anybody_telling_is_still_not_paid(world: World) -> None:
    ids = await world.persons(2)
    await world.program()
    await world.enroll()
    cycle = await world.approved()
    await world.pool.execute("UPDATE registrant SET status = 'deceased' WHERE id = $1", ids[0])
    await world.distribute(cycle)
    assert [row["recipient_id"] for row in await world.payments(cycle)] == [ids[1]]


async def test_a_batch_is_recalled_before_it_goes_out_and_not_after(world: World) -> None:
    await world.persons(2)
    await world.program()
    await world.enroll()
    cycle = await world.distributed()
    batch = await world.pool.fetchval("SELECT id FROM payment_batch")
    assert await world.programs.recall(batch, "wrong-bank", MAKER) == {"recalled": 2, "late": 0}
    assert await world.fetch_all(cycle) == []
    held = await world.programs.entitlements(cycle.id, held="wrong-bank")
    await world.programs.resume([one["id"] for one in held], MAKER)
    await world.distribute(cycle)
    assert len(await world.fetch_all(cycle)) == 2
    last = await world.pool.fetchval("SELECT id FROM payment_batch ORDER BY number DESC LIMIT 1")
    with pytest.raises(Refused) as refused:
        await world.programs.recall(last, "wrong-bank", MAKER)
    assert refused.value.code == "batch-fetched"


@pytest.mark.parametrize("after", ["expire", "release"])
async def test_who_has_no_verified_account_is_held_for_the_grace_only(world: World, after: str) -> None:
    ids = await world.persons(3)
    payment = {"account": "verified", "grace_days": 10, "after_grace": after}
    await world.program(managers={"payment": payment})
    await world.enroll()
    await world.programs.verify_accounts(ids[:1], "bank-a")
    cycle = await world.approved()
    assert ((await world.distribute(cycle)).result or {})["held"] == 2
    await world.programs.verify_accounts(ids[1:2], "bank-a")
    today = datetime.now(UTC).date()
    assert await world.programs.grace(cycle.id, MAKER, today) == {"verified": 1, "released": 0, "expired": 0}
    later = await world.programs.grace(cycle.id, MAKER, today + timedelta(days=11))
    assert later == {"verified": 0, "released": after == "release", "expired": after == "expire"}
    await world.distribute(cycle)
    assert len(await world.payments(cycle)) == (3 if after == "release" else 2)
    assert (await world.money())[1] == 5000 * (3 if after == "release" else 2)


async def test_an_entitlement_cancelled_before_approval_is_not_reserved(world: World) -> None:
    await world.persons(3)
    await world.program()
    await world.enroll()
    cycle = await world.submitted()
    one = (await world.programs.entitlements(cycle.id))[0]
    assert await world.programs.cancel_entitlements([one["id"]], "double", MAKER) == {
        "cancelled": 1,
        "unchanged": 0,
    }
    done = await world.programs.approve(cycle.id, CHECKER, ["approver"])
    assert (await world.money())[1] == 10_000
    assert done.job is not None
    await world.drive(done.job)
    two = (await world.programs.entitlements(cycle.id, state="approved"))[0]
    await world.programs.cancel_entitlements([two["id"]], "double", MAKER)
    assert (await world.money())[1] == 5000


async def test_a_voucher_is_checked_without_a_connection_and_taken_once(world: World) -> None:
    await world.persons(2)
    start = datetime.now(UTC).date()
    await world.program(benefit={"kind": "voucher", "amounts": [{"amount": "25000"}], "valid_days": 30})
    await world.enroll()
    cycle = await world.distributed(start=start, end=start)
    one, two = await world.programs.vouchers(cycle.id)
    assert len(one["code"]) == 39
    given = one["code"].lower().replace("-", "")
    assert await world.programs.redeem_voucher(cycle.id, given, "user:shop") == (one["entitlement"], True)
    assert await world.programs.redeem_voucher(cycle.id, given, "user:shop") == (one["entitlement"], False)
    for code in (two["code"][:-1] + ("0" if two["code"][-1] != "0" else "1"), two["code"][:20], "", "٣" * 32):
        with pytest.raises(Refused) as refused:
            await world.programs.redeem_voucher(cycle.id, code, "user:shop")
        assert refused.value.code == "voucher-invalid"
    assert await world.money() == (10_000_000 - 50_000, 25_000, 25_000)
    assert given.upper() not in str(await world.pool.fetch("SELECT * FROM entitlement"))


async def test_changes_by_a_person_are_told_where_the_program_says_so(world: World) -> None:
    ids = await world.persons(2)
    await world.program(managers={"notification": {"builtin": "people"}})
    await world.enroll()
    await world.programs.move_enrollments("cash", ids, PAUSE, "user:desk", reason="moved-away")
    told = [one.data for one in await world.messages("org.openspp.enrollment.changed.v1")]
    assert sorted(one["registrant"]["registrant_id"] for one in told) == [str(id_) for id_ in ids]
    assert {(one["status"], one["reason"]) for one in told} == {("paused", "moved-away")}


async def singles(world: World) -> Any:
    for number in range(3):
        await world.person(str(number), account=f"KE-{number}")
    await world.program(managers={"payment": {"builtin": "single"}})
    await world.enroll()
    return await world.distributed()


async def test_a_payment_of_its_own_that_was_not_sent_is_stopped_by_a_hold(world: World) -> None:
    cycle = await singles(world)
    held = (await world.programs.entitlements(cycle.id))[0]
    done = await world.programs.hold([held["id"]], "complaint", MAKER)
    assert done == {"held": 1, "pulled": 1, "late": 0, "unchanged": 0}
    await world.start()
    await world.until(lambda rows: all(row["ended_at"] is not None for row in rows))
    ids = {row["id"].hex: row for row in await world.payments(cycle)}
    sent = {one.data["payment_id"] for one in world.bank.sent}
    assert len(sent) == 2
    (stopped,) = set(ids) - sent
    assert (ids[stopped]["state"], ids[stopped]["entitlement_id"]) == ("cancelled", held["id"])
    # Nobody sends it again by hand, and once resumed it is paid once, by a new order.
    replayer = Replayer(world.pool, world.vault.blind, world.intake.routes)
    (withdrawn,) = [row for row in await world.deliveries() if row["state"] == "cancelled"]
    assert (await replayer.replay(Actor("user:op"), delivery_id=withdrawn["id"])).done == 0
    await world.programs.resume([held["id"]], MAKER)
    await world.distribute(cycle)
    account = await world.programs.reconcile(cycle.id)
    assert (account["ordered"], account["cancelled"], account["balanced"]) == (20_000, 5000, True)


async def test_a_payment_that_is_on_its_way_is_told_and_not_stopped(world: World) -> None:
    cycle = await singles(world)
    all_ = [one["id"] for one in await world.programs.entitlements(cycle.id)]
    await world.pool.execute(
        "UPDATE delivery SET state = 'sending' WHERE id = (SELECT id FROM delivery WHERE state = 'queued' ORDER BY id LIMIT 1)"
    )
    await world.pool.execute(
        "UPDATE delivery SET state = 'waiting', code = 'outcome-unknown' WHERE id = "
        "(SELECT id FROM delivery WHERE state = 'queued' ORDER BY id DESC LIMIT 1)"
    )
    done = await world.programs.hold(all_, "complaint", MAKER)
    assert done == {"held": 3, "pulled": 1, "late": 2, "unchanged": 0}
    assert sorted(row["state"] for row in await world.payments(cycle)) == ["cancelled", "sent", "sent"]


async def test_a_death_stops_a_payment_of_its_own_and_a_batch_of_them_is_recalled(world: World) -> None:
    cycle = await singles(world)
    first = (await world.payments(cycle))[0]
    await died(world, first["recipient_id"])
    assert (await world.payments(cycle))[0]["state"] == "cancelled"
    batch = await world.pool.fetchval("SELECT id FROM payment_batch")
    assert await world.programs.recall(batch, "wrong-bank", MAKER) == {"recalled": 2, "late": 0}
    assert {row["state"] for row in await world.payments(cycle)} == {"cancelled"}


async def test_a_signed_voucher_is_checked_by_a_public_key_that_makes_none(world: World) -> None:
    await world.persons(2)
    start = datetime.now(UTC).date()
    await world.program(benefit={"kind": "voucher", "amounts": [{"amount": "25000"}], "valid_days": 30})
    await world.enroll()
    cycle = await world.distributed(start=start, end=start)
    one, two = await world.programs.vouchers(cycle.id)
    jwk = await world.programs.voucher_key(cycle.id)
    assert set(jwk) == {"kty", "crv", "x", "alg", "use", "kid"}
    checker = VoucherChecker.of(jwk)
    said = checker.read(one["signed"].lower().replace("-", ""))
    assert (said.number, said.amount, said.valid_until) == (one["number"], 25_000, one["valid_until"])
    changed = one["signed"][:-3] + ("00" if one["signed"][-3:-1] != "00" else "11") + one["signed"][-1]
    mixed = one["signed"][:20] + two["signed"][20:]
    for code in (changed, mixed, one["code"], one["signed"][:-1], "", "0" * 10_000):
        with pytest.raises(Refused) as refused:
            checker.read(code)
        assert refused.value.code == "voucher-invalid"
    with pytest.raises(Refused):
        VoucherChecker.of({**jwk, "kid": uuid7().hex}).read(one["signed"])
    with pytest.raises(ConfigError):
        VoucherChecker.of({**jwk, "x": "AAAA"})
    # Either code takes the voucher, once.
    assert await world.programs.redeem_voucher(cycle.id, one["signed"], "user:shop") == (
        one["entitlement"],
        True,
    )
    assert await world.programs.redeem_voucher(cycle.id, one["code"], "user:shop") == (
        one["entitlement"],
        False,
    )
