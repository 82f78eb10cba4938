"""Bulk transactions of a scheme adapter over the hub's real ledger: PostgreSQL, the driver, and the callback endpoint of the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from services import rail_path
from services.path import everything_as_text
from services.rail_path import RailPath, phone, running

from canonical_model.message import Message
from connectors.mojaloop import adapter
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_scheme import Fault

QUICK = {"bulk": True, "bulk_seconds": 20.0, "ask_seconds": 0.5, "asks": 2, "request_timeout": 5.0}


@pytest.fixture
async def sandbox() -> AsyncIterator[AdapterSandbox]:
    async with running(AdapterSandbox()) as found:
        yield found


@pytest.fixture
async def path(database_url: str, tmp_path: Path, sandbox: AdapterSandbox) -> AsyncIterator[RailPath]:
    async with RailPath(
        database_url, tmp_path, "mojaloop", sandbox.settings, QUICK, sandbox.calls_back_to
    ) as found:
        yield found


def instruction(number: int, **change: Any) -> dict[str, Any]:
    return rail_path.instruction(number, provider=f"wallet-{number % 3}", **change)


async def test_a_batch_of_300_closes_to_the_cent_and_repeats_of_the_order_pay_nobody_twice(
    path: RailPath, sandbox: AdapterSandbox
) -> None:
    faults = sandbox.scheme.faults
    faults[phone(3)] = {Fault.PARTY_UNKNOWN}
    faults[phone(5)] = {Fault.REFUSED}
    faults[phone(7)] = {Fault.WRONG_FULFILMENT}
    faults[phone(9)] = {Fault.SILENT}
    sandbox.bulk.shuffles = True
    sandbox.bulk.faults = {adapter.QUOTE: {Fault.DUPLICATE}, adapter.DONE: {Fault.DUPLICATE}}
    orders = [instruction(n, batch_id="B-1") for n in range(300)]
    message = path.order(orders)
    for _ in range(2):
        await path.instruct(message)
    await path.reach(60, paid=297, failed=2, review=1)
    batch = await path.closed()
    total = sum(order["amount"]["minor_units"] for order in orders)
    assert batch["paid_units"] + batch["failed_units"] + batch["unknown_units"] == total
    assert sum(paid.amount for paid in sandbox.scheme.committed()) == batch["paid_units"] + 1007
    assert len(sandbox.scheme.committed()) == 298
    reasons = {(await path.one(f"P-{n}"))["reason"] for n in (3, 5, 7)}
    assert reasons == {"3204", "5104", "fulfilment-wrong"}
    assert (await path.one("P-1"))["institution"] in sandbox.scheme.fsps
    assert (await path.one("P-3"))["institution"] == "wallet-0", "nobody found another one"


async def test_a_hub_that_stops_just_after_the_post_goes_on_with_the_one_bulk(
    path: RailPath, sandbox: AdapterSandbox
) -> None:
    sandbox.bulk.faults = {adapter.PARTY: {Fault.LATE}}
    sandbox.bulk.late_seconds = 3.0
    order = Message(source="hub", type="org.openspp.payment.instructed.v1", data=instruction(1))
    await path.instruct(order)
    async with asyncio.timeout(45):
        while not sandbox.bulk.posts:
            await asyncio.sleep(0.01)
    await path.leave()
    await path.open_targets()
    for _ in range(2):
        await path.instruct(order)
    await path.reach(60, paid=1)
    assert (len(sandbox.bulk.posts), len(sandbox.scheme.committed())) == (1, 1)


async def test_no_liquidity_stops_the_batch_until_it_is_resumed(
    path: RailPath, sandbox: AdapterSandbox
) -> None:
    sandbox.scheme.every.add(Fault.NO_LIQUIDITY)
    await path.instruct(path.order([instruction(n, batch_id="B-1") for n in range(20)]))
    assert await path.stopped("B-1", queued=20) == "4001"
    assert not sandbox.scheme.committed()


async def test_neither_phones_nor_ids_of_people_are_anywhere_in_the_database_in_clear(
    path: RailPath, sandbox: AdapterSandbox
) -> None:
    await path.instruct(path.order([instruction(n) for n in range(3)]))
    await path.reach(60, paid=3)
    text = await everything_as_text(path.pool)
    assert phone(1).removeprefix("+") not in text
    assert "ZM-1" not in text


async def test_a_batch_of_many_providers_fills_its_bulks_and_no_more_of_it_waits_than_two_of_them(
    database_url: str, tmp_path: Path, sandbox: AdapterSandbox
) -> None:
    quick = QUICK | {"bulk_items": 40, "window": 10}
    async with RailPath(
        database_url, tmp_path, "mojaloop", sandbox.settings, quick, sandbox.calls_back_to
    ) as path:
        sandbox.bulk.faults = {adapter.PARTY: {Fault.SILENT}}
        await path.driver.stop()
        await path.instruct(path.order([instruction(n, batch_id="B-1") for n in range(300)]))
        waiting = "SELECT count(*) FROM transfer WHERE stage = 'bulk' AND state = $1"
        for _ in range(12):
            await path.driver.turn()
            assert await path.pool.fetchval(waiting, "queued") <= 80
        assert await path.pool.fetchval(waiting, "working") == 80, "the window is full, and stays so"
        assert await path.states() == {"queued": 220, "working": 80}
        async with asyncio.timeout(30):
            while len(sandbox.bulk.posts) < 2:
                await asyncio.sleep(0.02)
        sizes = [len(orjson.loads(raw)["individualTransfers"]) for raw in sandbox.bulk.posts]
        assert sizes == [40, 40]
