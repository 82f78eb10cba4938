"""Payments through another G2P Connect system: paid once and told right, whatever that system does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from services import official
from services.g2p_paying import G2pPath, instruction, single
from services.payments import payee

from canonical_model.account import Account, AccountKind
from canonical_model.money import Money
from connectors.errors import Refused
from connectors.g2p_connect import DisburseSettings
from connectors.g2p_connect.disburse_addresses import account_of, address_of
from connectors.g2p_connect.disburse_messages import Envelopes, amount_text
from connectors.g2p_connect.disburse_peer import DisbursePeer


@pytest.fixture
async def peer() -> AsyncIterator[DisbursePeer]:
    found = DisbursePeer()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def path(database_url: str, tmp_path: Path, peer: DisbursePeer) -> AsyncIterator[G2pPath]:
    async with G2pPath(database_url, tmp_path, peer) as found:  # type: ignore[arg-type]
        yield found


def address(number: int) -> str:
    return f"mobile:{payee(number)}@m-pay"


async def test_a_batch_is_paid_each_once_by_signed_callbacks(path: G2pPath, peer: DisbursePeer) -> None:
    await path.instruct(path.order([instruction(number) for number in range(1, 8)]))
    await path.reach(paid=7)
    batch = await path.closed()
    assert (batch["paid"], batch["paid_units"]) == (7, 728)
    assert sorted(peer.moved) == [("B-1", f"P-{number}") for number in range(1, 8)]
    assert len(peer.bodies) == 1, "one message for a batch"
    await peer.settled()
    assert {status for status, _ in peer.answers} == {200}


async def test_a_single_payment_is_a_transaction_of_its_own_and_ordered_once(
    path: G2pPath, peer: DisbursePeer
) -> None:
    order = single()
    for _ in range(3):
        await path.instruct(order)
    await path.reach(paid=1)
    assert peer.moved == [("P-1", "P-1")]


async def test_what_is_refused_fails_by_its_code_and_the_others_are_paid(
    path: G2pPath, peer: DisbursePeer
) -> None:
    peer.refused.add(address(2))
    await path.instruct(path.order([instruction(1), instruction(2), instruction(3)]))
    await path.reach(paid=2, failed=1)
    assert (await path.one("P-2"))["reason"] == "rjct.payee_fa.invalid"


async def test_without_a_word_the_hub_asks(path: G2pPath, peer: DisbursePeer) -> None:
    peer.mute = True
    await path.instruct(path.order([instruction(1), instruction(2)]))
    await path.reach(paid=2)
    assert peer.asked >= 1
    assert len(peer.moved) == 2


class LeisurelyPath(G2pPath):
    """Books that gather for a second and more before they commit, and a hub that would ask only much later."""

    commit_ms = 1500.0
    more: ClassVar[dict[str, Any]] = {"first_ask": 300.0}


@pytest.mark.parametrize("together", [False, True], ids=["single payments", "a callback about a batch"])
async def test_payments_share_the_commits_of_the_books_in_place_of_waiting_for_one_each(
    database_url: str, tmp_path: Path, peer: DisbursePeer, together: bool
) -> None:
    async with LeisurelyPath(database_url, tmp_path, peer) as path:  # type: ignore[arg-type]
        if together:
            await path.instruct(path.order([instruction(number) for number in range(1, 101)]))
        else:
            await path.driver.stop()
            for number in range(1, 101):
                await path.instruct(single(number))
            path.driver.start()
        # One after another they would wait for a hundred commits, which is 150 seconds.
        await path.reach(75, paid=100)
    assert (len(peer.bodies), len(peer.moved)) == (1 if together else 100, 100)


async def test_an_order_that_got_lost_goes_again_to_the_byte_and_is_paid_once(
    path: G2pPath, peer: DisbursePeer
) -> None:
    peer.lost = 1
    await path.instruct(path.order([instruction(1), instruction(2)]))
    await path.reach(paid=2)
    assert len(peer.bodies) == 2
    assert peer.bodies[0] == peer.bodies[1]
    assert len(peer.moved) == 2


async def test_an_order_lost_twice_is_given_to_a_person(path: G2pPath, peer: DisbursePeer) -> None:
    peer.lost = 10
    await path.instruct(single())
    await path.reach(review=1)
    assert (await path.one())["reason"] == "unknown-there"
    assert len(peer.bodies) == 2
    assert not peer.moved


async def test_an_order_that_was_taken_with_an_error_is_not_ordered_again(
    path: G2pPath, peer: DisbursePeer
) -> None:
    peer.broken = 1
    await path.instruct(single())
    await path.reach(paid=1)
    assert len(peer.bodies) == 1


async def test_a_busy_system_is_given_the_same_order_later(path: G2pPath, peer: DisbursePeer) -> None:
    peer.busy = 1
    await path.instruct(single())
    await path.reach(paid=1)
    assert len(peer.moved) == 1


async def test_a_result_told_twice_changes_nothing(path: G2pPath, peer: DisbursePeer) -> None:
    peer.doubled.add(address(1))
    await path.instruct(single())
    await path.reach(paid=1)
    await peer.settled()
    assert await path.states() == {"paid": 1}


@pytest.mark.parametrize(("fault", "reason"), [("turncoats", "contradicts"), ("wrong", "amount-differs")])
async def test_a_contradiction_is_for_a_person(
    path: G2pPath, peer: DisbursePeer, fault: str, reason: str
) -> None:
    getattr(peer, fault).add(address(1))
    await path.instruct(single())
    await path.reach(review=1)
    assert (await path.one())["reason"] == reason
    assert len(peer.moved) == 1


async def test_a_callback_nobody_signed_only_makes_the_hub_ask(path: G2pPath, peer: DisbursePeer) -> None:
    peer.silent.add(address(1))
    await path.instruct(single())
    await path.reach(sent=1)
    while not peer.bodies:
        await asyncio.sleep(0.01)
    peer.callback_url = f"http://127.0.0.1:{path.port}/callbacks/peer"
    asked = peer.asked
    lie = {"reference_id": "P-1", "status": "succ", "timestamp": "2026-01-01T00:00:00Z"}
    assert await peer.tell(lie, signed=False) == 200
    deadline = asyncio.get_running_loop().time() + 45
    while peer.asked == asked:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert await path.states() == {"sent": 1}
    assert await peer.tell(lie) == 200
    await path.reach(paid=1)


async def test_a_callback_of_unknown_payments_or_under_a_wrong_signature_is_refused(
    path: G2pPath, peer: DisbursePeer
) -> None:
    peer.callback_url = f"http://127.0.0.1:{path.port}/callbacks/peer"
    entry = {"reference_id": "never", "status": "succ", "timestamp": "2026-01-01T00:00:00Z"}
    assert await peer.tell(entry) == 404
    other = DisbursePeer()
    await other.start()
    other.callback_url = peer.callback_url
    assert await other.tell(entry) == 400
    assert orjson.loads(other.answers[0][1])["message"]["error"]["code"] == "err.signature.invalid"
    await other.stop()


async def test_what_was_changed_after_it_was_signed_is_not_believed(peer: DisbursePeer) -> None:
    envelopes = Envelopes(DisburseSettings.model_validate(peer.settings()))
    signed = peer.signed_by({"header": {"action": "on-disburse"}, "message": {"amount": "1.00"}})
    assert envelopes.believed(signed)
    assert not envelopes.believed({**signed, "message": {"amount": "9.00"}})
    assert not envelopes.believed({**signed, "signature": signed["signature"][:-4] + "AAAA"})
    assert not envelopes.believed({**signed, "signature": "a.b.c"})
    assert not envelopes.believed({**signed, "signature": None})


async def test_a_system_that_refuses_every_order_stops_the_batch_and_loses_nothing(
    path: G2pPath, peer: DisbursePeer
) -> None:
    peer.closed = "err.sender_id.invalid"
    await path.instruct(path.order([instruction(1), instruction(2)]))
    await path.reach(queued=2)
    deadline = asyncio.get_running_loop().time() + 45
    while not (row := await path.pool.fetchrow("SELECT state, reason FROM transfer_batch"))["reason"]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert tuple(row) == ("stopped", "err.sender_id.invalid")
    assert not peer.moved


async def test_a_payment_nobody_can_be_found_for_fails_before_anything_is_sent(
    path: G2pPath, peer: DisbursePeer
) -> None:
    lost = {"kind": "mobile_money", "account_number": "700000001"}
    await path.instruct(single(payee_account=lost))
    await path.reach(failed=1)
    assert (await path.one())["reason"] == "payee-unaddressed"
    assert not peer.bodies


async def test_orders_and_questions_are_valid_by_the_official_description(
    path: G2pPath, peer: DisbursePeer
) -> None:
    await path.instruct(path.order([instruction(1)]))
    await path.reach(paid=1)
    document = official.document("g2p-connect/openapi/disburse_core_api_v1.0.0.yaml")
    required = document["components"]["schemas"]["DisburseRequest"]["required"]
    required[required.index("disburemsents")] = "disbursements"  # a slip of the pen
    schema = document["paths"]["/disburse"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert official.faults(document, schema, orjson.loads(peer.bodies[0])) == []


@pytest.mark.parametrize(
    ("units", "currency", "text"),
    [(125000, "PHP", "1250.00"), (5, "USD", "0.05"), (1250, "JPY", "1250.00"), (1500, "BHD", "1.5")],
)
def test_an_amount_has_one_or_two_decimals_always(units: int, currency: str, text: str) -> None:
    assert amount_text(Money(minor_units=units, currency=currency)) == text


def test_an_amount_that_would_have_to_be_rounded_is_refused() -> None:
    with pytest.raises(Refused):
        amount_text(Money(minor_units=1255, currency="BHD"))


@pytest.mark.parametrize(
    "text",
    [
        "account:12345@national-bank",
        "mobile:2547000001@m-pay",
        "token:12345@gtbank",
        "voucher:12345@food.coupon-network",
        "joeuser@national-bank",
        "iban:PH12@bank",
    ],
)
def test_an_address_survives_the_way_to_an_account_and_back(text: str) -> None:
    account = account_of(text)
    assert account is not None
    assert address_of(account) == text


def test_an_account_without_its_provider_has_no_address() -> None:
    assert address_of(Account(kind=AccountKind.BANK, account_number="1")) is None
    assert address_of(Account(kind=AccountKind.BANK, provider="b", account_number="1 2")) is None
