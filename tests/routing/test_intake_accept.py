"""What 202 means: committed, once, whole, sealed; and what a repeat gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from services.path import MessagePath, everything_as_text, message, route

from canonical_model.errors import HubError, Refused, Unavailable
from canonical_model.message import Message
from registry.vault import aad
from routing.intake import Accepted, Intake
from routing.routes import parse_route

PLANTED = (
    "Zephyrine Oyelaran",
    "+254700999888",
    "NID-4471-8820-1",
    "sub-person-zephyrine",
    "origin-zephyrine-7",
)


@pytest.fixture
async def path(database_url: str, tmp_path: Path) -> AsyncIterator[MessagePath]:
    routes = [
        route("pay"),
        route("audit-copy", to="bank", order="none", copies=True),
        route("broken", when={"type": "org.openspp.*", "condition": "data.broken > 5"}, copies=True),
        route("by-household", when={"type": "org.openspp.household.*"}, order="data.household + 1"),
    ]
    async with MessagePath(database_url, tmp_path, routes, claim_check_bytes=4096) as found:
        yield found


async def accept(intake: Intake, one: Message, **options: Any) -> Accepted:
    return await intake.accept(
        one, partner=options.pop("partner", "ministry"), raw=options.pop("raw", b"raw"), **options
    )


async def test_an_accepted_message_is_committed_with_deliveries_outbox_and_audit(path: MessagePath) -> None:
    accepted = await accept(path.intake, message("p-1"), request_id="req-7")
    assert not accepted.duplicate
    # Another connection sees it: it was committed before the answer.
    row = await path.pool.fetchrow("SELECT * FROM message")
    assert row["id"] == accepted.message_id
    assert (row["partner"], row["routes"], row["request_id"]) == ("ministry", 2, "req-7")
    states = {r["route"]: r["state"] for r in await path.deliveries()}
    assert states == {"pay": "queued", "audit-copy": "queued"}
    assert await path.pool.fetchval("SELECT count(*) FROM outbox") == 2
    audit = await path.pool.fetchrow("SELECT * FROM audit_event")
    assert (audit["actor"], audit["action"], audit["object_id"]) == (
        "ministry",
        "message.accept",
        str(row["id"]),
    )


async def test_a_repeat_gets_exactly_the_first_answer(path: MessagePath) -> None:
    first = await accept(path.intake, message("p-1", originid="o-1"))
    again = await accept(path.intake, message("p-1", originid="o-1"))
    assert again.duplicate
    assert (again.message_id, again.accepted_at, again.routes) == (
        first.message_id,
        first.accepted_at,
        first.routes,
    )
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 1
    assert len(await path.deliveries()) == 2
    assert await path.pool.fetchval("SELECT count(*) FROM audit_event") == 1


async def test_the_first_answer_stands_when_the_routes_have_changed(path: MessagePath) -> None:
    first = await accept(path.intake, message("p-1", originid="o-1"))
    path.intake.routes = type(path.routes)([parse_route(route("pay"), "x")])
    again = await accept(path.intake, message("p-1", originid="o-1"))
    assert (again.duplicate, again.routes) == (True, first.routes)


async def test_an_id_with_another_body_is_refused_and_changes_nothing(path: MessagePath) -> None:
    await accept(path.intake, message("p-1", originid="o-1"), raw=b"one")
    with pytest.raises(Refused) as caught:
        await accept(path.intake, message("p-1", originid="o-1"), raw=b"two")
    assert caught.value.code == "message-id-reused"
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 1


async def test_two_partners_may_use_the_same_id(path: MessagePath) -> None:
    one = await accept(path.intake, message(originid="o-1"), partner="a")
    two = await accept(path.intake, message(originid="o-1"), partner="b")
    assert not one.duplicate
    assert not two.duplicate


async def test_of_many_at_once_with_one_id_one_is_stored(path: MessagePath) -> None:
    others = [path.new_intake() for _ in range(3)]
    answers = await asyncio.gather(
        *(accept(others[n % 3], message("p-1", originid="same")) for n in range(60)),
    )
    assert sum(not answer.duplicate for answer in answers) == 1
    assert len({answer.message_id for answer in answers}) == 1
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 1


async def test_of_many_bodies_under_one_id_one_is_stored(path: MessagePath) -> None:
    answers = await asyncio.gather(
        *(accept(path.intake, message(originid="same"), raw=b"%d" % n) for n in range(20)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, Accepted) for answer in answers) == 1
    assert all(
        isinstance(a, Accepted) or (isinstance(a, Refused) and a.code == "message-id-reused") for a in answers
    )


async def test_a_batch_is_stored_whole(path: MessagePath) -> None:
    answers = await path.intake.accept_all(
        [(message(f"p-{n}", originid=f"o-{n}"), b"raw") for n in range(20)], partner="ministry"
    )
    assert len(answers) == 20
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 20


async def test_a_batch_with_one_reused_id_is_stored_not_at_all(path: MessagePath) -> None:
    await accept(path.intake, message(originid="o-5"), raw=b"earlier")
    with pytest.raises(Refused):
        await path.intake.accept_all(
            [(message(originid=f"o-{n}"), b"raw") for n in range(20)], partner="ministry"
        )
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 1
    assert await path.pool.fetchval("SELECT count(*) FROM outbox") == 2


async def test_a_repeated_batch_gets_the_first_answers(path: MessagePath) -> None:
    items = [(message(originid=f"o-{n}"), b"raw") for n in range(5)]
    first = await path.intake.accept_all(items, partner="ministry")
    again = await path.intake.accept_all(
        [(message(originid=f"o-{n}"), b"raw") for n in range(5)], partner="ministry"
    )
    assert all(answer.duplicate for answer in again)
    assert [a.message_id for a in first] == [a.message_id for a in again]


async def test_a_long_list_keeps_the_order_of_each_subject(path: MessagePath) -> None:
    items = [(message(f"p-{n % 3}", place=n, pad="x" * (5000 if n == 0 else 0)), b"raw") for n in range(700)]
    answers = await path.intake.accept_many(items, partner="ministry")
    assert all(isinstance(answer, Accepted) for answer in answers)
    wanted = [one.id for one, _ in items]
    order = [r["message_id"] for r in await path.deliveries() if r["route"] == "pay"]
    for subject in range(3):
        mine = set(wanted[subject::3])
        assert [id_ for id_ in order if id_ in mine] == wanted[subject::3]


async def test_one_message_the_database_does_not_take_harms_no_other(path: MessagePath) -> None:
    # An instant that has no place on the calendar once it is in UTC.
    odd = message("p-0").model_copy(update={"time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))})
    results = await asyncio.gather(
        *(accept(path.intake, one) for one in (message("p-1"), odd, message("p-2"))), return_exceptions=True
    )
    assert isinstance(results[0], Accepted)
    assert isinstance(results[1], Exception)
    assert isinstance(results[2], Accepted)
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 2


async def test_when_the_database_is_away_every_caller_is_told(database_url: str, tmp_path: Path) -> None:
    async with MessagePath(database_url, tmp_path, [route()]) as path:
        await accept(path.intake, message("p-1"))
        await path.pool.close()
        results = await asyncio.gather(
            *(accept(path.intake, message(f"p-{n}")) for n in range(50)), return_exceptions=True
        )
        assert all(isinstance(result, Unavailable) for result in results)


async def test_a_type_no_route_takes_is_refused_and_not_stored(path: MessagePath) -> None:
    path.intake.routes = type(path.routes)([])
    with pytest.raises(Refused) as refused:
        await accept(path.intake, message("p-1"))
    assert refused.value.code == "no-route"
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 0


async def test_a_message_left_out_by_a_condition_is_accepted_and_kept(path: MessagePath) -> None:
    path.intake.routes = type(path.routes)(
        [
            parse_route(
                "{route: never, when: {type: 'org.openspp.*', condition: 'false'}, to: bank}", "never.yaml"
            )
        ]
    )
    accepted = await accept(path.intake, message("p-1"))
    assert accepted.routes == 0
    assert await path.pool.fetchval("SELECT routes FROM message") == 0
    assert not await path.deliveries()


async def test_a_condition_that_cannot_be_decided_makes_a_dead_letter(path: MessagePath) -> None:
    await accept(path.intake, message("p-1", broken="not a number Zephyrine"))
    rows = {r["route"]: r for r in await path.deliveries()}
    assert (rows["broken"]["state"], rows["broken"]["code"]) == ("dead", "route-condition-failed")
    assert "Zephyrine" not in rows["broken"]["reason"]
    assert rows["pay"]["state"] == "queued"
    assert await path.pool.fetchval("SELECT count(*) FROM outbox WHERE route = 'broken'") == 0


async def test_an_order_that_cannot_be_told_makes_a_dead_letter(path: MessagePath) -> None:
    await accept(path.intake, message("p-1", type_="org.openspp.household.changed.v1", household="Zephyrine"))
    rows = {r["route"]: r for r in await path.deliveries()}
    assert (rows["by-household"]["state"], rows["by-household"]["code"]) == ("dead", "route-condition-failed")
    assert rows["pay"]["state"] == "queued"


async def test_nothing_of_a_body_is_in_any_table(path: MessagePath) -> None:
    name, phone, number, subject, origin = PLANTED
    one = message(subject, originid=origin, name=name, phone=phone, identifier=number)
    large = message(subject, originid=origin + "-2", name=name, pad=name * 500)
    for each in (one, large):
        await path.intake.accept(each, partner="ministry", raw=each.to_json())
    text = await everything_as_text(path.pool)
    assert str(one.id) in text
    for planted in PLANTED:
        assert planted not in text
        assert planted.encode().hex() not in text


async def test_a_large_body_lies_sealed_in_the_object_store_and_comes_back(path: MessagePath) -> None:
    one = message("p-1", pad="Zephyrine " * 2000)
    await accept(path.intake, one)
    row = await path.pool.fetchrow("SELECT id, key_id, body, claim FROM message")
    assert row["body"] is None
    sealed = await path.objects.get(row["claim"])
    assert b"Zephyrine" not in sealed
    key = await path.vault.key(row["key_id"])
    opened = Message.from_stored(key.open(sealed, aad("message", "body", one.id.bytes)))
    assert opened.data == one.data


async def test_a_sealed_body_moved_to_another_row_does_not_open(path: MessagePath) -> None:
    one, two = message("p-1"), message("p-2")
    await accept(path.intake, one)
    row = await path.pool.fetchrow("SELECT key_id, body FROM message")
    key = await path.vault.key(row["key_id"])
    with pytest.raises(HubError) as caught:
        key.open(row["body"], aad("message", "body", two.id.bytes))
    assert caught.value.code == "sealed-value-broken"


async def test_acceptance_is_told_in_the_time_of_the_database(path: MessagePath) -> None:
    accepted = await accept(path.intake, message("p-1"))
    assert accepted.accepted_at == await path.pool.fetchval("SELECT accepted_at FROM message")
    assert abs((datetime.now(UTC) - accepted.accepted_at).total_seconds()) < 60


async def test_the_body_of_a_batch_is_hashed_once_and_others_get_their_turn(path: MessagePath) -> None:
    hashed: list[int] = []
    digest = type(path.vault.blind).digest

    class Counting(type(path.vault.blind)):  # type: ignore[misc]
        def digest(self, label: str, raw: bytes) -> bytes:
            hashed.append(len(raw))
            return digest(self, label, raw)

    path.vault.blind = Counting(path.vault.blind._key)
    intake = path.new_intake()
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    beside = asyncio.create_task(others())
    raw = b"x" * 100_000
    items = [(message(originid=f"o-{n}"), raw) for n in range(400)]
    await path.vault.current_key("message", 400)
    before_writing: list[int] = []
    write = intake.write

    async def watched(connection: Any, prepared: Any) -> Any:
        before_writing.append(turns)
        return await write(connection, prepared)

    intake.write = watched  # type: ignore[method-assign]
    await intake.accept_all(items, partner="ministry")
    beside.cancel()
    assert hashed == [len(raw)]
    assert before_writing[0] >= 400 // 50


async def objects_of(folder: Path) -> set[str]:
    return {file.name for file in (folder / "objects").rglob("*") if file.is_file()}


async def test_what_was_not_stored_leaves_no_object_behind(path: MessagePath, tmp_path: Path) -> None:
    pad = "x" * 6000
    first = await accept(path.intake, message(originid="o-1", pad=pad))
    assert (await accept(path.intake, message(originid="o-1", pad=pad))).duplicate
    with pytest.raises(Refused):
        await accept(path.intake, message(originid="o-1", pad=pad), raw=b"other")
    many = [(message(originid="o-1", pad=pad), b"raw"), (message(originid="o-1", pad=pad), b"third")]
    await path.intake.accept_many(many, partner="ministry")
    with pytest.raises(Refused):
        await path.intake.accept_all(
            [(message(originid="new", pad=pad), b"raw"), (message(originid="o-1", pad=pad), b"other")],
            partner="ministry",
        )
    await path.intake.accept_all([(message(originid="o-1", pad=pad), b"raw")], partner="ministry")
    odd = message(pad=pad).model_copy(
        update={"time": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))}
    )
    with pytest.raises(Exception):  # noqa: B017, PT011 - the driver's own
        await accept(path.intake, odd)
    await path.intake.drain()
    assert await objects_of(tmp_path) == {str(first.message_id)}


async def test_an_object_whose_row_may_have_been_written_stays(database_url: str, tmp_path: Path) -> None:
    async with MessagePath(database_url, tmp_path, [route()], claim_check_bytes=4096) as path:
        await accept(path.intake, message("p-1"))
        await path.pool.close()
        one = message("p-2", pad="x" * 6000).model_copy(update={"id": message().id})
        with pytest.raises(Unavailable):
            await accept(path.intake, one)
        await path.intake.drain()
        assert await objects_of(tmp_path) == {str(one.id)}
