"""Where a message is: every hop, and nothing to those who may not look."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
from services.messages import Planter

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.settings import load_settings
from registry.storage.database import open_pool
from routing.search import MessageFilter, decode_cursor, encode_cursor
from routing.trace import Trace

SECRET = "Amina Planted-Person"


@pytest.fixture
async def pool(database_url: str) -> AsyncIterator[asyncpg.Pool]:
    opened = await open_pool(load_settings(), size=3, url=database_url)
    yield opened
    await opened.close()


@pytest.fixture
def plant(pool: asyncpg.Pool) -> Planter:
    return Planter(pool)


@pytest.fixture
def trace(pool: asyncpg.Pool, plant: Planter) -> Trace:
    return Trace(pool, plant.blind)


async def test_every_hop_of_a_retried_delivery_is_shown_in_order(trace: Trace, plant: Planter) -> None:
    message = await plant.message()
    delivery = await plant.delivery(message, state="delivered", attempts=2)
    await plant.attempt(
        delivery, message, 1, outcome="retry", code="target-unavailable", detail="Answered 503."
    )
    await plant.attempt(
        delivery,
        message,
        2,
        outcome="delivered",
        exchanges=[
            {"method": "POST", "address": "https://a.example/x?name=secret", "status": "200", "body": SECRET}
        ],
    )
    found = await trace.message(message)
    assert found is not None
    assert [hop.kind for hop in found.hops] == [
        "accepted",
        "routed",
        "published",
        "attempt",
        "attempt",
        "ended",
    ]
    assert [hop.outcome for hop in found.hops if hop.kind == "attempt"] == ["retry", "delivered"]
    last = found.hops[4]
    assert (last.number, last.route_version, last.mapping, last.worker) == (2, 3, "crvs@2", plant.worker)
    assert last.exchanges == ({"method": "POST", "address": "https://a.example/x", "status": "200"},)
    assert (found.state, found.size, found.stored) == ("delivered", 321, "inline")


async def test_a_delivery_still_in_the_outbox_is_not_called_published(trace: Trace, plant: Planter) -> None:
    message = await plant.message()
    delivery = await plant.delivery(message, state="queued")
    await plant.outbox(delivery, message)
    found = await trace.message(message)
    assert found is not None
    assert [hop.kind for hop in found.hops] == ["accepted", "routed"]


async def test_a_route_the_caller_may_not_see_looks_like_one_that_does_not_exist(
    trace: Trace, plant: Planter
) -> None:
    hidden = await plant.message()
    await plant.delivery(hidden, route="payments", visible=["payments:read"])
    mixed = await plant.message()
    await plant.delivery(mixed, route="payments", visible=["payments:read"])
    await plant.delivery(mixed, route="notices")
    assert await trace.message(hidden, visible=frozenset({"messages:read"})) is None
    assert await trace.message(uuid7(), visible=frozenset({"messages:read"})) is None
    seen = await trace.message(mixed, visible=frozenset({"messages:read"}))
    assert seen is not None
    assert [one.route for one in seen.deliveries] == ["notices"]
    assert all(hop.route != "payments" for hop in seen.hops)
    held = await trace.message(hidden, visible=frozenset({"payments:read"}))
    assert held is not None
    assert [one.route for one in held.deliveries] == ["payments"]
    page = await trace.search(MessageFilter(), visible=frozenset({"messages:read"}))
    assert [item.id for item in page.items] == [mixed]
    assert page.items[0].states == {"queued": 1}
    assert {flow.route for flow in await trace.flow(60, visible=frozenset())} == {"notices"}


async def test_a_partner_finds_only_its_own_messages(trace: Trace, plant: Planter) -> None:
    mine, theirs = await plant.message(partner="civil"), await plant.message(partner="health")
    assert await trace.message(theirs, partner="civil") is None
    assert await trace.message(mine, partner="civil") is not None
    page = await trace.search(MessageFilter(), partner="civil")
    assert [item.id for item in page.items] == [mine]
    crossed = await trace.search(MessageFilter(partner="health"), partner="civil")
    assert list(crossed.items) == []


async def test_subject_correlation_and_origin_are_found_by_hash(trace: Trace, plant: Planter) -> None:
    wanted = await plant.message(subject=SECRET, correlationid="corr-1", originid="their-7")
    await plant.message(subject="someone else", correlationid="corr-2", originid="their-8")
    for filter_ in (
        MessageFilter(subject=SECRET),
        MessageFilter(correlationid="corr-1"),
        MessageFilter(partner="civil", originid="their-7"),
    ):
        assert [item.id for item in (await trace.search(filter_)).items] == [wanted]
    with pytest.raises(Refused, match="needs the filter partner"):
        MessageFilter(originid="their-7")
    assert SECRET not in repr(MessageFilter(subject=SECRET))


async def test_paging_shows_each_message_once_while_new_ones_arrive(trace: Trace, plant: Planter) -> None:
    planted = [await plant.message() for _ in range(7)]
    seen = []
    cursor = None
    while True:
        page = await trace.search(MessageFilter(partner="civil"), cursor, 3)
        seen += [item.id for item in page.items]
        await plant.message()
        if (cursor := page.cursor) is None:
            break
    assert sorted(seen) == sorted(planted)
    assert seen == sorted(planted, reverse=True)


async def test_a_cursor_of_another_search_or_a_made_up_one_is_refused() -> None:
    one, other = MessageFilter(partner="a"), MessageFilter(partner="b")
    id_ = uuid7()
    cursor = encode_cursor("messages", one, id_)
    assert decode_cursor("messages", one, cursor) == id_
    for kind, filter_, text in (
        ("messages", other, cursor),
        ("dead", one, cursor),
        ("messages", one, "é"),
        ("messages", one, "x" * 500),
    ):
        with pytest.raises(Refused) as caught:
            decode_cursor(kind, filter_, text)
        assert caught.value.code == "cursor-invalid"


async def test_unknown_filters_are_refused_without_repeating_their_value() -> None:
    with pytest.raises(Refused) as caught:
        MessageFilter.read({"name": SECRET})
    assert caught.value.code == "filter-unknown"
    assert SECRET not in str(caught.value)
    for wrong in ({"state": "gone"}, {"since": "yesterday"}, {"since": "0001-01-01"}, {"route": ""}):
        with pytest.raises(Refused) as caught:
            MessageFilter.read(wrong)
        assert caught.value.code == "filter-invalid"


async def test_each_filter_narrows_to_what_it_says(trace: Trace, plant: Planter) -> None:
    dead = await plant.message(type_="org.openspp.payment.instructed.v1")
    await plant.delivery(dead, route="payments", target="bank", state="dead", code="outcome-unknown")
    fine = await plant.message()
    await plant.delivery(fine, route="notices", target="mail", state="delivered")
    hour = timedelta(hours=1)
    now = datetime.now(UTC)
    for filter_ in (
        MessageFilter(type="org.openspp.payment.instructed.v1"),
        MessageFilter(route="payments"),
        MessageFilter(target="bank"),
        MessageFilter(state="dead"),
        MessageFilter(code="outcome-unknown", since=now - hour, until=now + hour),
    ):
        assert [item.id for item in (await trace.search(filter_)).items] == [dead]
    assert list((await trace.search(MessageFilter(since=now + hour))).items) == []
    assert list((await trace.search(MessageFilter(until=now - hour))).items) == []


async def test_a_dead_letter_carries_reason_code_and_history(trace: Trace, plant: Planter) -> None:
    message = await plant.message()
    delivery = await plant.delivery(
        message, state="dead", code="retry-exhausted", reason="No answer in 3 attempts."
    )
    for number in (1, 2, 3):
        await plant.attempt(delivery, message, number, outcome="retry", code="target-unavailable")
    page = await trace.dead_letters(MessageFilter())
    (letter,) = page.items
    assert (letter.id, letter.code, letter.reason) == (
        delivery,
        "retry-exhausted",
        "No answer in 3 attempts.",
    )
    assert [hop.number for hop in letter.history] == [1, 2, 3]
    assert (
        list((await trace.dead_letters(MessageFilter(), visible=frozenset(), partner="health")).items) == []
    )


async def test_the_flow_counts_each_route_and_its_oldest_live_delivery(trace: Trace, plant: Planter) -> None:
    for state in ("queued", "queued", "sending", "waiting", "delivered", "refused", "dead"):
        await plant.delivery(await plant.message(), state=state)
    (flow,) = await trace.flow(60)
    assert (flow.accepted, flow.queued, flow.sending, flow.waiting) == (7, 2, 1, 1)
    assert (flow.delivered, flow.refused, flow.dead, flow.dead_total) == (1, 1, 1, 1)
    assert flow.oldest_seconds is not None
    assert flow.oldest_seconds >= 0
