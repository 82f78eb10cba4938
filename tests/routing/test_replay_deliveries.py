"""What a person does about deliveries happens once, in order, within what that person may see, and is audited."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import pytest
from services.messages import Planter

from canonical_model.errors import Refused
from registry.settings import load_settings
from registry.storage.database import open_pool
from routing.replay import REPLAY_LIMIT, Actor, Replayer
from routing.routes import RouteBook, parse_route
from routing.search import MessageFilter
from routing.trace import Trace

ROUTE = """
route: crvs-to-registry
version: 7
when: {type: "org.openspp.*"}
to: registry
"""
OPERATOR = Actor("ops")


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(load_settings(), size=6, url=database_url)
    yield opened
    await opened.close()


@pytest.fixture
def plant(pool: asyncpg.Pool) -> Planter:
    return Planter(pool)


@pytest.fixture
def replayer(pool: asyncpg.Pool, plant: Planter) -> Replayer:
    return Replayer(pool, plant.blind, RouteBook([parse_route(ROUTE, "test")]))


async def _dead(plant: Planter, **options: object) -> UUID:
    return await plant.delivery(await plant.message(), state="dead", **options)  # type: ignore[arg-type]


async def _end(pool: asyncpg.Pool, state: str = "dead") -> None:
    await pool.execute("UPDATE delivery SET state = $1, ended_at = now() WHERE ended_at IS NULL", state)


async def test_a_replay_is_a_new_delivery_on_todays_route_and_the_old_one_stays(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    old = await _dead(plant, order_key=b"subject", code="target-unavailable")
    report = await replayer.resend(OPERATOR, old)
    assert (report.matched, report.done) == (1, 1)
    new = await pool.fetchrow("SELECT * FROM delivery WHERE id = $1", report.new_ids[0])
    before = await pool.fetchrow("SELECT * FROM delivery WHERE id = $1", old)
    assert (new["replay_of"], new["state"], new["order_key"], new["route_version"]) == (
        old,
        "queued",
        b"subject",
        7,
    )
    assert (before["state"], before["replays"], before["route_version"]) == ("dead", 1, 3)
    pointer = await pool.fetchrow("SELECT * FROM outbox")
    assert (pointer["delivery_id"], pointer["route"]) == (new["id"], "crvs-to-registry")
    assert pointer["traceparent"]
    audit = await pool.fetchrow("SELECT * FROM audit_event")
    assert (audit["actor"], audit["action"], audit["object_id"]) == ("ops", "delivery.replay", str(old))
    assert audit["details"]["replay"] == str(new["id"])


async def test_pressing_resend_twice_or_at_once_sends_once(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    old = await _dead(plant)
    reports = await asyncio.gather(*(replayer.resend(OPERATOR, old) for _ in range(5)))
    assert sum(report.done for report in reports) == 1
    again = await replayer.resend(OPERATOR, old)
    assert (again.done, again.skipped) == (0, 1)
    assert await pool.fetchval("SELECT count(*) FROM delivery WHERE replay_of = $1", old) == 1
    assert await pool.fetchval("SELECT count(*) FROM audit_event") == 1


async def test_a_live_replay_is_not_replayed_and_a_chain_ends_at_the_limit(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    current = root = await _dead(plant)
    for _ in range(REPLAY_LIMIT):
        report = await replayer.resend(OPERATOR, current)
        assert report.done == 1
        current = report.new_ids[0]
        assert (await replayer.resend(OPERATOR, current)).done == 0, "a live replay was replayed"
        await _end(pool)
    report = await replayer.resend(OPERATOR, current)
    assert (report.done, report.spent) == (0, 1)
    assert await pool.fetchval("SELECT replays FROM delivery WHERE id = $1", root) == REPLAY_LIMIT


async def test_an_unknown_outcome_is_never_resent_without_force_and_reason(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    unknown = await _dead(plant, code="outcome-unknown")
    hidden = await _dead(plant, code="internal-defect")
    message = await pool.fetchval("SELECT message_id FROM delivery WHERE id = $1", hidden)
    await plant.attempt(hidden, message, 1, outcome="unknown")
    await plant.attempt(hidden, message, 2, outcome="defect")
    for one in (unknown, hidden):
        report = await replayer.resend(OPERATOR, one)
        assert (report.done, report.needs_force) == (0, 1)
        await replayer.dismiss(OPERATOR, one, "asked the bank")
        assert (await replayer.resend(OPERATOR, one)).needs_force == 1, (
            "dismissing forgot that the outcome is unknown"
        )
    with pytest.raises(Refused, match="reason"):
        await replayer.resend(OPERATOR, unknown, force=True)
    assert await pool.fetchval("SELECT count(*) FROM delivery WHERE replay_of IS NOT NULL") == 0
    assert (await replayer.resend(OPERATOR, unknown, force=True, reason="the bank never got it")).done == 1


async def test_what_was_delivered_is_not_sent_again_without_force(replayer: Replayer, plant: Planter) -> None:
    delivered = await plant.delivery(await plant.message(), state="delivered")
    assert (await replayer.resend(OPERATOR, delivered)).needs_force == 1
    assert (await replayer.replay(OPERATOR, filter_=MessageFilter(state="delivered"))).needs_force == 1


async def test_many_are_replayed_in_order_of_arrival_at_the_rate_given(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    old = [await _dead(plant, order_key=b"s") for _ in range(6)]
    filter_ = MessageFilter(route="crvs-to-registry")
    dry = await replayer.replay(OPERATOR, filter_=filter_, dry_run=True)
    assert (dry.done, list(dry.ids)) == (6, old)
    assert await pool.fetchval("SELECT count(*) FROM delivery") == 6
    report = await replayer.replay(OPERATOR, filter_=filter_, rate=2, most=5)
    assert (report.done, report.more) == (5, True)
    rows = await pool.fetch("SELECT replay_of FROM delivery WHERE replay_of IS NOT NULL ORDER BY seq")
    assert [row["replay_of"] for row in rows] == old[:5]
    due = [row[0] for row in await pool.fetch("SELECT available_at FROM outbox ORDER BY id")]
    assert [round((one - due[0]).total_seconds(), 3) for one in due] == [0, 0.5, 1, 1.5, 2]
    assert (await replayer.replay(OPERATOR, filter_=filter_)).done == 1


async def test_a_route_that_is_gone_is_not_replayed(replayer: Replayer, plant: Planter) -> None:
    gone = await _dead(plant, route="old-route")
    assert (await replayer.resend(OPERATOR, gone)).route_gone == 1


async def test_an_empty_filter_and_a_wrong_rate_are_refused(replayer: Replayer) -> None:
    for call, code in (
        (replayer.replay(OPERATOR, filter_=MessageFilter()), "filter-empty"),
        (replayer.replay(OPERATOR), "filter-empty"),
        (replayer.replay(OPERATOR, filter_=MessageFilter(route="a"), rate=0), "rate-invalid"),
    ):
        with pytest.raises(Refused) as caught:
            await call
        assert caught.value.code == code


async def test_nobody_acts_on_what_he_may_not_see(replayer: Replayer, plant: Planter) -> None:
    secret = await _dead(plant, visible=["payments:read"])
    message = await plant.message(partner="health")
    theirs = await plant.delivery(message, state="dead")
    actor = Actor("civil", visible=frozenset({"messages:replay"}), partner="civil")
    for one in (secret, theirs):
        for call in (
            replayer.resend(actor, one),
            replayer.dismiss(actor, one, "done"),
            replayer.cancel(actor, delivery_id=one, reason="x"),
        ):
            with pytest.raises(Refused) as caught:
                await call
            assert caught.value.code == "delivery-not-found"
    with pytest.raises(Refused) as caught:
        await replayer.replay(actor, message_id=message)
    assert caught.value.code == "message-not-found"
    assert (await replayer.replay(actor, filter_=MessageFilter(state="dead"))).matched == 0


async def test_dismissing_closes_once_with_a_reason_that_names_nobody(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    dead = await _dead(plant, code="retry-exhausted")
    for reason in ("", "ask amina@example.org", "person 19840317-22"):
        with pytest.raises(Refused):
            await replayer.dismiss(OPERATOR, dead, reason)
    reports = await asyncio.gather(*(replayer.dismiss(OPERATOR, dead, "sent by hand") for _ in range(3)))
    assert sum(report.done for report in reports) == 1
    row = await pool.fetchrow("SELECT state, code, reason FROM delivery")
    assert tuple(row) == ("cancelled", "dismissed", "sent by hand")
    assert await pool.fetchval("SELECT count(*) FROM audit_event WHERE action = 'delivery.dismiss'") == 1


async def test_cancelling_stops_waiting_deliveries_frees_the_next_and_leaves_one_in_flight(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    first, second = await plant.message(), await plant.message()
    waiting = await plant.delivery(first, state="waiting", order_key=b"s", code="outcome-unknown")
    await plant.outbox(waiting, first)
    following = await plant.delivery(second, state="queued", order_key=b"s")
    sending = await plant.delivery(await plant.message(), state="sending")
    report = await replayer.cancel(OPERATOR, message_id=first, reason="duplicate batch")
    assert (report.done, report.skipped) == (1, 0)
    assert (await replayer.cancel(OPERATOR, message_id=first, reason="duplicate batch")).done == 0
    assert (await replayer.cancel(OPERATOR, delivery_id=sending, reason="stop")).skipped == 1
    rows = {
        row["id"]: (row["state"], row["code"])
        for row in await pool.fetch("SELECT id, state, code FROM delivery")
    }
    assert rows[waiting] == ("cancelled", "outcome-unknown")
    assert rows[sending][0] == "sending"
    (pointer,) = await pool.fetch("SELECT delivery_id, traceparent FROM outbox")
    # The freed delivery goes on in the trace of its own message.
    trace = await pool.fetchval("SELECT traceparent FROM message WHERE id = $1", second)
    assert tuple(pointer) == (following, trace)


async def test_a_replayed_dead_letter_leaves_the_list_and_the_message_shows_its_newest_state(
    replayer: Replayer, plant: Planter, pool: asyncpg.Pool
) -> None:
    message = await plant.message()
    await plant.delivery(message, state="dead")
    trace = Trace(pool, plant.blind)
    await replayer.replay(OPERATOR, message_id=message)
    assert list((await trace.dead_letters(MessageFilter())).items) == []
    await _end(pool, "delivered")
    found = await trace.message(message)
    assert found is not None
    assert (found.state, len(found.deliveries)) == ("delivered", 2)
    assert (await trace.search(MessageFilter())).items[0].states == {"delivered": 1}
