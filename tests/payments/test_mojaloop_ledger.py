"""The Mojaloop connector over the hub's real ledger: PostgreSQL, the driver, and the callback endpoint of the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from services.path import everything_as_text
from services.rail_path import MOJALOOP_QUICK, RailPath, instruction, phone, running, single

from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault


@pytest.fixture
async def sandbox() -> AsyncIterator[SchemeSandbox]:
    async with running(SchemeSandbox(algorithm="ES256")) as found:
        yield found


@pytest.fixture(params=[False, True], ids=["single", "bulk"])
async def path(
    database_url: str, tmp_path: Path, sandbox: SchemeSandbox, request: pytest.FixtureRequest
) -> AsyncIterator[RailPath]:
    settings = {**MOJALOOP_QUICK, "bulk": request.param}
    async with RailPath(
        database_url, tmp_path, "mojaloop", sandbox.settings, settings, sandbox.calls_back_to
    ) as found:
        yield found


async def test_an_order_delivered_three_times_is_paid_once(path: RailPath, sandbox: SchemeSandbox) -> None:
    order = single()
    for _ in range(3):
        await path.instruct(order)
    await path.reach(paid=1)
    (paid,) = sandbox.scheme.committed()
    assert (paid.amount, paid.currency) == (1001, "KES")
    assert (await path.one())["rail_reference"] in sandbox.effects()


async def test_a_batch_over_three_institutions_closes_to_the_cent(
    path: RailPath, sandbox: SchemeSandbox
) -> None:
    faults = sandbox.scheme.faults
    faults[phone(3)] = {Fault.PARTY_UNKNOWN}
    faults[phone(5)] = {Fault.REFUSED}
    faults[phone(7)] = {Fault.WRONG_FULFILMENT}
    faults[phone(8)] = {Fault.ITEM_DOUBLED, Fault.DUPLICATE}
    orders = [instruction(n, batch_id="B-1") for n in range(60)]
    await path.instruct(path.order(orders))
    await path.reach(60, paid=57, failed=2, review=1)
    batch = await path.closed()
    total = sum(order["amount"]["minor_units"] for order in orders)
    assert batch["paid_units"] + batch["failed_units"] + batch["unknown_units"] == total
    assert sum(paid.amount for paid in sandbox.scheme.committed()) == batch["paid_units"] + 1007
    reasons = {(await path.one(f"P-{n}"))["reason"] for n in (3, 5, 7)}
    assert reasons == {"3204", "5104", "fulfilment-wrong"}


async def test_silence_is_asked_about_and_then_paid_once(path: RailPath, sandbox: SchemeSandbox) -> None:
    sandbox.scheme.faults[phone(1)] = {Fault.SILENT}
    if path.target._inner._settings.bulk:  # type: ignore[attr-defined]
        sandbox.scheme.every.add(Fault.SILENT)
        sandbox.scheme.faults.clear()
    await path.instruct(single())
    await path.reach(sent=1)
    async with asyncio.timeout(45):
        while not sandbox.scheme.transfers:
            await asyncio.sleep(0.02)
    sandbox.scheme.every.clear()
    await path.reach(paid=1)
    assert len(sandbox.scheme.committed()) == 1


async def test_a_hub_that_stops_just_after_the_post_pays_once_however_often_the_order_comes(
    path: RailPath,
    sandbox: SchemeSandbox,
) -> None:
    sandbox.scheme.every.add(Fault.SILENT)
    order = single()
    await path.instruct(order)
    async with asyncio.timeout(45):
        while not sandbox.scheme.transfers:
            await asyncio.sleep(0.01)
    await path.leave()
    sandbox.scheme.every.clear()
    await path.open_targets()
    await path.instruct(order)
    await path.instruct(order)
    await path.reach(paid=1)
    sent = {seen.body for seen in sandbox.received if b"condition" in seen.body}
    assert len(sent) == 1, "whatever was sent again was the same to the byte"
    assert len(sandbox.scheme.committed()) == 1


async def test_no_liquidity_stops_the_batch_until_it_is_resumed(
    path: RailPath, sandbox: SchemeSandbox
) -> None:
    sandbox.scheme.every.add(Fault.NO_LIQUIDITY)
    await path.instruct(path.order([instruction(n, batch_id="B-1") for n in range(20)]))
    assert await path.stopped("B-1", queued=20) == "4001"
    assert not sandbox.scheme.committed()


async def test_neither_phones_nor_ids_of_people_are_anywhere_in_the_database_in_clear(
    path: RailPath,
    sandbox: SchemeSandbox,
) -> None:
    await path.instruct(single())
    await path.reach(paid=1)
    text = await everything_as_text(path.pool)
    assert phone(1).removeprefix("+") not in text
    assert "ZM-1" not in text
