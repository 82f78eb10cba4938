"""What happens to a delivery: sent once, in order, tried again by the kind of fault, ended with a reason."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from services.path import MessagePath, eventually, message, route

from canonical_model.errors import Defect, Refused, Unavailable, Unknown
from canonical_model.message import Message
from routing.breaker import BreakerState
from routing.contract import Exchange, Receipt, Repeat
from routing.worker import Worker

Make = Callable[..., Awaitable[MessagePath]]


@pytest.fixture
async def make(database_url: str, tmp_path: Path) -> AsyncIterator[Make]:
    opened: list[MessagePath] = []

    async def build(*routes: str, workers: int = 1, **options: Any) -> MessagePath:
        path = MessagePath(database_url, tmp_path, routes or [route()], **options)
        opened.append(await path.__aenter__())
        path.workers = [await path.start() for _ in range(workers)]  # type: ignore[attr-defined]
        return path

    yield build
    for path in opened:
        await path.__aexit__(None, None, None)


@pytest.fixture(params=["postgres", pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def carrier(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Options that choose a broker."""
    return {"broker_url": request.getfixturevalue("broker_url")} if request.param == "rabbitmq" else {}


def failing(error: Exception, times: int = 1) -> Callable[[Message, int], Awaitable[Receipt | None]]:
    async def answer(_one: Message, number: int) -> Receipt | None:
        if number <= times:
            raise error
        return None

    return answer


async def test_every_message_is_delivered_once(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(workers=2, **carrier)
    sent = await path.accept(*(message(f"p-{n}") for n in range(60)))
    rows = await path.ended(60)
    assert {row["state"] for row in rows} == {"delivered"}
    assert sorted(path.bank.ids) == sorted(sent)
    attempts = await path.pool.fetch("SELECT * FROM attempt")
    assert len(attempts) == 60
    assert {(a["number"], a["outcome"]) for a in attempts} == {(1, "delivered")}
    ends = await path.pool.fetch("SELECT * FROM audit_event WHERE action = 'delivery.end'")
    assert {e["object_id"] for e in ends} == {str(row["id"]) for row in rows}
    assert rows[0]["reference"].startswith("ref-")


async def test_a_refusal_is_not_tried_again(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(**carrier)
    path.bank.on_send = failing(Refused("No such account.", code="account-unknown"), 99)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["code"], row["reason"]) == ("refused", "account-unknown", "No such account.")
    await asyncio.sleep(0.3)
    assert len(path.bank.sent) == 1


async def test_an_absent_target_is_tried_again_until_it_is_there(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(**carrier)
    path.bank.on_send = failing(Unavailable("Closed."), 2)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["attempts"]) == ("delivered", 3)
    outcomes = [r["outcome"] for r in await path.pool.fetch("SELECT outcome FROM attempt ORDER BY number")]
    assert outcomes == ["retry", "retry", "delivered"]


async def test_waits_grow_from_try_to_try(make: Make) -> None:
    path = await make(route(retry={"first": 0.2, "factor": 2}))
    path.bank.on_send = failing(Unavailable("Closed."), 3)
    await path.accept(message("p-1"))
    await path.ended(1)
    gaps = [later - earlier for earlier, later in zip(path.bank.times, path.bank.times[1:], strict=False)]
    for gap, least in zip(gaps, (0.2, 0.4, 0.8), strict=True):
        assert gap >= least * 0.95


async def test_the_wait_a_target_asks_for_is_given(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(route(retry={"longest": 5.0}), **carrier)
    path.bank.on_send = failing(Unavailable("Slow down.", retry_after=1.5))
    await path.accept(message("p-1"))
    await path.ended(1)
    assert path.bank.times[1] - path.bank.times[0] >= 1.45


async def test_a_second_pointer_does_not_shorten_the_wait(make: Make) -> None:
    path = await make(route(retry={"longest": 5.0}))
    path.bank.on_send = failing(Unavailable("Slow down.", retry_after=2))
    await path.accept(message("p-1"))
    await path.until(lambda rows: rows[0]["state"] == "waiting")
    await path.pool.execute(
        "INSERT INTO outbox (delivery_id, message_id, route) SELECT id, message_id, route FROM delivery"
    )
    await path.ended(1)
    assert path.bank.times[1] - path.bank.times[0] >= 1.85


async def test_after_the_last_try_it_is_a_dead_letter_with_the_code(make: Make) -> None:
    path = await make(route(retry={"attempts": 3}))
    path.bank.on_send = failing(Unavailable("Gone.", code="target-unavailable"), 99)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["code"], row["attempts"]) == ("dead", "target-unavailable", 3)
    assert len(path.bank.sent) == 3


async def test_past_its_age_it_is_a_dead_letter(make: Make) -> None:
    path = await make(route(retry={"within": 0.3, "attempts": 50, "first": 0.1, "factor": 1}))
    path.bank.on_send = failing(Unavailable("Gone."), 99)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert row["state"] == "dead"
    assert 1 < len(path.bank.sent) < 10


async def test_age_begins_with_the_first_try_not_with_acceptance(make: Make) -> None:
    path = await make(route(retry={"within": 30}))
    path.bank.on_send = failing(Unavailable("Gone."), 1)
    await path.pool.execute(
        "ALTER TABLE message ALTER COLUMN accepted_at SET DEFAULT now() - interval '3 days'"
    )
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert row["state"] == "delivered"


async def test_a_recognised_target_gets_an_unknown_one_again(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(repeat=Repeat.RECOGNISED, **carrier)
    path.bank.on_send = failing(Unknown("No answer."))
    (id_,) = await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert row["state"] == "delivered"
    assert path.bank.ids == [id_, id_]
    assert not path.bank.asked


async def test_a_target_that_can_be_asked_is_asked_and_not_sent_what_it_has(
    make: Make, carrier: dict[str, Any]
) -> None:
    path = await make(repeat=Repeat.ASK, **carrier)
    path.bank.on_send = failing(Unknown("No answer."))

    async def has_it(_one: Message, _number: int) -> Receipt:
        return Receipt(reference="theirs-77")

    path.bank.on_ask = has_it
    (id_,) = await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["reference"]) == ("delivered", "theirs-77")
    assert path.bank.ids == [id_]
    assert path.bank.asked == [id_]


async def test_a_target_that_was_asked_and_has_it_not_gets_it(make: Make) -> None:
    path = await make(repeat=Repeat.ASK)
    path.bank.on_send = failing(Unknown("No answer."))
    (id_,) = await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert row["state"] == "delivered"
    assert path.bank.ids == [id_, id_]
    assert path.bank.asked == [id_]


async def test_while_the_target_cannot_say_nothing_is_sent(make: Make) -> None:
    path = await make(route(retry={"attempts": 4}), repeat=Repeat.ASK)
    path.bank.on_send = failing(Unknown("No answer."))

    async def cannot_say(_one: Message, _number: int) -> Receipt | None:
        raise Unknown("Still being looked at.")

    path.bank.on_ask = cannot_say
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["code"]) == ("dead", "outcome-unknown")
    assert len(path.bank.sent) == 1
    assert len(path.bank.asked) == 3


async def test_an_outage_while_asking_does_not_forget_that_it_is_unknown(make: Make) -> None:
    path = await make(repeat=Repeat.ASK)
    path.bank.on_send = failing(Unknown("No answer."))

    async def away_then_has_it(_one: Message, number: int) -> Receipt:
        if number <= 2:
            raise Unavailable("Gone.")
        return Receipt(reference="theirs-1")

    path.bank.on_ask = away_then_has_it
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert row["state"] == "delivered"
    assert len(path.bank.sent) == 1


async def test_a_target_that_neither_tells_nor_recognises_is_sent_to_once(
    make: Make, carrier: dict[str, Any]
) -> None:
    path = await make(repeat=Repeat.NEVER, **carrier)
    path.bank.on_send = failing(Unknown("No answer."), 99)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["code"]) == ("dead", "outcome-unknown")
    await asyncio.sleep(0.3)
    assert len(path.bank.sent) == 1


async def test_a_defect_is_parked_at_once_and_says_no_more_than_its_class(make: Make) -> None:
    path = await make()
    path.bank.on_send = failing(ValueError("Zephyrine has no account"), 99)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["code"]) == ("dead", "connector-defect")
    assert "Zephyrine" not in row["reason"]
    assert len(path.bank.sent) == 1


async def test_a_defect_of_ours_after_an_unknown_outcome_stays_unknown(make: Make) -> None:
    path = await make(repeat=Repeat.ASK)

    async def broken(_one: Message, _number: int) -> Receipt | None:
        raise Defect("The client broke.", code="connector-defect")

    path.bank.on_send, path.bank.on_ask = failing(Unknown("No answer.")), broken
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert (row["state"], row["code"]) == ("dead", "outcome-unknown")


async def test_one_subject_arrives_in_order_under_faults_with_two_workers(
    make: Make, carrier: dict[str, Any]
) -> None:
    # A breaker of its own per worker would slow this down: faults come alone.
    path = await make(workers=2, **carrier)
    done: dict[str, list[int]] = {}

    async def shaky(one: Message, number: int) -> Receipt | None:
        await asyncio.sleep(0.005 * (one.data["n"] % 3))
        if number == 1 and one.data["n"] % 5 == 2:
            raise Unavailable("Later.")
        done.setdefault(str(one.subject), []).append(one.data["n"])
        return None

    path.bank.on_send = shaky
    for n in range(8):
        await path.accept(*(message(f"p-{s}", n=n) for s in range(4)))
    await path.ended(32, 60)
    assert done == {f"p-{s}": list(range(8)) for s in range(4)}


async def test_a_stuck_subject_holds_up_no_other(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(route(retry={"first": 60, "longest": 60}), **carrier)

    async def stuck(one: Message, _number: int) -> Receipt | None:
        if one.subject == "stuck":
            raise Unavailable("Not this one.")
        return None

    path.bank.on_send = stuck
    await path.accept(message("stuck"), message("stuck"), *(message(f"p-{n}") for n in range(10)))
    await path.ended(10)
    rows = [row for row in await path.deliveries() if row["ended_at"] is None]
    assert [row["state"] for row in rows] == ["waiting", "queued"]
    assert sum(one.subject == "stuck" for one in path.bank.sent) == 1


async def test_the_next_of_a_subject_is_sent_when_the_first_died(make: Make) -> None:
    path = await make()
    path.bank.on_send = failing(Refused("No."), 99)
    ids = await path.accept(message("p-1"), message("p-1"), message("p-1"))
    await path.ended(3)
    assert path.bank.ids == ids


async def test_unordered_messages_of_a_subject_do_not_wait_for_each_other(make: Make) -> None:
    path = await make(route(order="none", retry={"first": 60, "longest": 60}))
    path.bank.on_send = lambda one, n: (
        failing(Unavailable("No."), 9)(one, n) if one.data["n"] == 0 else _fine()
    )
    await path.accept(message("p-1", n=0), message("p-1", n=1))
    await path.ended(1)
    assert [row["state"] for row in await path.deliveries()] == ["waiting", "delivered"]


async def _fine() -> Receipt | None:
    return None


async def test_the_breaker_opens_tries_one_and_closes(make: Make) -> None:
    path = await make(route(retry={"attempts": 100, "first": 0.05, "factor": 1}))
    well = False

    async def answer(_one: Message, _number: int) -> Receipt | None:
        if not well:
            raise Unavailable("Down.")
        return None

    path.bank.on_send = answer
    await path.accept(*(message(f"p-{n}") for n in range(30)))
    worker: Worker = path.workers[0]  # type: ignore[attr-defined]
    await eventually(lambda: "bank" in worker._gates)
    breaker = worker._gates["bank"].breaker
    await eventually(lambda: breaker.state is BreakerState.OPEN)
    at_opening = len(path.bank.sent)
    assert at_opening <= 30
    await asyncio.sleep(1.0)
    assert len(path.bank.sent) <= at_opening + 16  # what was under way when it opened
    quiet = len(path.bank.sent)
    await eventually(lambda: len(path.bank.sent) == quiet + 1)  # the one trial, two seconds after
    await asyncio.sleep(0.5)
    assert len(path.bank.sent) == quiet + 1
    well = True
    await path.ended(30, 30)
    assert breaker.state is BreakerState.CLOSED


async def test_no_more_are_in_the_targets_hands_than_it_takes(make: Make) -> None:
    path = await make(concurrency=3)

    async def slow(_one: Message, _number: int) -> Receipt | None:
        await asyncio.sleep(0.02)
        return None

    path.bank.on_send = slow
    await path.accept(*(message(f"p-{n}") for n in range(30)))
    await path.ended(30)
    assert path.bank.busiest == 3


async def test_a_closed_target_is_waited_for_without_counting_an_attempt(make: Make) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).strftime("%a")
    path = await make(route(schedule={"open": [f"{tomorrow} 08:00-18:00"]}))
    await path.accept(message("p-1"))
    await path.until(lambda rows: rows[0]["state"] == "waiting")
    (row,) = await path.deliveries()
    assert (row["attempts"], row["code"], row["reason"]) == (0, None, "The target is closed now.")
    assert row["next_at"] > datetime.now(UTC) + timedelta(hours=6)
    assert await path.pool.fetchval("SELECT count(*) FROM attempt") == 0
    available = await path.pool.fetchval("SELECT max(available_at) FROM outbox")
    assert available == row["next_at"]
    assert not path.bank.sent


async def test_a_closed_target_gets_it_after_opening(
    make: Make, carrier: dict[str, Any], monkeypatch: Any
) -> None:
    path = await make(route(schedule={"open": ["Mon-Sun 00:00-24:00"]}), **carrier)
    opens = datetime.now(UTC) + timedelta(seconds=1.5)
    schedule = path.routes.get("pay").schedule  # type: ignore[union-attr]
    monkeypatch.setattr(type(schedule), "next_open", lambda _self, now: opens if now < opens else None)
    await path.accept(message("p-1"))
    (row,) = await path.ended(1)
    assert row["state"] == "delivered"
    assert row["attempts"] == 1
    assert row["ended_at"] > opens


async def test_a_mapping_is_applied_and_its_version_recorded(make: Make) -> None:
    path = await make(route(map="a-dialect@3"))

    class Maps:
        def to_dialect(self, reference: str, data: dict[str, Any]) -> dict[str, Any]:
            if data["n"] == 0:
                raise Refused("A field has no place in the dialect.", code="mapping-failed")
            return {"said": reference, "count": data["n"]}

    path.workers[0]._mapper = Maps()  # type: ignore[attr-defined]
    await path.accept(message("p-1", n=7), message("p-2", n=0))
    rows = await path.ended(2)
    assert [one.data for one in path.bank.sent] == [{"said": "a-dialect@3", "count": 7}]
    assert [(row["mapping"], row["state"], row["code"]) for row in rows] == [
        ("a-dialect@3", "delivered", None),
        ("a-dialect@3", "refused", "mapping-failed"),
    ]
    attempts = await path.pool.fetch("SELECT mapping, route_version FROM attempt")
    assert {(one["mapping"], one["route_version"]) for one in attempts} == {("a-dialect@3", 1)}


async def test_what_an_answer_gives_rise_to_is_recorded_with_the_delivery(make: Make) -> None:
    path = await make(route(when={"type": "org.openspp.payment.*"}))
    result = message("p-1", type_="org.openspp.notice.requested.v1", originid="result-1", ok=True)

    async def answer(_one: Message, _number: int) -> Receipt:
        return Receipt(reference="r", produced=(result,))

    path.bank.on_send = answer
    (id_,) = await path.accept(message("p-1"))
    await path.ended(1)
    rows = await path.pool.fetch("SELECT id, partner FROM message ORDER BY id")
    assert {row["id"] for row in rows} == {id_, result.id}
    assert next(row["partner"] for row in rows if row["id"] == result.id) == "hub"


async def test_an_answer_that_came_before_in_other_words_does_not_undo_the_delivery(make: Make) -> None:
    path = await make(route(when={"type": "org.openspp.payment.*"}))

    async def answer(_one: Message, number: int) -> Receipt:
        return Receipt(
            produced=(
                message(
                    "p-1", type_="org.openspp.notice.requested.v1", originid="same", n=time.monotonic_ns()
                ),
            )
        )

    path.bank.on_send = answer
    await path.accept(*(message(f"p-{n}") for n in range(5)))
    rows = await path.ended(5)
    assert {row["state"] for row in rows} == {"delivered"}
    assert len(path.bank.sent) == 5
    assert await path.pool.fetchval("SELECT count(*) FROM message WHERE partner = 'hub'") == 1


async def test_an_outcome_in_odd_characters_is_recorded_and_harms_no_other(make: Make) -> None:
    path = await make()

    async def answer(one: Message, _number: int) -> Receipt:
        if one.data["n"] == 0:
            raise Refused("No\x00 \ud800 such thing.", code="odd")
        now = datetime.now(UTC)
        notes = {"odd": "a\x00b"} if one.data["n"] == 1 else {}
        return Receipt(exchanges=(Exchange("POST", "https://bank", "200", now, 0.1, notes=notes),))

    path.bank.on_send = answer
    await path.accept(*(message(f"p-{n}", n=n) for n in range(5)))
    rows = await path.ended(5)
    assert [row["state"] for row in rows] == ["refused", "delivered", "delivered", "delivered", "delivered"]
    assert len(path.bank.sent) == 5


async def test_an_ended_delivery_is_never_sent_again(make: Make, carrier: dict[str, Any]) -> None:
    path = await make(**carrier)
    await path.accept(message("p-1"))
    await path.ended(1)
    for _ in range(5):
        await path.pool.execute(
            "INSERT INTO outbox (delivery_id, message_id, route) SELECT id, message_id, route FROM delivery"
        )
    deadline = time.monotonic() + 45
    while await path.pool.fetchval("SELECT count(*) FROM outbox"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.2)
    assert len(path.bank.sent) == 1


async def test_many_pointers_to_one_delivery_send_it_once(make: Make) -> None:
    path = await make(workers=2)

    async def slow(_one: Message, _number: int) -> Receipt | None:
        await asyncio.sleep(0.1)
        return None

    path.bank.on_send = slow
    for n in range(10):
        await path.accept(message(f"p-{n}"))
        await path.pool.execute(
            "INSERT INTO outbox (delivery_id, message_id, route) SELECT id, message_id, route FROM delivery"
        )
    await path.ended(10)
    assert len(path.bank.sent) == 10


async def test_what_was_addressed_before_a_change_of_route_goes_where_it_was_addressed(make: Make) -> None:
    path = await make(targets=("bank", "other"))
    entry = await path.intake.prepare(message("p-1"), partner="ministry", raw=b"raw")
    async with path.pool.acquire() as connection, connection.transaction():
        await path.intake.write(connection, [entry])
        await connection.execute("UPDATE delivery SET target = 'other'")
    (row,) = await path.ended(1)
    assert row["state"] == "delivered"
    assert (len(path.scripts["other"].sent), len(path.bank.sent)) == (1, 0)


async def test_a_target_that_is_configured_no_more_makes_a_dead_letter(make: Make) -> None:
    path = await make()
    entry = await path.intake.prepare(message("p-1"), partner="ministry", raw=b"raw")
    async with path.pool.acquire() as connection, connection.transaction():
        await path.intake.write(connection, [entry])
        await connection.execute("UPDATE delivery SET target = 'gone'")
    (row,) = await path.ended(1)
    assert (row["state"], row["code"]) == ("dead", "target-unknown")


async def test_a_large_body_reaches_the_target_whole(make: Make) -> None:
    path = await make(claim_check_bytes=4096)
    one = message("p-1", pad="x" * 100_000)
    await path.accept(one)
    await path.ended(1)
    assert path.bank.sent[0].data == one.data


async def test_the_claims_of_a_dead_worker_are_unknown_outcomes(make: Make) -> None:
    path = await make(repeat=Repeat.NEVER, workers=0)
    await path.accept(message("p-1"))
    await path.pool.execute("DELETE FROM outbox")
    await path.pool.execute(
        "UPDATE delivery SET state = 'sending', worker = gen_random_uuid(), attempts = 1, claimed_at = now() - interval '1 hour'"
    )
    await path.start()
    (row,) = await path.ended(1)
    assert (row["state"], row["code"]) == ("dead", "outcome-unknown")
    assert not path.bank.sent
    assert await path.pool.fetchval("SELECT outcome FROM attempt WHERE number = 1") == "abandoned"


async def test_a_lost_pointer_is_found_again(make: Make) -> None:
    path = await make(workers=0)
    await path.accept(message("p-1"), message("p-1"))
    await path.pool.execute("DELETE FROM outbox")
    await path.start(lost_after=0.5)
    await path.ended(2)
    assert len(path.bank.sent) == 2


async def test_a_worker_that_stood_still_sends_nothing_before_it_is_known_to_live(make: Make) -> None:
    path = await make(workers=0)
    worker = await path.start()
    for keeper in worker._keepers:
        keeper.cancel()
    worker._last_beat -= 60
    await path.accept(message("p-1"))
    await asyncio.sleep(1.0)
    assert not path.bank.sent
    worker._last_beat += 60
    await path.ended(1)
    assert len(path.bank.sent) == 1


async def test_stopping_gives_back_what_waits_for_an_open_breaker(make: Make) -> None:
    path = await make(workers=0)
    path.bank.on_send = failing(Unavailable("Down."), 99)
    worker = await path.start()
    await path.accept(*(message(f"p-{n}") for n in range(20)))
    await eventually(
        lambda: "bank" in worker._gates and worker._gates["bank"].breaker.state is BreakerState.OPEN
    )
    began = time.monotonic()
    await worker.stop(20)
    assert time.monotonic() - began < 12
    rows = await path.deliveries()
    assert all(row["ended_at"] is None and row["state"] != "sending" for row in rows)


async def test_after_retention_the_body_cannot_be_read_and_its_partition_goes(
    database_url: str, tmp_path: Path
) -> None:
    from canonical_model.message import uuid7
    from registry.storage import periods

    async with MessagePath(database_url, tmp_path, [route(retention="1d")]) as path:
        for table in ("message", "delivery", "attempt", "audit_event"):
            await path.pool.execute(f"DROP TABLE {table}_default")
        old = datetime(2025, 3, 10, tzinfo=UTC)
        await periods.ensure(path.pool, "month", now=old, ahead=0)
        one = message("p-1").model_copy(update={"id": uuid7(int(old.timestamp() * 1000))})
        entry = await path.intake.prepare(one, partner="ministry", raw=b"raw")
        for delivery in entry.deliveries:
            delivery.id = uuid7(int(old.timestamp() * 1000) + 1)
        key_id = entry.key_id
        await periods.ensure(path.pool, "month")
        async with path.pool.acquire() as connection:
            await path.intake.write(connection, [entry])
        assert await periods.drop_ended(path.pool, path.objects) == []
        assert await path.vault.destroy_expired(datetime.now(UTC) + timedelta(days=40)) == 1
        assert await periods.drop_ended(path.pool, path.objects) == [], "a live delivery keeps its partition"
        with pytest.raises(Defect) as caught:
            await path.vault.key(key_id)
        assert caught.value.code == "data-key-destroyed"
        await path.start()
        (row,) = await path.ended(1)
        assert (row["state"], row["code"]) == ("dead", "data-key-destroyed")
        assert not path.bank.sent
        dropped = await periods.drop_ended(path.pool, path.objects)
        assert "message_202503" in dropped
        assert await path.pool.fetchval("SELECT count(*) FROM message") == 0


async def test_a_key_another_process_destroyed_is_forgotten_here(database_url: str, tmp_path: Path) -> None:
    async with MessagePath(database_url, tmp_path, [route()]) as path:
        key = await path.vault.current_key("message", 1)
        await path.pool.execute("UPDATE data_key SET wrapped = NULL, destroyed_at = now()")
        assert await path.vault.destroy_expired() == 0
        with pytest.raises(Defect):
            await path.vault.key(key.id)
