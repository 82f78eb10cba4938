"""The account mapper and vouchers of Payment Hub EE, with callbacks that come before the 202."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from services.payment_hub import Desk

from connectors.errors import Refused, Unknown
from connectors.payment_hub_ee.mapper import Beneficiary, FailedCase
from connectors.payment_hub_ee.vouchers import ACTIVE, CANCELLED, INACTIVE, SUSPENDED, UTILIZED, VoucherOrder

WITH = {"registering_institution": "SocialWelfare", "program": "SchoolMeals", "decimals": "channel"}


def soon(seconds: float = 5.0) -> float:
    return asyncio.get_running_loop().time() + seconds


def account(number: int, **change: Any) -> Beneficiary:
    return Beneficiary(
        **{"identity": f"UIN-{number}", "modality": "00", "address": "7", "institution": "rhino"} | change
    )


@pytest.mark.parametrize("dialect", [{}, {"dialect": "govstack", "form": "json"}])
async def test_beneficiaries_are_registered_and_failed_rows_named(dialect: dict[str, str]) -> None:
    async with Desk(change=WITH | dialect) as desk:
        mapper = desk.connector.mapper
        assert await mapper.register([account(1), account(2)], soon()) == []
        again = await mapper.register([account(2), account(3)], soon())
        assert again == [FailedCase("UIN-2", "Beneficiary already registered")]
        assert await mapper.update([account(2, address="8")], soon()) == []
        assert desk.books.mapper["UIN-2"]["financialAddress"] == "8"
        assert await mapper.update([account(9)], soon()) == [
            FailedCase("UIN-9", "Beneficiary is not registered")
        ]


async def test_beneficiaries_are_looked_up_one_or_many() -> None:
    async with Desk(change=WITH) as desk:
        mapper = desk.connector.mapper
        await mapper.register([account(1), account(2)], soon())
        assert await mapper.look_up("UIN-1", "00", soon()) == [account(1)]
        assert await mapper.look_up("UIN-7", "00", soon()) == []
        assert await mapper.look_up_many(["UIN-2", "UIN-7"], soon()) == {"UIN-2": account(2)}


async def test_a_mapper_that_never_calls_back_leaves_it_unknown_and_a_lookup_tells() -> None:
    async with Desk(change=WITH) as desk:
        desk.deployment.mapper.silent = True
        with pytest.raises(Unknown) as caught:
            await desk.connector.mapper.register([account(1)], soon(0.5))
        assert caught.value.code == "callback-missing"
        assert await desk.connector.mapper.look_up("UIN-1", "00", soon()) == [account(1)]


@pytest.mark.parametrize(
    "change", [{"identity": "U" * 21}, {"modality": "09"}, {"institution": None}, {"address": "7" * 31}]
)
async def test_a_beneficiary_the_mapper_cannot_hold_is_refused_before_anything_is_sent(change: Any) -> None:
    async with Desk(change=WITH) as desk:
        with pytest.raises(Refused) as caught:
            await desk.connector.mapper.register([account(1, **change)], soon())
        assert caught.value.code == "beneficiary-invalid"
        assert not any("beneficiary" in path for _, path, _ in desk.deployment.requests)


def voucher(number: int, **change: Any) -> VoucherOrder:
    values = {
        "instruction_id": f"I-{number}",
        "payee": "UIN-1",
        "amount": "1500",
        "currency": "KES",
        "group": "021",
    }
    return VoucherOrder(**values | change)


async def test_a_voucher_goes_through_its_whole_life() -> None:
    async with Desk(change=WITH) as desk:
        vouchers = desk.connector.vouchers
        made = await vouchers.create("200000000001", "200000000002", [voucher(1), voucher(2)], soon())
        one, two = made
        assert one.instruction_id == "I-1"
        assert await vouchers.status(one.serial, soon()) == INACTIVE
        assert await vouchers.change("activate", [one.serial, two.serial, "0"], "200000000002", soon()) == {
            "0": "Voucher with serial number does not exist."
        }
        assert await vouchers.status(one.serial, soon()) == ACTIVE
        assert await vouchers.valid(one.serial, soon())
        await vouchers.change("suspend", [one.serial], "200000000002", soon())
        assert await vouchers.status(one.serial, soon()) == SUSPENDED
        assert not (await vouchers.redeem(one.serial, one.secret, "AGENT00001", soon())).redeemed
        await vouchers.change("reactivate", [one.serial], "200000000002", soon())
        assert (await vouchers.redeem(one.serial, one.secret, "AGENT00001", soon())).redeemed
        assert await vouchers.status(one.serial, soon()) == UTILIZED
        second = await vouchers.redeem(one.serial, one.secret, "AGENT00001", soon())
        assert not second.redeemed
        assert second.message == "Voucher Details Invalid!"
        await vouchers.change("cancel", [two.serial], "200000000002", soon())
        assert await vouchers.status(two.serial, soon()) == CANCELLED
        assert await vouchers.status("17953596120004", soon()) is None


async def test_vouchers_created_twice_are_made_once_and_without_funds_not_at_all() -> None:
    async with Desk(change=WITH) as desk:
        vouchers = desk.connector.vouchers
        await vouchers.create("200000000001", "200000000002", [voucher(1)], soon())
        with pytest.raises(Refused) as caught:
            await vouchers.create("200000000001", "200000000002", [voucher(1)], soon())
        assert caught.value.code == "voucher-known"
        assert len(desk.deployment.vouchers.vouchers) == 1
        desk.deployment.vouchers.authorized = False
        with pytest.raises(Refused) as caught:
            await vouchers.create("200000000003", "200000000004", [voucher(2)], soon())
        assert caught.value.code == "voucher-unauthorized"


async def test_vouchers_are_asked_with_no_header_the_service_does_not_know() -> None:
    async with Desk(change=WITH, login=True) as desk:
        await desk.connector.vouchers.create("200000000001", "200000000002", [voucher(1)], soon())
        headers = next(h for _, path, h in desk.deployment.requests if path == "/vouchers")
        assert not {"authorization", "platform-tenantid", "traceparent"} & {name.lower() for name in headers}


@pytest.mark.parametrize("change", [{"amount": "1e3"}, {"group": "1"}, {"instruction_id": "I" * 17}])
async def test_a_voucher_the_service_cannot_hold_is_refused_before_anything_is_sent(change: Any) -> None:
    async with Desk(change=WITH) as desk:
        with pytest.raises(Refused) as caught:
            await desk.connector.vouchers.create("1", "2", [voucher(1, **change)], soon())
        assert caught.value.code == "voucher-invalid"
