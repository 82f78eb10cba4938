"""Payments in bulk calls of one institution each: judged item by item, asked about, and added up to the cent."""

import asyncio
from collections import Counter, defaultdict

import orjson
import pytest

from connectors.mojaloop.formats import dumps
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault
from tests.connectors.mojaloop_desk import Desk, order
from tests.connectors.mojaloop_files import problems, schema_of

CALM = {"bulk": True, "lookup_seconds": 20.0, "ask_seconds": 2.0, "request_timeout": 20.0}


def phones(count):
    return [f"+27713{n:06d}" for n in range(count)]


def orders(count, **change):
    return [order(f"P-{n}", phone, 1000 + n, **change) for n, phone in enumerate(phones(count))]


async def test_2500_payees_over_three_institutions_add_up_to_the_cent():
    async with Desk(SchemeSandbox(algorithm="ES256"), **CALM) as desk:
        found, faults = phones(2500), desk.sandbox.scheme.faults
        for n in range(0, 2500, 100):
            faults[found[n]] = {Fault.PARTY_UNKNOWN}
            faults[found[n + 1]] = {Fault.REFUSED}
        faults[found[2]] = {Fault.ITEM_MISSING}
        faults[found[3]] = {Fault.ITEM_DOUBLED}
        desk.sandbox.shuffle_bulk(True)
        given = orders(2500, batch_id="B-1")
        # A missing entry of the bulk quote ends before money is sent; that of the bulk transfer is what is wanted here.
        missing = desk.sandbox.scheme.has
        desk.sandbox.scheme.has = lambda who, fault: (
            missing(who, fault) and not (fault is Fault.ITEM_MISSING and not desk.sandbox.scheme.transfers)
        )
        await desk.pay(*given, within=100)
        assert desk.ledger.totals() == {"paid": 2450, "failed": 50}
        states = defaultdict(int)
        for one in given:
            states[desk.ledger.of(one.payment_id).state] += one.amount.minor_units
        assert states["paid"] + states["failed"] == sum(one.amount.minor_units for one in given)
        assert states["paid"] == desk.moved
        reasons = Counter(row.reason for row in desk.ledger.rows.values() if row.state == "failed")
        assert reasons == {"3204": 25, "5104": 25}
        sent = [seen for seen in desk.sandbox.received if b"individualTransfers" in seen.body]
        assert len(sent) >= 3
        assert all(len(seen.body) <= 5_242_880 for seen in sent)
        for seen in sent:
            assert len({item["transferId"] for item in _items(seen.body)}) <= 1000


def _items(body):
    return orjson.loads(body)["individualTransfers"]


async def test_bulk_bodies_as_sent_hold_the_official_schema():
    async with Desk(**CALM) as desk:
        await desk.pay(*orders(5))
        for seen in desk.sandbox.received:
            for path, mark in [
                ("/bulkQuotes", b"individualQuotes"),
                ("/bulkTransfers", b"individualTransfers"),
            ]:
                if mark in seen.body:
                    assert problems(schema_of("1.1", path, "post"), orjson.loads(seen.body)) == []
        assert desk.ledger.totals() == {"paid": 5}


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (Fault.QUOTE_REFUSED, "failed", "5103"),
        (Fault.QUOTE_OTHER_PAYEE, "failed", "quote-payee"),
        (Fault.QUOTE_OTHER_AMOUNT, "failed", "quote-amount"),
        (Fault.REFUSED, "failed", "5104"),
        (Fault.WRONG_FULFILMENT, "review", "fulfilment-wrong"),
        (Fault.NO_FULFILMENT, "paid", None),
        (Fault.LOST, "review", "unknown-there"),
    ],
)
async def test_a_fault_of_one_item_stays_with_that_item(fault, state, reason):
    async with Desk(bulk=True, ask_seconds=0.3, lookup_seconds=10.0) as desk:
        given = orders(8)
        victim = given[3]
        desk.sandbox.scheme.faults[phones(8)[3]] = {fault}
        if fault is Fault.NO_FULFILMENT:
            # The entry has neither proof nor error: it is asked about by itself.
            desk.sandbox.scheme.told = _cured(desk.sandbox.scheme)
        await desk.pay(*given)
        assert desk.state(victim.payment_id) == (state, reason)
        assert desk.ledger.totals()["paid"] == (8 if state == "paid" else 7)


def _cured(scheme):
    told = scheme.told

    def tell(paid, *, asked_for):
        if asked_for:
            scheme.faults.clear()
        return told(paid, asked_for=asked_for)

    return tell


async def test_a_bulk_answer_that_never_comes_is_asked_for():
    async with Desk(bulk=True, ask_seconds=0.3, asks=20, lookup_seconds=30.0) as desk:
        desk.sandbox.scheme.every.add(Fault.SILENT)
        desk.ledger.order(orders(6))
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while len(desk.sandbox.scheme.transfers) < 6:
                await asyncio.sleep(0.01)
        desk.sandbox.scheme.every.clear()
        async with asyncio.timeout(45):
            await driving
        assert desk.ledger.totals() == {"paid": 6}
        assert any(seen.id.startswith("/bulkTransfers/") for seen in desk.sandbox.received)


async def test_a_bulk_the_scheme_never_saw_is_sent_again_byte_for_byte():
    async with Desk(bulk=True, ask_seconds=0.3, lookup_seconds=10.0) as desk:
        posting, held = desk.rail._post_transfers, []

        async def hold(rows):
            held.append(rows)

        desk.rail._post_transfers = hold
        desk.ledger.order(orders(4, batch_id="B-1"))
        driving = asyncio.ensure_future(desk.drive())
        async with asyncio.timeout(45):
            while not held:
                await asyncio.sleep(0.01)
        desk.rail._post_transfers = posting
        await posting(held[0])
        async with asyncio.timeout(45):
            await driving
        bodies = defaultdict(set)
        for seen in desk.sandbox.received:
            if b"individualTransfers" in seen.body:
                bodies[seen.id].add(seen.body)
        assert all(len(found) == 1 for found in bodies.values())
        assert desk.ledger.totals() == {"paid": 4}
        assert len(desk.sandbox.scheme.committed()) == 4


async def test_a_bulk_answer_signed_by_another_institution_is_refused():
    async with Desk(**{**CALM, "ask_seconds": 30.0}) as desk:
        await desk.pay(*orders(3))
        row = desk.ledger.of("P-0")
        uri = f"/bulkTransfers/{row.references['bulk_transfer']}"
        body = dumps({"bulkTransferState": "REJECTED"})
        stranger = next(fsp for fsp in desk.sandbox.scheme.fsps if fsp != row.institution)
        headers = desk.sandbox.signed("PUT", uri, body, stranger, "bulkTransfers")
        assert await desk.sandbox.deliver("PUT", uri, headers, body) == 400
        assert desk.ledger.totals() == {"paid": 3}


async def test_without_liquidity_a_bulk_stops_and_is_paid_once_after_it_was_resumed():
    async with Desk(**CALM) as desk:
        desk.sandbox.scheme.every.add(Fault.NO_LIQUIDITY)
        await desk.pay(*orders(30, batch_id="B-1"), within=30)
        assert desk.ledger.stopped == {"B-1": "4001"}
        assert desk.ledger.totals() == {"queued": 30}
        desk.sandbox.scheme.every.clear()
        desk.ledger.resume()
        await desk.pay(within=30)
        assert desk.ledger.totals() == {"paid": 30}
        assert desk.moved == sum(one.amount.minor_units for one in orders(30))


async def test_an_order_that_is_not_to_be_paid_any_more_is_not():
    async with Desk(**CALM) as desk:
        await desk.pay(order(expires_at="2020-01-01T00:00:00Z"))
        assert desk.state("P-1") == ("failed", "order-expired")
        assert not desk.sandbox.received


async def test_two_entries_that_contradict_each_other_leave_the_payment_open_until_asked():
    async with Desk(**{**CALM, "ask_seconds": 0.4}) as desk:
        occurrences = desk.sandbox._switch._occurrences

        def torn(identifier, entry):
            found = occurrences(identifier, entry)
            if identifier == phones(3)[1] and "transferId" in entry:
                information = desk.sandbox.wire.error("5104", "")["errorInformation"]
                found = [{"transferId": entry["transferId"], "errorInformation": information}, *found]
            return found

        desk.sandbox._switch._occurrences = torn
        await desk.pay(*orders(3))
        assert desk.ledger.totals() == {"paid": 3}
        assert desk.ledger.of("P-1").stage == "item"
