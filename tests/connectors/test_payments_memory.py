"""The ledger in memory gives out transfers within the same bounds as the one in the database."""

import asyncio

from connectors.payments.contract import LOOKUP, QUEUED, SENT, WORKING, Bounds, Step
from connectors.payments.memory import MemoryLedger
from tests.connectors.mojaloop_desk import order

PAID, REVIEW = "paid", "review"


def ordered(count, batch_id="B-1"):
    ledger = MemoryLedger()
    ledger.order([order(f"P-{n}") for n in range(count)], batch_id)
    return ledger


async def moved(ledger, rows, stage, state, institution=None):
    """Let rows take a step as a rail does, whatever they were."""
    took = await ledger.apply([Step(r.id, (r.stage, r.state), stage, state, institution) for r in rows])
    assert all(took)
    for row in rows:
        row.stage, row.state = stage, state


async def ids(ledger, **bounds):
    begin, onward = await ledger.take("any", Bounds(**bounds))
    return len(begin), {institution: len(rows) for institution, rows in onward.items()}


async def test_no_more_are_looked_up_at_one_time_than_the_bounds_say():
    ledger = ordered(10)
    begin, _ = await ledger.take("any", Bounds(lookups=4))
    assert [row.payment_id for row in begin] == ["P-0", "P-1", "P-2", "P-3"]
    await moved(ledger, begin, LOOKUP, WORKING)
    assert await ids(ledger, lookups=4) == (0, {})
    await moved(ledger, begin[:3], "quote", QUEUED, "bluebank")
    assert await ids(ledger, lookups=4) == (3, {"bluebank": 3})


async def test_no_more_are_under_way_at_an_institution_than_its_window():
    ledger = ordered(9)
    begin, _ = await ledger.take("any", Bounds())
    await moved(ledger, begin[:6], "quote", QUEUED, "bluebank")
    await moved(ledger, begin[6:], "quote", QUEUED, "greenbank")
    _, onward = await ledger.take("any", Bounds(window=4))
    assert {institution: len(rows) for institution, rows in onward.items()} == {"bluebank": 4, "greenbank": 3}
    await moved(ledger, onward["bluebank"], "transfer", SENT)
    assert await ids(ledger, window=4) == (0, {})
    await moved(ledger, onward["bluebank"][:1], "transfer", PAID)
    assert await ids(ledger, window=4) == (0, {"bluebank": 1})
    assert ledger.most_in_flight == {"bluebank": 4}


async def test_what_fills_no_bulk_waits_while_more_of_its_batch_is_looked_up():
    ledger = ordered(3)
    begin, _ = await ledger.take("any", Bounds(lookups=2))
    await moved(ledger, begin, "quote", QUEUED, "bluebank")
    last, onward = await ledger.take("any", Bounds(lookups=2, bulk=3))
    assert (len(last), onward) == (1, {})
    await moved(ledger, last, LOOKUP, WORKING)
    assert await ids(ledger, bulk=3) == (0, {})
    await moved(ledger, last, "quote", QUEUED, "greenbank")
    assert await ids(ledger, bulk=3) == (0, {"bluebank": 2, "greenbank": 1})


async def test_only_so_many_are_begun_with_ahead_of_the_bulk_they_wait_for():
    ledger = ordered(10)
    begin, _ = await ledger.take("any", Bounds(ahead=6))
    assert len(begin) == 6
    await moved(ledger, begin[:5], "bulk", QUEUED, "")
    assert await ids(ledger, bulk=20, ahead=6) == (1, {})


async def test_nothing_of_a_stopped_batch_is_taken_and_others_go_on():
    ledger = ordered(2)
    ledger.order([order("P-8")], "B-2")
    await ledger.stop("B-1", "4001")
    begin, _ = await ledger.take("any", Bounds())
    assert [row.payment_id for row in begin] == ["P-8"]
    await moved(ledger, begin, "transfer", SENT)
    waiting = asyncio.ensure_future(ledger.still())
    await asyncio.sleep(0)
    assert not waiting.done(), "something of the other batch is on its way"
    await moved(ledger, begin, "transfer", REVIEW)
    async with asyncio.timeout(45):
        await waiting
    assert not ledger.moving()
    ledger.resume()
    assert ledger.moving()
    assert await ids(ledger) == (2, {})
