"""Parts of a program that an outside service decides: the question goes out once, the answers are taken once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from services.path import route
from services.programs import MAKER, World

from canonical_model.errors import Refused
from canonical_model.message import uuid7

REQUESTED = "org.openspp.decision.requested.v1"


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    routes = [
        route("pay", when={"type": "org.openspp.payment.*"}),
        route("scorer", when={"type": "org.openspp.decision.requested.v1"}),
    ]
    async with World(database_url, tmp_path, routes=routes) as found:
        yield found


async def asked(world: World) -> dict[str, Any]:
    return (await world.messages(REQUESTED))[-1].data


async def answer(world: World, message_id: UUID | None = None, **data: Any) -> Any:
    given = {"decision_id": (await asked(world))["decision_id"], **data}
    return await world.programs.apply_decision(given, source="/scorer", message_id=message_id or uuid7())


def rows(ids: Sequence[UUID], **more: Any) -> list[dict[str, Any]]:
    return [{"registrant": {"registrant_id": str(id_)}, **more} for id_ in ids]


async def test_a_service_says_who_is_eligible_in_as_many_parts_as_it_likes(world: World) -> None:
    ids = await world.persons(5)
    await world.program(managers={"eligibility": {"route": "scorer"}})
    assert ((await world.enroll()).result or {})["asked"] == 5
    question = await asked(world)
    assert (question["slot"], question["count"]) == ("eligibility", 5)
    found = [row["registrant_id"] async for row in world.programs.rows.stream(question["rows_claim"])]
    assert found == [str(id_) for id_ in ids]
    message = uuid7()
    assert (await answer(world, message, rows=rows(ids[:3], agreed=True))).changed
    assert (await answer(world, message, rows=rows(ids[:3], agreed=True))).repeated
    assert await world.programs.enrollments("cash") == {"draft": 2, "enrolled": 3}
    await answer(world, rows=rows(ids[3:], agreed=False, reason="score-low"))
    assert await world.programs.enrollments("cash") == {"enrolled": 3, "not_eligible": 2}
    # Once everybody is answered, nothing more is taken.
    assert not (await answer(world, rows=rows(ids[3:], agreed=True))).changed


async def test_a_service_says_how_much_each_gets_and_a_cap_still_caps(world: World) -> None:
    ids = await world.persons(3)
    await world.program(
        benefit={"amounts": [{"amount": "1"}], "most": 2500}, managers={"entitlement": {"route": "scorer"}}
    )
    await world.enroll()
    cycle = await world.opened()
    with pytest.raises(Refused) as refused:
        await world.programs.prepare(cycle.id, MAKER)
    assert refused.value.code == "cycle-incomplete"
    for minor, currency, code in ((-1, "KES", "amount-negative"), (1, "USD", "currency-mixed")):
        with pytest.raises(Refused) as refused:
            await answer(world, rows=rows(ids[:1], amount={"minor_units": minor, "currency": currency}))
        assert refused.value.code == code
    for id_, amount in zip(ids, (700, 9000, 0), strict=True):
        await answer(world, rows=rows([id_], amount={"minor_units": amount, "currency": "KES"}))
    await world.drive(await world.programs.prepare(cycle.id, MAKER))
    assert [one["amount"] for one in await world.programs.entitlements(cycle.id)] == [700, 2500]


async def test_a_service_says_who_is_in_twice(world: World) -> None:
    ids = await world.persons(3)
    await world.program(managers={"deduplication": {"route": "scorer"}})
    await world.enroll()
    await answer(world, rows=[*rows(ids[:2], agreed=True), *rows(ids[2:], agreed=False, reason="same-face")])
    assert await world.programs.enrollments("cash") == {"duplicated": 1, "enrolled": 2}


async def test_a_service_agrees_to_a_cycle_or_sends_it_back(world: World) -> None:
    await world.persons(2)
    await world.program(managers={"approval": {"route": "scorer"}})
    await world.enroll()
    cycle = await world.submitted()
    assert (await asked(world))["total"] == {"minor_units": 10_000, "currency": "KES"}
    with pytest.raises(Refused) as refused:
        await world.programs.approve(cycle.id, "user:chris", ["approver"])
    assert refused.value.code == "approval-role"
    await answer(world, agreed=False, reason="too-much")
    assert (await world.programs.cycle("cash", 1)).state == "draft"
    await world.drive(await world.pool.fetchval("SELECT id FROM job WHERE kind = 'cycle.reject'"))
    await world.drive(await world.programs.submit(cycle.id, MAKER))
    await answer(world, agreed=True)
    assert (await world.programs.cycle("cash", 1)).state == "approved"
    assert (await world.money())[1] == 10_000


async def test_an_answer_to_nothing_we_asked_is_refused(world: World) -> None:
    for data in ({"decision_id": uuid7().hex, "agreed": True}, {"decision_id": "x", "agreed": True}):
        with pytest.raises(Refused) as refused:
            await world.programs.apply_decision(data, source="/scorer", message_id=uuid7())
        assert refused.value.code == "decision-not-found"
    with pytest.raises(Refused) as refused:
        await world.programs.apply_decision({"decision_id": "x"}, source="/scorer", message_id=uuid7())
    assert refused.value.code == "decision-result-invalid"


async def test_without_the_route_nothing_is_asked_and_nobody_is_a_draft(
    database_url: str, tmp_path: Path
) -> None:
    async with World(database_url, tmp_path) as world:
        await world.persons(2)
        await world.program(managers={"eligibility": {"route": "scorer"}})
        with pytest.raises(Refused) as refused:
            await world.enroll()
        assert refused.value.code == "no-route"
        assert await world.programs.enrollments("cash") == {}
