"""Payments through the ledger: paid once, and told to the cent, whatever the peer does."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from services.path import everything_as_text
from services.payments import PayPath, Peer, instruction, payee

from canonical_model.errors import Defect, Refused
from canonical_model.message import Message, uuid7
from canonical_model.money import Money
from canonical_model.payment import PaymentInstruction
from connectors.payments import amounts
from connectors.payments.contract import LOOKUP, PAID, QUEUED, SENT, WORKING, Bounds, Step, Transfer
from routing import statements_transfers
from routing.ledger import Books
from routing.ledger_desk import Desk


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    async with Peer() as found:
        yield found


@pytest.fixture
async def path(database_url: str, tmp_path: Path, peer: Peer) -> AsyncIterator[PayPath]:
    async with PayPath(database_url, tmp_path, peer, due=0.5) as found:
        yield found


def single(number: int = 1, **change: Any) -> Message:
    return Message(
        source="hub",
        type="org.openspp.payment.instructed.v1",
        data=instruction(number, batch_id=None) | change,
    )


async def test_an_order_delivered_three_times_moves_money_once(path: PayPath, peer: Peer) -> None:
    order = single()
    for _ in range(3):
        await path.instruct(order)
    await path.reach(paid=1)
    # A slow machine may make the rail ask and send again; then they are the same bytes.
    assert [len(set(posts)) for posts in peer.posts.values()] == [1]
    assert len(peer.moved) == 1


async def test_first_orders_of_a_target_that_come_at_one_moment_are_all_entered(path: PayPath) -> None:
    orders = [PaymentInstruction.model_validate(instruction(n, batch_id=None)) for n in range(40)]
    new = await asyncio.gather(*(path.books.enter("fresh", uuid7(), None, [order]) for order in orders))
    assert sum(new) == len(orders)


async def test_killed_with_the_order_on_its_way_the_same_bytes_go_again_and_money_moves_once(
    path: PayPath, peer: Peer, database_url: str, tmp_path: Path
) -> None:
    await path.driver.stop()
    root = Path(__file__).parents[2]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.payments", database_url, str(tmp_path), peer.url,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "tests"), str(root)))},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert worker.stdout is not None
    assert await asyncio.wait_for(worker.stdout.readline(), 60) == b"ready\n"
    peer.kills = worker.pid
    order = single()
    await path.instruct(order)
    assert await asyncio.wait_for(worker.wait(), 30) == -signal.SIGKILL
    assert (await path.one())["state"] == "sent"
    assert not peer.moved
    await path.instruct(order)
    path.driver.start()
    await path.instruct(order)
    await path.reach(paid=1)
    ((id_, posts),) = peer.posts.items()
    assert len(posts) == 2
    assert posts[0] == posts[1]
    assert list(peer.moved) == [id_]


async def test_a_callback_before_the_answer_and_a_doubled_one_change_nothing(
    path: PayPath, peer: Peer
) -> None:
    peer.early = True
    peer.doubled.add(payee(2))
    await path.instruct(path.order([instruction(1), instruction(2)]))
    await path.reach(paid=2)
    assert len(peer.moved) == 2


async def test_a_contradicting_result_goes_to_a_person_and_not_to_a_payment(
    path: PayPath, peer: Peer
) -> None:
    peer.turncoat.add(payee(1))
    await path.instruct(single())
    await path.reach(review=1)
    assert (await path.one())["reason"] == "contradicts"
    assert len(peer.posts) == 1


async def test_silence_is_asked_about_and_in_the_end_unknown_until_a_late_answer(
    path: PayPath, peer: Peer
) -> None:
    peer.silent.add(payee(1))
    await path.instruct(path.order([instruction(1)]))
    await path.reach(unknown=1)
    batch = await path.closed()
    assert (batch["unknown"], batch["unknown_units"]) == (1, 101)
    (id_,) = peer.moved
    await peer.call_back({"kind": "transfer", "value": id_, "state": "PAID"})
    await path.reach(paid=1)
    for _ in range(200):
        batch = await path.closed()
        if batch["paid"]:
            break
        await asyncio.sleep(0.05)
    assert (batch["paid"], batch["paid_units"], batch["unknown"]) == (1, 101, 0)


async def test_a_lookup_that_finds_nobody_fails_before_any_money_is_ordered(
    path: PayPath, peer: Peer
) -> None:
    peer.unknown_payees.add(payee(1))
    await path.instruct(single())
    await path.reach(failed=1)
    assert not peer.posts


async def test_a_callback_without_the_secret_changes_nothing(path: PayPath, peer: Peer) -> None:
    peer.silent.add(payee(1))
    await path.instruct(single())
    # The state is on disk before the bytes leave, so that only the peer can tell that it has them.
    (id_,) = await peer.moves(1)
    told = {"kind": "transfer", "value": id_, "state": "PAID"}
    assert await peer.call_back(told, secret="x") == 401
    assert (await path.one())["state"] in {"sent", "unknown"}
    assert await peer.call_back(told) == 200
    await path.reach(paid=1)


async def test_no_callback_is_taken_for_a_target_that_has_none_or_beyond_the_bound(
    path: PayPath, peer: Peer
) -> None:
    http = peer._http
    async with http.put(f"{path.callback_url}/callbacks/nobody/told", json={}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "callback-target-unknown")
    async with http.put(
        f"{path.callback_url}/callbacks/peer/told", data=io.BytesIO(b"x" * (6 << 20))
    ) as answer:
        assert (answer.status, (await answer.json())["code"]) == (413, "body-too-large")


async def test_a_payer_without_funds_stops_the_batch_and_it_goes_on_when_resumed(
    path: PayPath, peer: Peer
) -> None:
    peer.broke_after = 2
    await path.instruct(path.order([instruction(n) for n in range(1, 41)]))
    for _ in range(400):
        state = await path.pool.fetchval("SELECT state FROM transfer_batch WHERE batch_id = 'B-1'")
        if state == "stopped" and not (await path.states()).get("sent"):
            break
        await asyncio.sleep(0.02)
    assert len(peer.moved) == 2
    assert (await path.states())["paid"] == 2
    tried = len(peer.posts)
    await asyncio.sleep(0.5)
    assert len(peer.posts) == tried
    peer.broke_after = None
    assert await Desk(path.pool, path.books).resume("peer", batch_id="B-1", actor="user:test")
    path.books.wake("peer")
    await path.reach(paid=40)
    batch = await path.closed()
    assert batch["paid_units"] == sum(100 + n for n in range(1, 41))
    assert len({post["payee"] for post in peer.moved.values()}) == len(peer.moved) == 40


async def test_a_payee_institution_never_has_more_than_its_window_under_way(
    path: PayPath, peer: Peer
) -> None:
    await path.instruct(path.order([instruction(n) for n in range(1, 301)]))
    await path.reach(paid=300)
    assert max(peer.busiest.values()) <= 16


async def test_an_order_of_a_known_payment_with_another_amount_is_refused(path: PayPath, peer: Peer) -> None:
    await path.instruct(single())
    with pytest.raises(Refused, match="another amount") as caught:
        await path.instruct(single(amount={"minor_units": 999, "currency": "KES"}))
    assert caught.value.code == "payment-id-reused"
    await path.reach(paid=1)


async def test_a_batch_whose_rows_are_not_those_it_says_is_stopped(path: PayPath, peer: Peer) -> None:
    with pytest.raises(Refused) as caught:
        await path.instruct(path.order([instruction(1)], count=2))
    assert caught.value.code == "batch-count-differs"
    assert await path.pool.fetchval("SELECT state FROM transfer_batch WHERE batch_id = 'B-1'") == "stopped"


async def test_a_step_takes_effect_once_and_only_from_where_it_is_expected(path: PayPath) -> None:
    await path.driver.stop()
    await path.instruct(single())
    ledger = path.books.transfers("peer")
    id_ = str((await path.one())["id"])
    step = Step(id_, (LOOKUP, QUEUED), "transfer", "working", references={"transfer": "T-1"})
    assert sorted(await ledger.apply([step, step])) == [False, True]
    (found,) = await ledger.find("transfer", "T-1")
    assert (found.stage, found.state, found.references) == ("transfer", "working", {"transfer": "T-1"})
    assert await ledger.apply([Step(id_, ("transfer", "working"), references={"transfer": "T-2"})]) == [True]
    assert [one.id for one in await ledger.find("transfer", "T-1")] == [id_]
    with pytest.raises(Defect):
        await ledger.apply([Step(id_, ("transfer", PAID), state="failed")])


async def test_the_books_hold_no_account_in_clear(path: PayPath, peer: Peer) -> None:
    await path.instruct(single())
    await path.reach(paid=1)
    text = await everything_as_text(path.pool)
    assert payee(1) not in text
    assert payee(1).encode().hex() not in text


async def test_a_person_decides_over_what_is_in_review_and_finds_every_step_of_it(
    path: PayPath, peer: Peer
) -> None:
    peer.turncoat.add(payee(1))
    await path.instruct(path.order([instruction(1), instruction(2)]))
    await path.reach(review=1, paid=1)
    desk = Desk(path.pool, path.books)
    (shown,) = await desk.show("P-1")
    assert [step["state"] for step in shown["steps"]] == ["working", "queued", "sent", "paid", "review"]
    assert shown["steps"][-1]["code"] == "contradicts"
    with pytest.raises(Refused):
        await desk.decide("peer", "P-2", "failed", "user:mary")
    with pytest.raises(Refused):
        await desk.cancel("peer", "P-1", "user:mary")
    await desk.decide("peer", "P-1", "failed", "user:mary")
    (shown,) = await desk.show("P-1")
    assert (shown["state"], shown["decided_by"], shown["steps"][-1]["code"]) == (
        "failed",
        "user:mary",
        "decided",
    )
    sums = {one["state"]: one["units"] for one in await desk.settlement(cycle_id="C-1")}
    assert sums == {"failed": 101, "paid": 102}
    rows = [row async for row in desk.exported(cycle_id="C-1")]
    assert [(row["payment_id"], row["state"]) for row in rows] == [("P-1", "failed"), ("P-2", "paid")]
    assert payee(1) not in str(rows)


async def test_what_waits_is_cancelled_and_what_was_cancelled_is_not_paid(path: PayPath, peer: Peer) -> None:
    await path.driver.stop()
    await path.instruct(path.order([instruction(1), instruction(2)]))
    await Desk(path.pool, path.books).cancel("peer", "P-1", "user:mary")
    path.driver.start()
    await path.reach(cancelled=1, paid=1)
    batch = await path.closed()
    assert (batch["cancelled_units"], batch["paid_units"]) == (101, 102)


async def test_a_batch_cannot_be_closed_with_sums_that_do_not_agree(path: PayPath, peer: Peer) -> None:
    await path.instruct(path.order([instruction(1)]))
    await path.closed()
    with pytest.raises(asyncpg.CheckViolationError):
        await path.pool.execute("UPDATE transfer_batch SET paid_units = paid_units - 1")


@pytest.mark.parametrize(
    ("text", "currency"), [("1.5", "JPY"), ("1.2345", "BHD"), ("1234567890123456789", "KES"), ("1e3", "KES")]
)
def test_an_amount_a_rail_cannot_write_is_refused(text: str, currency: str) -> None:
    with pytest.raises(Refused) as caught:
        amounts.read(text, currency)
    assert caught.value.code == "amount-unpayable"
    assert text not in str(caught.value)


@pytest.mark.parametrize("units", [0, -1])
def test_nothing_and_less_is_not_paid(units: int) -> None:
    with pytest.raises(Refused):
        amounts.check(Money(minor_units=units, currency="KES"))


def test_amounts_lose_their_trailing_zeros_and_nothing_else() -> None:
    written = [amounts.shortest(Money(minor_units=n, currency="KES")) for n in (100, 150, 155, 10000)]
    assert written == ["1", "1.5", "1.55", "100"]
    assert amounts.shortest(Money(minor_units=100, currency="JPY")) == "100"


@pytest.mark.slow
async def test_2500_payees_over_three_institutions_come_out_to_the_cent(path: PayPath, peer: Peer) -> None:
    await path.start()
    numbers = range(1, 2501)
    peer.unknown_payees = {payee(n) for n in numbers if n % 100 == 0}
    peer.refused = {payee(n) for n in numbers if n % 100 == 50}
    peer.silent = {payee(7)}
    peer.doubled = {payee(8)}
    await path.accept(path.order([instruction(n) for n in numbers]))
    await path.reach(paid=2449, failed=50, unknown=1, seconds=240)
    batch = await path.closed()
    failed = sum(100 + n for n in numbers if n % 50 == 0)
    assert (batch["paid"], batch["failed"], batch["unknown"], batch["cancelled"]) == (2449, 50, 1, 0)
    assert (batch["failed_units"], batch["unknown_units"]) == (failed, 107)
    assert batch["paid_units"] == batch["ordered_units"] - failed - 107
    assert len({body["payee"] for body in peer.moved.values()}) == len(peer.moved) == 2450
    assert max(len(set(posts)) for posts in peer.posts.values()) == 1
    for _ in range(200):
        if not await path.pool.fetchval("SELECT count(*) FROM transfer WHERE report"):
            break
        await asyncio.sleep(0.05)
    rows = await path.pool.fetch("SELECT id FROM message WHERE type = 'org.openspp.payment.results.v1'")
    assert 3 <= len(rows) < 100


@pytest.mark.parametrize(
    "amount",
    [
        {"minor_units": 0, "currency": "KES"},
        {"minor_units": -1, "currency": "KES"},
        {"minor_units": 1.5, "currency": "JPY"},
        {"minor_units": 1234.5, "currency": "BHD"},
        {"minor_units": 10**17, "currency": "KES"},
    ],
    ids=["zero", "negative", "decimals-of-yen", "decimals-of-dinar", "eighteen-digits"],
)
async def test_an_amount_that_cannot_be_paid_is_refused_before_anything_is_stored(
    path: PayPath, peer: Peer, amount: dict[str, Any]
) -> None:
    with pytest.raises(Refused) as refused:
        await path.instruct(single(1, amount=amount))
    assert refused.value.code == "amount-unpayable"
    with pytest.raises(Refused):
        await path.instruct(
            path.order(
                [instruction(2), instruction(3) | {"amount": amount}],
                count=2,
                total={"minor_units": 205, "currency": "KES"},
            )
        )
    assert await path.states() == {}
    assert not peer.posts


async def test_a_row_that_is_refused_stops_what_of_its_batch_came_before_it(
    path: PayPath, peer: Peer
) -> None:
    rows = [instruction(n) for n in range(1, 1001)] + [instruction(1001) | {"payee": {}}]
    total = {"minor_units": sum(row["amount"]["minor_units"] for row in rows), "currency": "KES"}
    await path.driver.stop()
    with pytest.raises(Refused) as refused:
        await path.instruct(path.order(rows, total=total))
    assert refused.value.code == "payment-invalid"
    path.driver.start()
    (batch,) = await Desk(path.pool, path.books).batches()
    assert (batch["state"], batch["reason"], batch["open"]) == ("stopped", "payment-invalid", 1000)


async def test_a_payment_ordered_by_a_second_batch_leaves_no_batch_open(path: PayPath, peer: Peer) -> None:
    await path.instruct(path.order([instruction(1), instruction(2)], "B-1"))
    await path.reach(paid=2)
    await path.instruct(path.order([instruction(2), instruction(3)], "B-2"))
    await path.instruct(path.order([instruction(1)], "B-3"))
    second, third = await path.closed("B-2"), await path.closed("B-3")
    assert (second["ordered"], second["paid"], second["elsewhere"]) == (2, 1, 1)
    assert (second["ordered_units"], second["elsewhere_units"]) == (205, 102)
    assert (third["ordered"], third["paid"], third["elsewhere"]) == (1, 0, 1)
    assert len(peer.moved) == 3


async def test_what_another_process_enters_wakes_the_driver_of_this_one(
    path: PayPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.payments.driver._POLL", 3600.0)
    await path.driver.stop()
    path.driver.start()
    listening = asyncio.create_task(path.books.listen())
    elsewhere = Books(path.pool, path.vault)
    try:
        for number in range(1, 6):
            order = PaymentInstruction.model_validate(instruction(number, batch_id=None))
            await elsewhere.enter("peer", uuid7(), None, [order])
            await asyncio.sleep(0.3)
        await path.reach(10, paid=5)
    finally:
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def test_processes_that_take_at_one_moment_stay_within_the_bounds_together(path: PayPath) -> None:
    bounds = Bounds(window=5, lookups=7)
    for batch in ("B-1", "B-2"):
        orders = [instruction(n, batch_id=batch) for n in range(20)]
        orders = [order | {"payment_id": f"{batch}-{order['payment_id']}"} for order in orders]
        await path.books.enter(
            "other", uuid7(), batch, [PaymentInstruction.model_validate(one) for one in orders]
        )

    async def taken() -> list[tuple[list[Transfer], dict[str, list[Transfer]]]]:
        processes = [Books(path.pool, path.vault) for _ in range(4)]
        return list(await asyncio.gather(*(one.take("other", bounds) for one in processes)))

    assert sum(len(begin) for begin, _ in await taken()) == bounds.lookups
    assert sum(len(begin) for begin, _ in await taken()) == 0, "what is out counts until it has moved"
    await path.pool.execute(
        "UPDATE transfer SET stage = 'quote', institution = 'bank', leased_until = '-infinity' WHERE target = 'other'"
    )
    assert sum(len(onward.get("bank", [])) for _, onward in await taken()) == bounds.window
    assert sum(len(onward.get("bank", [])) for _, onward in await taken()) == 0


async def test_to_give_out_a_few_of_a_large_batch_never_analyzed_only_about_so_many_are_read(
    path: PayPath,
) -> None:
    orders = [PaymentInstruction.model_validate(instruction(n)) for n in range(2000)]
    for start in range(0, len(orders), 500):
        await path.books.enter("large", uuid7(), "B", orders[start : start + 500])
    # Half of it waits at a later stage, for three institutions.
    await path.pool.execute(
        "UPDATE transfer SET stage = 'file', institution = nullif('bank-' || length(payment_id) % 3, 'bank-0') "
        "WHERE target = 'large' AND right(payment_id, 1) IN ('1', '3', '5', '7', '9')"
    )
    for query, arguments in (
        (statements_transfers.TAKE_FIRST, ("large", 8, 60.0, 0)),
        (statements_transfers.TAKE_FIRST, ("large", 8, 60.0, 20)),
        (statements_transfers.TAKE_ON, ("large", 8, 60.0, 0)),
    ):
        async with path.pool.acquire() as connection, connection.transaction():
            await connection.execute(statements_transfers.TAKING, "large")
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {query}", *arguments)
        assert max(_rows_read(json.loads(plan)[0]["Plan"])) <= 50
    leased = await path.pool.fetchval("SELECT count(*) FROM transfer WHERE leased_until > now()")
    assert leased == 8 + 3 * 8


def _rows_read(node: dict[str, Any]) -> Iterator[float]:
    """Return of each node of a plan how many rows it gave and threw away."""
    yield node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    for child in node.get("Plans", ()):
        yield from _rows_read(child)


async def test_a_driver_is_woken_by_a_step_that_makes_room_and_not_by_one_that_only_goes_on(
    path: PayPath,
) -> None:
    await path.driver.stop()
    order = PaymentInstruction.model_validate(instruction(1, batch_id=None))
    await path.books.enter("quiet", uuid7(), None, [order])
    (row,), _ = await path.books.take("quiet", Bounds(8, 8, 0))
    woken = path.books.changed["quiet"]
    woken.clear()
    assert await path.books.apply("quiet", [Step(row.id, (LOOKUP, QUEUED), LOOKUP, WORKING)]) == [True]
    assert not woken.is_set()
    assert await path.books.apply("quiet", [Step(row.id, (LOOKUP, WORKING), "quote", QUEUED)]) == [True]
    assert woken.is_set()
    woken.clear()
    assert await path.books.apply("quiet", [Step(row.id, ("quote", QUEUED), "transfer", SENT)]) == [True]
    assert not woken.is_set()
    assert await path.books.apply("quiet", [Step(row.id, ("transfer", SENT), "transfer", PAID)]) == [True]
    assert woken.is_set()
