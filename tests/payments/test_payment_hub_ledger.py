"""The Payment Hub EE connector over the hub's real ledger: PostgreSQL, the driver, and the callback endpoint of the hub."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from services import rail_path
from services.path import everything_as_text
from services.rail_path import PAYMENT_HUB_QUICK, RailPath, phone, running, single

from connectors.payment_hub_ee.sandbox_books import Fault
from connectors.payment_hub_ee.sandbox_http import DeploymentSandbox


@pytest.fixture
async def deployment() -> AsyncIterator[DeploymentSandbox]:
    async with running(DeploymentSandbox()) as found:
        yield found


@pytest.fixture
async def path(database_url: str, tmp_path: Path, deployment: DeploymentSandbox) -> AsyncIterator[RailPath]:
    def call_back(address: str) -> None:
        deployment.callbacks = address

    async with RailPath(
        database_url, tmp_path, "payment_hub_ee", deployment.settings, PAYMENT_HUB_QUICK, call_back
    ) as found:
        yield found


def account(number: int) -> str:
    """Return the account of payment `number` as the deployment writes it."""
    return phone(number).removeprefix("+")


def instruction(number: int, **change: Any) -> dict[str, Any]:
    # Whole units: orders with decimals would be cut into files too small to be split.
    return rail_path.instruction(number, minor_units=1000 + 100 * number, **change)


def moved(deployment: DeploymentSandbox) -> int:
    """Return the minor units that left the payer there."""
    return sum(round(float(amount) * 100) for _, _, amount, _ in deployment.books.moved)


async def test_a_single_order_delivered_three_times_is_paid_once(
    path: RailPath, deployment: DeploymentSandbox
) -> None:
    order = single(minor_units=1100)
    for _ in range(3):
        await path.instruct(order)
    await path.reach(paid=1)
    assert [(payee, amount) for _, payee, amount, _ in deployment.books.moved] == [(account(1), "11")]
    assert (await path.one())["rail_reference"]


async def test_a_batch_with_every_kind_of_end_closes_to_the_cent(
    path: RailPath, deployment: DeploymentSandbox
) -> None:
    faults = deployment.books.faults
    for number, fault in (
        (3, Fault.FAIL), (5, Fault.STALLED), (7, Fault.MISSING), (9, Fault.LATE), (11, Fault.PAID_TWICE), (13, Fault.OTHER_AMOUNT),
    ):  # fmt: skip
        faults[account(number)] = {fault}
    orders = [instruction(n, batch_id="B-1") for n in range(60)]
    await path.instruct(path.order(orders))
    await path.reach(60, paid=55, failed=1, unknown=2, review=2)
    batch = await path.closed()
    total = sum(order["amount"]["minor_units"] for order in orders)
    assert (
        batch["paid_units"] + batch["failed_units"] + batch["unknown_units"]
        == total
        == batch["ordered_units"]
    )
    twice, differing = orders[11]["amount"]["minor_units"], orders[13]["amount"]["minor_units"]
    assert moved(deployment) == batch["paid_units"] + 2 * twice + differing
    reasons = {n: (await path.one(f"P-{n}"))["reason"] for n in (3, 5, 7, 11, 13)}
    assert reasons == {
        3: "PayeeNotFound",
        5: "still-open",
        7: "row-missing",
        11: "paid-twice",
        13: "amount-differs",
    }


async def test_a_hub_that_stops_with_the_answer_lost_finds_its_file_and_pays_once_however_often_the_order_comes(
    path: RailPath, deployment: DeploymentSandbox
) -> None:
    deployment.books.every |= {Fault.ANSWER_LOST, Fault.CALLBACK_LOST}
    order = path.order([instruction(n, batch_id="B-1") for n in range(12)])
    await path.instruct(order)
    async with asyncio.timeout(45):
        while not deployment.files:
            await asyncio.sleep(0.01)
    await path.leave()
    await path.open_targets()
    for _ in range(2):
        await path.instruct(order)
    await path.reach(paid=12)
    assert len(deployment.files) == 1, "a file is handed over once"
    assert len(deployment.books.moved) == 12


async def test_a_file_due_while_it_is_still_being_handed_over_is_asked_about_at_once_afterwards(
    path: RailPath, deployment: DeploymentSandbox
) -> None:
    deployment.books.every |= {Fault.ANSWER_LOST, Fault.CALLBACK_LOST}
    deployment.held = asyncio.Event()
    await path.instruct(path.order([instruction(n, batch_id="B-1") for n in range(3)]))
    async with asyncio.timeout(45):
        # The driver has taken what is due, so that it is put off by a whole lease.
        while (
            await path.pool.fetchval("SELECT count(*) FROM transfer WHERE due_at > now() + interval '30 s'")
            < 3
        ):
            await asyncio.sleep(0.02)
    deployment.held.set()
    await path.reach(20, paid=3)


async def test_neither_phones_nor_ids_of_people_are_anywhere_in_the_database_in_clear(path: RailPath) -> None:
    await path.instruct(single())
    await path.reach(paid=1)
    text = await everything_as_text(path.pool)
    assert account(1) not in text
    assert "ZM-1" not in text
