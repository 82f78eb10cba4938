"""Payments through the sandbox over real HTTP with every misbehaviour of a scheme; the ledger is the one in memory."""

import asyncio
import logging
from dataclasses import replace

import pytest

from connectors.mojaloop.formats import dumps
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault
from connectors.payments.contract import Transfer
from connectors.testing.sandbox import Mode
from tests.connectors.mojaloop_desk import Desk, order

PHONE = "+27713803912"
CALM = {"bulk": False, "lookup_seconds": 30.0, "ask_seconds": 30.0, "request_timeout": 30.0}


@pytest.mark.parametrize("version", ["1.1", "2.0", "iso20022"])
@pytest.mark.parametrize("bulk", [False, True], ids=["single", "bulk"])
async def test_a_payment_goes_from_look_up_to_proof(version, bulk):
    if bulk and version == "iso20022":
        pytest.skip("the ISO 20022 form has no bulk messages")
    async with Desk(SchemeSandbox(version=version), bulk=bulk) as desk:
        await desk.pay(order())
        assert desk.state("P-1") == ("paid", None)
        assert desk.moved == 10150
        assert set(desk.answers) == {200}
        stages = [stage for stage, _ in desk.ledger.history["P-1"]]
        assert stages == sorted(stages, key=["lookup", "quote", "transfer"].index)


SINGLE = [
    (Fault.PARTY_UNKNOWN, "failed", "3204", 0),
    (Fault.PARTY_SILENT, "failed", "lookup-unanswered", 0),
    (Fault.PARTY_OTHER, "failed", "party-differs", 0),
    (Fault.QUOTE_SILENT, "failed", "quote-unanswered", 0),
    (Fault.QUOTE_REFUSED, "failed", "5103", 0),
    (Fault.QUOTE_OTHER_PAYEE, "failed", "quote-payee", 0),
    (Fault.QUOTE_OTHER_AMOUNT, "failed", "quote-amount", 0),
    (Fault.QUOTE_OTHER_CURRENCY, "failed", "quote-currency", 0),
    (Fault.QUOTE_DEAR, "failed", "quote-cost", 0),
    (Fault.QUOTE_EXPIRED, "failed", "quote-expired", 0),
    (Fault.REFUSED, "failed", "5104", 0),
    (Fault.ABORTED, "failed", "aborted", 0),
    (Fault.LOST, "paid", None, 1),
    (Fault.SILENT, "paid", None, 1),
    (Fault.MUTE, "unknown", "unanswered", 1),
    (Fault.RESERVED, "paid", None, 1),
    (Fault.DUPLICATE, "paid", None, 1),
    (Fault.EARLY, "paid", None, 1),
    (Fault.UNSIGNED, "paid", None, 1),
    (Fault.TAMPERED, "paid", None, 1),
    (Fault.WRONG_PARTY, "paid", None, 1),
    (Fault.WRONG_FULFILMENT, "review", "fulfilment-wrong", 1),
    (Fault.NO_FULFILMENT, "review", "fulfilment-missing", 1),
    (Fault.CONTRADICTION, "review", "paid-after-failure", 1),
]
EARLIER = {Fault.UNSIGNED, Fault.TAMPERED, Fault.WRONG_PARTY}
"""These befall the callback of the transfer alone: the phone's faults begin once the quote is there."""


class Later:
    """Lets a fault begin with the transfer, so that look-up and quote go through."""

    def __init__(self, desk: Desk, fault: Fault) -> None:
        self.transfer = desk.sandbox.scheme.transfer
        self.desk, self.fault = desk, fault
        desk.sandbox.scheme.transfer = self

    def __call__(self, *given):
        self.desk.sandbox.scheme.faults[PHONE] = {self.fault}
        return self.transfer(*given)


@pytest.mark.parametrize(("fault", "state", "reason", "times"), SINGLE, ids=[str(case[0]) for case in SINGLE])
async def test_a_misbehaving_scheme_never_makes_a_payment_twice_or_untrue(fault, state, reason, times):
    async with Desk(bulk=False) as desk:
        if fault in EARLIER:
            Later(desk, fault)
        else:
            desk.sandbox.scheme.faults[PHONE] = {fault}
        await desk.pay(order())
        assert desk.state("P-1") == (state, reason)
        assert len(desk.sandbox.scheme.committed()) == times
        sent = [seen.body for seen in desk.sandbox.received if seen.id in desk.sandbox.scheme.transfers]
        assert len(set(sent)) <= 1, "a repeat is the same to the byte"
        refused = {Fault.UNSIGNED, Fault.TAMPERED, Fault.WRONG_PARTY}
        assert (400 in desk.answers) == (fault in refused)


async def test_an_oversized_callback_is_refused_and_the_state_asked_for():
    async with Desk(bulk=False) as desk:
        Later(desk, Fault.OVERSIZE)
        await desk.pay(order())
        assert desk.state("P-1") == ("paid", None)
        assert desk.sandbox.callback_statuses[400] == 1


async def test_a_lost_transfer_is_asked_about_first_and_then_sent_again_byte_for_byte():
    async with Desk(bulk=False) as desk:
        desk.sandbox.scheme.faults[PHONE] = {Fault.LOST}
        await desk.pay(order())
        transfer_id = desk.ledger.of("P-1").references["transfer"]
        course = [
            seen.body if seen.id == transfer_id else "asked"
            for seen in desk.sandbox.received
            if transfer_id in (seen.id, seen.id.removeprefix("/transfers/"))
        ]
        # What is slow is asked about, and sent, once more.
        assert course[1] == "asked"
        assert set(course) == {course[0], "asked"}
        assert course.count("asked") < len(course) - 1
        assert len(desk.sandbox.scheme.committed()) == 1


async def test_a_process_that_dies_after_the_post_pays_once_however_often_the_order_comes():
    async with Desk(bulk=False, ask_seconds=30.0) as desk:
        desk.sandbox.scheme.faults[PHONE] = {Fault.SILENT}
        desk.ledger.order([order()])
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while not desk.sandbox.scheme.transfers:
                await asyncio.sleep(0.01)
        driving.cancel()
        await desk.rail.close()
        await desk.client.close()
        assert desk.ledger.of("P-1").state == "sent"
        desk.open()
        assert desk.ledger.order([order()]) == 0
        assert desk.ledger.order([order()]) == 0
        desk.ledger.hurry()
        await desk.pay(order())
        assert desk.state("P-1") == ("paid", None)
        assert len(desk.sandbox.scheme.transfers) == 1


async def test_a_process_that_dies_before_the_post_sends_the_stored_bytes():
    async with Desk(bulk=False, ask_seconds=30.0) as desk:
        posting = desk.rail._post_transfer
        desk.rail._post_transfer = lambda row: asyncio.sleep(0)
        desk.ledger.order([order()])
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while desk.ledger.of("P-1").state != "sent":
                await asyncio.sleep(0.01)
        driving.cancel()
        stored = desk.ledger.of("P-1").request
        desk.rail._post_transfer = posting
        await desk.rail.close()
        await desk.client.close()
        desk.open()
        desk.ledger.hurry()
        await desk.pay(order())
        assert desk.state("P-1") == ("paid", None)
        bodies = [seen.body for seen in desk.sandbox.received if seen.body and b"transferId" in seen.body]
        assert bodies == [stored]


async def test_two_payees_with_one_phone_number_are_looked_up_once_and_paid_each():
    async with Desk(bulk=False) as desk:
        await desk.pay(order("P-1"), order("P-2", minor_units=20000))
        assert [desk.state(p)[0] for p in ("P-1", "P-2")] == ["paid", "paid"]
        assert desk.moved == 30150
        asked = [seen.id for seen in desk.sandbox.received if seen.id.startswith("/parties")]
        assert asked == [f"/parties/MSISDN/{PHONE}"]


async def test_a_look_up_under_way_answers_for_those_who_come_later():
    async with Desk(**CALM) as desk:
        for payment in ("P-1", "P-2"):
            desk.ledger.order([order(payment)])
            await desk.rail.begin([replace(desk.ledger.of(payment))])
        await desk.pay()
        assert desk.ledger.totals() == {"paid": 2}
        assert len([seen for seen in desk.sandbox.received if seen.id.startswith("/parties")]) == 1


async def test_without_liquidity_the_batch_stops_and_goes_on_after_a_person_resumed_it():
    async with Desk(SchemeSandbox(algorithm="ES256"), **CALM) as desk:
        desk.sandbox.scheme.every.add(Fault.NO_LIQUIDITY)
        orders = [order(f"P-{n}", f"+2771000{n:04d}", batch_id="B-1") for n in range(200)]
        await desk.pay(*orders, within=60)
        assert desk.ledger.stopped == {"B-1": "4001"}
        assert desk.ledger.totals() == {"queued": 200}
        assert len(desk.sandbox.scheme.transfers) < 200, "what was not on its way was not sent"
        desk.sandbox.scheme.every.clear()
        desk.ledger.resume()
        await desk.pay(within=60)
        assert desk.ledger.totals() == {"paid": 200}
        assert len(desk.sandbox.scheme.committed()) == 200


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"signing_key": None}, "3105"), ({"client_secret": "wrong-wrong-wrong"}, "token-refused")],
)
async def test_a_wrong_set_up_stops_the_batch_and_fails_nobody(settings, reason):
    async with Desk(bulk=False, **settings) as desk:
        await desk.pay(order(batch_id="B-1"))
        assert desk.ledger.stopped == {"B-1": reason}
        assert desk.state("P-1") == ("queued", reason)


async def test_a_scheme_of_another_version_stops_the_batch_and_says_which_it_speaks():
    async with Desk(bulk=False) as desk:
        desk.sandbox.only_version = "2.0"
        await desk.pay(order(batch_id="B-1"))
        assert desk.ledger.stopped == {"B-1": "version-offered-2.0"}


@pytest.mark.parametrize("mode", [Mode.CLOSE_AFTER_BODY, Mode.GARBAGE, Mode.HANG, Mode.FLOOD])
async def test_an_answer_that_is_none_never_leads_to_a_second_transfer(mode):
    async with Desk(bulk=False) as desk:
        desk.sandbox.switch(mode)
        desk.ledger.order([order()])
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while desk.ledger.of("P-1").resent == 0 and desk.ledger.moving():
                await asyncio.sleep(0.01)
        desk.sandbox.switch(Mode.OK)
        async with asyncio.timeout(45):
            await driving
        assert len(desk.sandbox.scheme.committed()) <= 1
        assert desk.state("P-1")[0] in {"paid", "review", "failed"}


async def test_a_busy_scheme_is_tried_again():
    async with Desk(bulk=False) as desk:
        desk.sandbox.switch(Mode.STATUS, retry_after=1)
        desk.ledger.order([order()])
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while desk.sandbox.busiest == 0:
                await asyncio.sleep(0.01)
        desk.sandbox.switch(Mode.OK)
        async with asyncio.timeout(45):
            await driving
        assert desk.state("P-1") == ("paid", None)


async def _quiet(desk):
    while desk.rail.under_way:
        await asyncio.gather(*desk.rail.under_way)


async def test_a_scheme_that_is_away_for_long_fails_nobody():
    async with Desk(**CALM, asks=1) as desk:
        await desk.client.token(asyncio.get_running_loop().time() + 5)
        await desk.sandbox.stop()
        desk.ledger.order([order()])
        await desk.driver.turn()
        for _ in range(4):
            await _quiet(desk)
            desk.ledger.hurry()
            await desk.driver.turn()
        await _quiet(desk)
        assert desk.state("P-1")[0] == "working"
        await desk.sandbox.start()
        desk.ledger.hurry()
        await desk.pay()
        assert desk.state("P-1") == ("paid", None)


async def test_what_cannot_be_paid_is_refused_before_anything_is_sent():
    async with Desk(bulk=False) as desk:
        nobody = order("P-2").model_copy(update={"payee_account": None})
        await desk.pay(nobody, order("P-3", "a/b"))
        assert desk.state("P-2") == ("failed", "payee-not-addressable")
        assert desk.state("P-3") == ("failed", "payee-identifier-invalid")
        assert not desk.sandbox.received


async def test_a_callback_nobody_asked_for_or_from_a_stranger_changes_nothing():
    async with Desk(bulk=False) as desk:
        await desk.pay(order())
        row = desk.ledger.of("P-1")
        before = row.state
        body = dumps({"transferState": "ABORTED"})
        for uri, resource in [
            ("/transfers/3f3b4f2e-0001-4000-8000-000000000001", "transfers"),
            ("/parties/MSISDN/123", "parties"),
        ]:
            headers = desk.sandbox.signed("PUT", uri, body, "bluebank", resource)
            assert await desk.sandbox.deliver("PUT", uri, headers, body) == 400
        stranger = next(fsp for fsp in desk.sandbox.scheme.fsps if fsp != row.institution)
        uri = f"/transfers/{row.references['transfer']}"
        headers = desk.sandbox.signed("PUT", uri, body, stranger, "transfers")
        assert await desk.sandbox.deliver("PUT", uri, headers, body) == 400
        assert desk.ledger.of("P-1").state == before == "paid"


async def test_a_notification_without_proof_is_no_payment():
    async with Desk(bulk=False, ask_seconds=30.0) as desk:
        desk.sandbox.scheme.faults[PHONE] = {Fault.SILENT}
        desk.ledger.order([order()])
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while not desk.sandbox.scheme.transfers:
                await asyncio.sleep(0.01)
        driving.cancel()
        row: Transfer = desk.ledger.of("P-1")
        uri = f"/transfers/{row.references['transfer']}"
        body = dumps({"transferState": "COMMITTED", "completedTimestamp": "2026-11-22T15:00:02.000Z"})
        headers = desk.sandbox.signed("PATCH", uri, body, row.institution, "transfers")
        assert await desk.sandbox.deliver("PATCH", uri, headers, body) == 200
        assert desk.state("P-1")[0] != "paid"


async def test_no_personal_datum_and_no_secret_is_in_any_log_line(caplog):
    caplog.set_level(logging.DEBUG)
    async with Desk(bulk=False) as desk:
        for fault in (Fault.REFUSED, Fault.WRONG_FULFILMENT, Fault.TAMPERED):
            desk.sandbox.scheme.every.add(fault)
            await desk.pay(order(f"P-{fault}", "+999555012345"))
            desk.sandbox.scheme.every.clear()
        # The sandbox's own server and client are the scheme's side.
        lines = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("aiohttp.server"))
        for secret in ("999555012345", "ZM-P", *desk.sandbox.secrets()):
            assert secret not in lines


async def test_many_payments_stay_within_the_window_of_each_institution():
    async with Desk(SchemeSandbox(algorithm="ES256"), **CALM, window=7) as desk:
        await desk.pay(*(order(f"P-{n}", f"+2771{n:06d}") for n in range(150)), within=60)
        assert desk.ledger.totals() == {"paid": 150}
        assert max(desk.ledger.most_in_flight.values()) == 7


async def test_a_callback_after_the_time_out_still_ends_the_payment_and_its_replay_changes_nothing():
    async with Desk(bulk=False) as desk:
        desk.sandbox.scheme.faults[PHONE] = {Fault.MUTE}
        await desk.pay(order())
        assert desk.state("P-1") == ("unknown", "unanswered")
        row = desk.ledger.of("P-1")
        (paid,) = desk.sandbox.scheme.committed()
        uri = f"/transfers/{row.references['transfer']}"
        body = dumps(desk.sandbox.wire.state("COMMITTED", paid.fulfilment))
        headers = desk.sandbox.signed("PUT", uri, body, row.institution, "transfers")
        assert await desk.sandbox.deliver("PUT", uri, headers, body) == 200
        assert desk.state("P-1") == ("paid", None)
        before = list(desk.ledger.history["P-1"])
        assert await desk.sandbox.deliver("PUT", uri, headers, body) == 200
        assert desk.ledger.history["P-1"] == before


async def test_a_callback_of_one_payment_replayed_for_another_is_refused():
    async with Desk(bulk=False) as desk:
        await desk.pay(order())
        desk.sandbox.scheme.every.add(Fault.MUTE)
        await desk.pay(order("P-2"))
        first, second = desk.ledger.of("P-1"), desk.ledger.of("P-2")
        paid = desk.sandbox.scheme.transfers[first.references["transfer"]]
        body = dumps(desk.sandbox.wire.state("COMMITTED", paid.fulfilment))
        signed = f"/transfers/{first.references['transfer']}"
        headers = desk.sandbox.signed("PUT", signed, body, first.institution, "transfers")
        replayed = f"/transfers/{second.references['transfer']}"
        assert await desk.sandbox.deliver("PUT", replayed, headers, body) == 400
        assert desk.state("P-2") == ("unknown", "unanswered")
        # Signed anew, the first payment's proof proves nothing of the second.
        headers = desk.sandbox.signed("PUT", replayed, body, second.institution, "transfers")
        assert await desk.sandbox.deliver("PUT", replayed, headers, body) == 200
        assert desk.state("P-2") == ("review", "fulfilment-wrong")
