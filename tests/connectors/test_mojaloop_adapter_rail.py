"""Payments through a scheme adapter: never a second creating call, and no payment without proof."""

import asyncio
from dataclasses import replace

import pytest

from connectors.mojaloop.adapter_rail import AdapterRail
from connectors.mojaloop.callbacks import Reader
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_scheme import Fault
from tests.connectors import mojaloop_desk
from tests.connectors.mojaloop_desk import order

PHONE = "+27713803912"


class Desk(mojaloop_desk.Desk):
    target = "adapter"
    peer = AdapterSandbox

    def make_rail(self, flow):
        return AdapterRail(self.settings, self.ledger, self.client, flow, Reader(self.settings, None))

    def state(self, payment_id="P-1"):
        return super().state(payment_id)


@pytest.mark.parametrize(
    ("fault", "state", "reason", "times"),
    [
        (None, "paid", None, 1),
        (Fault.PARTY_UNKNOWN, "failed", "3204", 0),
        (Fault.PARTY_OTHER, "failed", "party-differs", 0),
        (Fault.QUOTE_REFUSED, "failed", "5103", 0),
        (Fault.QUOTE_DEAR, "failed", "quote-cost", 0),
        (Fault.REFUSED, "failed", "5104", 0),
        (Fault.SILENT, "paid", None, 1),
        (Fault.MUTE, "unknown", "unanswered", 1),
        (Fault.WRONG_FULFILMENT, "review", "fulfilment-wrong", 1),
    ],
)
async def test_a_payment_ends_as_the_scheme_says_and_as_the_proof_shows(fault, state, reason, times):
    async with Desk() as desk:
        if fault:
            desk.sandbox.scheme.every.add(fault)
        await desk.pay(order())
        assert desk.state() == (state, reason)
        assert len(desk.sandbox.scheme.committed()) == times
        assert desk.sandbox.posts == ["P-1"]


async def test_a_creating_call_whose_answer_is_lost_is_never_made_again():
    async with Desk() as desk:
        desk.sandbox.drop_after.add("post")
        await desk.pay(order())
        assert desk.state() == ("review", "adapter-post-open")
        assert desk.sandbox.posts == ["P-1"]
        assert not desk.sandbox.scheme.committed()


async def test_a_creating_call_of_a_process_that_died_is_never_made_again():
    async with Desk() as desk:
        desk.ledger.order([order()])
        row = replace(desk.ledger.of("P-1"))
        posting = desk.rail._create
        desk.rail._create = lambda row: asyncio.sleep(0)
        await desk.rail.begin([row])
        desk.rail._create = posting
        await desk.rail.ask([replace(desk.ledger.of("P-1"))])
        assert desk.state() == ("review", "adapter-post-open")
        assert desk.sandbox.posts == []


async def test_an_acceptance_whose_answer_is_lost_is_asked_about():
    async with Desk() as desk:
        desk.sandbox.drop_after.add("quote")
        await desk.pay(order())
        assert desk.state() == ("paid", None)
        assert len(desk.sandbox.scheme.committed()) == 1


async def test_an_adapter_that_accepts_by_itself_is_found_out_with_the_first_payment():
    async with Desk(AdapterSandbox(accepts_by_itself=True)) as desk:
        await desk.pay(order(batch_id="B-1"))
        assert desk.state() == ("paid", None)
        assert desk.ledger.stopped == {"B-1": "adapter-accepts-by-itself"}


async def test_without_liquidity_the_batch_stops():
    async with Desk() as desk:
        desk.sandbox.scheme.every.add(Fault.NO_LIQUIDITY)
        await desk.pay(order(batch_id="B-1"))
        assert desk.state() == ("queued", "4001")
        assert desk.ledger.stopped == {"B-1": "4001"}
