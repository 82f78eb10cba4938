"""A program from who is eligible to what was paid; states and money kept by the database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path

import asyncpg
import pytest
from services.programs import CHECKER, END, MAKER, ROLE, START, World

from canonical_model.errors import Refused


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with World(database_url, tmp_path) as found:
        yield found


async def test_a_program_goes_from_its_rule_to_reconciled_payments(world: World) -> None:
    await world.persons(7, birthdate=date(1950, 1, 1))
    await world.persons(3, birthdate=date(2010, 1, 1))
    await world.program(eligibility="r.birthdate <= :as_of - 60 * 365")
    assert await world.programs.preview("cash") == {"eligible": 7, "enrolled": 0, "new": 7, "left_alone": 0}
    assert (await world.enroll()).result == {"enrolled": 7, "duplicated": 0}
    cycle = await world.distributed()
    assert (cycle.state, cycle.beneficiaries, cycle.entitlements, cycle.total) == (
        "distributed",
        7,
        7,
        35_000,
    )
    assert await world.money() == (10_000_000 - 35_000, 35_000, 0)
    rows = await world.fetch_all(cycle)
    assert [row["amount"] for row in rows] == [{"minor_units": 5000, "currency": "KES"}] * 7
    for row in await world.payments(cycle):
        await world.say(row["id"], "paid")
    account = await world.programs.reconcile(cycle.id)
    assert account["balanced"]
    assert (account["ordered"], account["paid"], account["failed"], account["unknown"]) == (
        35_000,
        35_000,
        0,
        0,
    )
    assert await world.money() == (10_000_000 - 35_000, 0, 35_000)
    await world.drive(await world.programs.end_cycle(cycle.id, MAKER))
    assert (await world.programs.cycle("cash", 1)).state == "ended"
    told = [one.data["status"] for one in await world.messages("org.openspp.cycle.changed.v1")]
    assert told == ["draft", "to_approve", "approved", "distributed", "ended"]


async def test_editing_the_registry_does_not_move_a_cycle_that_is_open(world: World) -> None:
    ids = await world.persons(5)
    await world.program(
        benefit={"kind": "cash", "amounts": [{"amount": "CASE WHEN r.sex = 'female' THEN 900 ELSE 100 END"}]}
    )
    await world.enroll()
    cycle = await world.opened()
    await world.pool.execute(
        "UPDATE registrant SET sex = 'female', version = version + 1 WHERE id = $1", ids[0]
    )
    await world.programs.define(
        {
            "code": "cash",
            "names": {"en": "x"},
            "currency": "KES",
            "fund": "main",
            "benefit": {"amounts": [{"amount": "1"}]},
        },
        "user:admin",
    )
    await world.drive(await world.programs.prepare(cycle.id, MAKER))
    given = await world.programs.entitlements(cycle.id)
    assert [one["amount"] for one in given] == [100] * 5


async def test_a_cap_only_lowers_and_a_condition_counts(world: World) -> None:
    ids = await world.persons(4)
    await world.pool.execute("UPDATE registrant SET attributes = '{\"points\": 40}' WHERE id = $1", ids[1])
    await world.pool.execute("UPDATE registrant SET sex = 'female' WHERE id = ANY ($1)", ids[2:])
    points = "(r.attributes ->> 'points')::int * 100"
    await world.program(
        benefit={
            "amounts": [
                {"amount": "200"},
                {"amount": points, "condition": "r.attributes ? 'points'", "most": 3000},
                {"amount": "1000", "condition": "r.sex = 'female'"},
            ],
            "most": 3100,
        }
    )
    await world.enroll()
    cycle = await world.prepared()
    given = {one["registrant_id"]: one["amount"] for one in await world.programs.entitlements(cycle.id)}
    assert [given[id_] for id_ in ids] == [200, 3100, 1200, 1200]


async def test_who_gets_nothing_has_no_entitlement_and_is_counted(world: World) -> None:
    ids = await world.persons(4)
    await world.pool.execute("UPDATE registrant SET sex = 'male' WHERE id = $1", ids[0])
    await world.program(benefit={"amounts": [{"amount": "700", "condition": "r.sex = 'male'"}]})
    await world.enroll()
    cycle = await world.opened()
    done = await world.drive(await world.programs.prepare(cycle.id, MAKER))
    assert done.result == {"entitlements": 1, "total": 700, "nothing_due": 3}


async def test_a_rule_that_gives_less_than_nothing_is_refused(world: World) -> None:
    await world.persons(2)
    await world.program(benefit={"amounts": [{"amount": "-5"}]})
    await world.enroll()
    with pytest.raises(Refused) as refused:
        await world.opened()
    assert refused.value.code == "amount-negative"
    assert await world.pool.fetchval("SELECT count(*) FROM cycle_beneficiary") == 0


async def test_a_rule_that_divides_by_zero_is_refused_in_words(world: World) -> None:
    await world.persons(2)
    await world.program(benefit={"amounts": [{"amount": "100 / (r.version - 1)"}]})
    await world.enroll()
    with pytest.raises(Refused) as refused:
        await world.opened()
    assert refused.value.code == "rule-failed"


async def test_cycles_of_one_program_never_share_a_day_and_a_double_click_opens_one(world: World) -> None:
    await world.persons(2)
    await world.program()
    await world.enroll()
    first, _, new = await world.programs.open_cycle("cash", MAKER, start=START, end=END)
    again, _, second_new = await world.programs.open_cycle("cash", MAKER, start=START, end=END)
    assert (new, second_new) == (True, False)
    assert first.id == again.id
    with pytest.raises(Refused) as refused:
        await world.programs.open_cycle("cash", MAKER, start=END, end=date(2026, 2, 28))
    assert refused.value.code == "cycle-overlaps"


async def test_a_schedule_opens_one_cycle_after_the_other(world: World) -> None:
    await world.program(schedule={"start": "2026-01-01", "rrule": "FREQ=MONTHLY;BYMONTHDAY=1;COUNT=2"})
    days = []
    for _ in range(2):
        cycle, job, _ = await world.programs.open_cycle("cash", MAKER)
        await world.drive(job)
        days.append((cycle.sequence, cycle.start_date, cycle.end_date))
    assert days[0] == (1, date(2026, 1, 1), date(2026, 1, 31))
    assert days[1][:2] == (2, date(2026, 2, 1))
    with pytest.raises(Refused) as refused:
        await world.programs.open_cycle("cash", MAKER)
    assert refused.value.code == "schedule-over"


async def test_a_household_receives_through_its_principal_recipient_else_its_head(world: World) -> None:
    head, recipient, child, widow = await world.persons(4)
    both = await world.group({head: ["head"], recipient: ["principal_recipient"], child: ["child"]})
    alone = await world.group({widow: ["head"]})
    nobody = await world.group({child: ["child"]})
    await world.program(target_type="group", benefit={"amounts": [{"amount": "1000"}]})
    await world.enroll()
    cycle = await world.approved()
    given = {one["registrant_id"]: one for one in await world.programs.entitlements(cycle.id)}
    assert given[both]["recipient_id"] == recipient
    assert given[alone]["recipient_id"] == widow
    assert (given[nobody]["recipient_id"], given[nobody]["held"]) == (None, "no-recipient")
    done = await world.distribute(cycle)
    assert (done.result or {})["payments"] == 2
    assert (done.result or {})["held"] == 1
    # Once the household has a head, resuming it lets the next distribution pay.
    await world.pool.execute("UPDATE membership SET roles = '{head}' WHERE group_id = $1", nobody)
    assert await world.programs.resume([given[nobody]["id"]], MAKER) == {"resumed": 1, "unchanged": 0}
    await world.distribute(cycle)
    assert [row["recipient_id"] for row in await world.payments(cycle)][-1] == child


async def test_goods_are_handed_out_once_within_their_days_and_move_no_money(world: World) -> None:
    await world.persons(2)
    rice = {"product_code": "RICE", "quantity": "12.5", "unit": "KGM"}
    await world.program(fund=None, benefit={"kind": "in_kind", "items": [rice], "valid_days": 30})
    await world.enroll()
    today = await world.pool.fetchval("SELECT current_date")
    cycle = await world.distributed(start=today, end=today)
    (one, _) = await world.programs.entitlements(cycle.id)
    assert one["items"] == [rice]
    assert [await world.programs.redeem(cycle.id, one["id"], "user:shop") for _ in range(2)] == [True, False]
    before = await world.distributed(start=START, end=END)
    (over, _) = await world.programs.entitlements(before.id)
    with pytest.raises(Refused) as refused:
        await world.programs.redeem(before.id, over["id"], "user:shop")
    assert refused.value.code == "entitlement-over"
    assert await world.pool.fetchval("SELECT count(*) FROM fund_entry") == 0


async def test_a_cycle_is_approved_only_by_somebody_else_of_the_role(world: World) -> None:
    await world.persons(2)
    await world.program()
    await world.enroll()
    cycle = await world.submitted()
    for actor, roles, code in ((MAKER, ROLE, "approval-own"), (CHECKER, ["auditor"], "approval-role")):
        with pytest.raises(Refused) as refused:
            await world.programs.approve(cycle.id, actor, roles)
        assert refused.value.code == code
    assert (await world.programs.cycle("cash", 1)).state == "to_approve"


async def test_of_cycles_opened_at_once_that_share_a_day_one_is_opened(world: World) -> None:
    await world.persons(2)
    await world.program()
    await world.enroll()
    ends = (date(2026, 1, 31), date(2026, 2, 28), date(2026, 3, 31))
    answers = await asyncio.gather(
        *(world.programs.open_cycle("cash", MAKER, start=START, end=end) for end in ends),
        return_exceptions=True,
    )
    refused = [one.code for one in answers if isinstance(one, Refused)]
    assert refused == ["cycle-overlaps"] * 2
    assert await world.pool.fetchval("SELECT count(*) FROM cycle") == 1


async def test_work_asked_for_twice_at_once_is_one_job_and_other_work_waits(world: World) -> None:
    await world.persons(10)
    await world.program()
    await world.enroll()
    cycle = await world.opened()
    jobs = await asyncio.gather(*(world.programs.prepare(cycle.id, MAKER) for _ in range(3)))
    assert len(set(jobs)) == 1
    with pytest.raises(Refused) as refused:
        await world.programs.cancel_cycle(cycle.id, MAKER)
    assert refused.value.code == "cycle-busy"
    await asyncio.gather(*(world.drive(jobs[0]) for _ in range(3)))
    assert len(await world.programs.entitlements(cycle.id)) == 10
    assert (await world.programs.cycle("cash", 1)).total == 50_000


async def test_preparing_that_was_cancelled_goes_on_where_it_was(world: World) -> None:
    await world.persons(10)
    await world.program()
    await world.enroll()
    cycle = await world.opened()
    job = await world.programs.prepare(cycle.id, MAKER)
    await world.pool.execute("UPDATE job SET cancel = true WHERE id = $1", job)
    assert (await world.drive(job)).state == "cancelled"
    with pytest.raises(Refused) as refused:
        await world.programs.submit(cycle.id, MAKER)
    assert refused.value.code == "cycle-incomplete"
    await world.drive(await world.programs.prepare(cycle.id, MAKER))
    assert (await world.programs.cycle("cash", 1)).entitlements == 10


async def test_registrants_are_never_deleted_not_even_while_somebody_enrolls_them(world: World) -> None:
    (one, other) = await world.persons(2)
    await world.program()
    async with world.pool.acquire() as connection:
        enrolling = connection.transaction()
        await enrolling.start()
        # Not committed yet, so that nobody else sees it.
        await connection.execute(
            "INSERT INTO enrollment (program_id, registrant_id, state, enrollment_date, cause, actor) "
            "SELECT id, $1, 'enrolled', current_date, 'rule', 'x' FROM program",
            one,
        )
        for statement in (
            f"DELETE FROM registrant WHERE id = '{one}'",
            f"DELETE FROM registrant WHERE id = '{other}'",
            "DELETE FROM registrant WHERE false",
        ):
            with pytest.raises(asyncpg.ForeignKeyViolationError):
                await world.pool.execute(statement)
        await enrolling.commit()
    assert await world.pool.fetchval("SELECT count(*) FROM registrant") == 2


def test_nothing_of_the_hub_deletes_registrants() -> None:
    root = Path(__file__).parents[2]
    floors = ("canonical_model", "mappings", "registry", "routing", "connectors", "adapters", "deploy")
    told = [path for floor in floors for end in ("py", "sql") for path in (root / floor).rglob(f"*.{end}")]
    assert len(told) > 200
    deleting = re.compile(r"(DELETE FROM|TRUNCATE)\s+(ONLY\s+)?registrant\b(?!_)", re.IGNORECASE)
    assert [path.name for path in told if deleting.search(path.read_text(encoding="utf-8"))] == []
