"""Approvals, funds, payments and their results: nothing twice, nothing overdrawn, nothing paid again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest
from services.path import route
from services.programs import CHECKER, MAKER, ROLE, SECOND, World, terms

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from canonical_model.money import Money
from canonical_model.payment import PaymentStatus
from canonical_model.program import CycleStatus

FEBRUARY = (date(2026, 2, 1), date(2026, 2, 28))


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(database_url, tmp_path) as found:
        yield found


async def ready(world: World, people: int = 4, **more: object) -> list[UUID]:
    ids = await world.persons(people)
    await world.program(**more)  # type: ignore[arg-type]
    await world.enroll()
    return ids


async def test_two_approvers_at_once_and_double_clicks_have_one_effect(world: World) -> None:
    await ready(world)
    cycle = await world.submitted()
    answers = await asyncio.gather(
        *(world.programs.approve(cycle.id, actor, ROLE) for actor in (CHECKER, CHECKER, SECOND, CHECKER)),
        return_exceptions=True,
    )
    done = [one for one in answers if not isinstance(one, BaseException)]
    assert sum(not one.repeated for one in done) == 1
    assert all(isinstance(one, Refused) for one in answers if isinstance(one, BaseException))
    assert await world.pool.fetchval("SELECT count(*) FROM cycle_approval") == 1
    assert await world.pool.fetchval("SELECT sum(amount) FROM fund_entry WHERE kind = 'reserve'") == 20_000
    assert await world.pool.fetchval("SELECT count(*) FROM job WHERE kind = 'cycle.approve'") == 1


async def test_steps_by_amount_need_different_people_in_order(world: World) -> None:
    steps = [
        {"role": "manager"},
        {"role": "finance", "above": 10_000},
        {"role": "minister", "above": 10_000_000},
    ]
    await ready(world, managers={"approval": {"builtin": "steps", "steps": steps}})
    cycle = await world.submitted()
    assert [step["role"] for step in cycle.steps] == ["manager", "finance"]
    first = await world.programs.approve(cycle.id, CHECKER, ["manager", "finance"])
    assert (first.done, first.needed, first.cycle.state) == (1, 2, "to_approve")
    with pytest.raises(Refused) as refused:
        await world.programs.approve(cycle.id, CHECKER, ["manager", "finance"], step=2)
    assert refused.value.code == "approval-twice"
    last = await world.programs.approve(cycle.id, SECOND, ["finance"], step=2)
    assert last.cycle.state == "approved"


async def test_a_cycle_sent_back_is_submitted_again_and_needs_a_new_approval(world: World) -> None:
    await ready(world)
    cycle = await world.submitted()
    await world.drive(await world.programs.reject(cycle.id, CHECKER, ROLE, "wrong-area"))
    assert {one["state"] for one in await world.programs.entitlements(cycle.id)} == {"draft"}
    await world.drive(await world.programs.submit(cycle.id, MAKER))
    done = await world.programs.approve(cycle.id, CHECKER, ROLE)
    assert (done.repeated, done.cycle.state) == (False, "approved")
    assert [(one["round"], one["agreed"]) for one in await world.programs.approvals(cycle.id)] == [
        (1, False),
        (2, True),
    ]


async def test_the_database_itself_keeps_maker_and_checker_apart_and_entitlements_behind_their_cycle(
    world: World,
) -> None:
    await ready(world)
    cycle = await world.submitted()
    with pytest.raises(asyncpg.CheckViolationError):
        await world.pool.execute(
            "INSERT INTO cycle_approval (cycle_id, round, step, role, actor, agreed) VALUES ($1, 1, 1, 'approver', $2, true)",
            cycle.id, MAKER,
        )  # fmt: skip
    for statement in (
        "UPDATE cycle SET state = 'approved'",
        "UPDATE cycle SET state = 'distributed'",
        "UPDATE entitlement SET state = 'approved'",
        "UPDATE entitlement SET amount = amount + 1",
        "UPDATE entitlement SET state = 'redeemed'",
    ):
        with pytest.raises(asyncpg.CheckViolationError):
            await world.pool.execute(statement)
    for statement in (
        "UPDATE fund SET deposited = 1",
        "UPDATE fund_entry SET amount = 1",
        "DELETE FROM cycle_beneficiary",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await world.pool.execute(statement)


async def test_a_fund_is_never_overdrawn_by_approvals_at_the_same_time(world: World) -> None:
    await ready(world, money=30_000)
    one = await world.submitted()
    two = await world.submitted("cash", *FEBRUARY)
    answers = await asyncio.gather(
        world.programs.approve(one.id, CHECKER, ROLE),
        world.programs.approve(two.id, SECOND, ROLE),
        return_exceptions=True,
    )
    refused = [one for one in answers if isinstance(one, Refused)]
    assert [one.code for one in refused] == ["fund-overdrawn"]
    assert await world.money() == (10_000, 20_000, 0)
    # What was refused left no trace, so it can be approved once there is money.
    states = {(await world.programs.cycle("cash", each.sequence)).state: each for each in (one, two)}
    waiting = states[CycleStatus.TO_APPROVE]
    assert await world.programs.approvals(waiting.id) == []
    await world.programs.move_money("main", "deposit", Money(minor_units=10_000, currency="KES"), "user:fin")
    assert (await world.programs.approve(waiting.id, CHECKER, ROLE)).cycle.state == "approved"


async def test_currencies_are_never_mixed_and_amounts_never_below_zero(world: World) -> None:
    await world.programs.make_fund("main", {"en": "Main"}, "KES", "user:fin")
    for money, code in (
        (Money(minor_units=5, currency="USD"), "currency-mixed"),
        (Money(minor_units=-5, currency="KES"), "amount-negative"),
    ):
        with pytest.raises(Refused) as refused:
            await world.programs.move_money("main", "deposit", money, "user:fin")
        assert refused.value.code == code
    with pytest.raises(Refused) as refused:
        await world.programs.define(terms(currency="USD"), "user:admin")
    assert refused.value.code == "currency-mixed"
    with pytest.raises(Refused) as refused:
        await world.programs.move_money("main", "withdraw", Money(minor_units=1, currency="KES"), "user:fin")
    assert refused.value.code == "fund-overdrawn"


async def test_a_deposit_repeated_with_its_key_counts_once(world: World) -> None:
    await world.programs.make_fund("main", {"en": "Main"}, "KES", "user:fin")
    money = Money(minor_units=500, currency="KES")
    made = [
        (await world.programs.move_money("main", "deposit", money, "user:fin", once="slip-1"))[1]
        for _ in range(2)
    ]
    assert made == [True, False]
    assert await world.money() == (500, 0, 0)


async def test_a_batch_is_one_message_in_the_transaction_of_its_payments(world: World) -> None:
    await ready(world, 5, managers={"payment": {"rows": 2}})
    cycle = await world.distributed()
    told = [one.data for one in await world.messages("org.openspp.payment.batch_instructed.v1")]
    assert [(one["count"], one["total"]["minor_units"]) for one in told] == [
        (2, 10_000),
        (2, 10_000),
        (1, 5_000),
    ]
    assert len(await world.fetch_all(cycle)) == 5
    assert {row["state"] for row in await world.payments(cycle)} == {"sent"}


async def test_without_a_route_for_it_nothing_is_ordered(database_url: str, tmp_path: Path) -> None:
    async with World(
        database_url, tmp_path, routes=[route("other", when={"type": "org.openspp.cycle.*"})]
    ) as world:
        await ready(world)
        cycle = await world.approved()
        with pytest.raises(Refused) as refused:
            await world.distribute(cycle)
        assert refused.value.code == "no-route"
        assert await world.payments(cycle) == []
        assert (await world.programs.cycle("cash", 1)).state == "approved"


async def test_payments_one_by_one_are_a_message_each_with_the_account(world: World) -> None:
    for number in range(3):
        await world.person(str(number), account=f"KE-{number}")
    await world.program(managers={"payment": {"builtin": "single"}})
    await world.enroll()
    cycle = await world.distributed()
    told = await world.messages("org.openspp.payment.instructed.v1")
    assert sorted(one.data["payment_id"] for one in told) == [
        row["id"].hex for row in await world.payments(cycle)
    ]
    assert {one.data["payee_account"]["account_number"] for one in told} == {"KE-0", "KE-1", "KE-2"}
    assert {row["state"] for row in await world.payments(cycle)} == {"sent"}


async def test_an_order_says_how_its_payee_would_rather_be_paid(world: World) -> None:
    preferences = {"cash": "cash", "none": None, "in words": "by my cousin, please"}
    ids = {await world.person(name): wish for name, wish in preferences.items()}
    for id_, wish in ids.items():
        await world.pool.execute(
            "UPDATE registrant SET attributes = jsonb_strip_nulls(jsonb_build_object('preferred_rail', $2::text)) WHERE id = $1",
            id_, wish,
        )  # fmt: skip
    await world.program()
    await world.enroll()
    rows = await world.fetch_all(await world.distributed())
    assert {row["payee"]["registrant_id"]: row.get("preferred_rail") for row in rows} == {
        str(id_): "cash" if wish == "cash" else None for id_, wish in ids.items()
    }


async def test_the_rows_of_a_batch_carry_name_and_account_and_leave_a_trace(world: World) -> None:
    await world.person("1", account="KE-111", currency="KES")
    await world.person("2", account="US-222", currency="USD")
    await world.program()
    await world.enroll()
    rows = await world.fetch_all(await world.distributed())
    assert rows[0]["payee_account"]["account_number"] == "KE-111"
    assert rows[0]["payee_name"]["full_name"] == "Amina Barasa 1"
    # An account in another currency is none; the rail then goes by who it is.
    assert "payee_account" not in rows[1]
    assert rows[1]["payee"]["identifiers"][0]["value"] == "NID-2"
    assert (
        await world.pool.fetchval("SELECT count(*) FROM audit_event WHERE action = 'payment_batch.fetch'")
        == 1
    )


async def test_every_result_is_counted_once_and_the_accounts_balance_to_the_minor_unit(world: World) -> None:
    await ready(world, 6)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    ids = [row["id"] for row in await world.payments(cycle)]
    message = uuid7()
    await world.say(ids[0], "paid", message_id=message, fee={"minor_units": 35, "currency": "KES"})
    assert (await world.say(ids[0], "paid", message_id=message)).repeated
    assert not (await world.say(ids[0], "paid")).changed
    await world.say(ids[1], "paid", 1999)
    await world.say(ids[2], "failed", reason_code="closed")
    await world.say(ids[3], "cancelled")
    await world.say(ids[4], "unknown")
    account = await world.programs.reconcile(cycle.id)
    assert {name: account[name] for name in ("ordered", "paid", "failed", "unknown", "cancelled", "fees")} == {
        "ordered": 30_000, "paid": 6999, "failed": 5000 + 3001, "unknown": 10_000, "cancelled": 5000, "fees": 35,
    }  # fmt: skip
    assert account["balanced"]
    assert await world.money() == (10_000_000 - 30_000 - 35, 30_000 - 6999, 6999)
    (fund,) = await world.programs.funds()
    assert fund["balanced"]
    assert (fund["fees"], fund["fees_due"]) == (35, 0)


KES35 = {"minor_units": 35, "currency": "KES"}


async def test_fees_come_from_what_the_fund_holds_beside_the_reserved_and_the_rest_stays_due(
    world: World,
) -> None:
    await ready(world, 4, money=20_050)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    ids = [row["id"] for row in await world.payments(cycle)]
    await asyncio.gather(
        world.say(ids[0], "paid", fee=KES35),
        world.say(ids[1], "failed", reason_code="closed", fee=KES35),
        world.say(ids[2], "paid", fee=KES35),
    )
    (fund,) = await world.programs.funds()
    assert (fund["fees"], fund["fees_due"], fund["available"], fund["balanced"]) == (50, 55, 0, True)
    # A repeat charges nothing again, and everybody who is owed is still paid.
    await world.say(ids[0], "paid", fee=KES35)
    await world.say(ids[3], "paid")
    after, _ = await world.programs.move_money(
        "main", "deposit", Money(minor_units=60, currency="KES"), "user:fin"
    )
    assert (after.fees, after.fees_due, after.available) == (105, 0, 5)
    with pytest.raises(Refused, match="fund"):
        await world.programs.move_money("main", "withdraw", Money(minor_units=6, currency="KES"), "user:fin")


async def test_fees_that_the_payee_bears_are_noted_and_not_taken(world: World) -> None:
    await ready(world, 2)
    await world.programs.bear_fees("main", "payee", "user:fin")
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    ids = [row["id"] for row in await world.payments(cycle)]
    await world.say(ids[0], "paid", fee=KES35)
    (fund,) = await world.programs.funds()
    assert (fund["fees"], fund["fees_due"], fund["fees_told"], fund["balanced"]) == (0, 0, 35, True)
    with pytest.raises(Refused) as refused:
        await world.programs.bear_fees("main", "nobody", "user:fin")
    assert refused.value.code == "fees-by-invalid"


async def test_what_failed_is_not_paid_again_until_a_person_resumes_it(world: World) -> None:
    await ready(world, 2)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    failed, paid = [row["id"] for row in await world.payments(cycle)]
    await world.say(failed, "failed")
    await world.say(paid, "paid", 4000)
    await world.distribute(cycle)
    assert len(await world.payments(cycle)) == 2
    held = await world.programs.entitlements(cycle.id)
    assert sorted(one["held"] for one in held) == ["payment-failed", "payment-partial"]
    await world.programs.resume([one["id"] for one in held], MAKER)
    await world.distribute(cycle)
    again = [(row["try"], row["amount"]) for row in await world.payments(cycle)]
    assert sorted(again[2:]) == [(2, 1000), (2, 5000)]


async def test_a_late_result_that_contradicts_waits_for_a_person(world: World) -> None:
    await ready(world, 1)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    (payment,) = await world.payments(cycle)
    await world.say(payment["id"], "failed")
    assert (await world.say(payment["id"], "paid")).disputed == "contradicts"
    assert (await world.programs.reconcile(cycle.id))["failed"] == 5000
    (dispute,) = await world.programs.disputes()
    done = await world.programs.decide(dispute["id"], "accepted", "user:fin", "statement of the bank")
    again = await world.programs.decide(dispute["id"], "accepted", "user:fin")
    assert (done["decision"], again["decided_at"]) == ("accepted", done["decided_at"])
    account = await world.programs.reconcile(cycle.id)
    assert (account["paid"], account["failed"], account["balanced"]) == (5000, 0, True)
    (entitlement,) = await world.programs.entitlements(cycle.id)
    assert (entitlement["state"], entitlement["paid"], entitlement["held"]) == ("redeemed", 5000, None)
    assert await world.programs.disputes() == []


@pytest.mark.parametrize(
    ("status", "paid", "more", "kind"),
    [
        ("paid", 5001, {}, "too_much"),
        ("paid", 0, {}, "no_amount"),
        ("paid", 5000, {"currency": "USD"}, "currency"),
        ("reversed", None, {}, "reversed_unpaid"),
        ("failed", 10, {}, "contradicts"),
    ],
)
async def test_a_result_that_makes_no_sense_changes_nothing_and_is_kept(
    world: World, status: str, paid: int | None, more: dict[str, str], kind: str
) -> None:
    await ready(world, 1)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    (payment,) = await world.payments(cycle)
    assert (await world.say(payment["id"], status, paid, **more)).disputed == kind
    assert (await world.say(uuid7(), "paid")).disputed == "not_ours"
    assert (await world.programs.reconcile(cycle.id))["unknown"] == 5000
    assert len(await world.programs.disputes()) == 2


async def test_paid_twice_by_a_late_result_takes_no_money_of_others(world: World) -> None:
    """First try failed, second paid, then the first turns out paid: accepted, it is reserved beyond what was reserved."""
    await ready(world, 2)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    first, other = [row["id"] for row in await world.payments(cycle)]
    await world.say(first, "failed")
    await world.programs.resume([(await world.payments(cycle))[0]["entitlement_id"]], MAKER)
    await world.distribute(cycle)
    await world.fetch_all(cycle)
    await world.say((await world.payments(cycle))[2]["id"], "paid")
    assert (await world.say(first, "paid")).disputed == "contradicts"
    (dispute,) = await world.programs.disputes()
    await world.programs.decide(dispute["id"], "accepted", "user:fin")
    assert await world.money() == (10_000_000 - 15_000, 5_000, 10_000)
    await world.say(other, "paid")
    assert (await world.programs.reconcile(cycle.id))["balanced"]
    assert await world.money() == (10_000_000 - 15_000, 0, 15_000)


async def test_money_that_came_back_is_counted_and_not_paid_again_by_itself(world: World) -> None:
    await ready(world, 2)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    one, two = [row["id"] for row in await world.payments(cycle)]
    await world.say(one, "paid")
    await world.say(two, "paid")
    await world.say(one, "reversed")
    await world.say(one, "reversed")
    await world.programs.give_back(
        two, Money(minor_units=1500, currency="KES"), "user:fin", "returned in cash"
    )
    account = await world.programs.reconcile(cycle.id)
    assert (account["paid"], account["returned"], account["balanced"]) == (10_000, 6500, True)
    assert await world.money() == (10_000_000 - 10_000, 6500, 3500)
    assert {row["held"] for row in await world.programs.entitlements(cycle.id)} == {"payment-returned"}
    await world.distribute(cycle)
    assert len(await world.payments(cycle)) == 2
    with pytest.raises(Refused) as refused:
        await world.programs.give_back(two, Money(minor_units=3501, currency="KES"), "user:fin", "too much")
    assert refused.value.code == "payment-state"
    await world.drive(await world.programs.end_cycle(cycle.id, MAKER))
    assert await world.money() == (10_000_000 - 3500, 0, 3500)


async def test_a_top_up_needs_two_people_and_pays_the_difference_only(world: World) -> None:
    await ready(world, 1)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    (payment,) = await world.payments(cycle)
    asked = await world.programs.ask_top_up(payment["entitlement_id"], 700, "flood", MAKER)
    with pytest.raises(Refused) as refused:
        await world.programs.decide_top_up(asked, agreed=True, actor=CHECKER)
    assert refused.value.code == "entitlement-state"
    await world.say(payment["id"], "paid")
    with pytest.raises(Refused) as refused:
        await world.programs.decide_top_up(asked, agreed=True, actor=MAKER)
    assert refused.value.code == "approval-own"
    for _ in range(2):
        assert (await world.programs.decide_top_up(asked, agreed=True, actor=CHECKER))["agreed"]
    await world.distribute(cycle)
    await world.fetch_all(cycle)
    assert [row["amount"] for row in await world.payments(cycle)] == [5000, 700]
    await world.say((await world.payments(cycle))[1]["id"], "paid")
    assert await world.money() == (10_000_000 - 5700, 0, 5700)


async def test_a_person_can_settle_what_the_rail_never_answered(world: World) -> None:
    await ready(world, 2)
    cycle = await world.distributed()
    await world.fetch_all(cycle)
    ids = [row["id"] for row in await world.payments(cycle)]
    with pytest.raises(Refused) as refused:
        await world.programs.end_cycle(cycle.id, MAKER)
    assert refused.value.code == "cycle-payments-open"
    assert await world.programs.settle(ids[:1], PaymentStatus.PAID, "user:fin", "paper list") == {
        "settled": 1,
        "unchanged": 0,
    }
    assert await world.programs.settle(ids, PaymentStatus.FAILED, "user:fin", "paper list") == {
        "settled": 1,
        "unchanged": 1,
    }
    await world.drive(await world.programs.end_cycle(cycle.id, MAKER))
    assert {row["state"] for row in await world.programs.entitlements(cycle.id)} == {"redeemed", "expired"}
    assert await world.money() == (10_000_000 - 5000, 0, 5000)


async def test_a_cancelled_cycle_gives_back_what_it_reserved(world: World) -> None:
    await ready(world)
    cycle = await world.approved()
    assert (await world.money())[1] == 20_000
    await world.drive(await world.programs.cancel_cycle(cycle.id, MAKER))
    assert await world.money() == (10_000_000, 0, 0)
    assert {row["state"] for row in await world.programs.entitlements(cycle.id)} == {"cancelled"}
    with pytest.raises(Refused) as refused:
        await world.distribute(cycle)
    assert refused.value.code == "cycle-state"
    # Its days are free again.
    assert (await world.opened()).sequence == 2
