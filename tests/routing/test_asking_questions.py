"""A question that cannot wait: recorded before it is sent, answered in this process, never lost and never sent blindly."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from services.path import MessagePath, message, route

from canonical_model.errors import Refused, Unavailable, Unknown
from canonical_model.message import Message
from routing.asking import Asker
from routing.contract import Receipt, Repeat
from routing.store import Sweeper

Ready = tuple[MessagePath, Asker]
Make = Callable[..., Awaitable[Ready]]


@pytest.fixture
async def make(database_url: str, tmp_path: Path) -> AsyncIterator[Make]:
    opened: list[Ready] = []

    async def build(*routes: str, **options: Any) -> Ready:
        path = await MessagePath(database_url, tmp_path, routes or [route()], **options).__aenter__()
        asker = Asker(await path.start(), path.pool)
        await asker.start()
        opened.append((path, asker))
        return path, asker

    yield build
    for path, asker in opened:
        await asker.stop(5.0)
        await path.__aexit__(None, None, None)


def _soon(seconds: float = 45.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def saying(*produced: Message, after: float = 0.0) -> Callable[[Message, int], Awaitable[Receipt | None]]:
    async def answer(_one: Message, _number: int) -> Receipt | None:
        await asyncio.sleep(after)
        return Receipt("their-7", produced=produced)

    return answer


def failing(error: Exception) -> Callable[[Message, int], Awaitable[Receipt | None]]:
    async def answer(_one: Message, number: int) -> Receipt | None:
        if number == 1:
            raise error
        return None

    return answer


async def test_the_answer_is_returned_and_everything_is_recorded(make: Make) -> None:
    path, asker = await make()
    question = message("p-1")
    reply = message("p-1", type_="org.openspp.verification.result.v1")
    path.bank.on_send = lambda one, number: saying(*([reply] if one.id == question.id else []))(one, number)
    answer = await asker.ask(question, _soon(), "ministry")
    assert (answer.message_id, answer.reference, answer.duplicate) == (question.id, "their-7", False)
    assert [one.id for one in answer.produced] == [reply.id]
    row = await path.pool.fetchrow("SELECT * FROM delivery WHERE message_id = $1", question.id)
    assert (row["state"], row["attempts"], row["reference"], row["order_key"]) == (
        "delivered",
        1,
        "their-7",
        None,
    )
    assert await path.pool.fetchval("SELECT count(*) FROM attempt WHERE message_id = $1", question.id) == 1
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 2
    assert path.bank.ids.count(question.id) == 1


async def test_a_repeat_is_not_sent_again(make: Make) -> None:
    path, asker = await make()
    question = message("p-1", originid="q-1")
    first = await asker.ask(question, _soon(), "ministry", raw=b"same")
    again = await asker.ask(message("p-1", originid="q-1"), _soon(), "ministry", raw=b"same")
    assert (again.message_id, again.accepted_at, again.duplicate) == (
        first.message_id,
        first.accepted_at,
        True,
    )
    with pytest.raises(Refused) as reused:
        await asker.ask(message("p-1", originid="q-1"), _soon(), "ministry", raw=b"other")
    assert reused.value.code == "message-id-reused"
    assert len(path.bank.sent) == 1


async def test_a_late_answer_is_still_recorded(make: Make) -> None:
    path, asker = await make()
    reply = message("p-1", type_="org.openspp.verification.result.v1")
    question = message("p-1")
    path.bank.on_send = lambda one, number: saying(
        *([reply] if one.id == question.id else []), after=4.0 if one.id == question.id else 0.0
    )(one, number)
    began = time.monotonic()
    with pytest.raises(Unavailable) as late:
        await asker.ask(question, _soon(0.2), "ministry")
    assert late.value.code == "ask-timeout"
    assert time.monotonic() - began < 3.5
    rows = await path.ended(2)
    assert {row["state"] for row in rows} == {"delivered"}
    assert await path.pool.fetchval("SELECT count(*) FROM message WHERE id = $1", reply.id) == 1
    assert path.bank.ids.count(question.id) == 1


async def test_a_caller_who_leaves_does_not_cut_off_the_outcome(make: Make) -> None:
    path, asker = await make()
    path.bank.on_send = saying(after=0.4)
    asking = asyncio.create_task(asker.ask(message("p-1"), _soon(), "ministry"))
    while not path.bank.sent:
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    (row,) = await path.ended(1)
    assert (row["state"], len(path.bank.sent)) == ("delivered", 1)


async def test_a_refusal_reaches_the_caller_with_its_reason(make: Make) -> None:
    path, asker = await make()
    path.bank.on_send = failing(Refused("No such account.", code="account-unknown"))
    with pytest.raises(Refused, match="No such account") as refused:
        await asker.ask(message("p-1"), _soon(), "ministry")
    assert refused.value.code == "account-unknown"
    (row,) = await path.deliveries()
    assert (row["state"], row["code"]) == ("refused", "account-unknown")


async def test_what_the_target_could_not_take_goes_on_by_the_queue(make: Make) -> None:
    path, asker = await make()
    path.bank.on_send = failing(Unavailable("Closed.", code="target-unavailable"))
    with pytest.raises(Unavailable) as away:
        await asker.ask(message("p-1"), _soon(), "ministry")
    assert away.value.code == "target-unavailable"
    (row,) = await path.ended(1)
    assert (row["state"], row["attempts"]) == ("delivered", 2)


async def test_an_unknown_outcome_is_asked_before_it_is_sent_again(make: Make) -> None:
    path, asker = await make(repeat=Repeat.ASK)
    path.bank.on_send = failing(Unknown("No answer."))
    path.bank.on_ask = saying()
    with pytest.raises(Unknown):
        await asker.ask(message("p-1"), _soon(), "ministry")
    (row,) = await path.ended(1)
    assert (row["state"], len(path.bank.sent), len(path.bank.asked)) == ("delivered", 1, 1)


async def test_a_target_at_its_bound_is_not_asked_beyond_it(make: Make) -> None:
    path, asker = await make(concurrency=1)
    path.bank.on_send = saying(after=0.6)
    first = asyncio.create_task(asker.ask(message("p-1"), _soon(), "ministry"))
    while not path.bank.sent:
        await asyncio.sleep(0.01)
    with pytest.raises(Unavailable):
        await asker.ask(message("p-2"), _soon(0.2), "ministry")
    await first
    rows = await path.ended(2)
    assert {row["state"] for row in rows} == {"delivered"}
    assert (path.bank.busiest, len(path.bank.sent)) == (1, 2)


async def test_no_route_no_question(make: Make) -> None:
    path, asker = await make(route(when={"type": "org.openspp.payment.*", "condition": "data.n == 2"}))
    with pytest.raises(Refused) as nobody:
        await asker.ask(message("p-1"), _soon(), "ministry")
    assert nobody.value.code == "no-route"
    assert await path.pool.fetchval("SELECT count(*) FROM message") == 0


async def test_the_claim_of_a_killed_caller_is_swept_as_an_unknown_outcome(make: Make) -> None:
    """The process dies with the question under way: it stops beating and records nothing more."""
    path, asker = await make(repeat=Repeat.ASK)
    path.bank.on_send = saying(after=30)
    path.bank.on_ask = saying()
    asking = asyncio.create_task(asker.ask(message("p-1"), _soon(60), "ministry"))
    while not path.bank.sent:
        await asyncio.sleep(0.01)
    for task in (*asker._keepers, *asker._tasks, asking):
        task.cancel()
    await asyncio.gather(*asker._tasks, asking, return_exceptions=True)
    await path.pool.execute("UPDATE worker SET seen_at = now() - interval '1 minute' WHERE id = $1", asker.id)
    await path.pool.execute(
        "UPDATE delivery SET claimed_at = now() - interval '1 minute', held_until = now() - interval '1 second'"
    )
    assert (await Sweeper(path.pool).sweep())[0] == 1
    (row,) = await path.ended(1)
    assert (row["state"], len(path.bank.sent), len(path.bank.asked)) == ("delivered", 1, 1)
    words = [one["outcome"] for one in await path.pool.fetch("SELECT outcome FROM attempt ORDER BY number")]
    assert words == ["abandoned", "delivered"]
