"""A payment goes by one rail, and by the next only when the first has surely not paid."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from services.payments import Peer, instruction, payee
from services.rails import WALLETS_FIRST, RailsPath

from canonical_model.errors import ConfigError, Refused
from canonical_model.message import Message
from connectors.payments.rails import with_rails
from connectors.targets import TargetConfig
from routing.ledger_desk import Desk
from routing.routes import parse_route


@pytest.fixture
async def wallets() -> AsyncIterator[Peer]:
    async with Peer(target="wallets") as found:
        yield found


@pytest.fixture
async def banks() -> AsyncIterator[Peer]:
    async with Peer(target="banks") as found:
        yield found


@pytest.fixture
async def path(database_url: str, tmp_path: Path, wallets: Peer, banks: Peer) -> AsyncIterator[RailsPath]:
    async with RailsPath(database_url, tmp_path, wallets, banks) as found:
        yield found


def single(number: int = 1, **change: Any) -> Message:
    data = instruction(number, batch_id=None) | change
    return Message(source="hub", type="org.openspp.payment.instructed.v1", data=data)


def by_bank(number: int) -> dict[str, Any]:
    return instruction(number) | {"payee_account": {"kind": "bank", "account_number": payee(number)}}


async def test_each_payment_goes_by_the_rail_that_fits_it_and_the_batch_closes_over_all(
    path: RailsPath, wallets: Peer, banks: Peer
) -> None:
    await path.instruct(path.order([instruction(1), by_bank(2), instruction(3, minor_units=100_000)]))
    await path.reach(paid=3)
    assert [body["payee"] for body in wallets.moved.values()] == [payee(1)]
    assert sorted(body["payee"] for body in banks.moved.values()) == [payee(2), payee(3)]
    batch = await path.whole()
    assert (batch["ordered"], batch["paid"], batch["ordered_units"]) == (3, 3, batch["paid_units"])
    parts = {one["target"]: one["ordered"] for one in await Desk(path.pool, path.books).batches()}
    assert parts == {"pay": 3, "wallets": 1, "banks": 2}


async def test_a_payment_that_surely_failed_is_paid_by_the_next_rail_and_told_once(
    path: RailsPath, wallets: Peer, banks: Peer
) -> None:
    wallets.unknown_payees.add(payee(1))
    wallets.refused.add(payee(2))
    await path.start()
    await path.instruct(path.order([instruction(1), instruction(2), instruction(3)]))
    await path.until("P-1", ("wallets", "failed", "payee-unknown"), ("banks", "paid", None))
    await path.until("P-2", ("wallets", "failed", "5105"), ("banks", "paid", None))
    await path.until("P-3", ("wallets", "paid", None))
    batch = await path.whole()
    assert (batch["ordered"], batch["paid"], batch["failed"]) == (3, 3, 0)
    told = await path.told("P-1", "P-2", "P-3")
    assert {(each["status"], each["rail"]) for each in told["P-1"] + told["P-2"]} == {("paid", "banks")}
    assert [len(told[id_]) for id_ in ("P-1", "P-2", "P-3")] == [1, 1, 1]
    shown = await Desk(path.pool, path.books).show("P-2")
    assert [(one["attempt"], one["target"], one["reason"], one["superseded"]) for one in shown] == [
        (1, "wallets", "5105", True),
        (2, "banks", None, False),
    ]


async def test_no_other_rail_pays_what_is_unclear_what_is_barred_or_what_a_person_decided(
    path: RailsPath, wallets: Peer, banks: Peer
) -> None:
    wallets.silent.add(payee(1))
    await path.start()
    await path.instruct(single(1))
    await path.until("P-1", ("wallets", "unknown", "unanswered"))
    await Desk(path.pool, path.books).decide("wallets", "P-1", "failed", "auditor")
    # A late word of the rail is certain, but what was unclear once stays a person's to order again.
    wallets.silent.add(payee(2))
    await path.instruct(single(2))
    await path.until("P-2", ("wallets", "unknown", "unanswered"))
    id_ = next(id_ for id_, body in wallets.moved.items() if body["payee"] == payee(2))
    await wallets.call_back({"kind": "transfer", "value": id_, "state": "REFUSED"})
    told = await path.told("P-1", "P-2")
    assert (told["P-1"][-1]["status"], told["P-2"][0]["rail"]) == ("failed", "wallets")
    await path.until("P-2", ("wallets", "failed", "5105"))
    await path.until("P-1", ("wallets", "failed", "unanswered"))
    assert not banks.posts


@pytest.mark.parametrize(
    ("code", "goes_on"), [("5105", True), ("5999", False), ("sanctions-list", False), ("", False)]
)
def test_which_failures_let_the_next_rail_pay_is_said_by_the_route(code: str, goes_on: bool) -> None:
    from routing.rails import Failure
    from routing.transfers import TRAIL

    rails = parse_route(WALLETS_FIRST, "pay.yaml").rails
    assert rails is not None
    assert rails.may_go_on("wallets", Failure(code, True, False, ["working", "sent", "failed"])) is goes_on
    before = Failure(code, False, False, ["working", "failed"])
    assert rails.may_go_on("wallets", before) is not code.startswith("sanctions")
    # Of as many steps as are kept the first may be forgotten, and with them that it was unclear.
    long = ["sent"] * (TRAIL - 1) + ["failed"]
    assert not rails.may_go_on("wallets", Failure(code, True, False, long))


async def test_an_order_that_no_rail_takes_fails_and_its_sender_hears_of_it(
    database_url: str, tmp_path: Path, wallets: Peer, banks: Peer
) -> None:
    route = WALLETS_FIRST.replace(
        "  - to: banks\n", "  - to: banks\n    when: data.payee_account.account_number > 5\n"
    )
    async with RailsPath(database_url, tmp_path, wallets, banks, route) as path:
        await path.start()
        await path.instruct(
            path.order([instruction(1), by_bank(2), instruction(3) | {"payee_account": None}])
        )
        told = await path.told("P-1", "P-2", "P-3")
        assert (told["P-2"][0]["status"], told["P-2"][0]["reason_code"]) == ("failed", "rail-undecided")
        assert (told["P-3"][0]["status"], told["P-3"][0]["reason_code"]) == ("failed", "no-rail")
        batch = await path.whole()
        assert (batch["paid"], batch["failed"], batch["ordered"]) == (1, 2, 3)


async def test_the_database_holds_a_payment_to_one_rail_at_a_time(path: RailsPath) -> None:
    for driver in path.drivers:
        await driver.stop()
    await path.instruct(single(1))
    with pytest.raises(asyncpg.UniqueViolationError):
        await path.pool.execute(
            "INSERT INTO transfer (id, batch, target, payment_id, units, currency, key_id, instruction, rails, whole) "
            "SELECT gen_random_uuid(), batch, 'banks', payment_id, units, currency, key_id, instruction, rails, whole FROM transfer"
        )
    assert await path.rails.enter("pay", single().id, None, []) == 0
    with pytest.raises(Refused) as refused:
        await path.instruct(single(1, amount={"minor_units": 7, "currency": "KES"}))
    assert refused.value.code == "payment-id-reused"


async def test_an_order_delivered_three_times_stays_where_it_went_on_to(
    path: RailsPath, wallets: Peer, banks: Peer
) -> None:
    wallets.unknown_payees.add(payee(1))
    order = path.order([instruction(1)])
    await path.instruct(order)
    await path.until("P-1", ("wallets", "failed", "payee-unknown"), ("banks", "paid", None))
    again = path.order([instruction(1)])
    await path.instruct(again)
    await path.instruct(order)
    assert len(await path.attempts()) == 2
    assert [len(posts) for posts in banks.posts.values()] == [1]


@pytest.mark.parametrize("decisions", [("banks failed", "wallets paid"), ("wallets paid", "banks failed")])
async def test_a_rail_that_says_after_all_that_it_paid_stops_the_next_before_it_pays(
    path: RailsPath, wallets: Peer, banks: Peer, decisions: tuple[str, str]
) -> None:
    await _contradicted(path, wallets)
    told = await _decided(path, decisions, "paid")
    assert told[-1]["rail"] == "wallets"
    counts = await path.pool.fetch("SELECT target FROM transfer WHERE NOT superseded")
    assert [row["target"] for row in counts] == ["wallets"]
    assert not banks.posts


@pytest.mark.parametrize(
    "decisions", [("banks failed", "wallets failed"), ("wallets failed", "banks failed")]
)
async def test_a_payment_no_rail_paid_in_the_end_is_told_to_have_failed(
    path: RailsPath, wallets: Peer, banks: Peer, decisions: tuple[str, str]
) -> None:
    await _contradicted(path, wallets)
    told = await _decided(path, decisions, "failed")
    assert told[-1]["rail"] == "banks"
    assert not banks.posts


async def test_two_rails_that_settle_attempts_at_one_payment_at_once_do_not_wait_for_each_other(
    path: RailsPath, wallets: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _contradicted(path, wallets)
    for driver in path.drivers:
        await driver.stop()
    desk, inner = Desk(path.pool, path.books), path.rails.go_on
    await desk.decide("banks", "P-1", "failed", "auditor")
    await desk.decide("wallets", "P-1", "paid", "auditor")

    async def later(*given: Any) -> Any:
        await asyncio.sleep(0.3)
        return await inner(*given)

    monkeypatch.setattr(path.rails, "go_on", later)
    await asyncio.gather(path.results.settle("wallets"), path.results.settle("banks"))
    assert (await _told_in_the_end(path, "paid"))[-1]["rail"] == "wallets"


async def _contradicted(path: RailsPath, wallets: Peer) -> None:
    """Let the first rail refuse a payment, and say that it paid while it waits for the second."""
    wallets.refused.add(payee(1))
    await path.drivers[1].stop()
    await path.start()
    await path.instruct(single(1))
    await path.until("P-1", ("wallets", "failed", "5105"), ("banks", "queued", None))
    (id_,) = wallets.posts
    await wallets.call_back({"kind": "transfer", "value": id_, "state": "PAID"})
    await path.until(
        "P-1", ("wallets", "review", "contradicts"), ("banks", "review", "earlier-rail-contradicts")
    )
    path.drivers[1].start()


async def _decided(path: RailsPath, decisions: tuple[str, str], status: str) -> list[dict[str, Any]]:
    """Decide over both attempts, one after the other was told; return what was told until the status came."""
    desk = Desk(path.pool, path.books)
    for decision in decisions:
        target, state = decision.split()
        await desk.decide(target, "P-1", state, "auditor")
        deadline = asyncio.get_running_loop().time() + 30
        query = "SELECT NOT report FROM transfer WHERE target = $1"
        while not await path.pool.fetchval(query, target):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.05)
    return await _told_in_the_end(path, status)


async def _told_in_the_end(path: RailsPath, status: str) -> list[dict[str, Any]]:
    deadline = asyncio.get_running_loop().time() + 30
    while (told := (await path.told("P-1"))["P-1"])[-1]["status"] != status:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
    return told


@pytest.mark.parametrize("moment", ["before", "after"])
async def test_killed_between_the_failure_and_the_next_order_the_next_rail_pays_once(
    path: RailsPath, wallets: Peer, banks: Peer, database_url: str, tmp_path: Path, moment: str
) -> None:
    for driver in path.drivers:
        await driver.stop()
    wallets.unknown_payees |= {payee(n) for n in range(1, 41)}
    root = Path(__file__).parents[2]
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.rails", database_url, str(tmp_path), wallets.url, banks.url, moment,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "tests"), str(root)))},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert worker.stdout is not None
    wallets.callback_url = (await asyncio.wait_for(worker.stdout.readline(), 60)).decode().strip()
    await path.instruct(path.order([instruction(n) for n in range(1, 41)]))
    assert await asyncio.wait_for(worker.wait(), 30) == -signal.SIGKILL
    on_banks = await path.pool.fetchval("SELECT count(*) FROM transfer WHERE target = 'banks'")
    assert (on_banks > 0) is (moment == "after")
    wallets.callback_url = path.callback_url
    for driver in path.drivers:
        driver.start()
    await path.reach(failed=40, paid=40)
    batch = await path.whole()
    assert (batch["paid"], batch["failed"], batch["paid_units"]) == (40, 0, batch["ordered_units"])
    assert not wallets.posts
    assert sorted(body["payee"] for body in banks.moved.values()) == [payee(n) for n in range(1, 41)]
    assert {len(set(posts)) for posts in banks.posts.values()} == {1}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (("to: banks", "to: nowhere"), "target-unknown"),
        (("route: pay", "route: banks"), "route-invalid"),
        (("to: banks", "to: papers"), "route-invalid"),
        (("org.openspp.payment.instructed.v1,", "org.openspp.civil_event.registered.v1,"), "route-invalid"),
        (("data.payee_account.kind ==", "type =="), "route-invalid"),
        (("to: banks", "to: wallets"), "route-invalid"),
    ],
)
def test_a_route_whose_rails_cannot_pay_stops_the_start(change: tuple[str, str], code: str) -> None:
    from services.payments import PeerConnector

    from connectors.file import FileConnector

    targets = [TargetConfig(name, "peer") for name in ("wallets", "banks")] + [TargetConfig("papers", "file")]

    def start() -> None:
        route = parse_route(WALLETS_FIRST.replace(*change), "pay.yaml")
        with_rails([route], targets, {"peer": PeerConnector, "file": FileConnector})

    with pytest.raises(ConfigError) as refused:
        start()
    assert refused.value.code == code
