"""Payments in bulk transactions of a scheme adapter: one call for many, each judged by itself, and only an accepted quote pays."""

import asyncio
import logging
from collections import Counter
from dataclasses import replace

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.mojaloop import adapter, adapter_bulk
from connectors.mojaloop.adapter_rail import AdapterRail
from connectors.mojaloop.formats import new_ulid, new_uuid
from connectors.mojaloop.model import BodyInvalid
from connectors.mojaloop.rail import ended_as
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_scheme import Fault
from tests.connectors.mojaloop_bulk_desk import QUICK, BulkDesk, orders, phones
from tests.connectors.mojaloop_desk import order
from tests.connectors.mojaloop_files import problems, schema_of


def sent(desk):
    return [orjson.loads(raw) for raw in (*desk.bulk.posts, *desk.bulk.puts)]


def accepted(desk, kind):
    return [
        entry["transferId"]
        for raw in desk.bulk.puts
        for entry in orjson.loads(raw)["individualTransfers"]
        if entry.get(kind)
    ]


async def test_a_bulk_goes_from_look_up_to_proof_and_nothing_in_it_is_accepted_by_itself():
    async with BulkDesk() as desk:
        await desk.pay(*orders(7))
        assert desk.ledger.totals() == {"paid": 7}
        assert desk.moved == sum(one.amount.minor_units for one in orders(7))
        (post,) = map(orjson.loads, desk.bulk.posts)
        assert post["options"]["autoAcceptParty"] == post["options"]["autoAcceptQuote"] == {"enabled": False}
        assert len(desk.bulk.puts) == 2
        assert set(desk.bulk.answers) == {200}
        rows = desk.ledger.rows.values()
        assert {row.institution for row in rows} == set(desk.scheme.fsps)
        stages = [stage for stage, _ in desk.ledger.history["P-1"]]
        assert stages == sorted(stages, key=["bulk", "quote", "transfer"].index)


async def test_what_the_hub_sends_and_what_the_sandbox_calls_back_with_hold_the_official_files():
    kinds = {"NID": "PERSONAL_ID/NATIONAL_ID_CARD"}
    async with BulkDesk(
        send_names=True, payer_name="Ministry", payer_sub_id="grants", identifier_types=kinds
    ) as desk:
        desk.scheme.faults[phones(6)[1]] = {Fault.PARTY_UNKNOWN}
        desk.scheme.faults[phones(6)[2]] = {Fault.QUOTE_DEAR}
        desk.scheme.faults[phones(6)[3]] = {Fault.REFUSED}
        national = order("P-9", note="Child grant").model_copy(update={"payee_account": None})
        account = {"kind": "mobile_money", "account_number": "+27714000000", "holder_name": "Ana Example"}
        named = order("P-8", payee_account=account)
        await desk.pay(*orders(6), national, named)
        assert desk.ledger.totals() == {"paid": 5, "failed": 3}
        assert b"Ana Example" in desk.bulk.posts[0]
        for raw in desk.bulk.posts:
            assert problems(schema_of("adapter", "/bulkTransactions", "post"), orjson.loads(raw)) == []
        put = schema_of("adapter", "/bulkTransactions/{bulkTransactionId}", "put")
        assert len(desk.bulk.puts) == 2
        for raw in desk.bulk.puts:
            body = orjson.loads(raw)
            assert problems(put, body) == []
            members = {frozenset(entry) for entry in body["individualTransfers"]}
            assert members in (
                {frozenset({"transferId", "acceptParty"})},
                {frozenset({"transferId", "acceptQuote"})},
            )
        told = schema_of("backend", "/bulkTransactions/{bulkTransactionId}", "put")
        assert len(desk.bulk.callbacks) == 3
        assert [problems(told, orjson.loads(raw)) for raw in desk.bulk.callbacks] == [[], [], []]


async def test_600_payees_with_faults_add_up_to_the_cent():
    async with BulkDesk(bulk_items=250, ask_seconds=0.5) as desk:
        found, faults = phones(600), desk.scheme.faults
        for n in range(0, 600, 50):
            faults[found[n]] = {Fault.PARTY_UNKNOWN}
            faults[found[n + 1]] = {Fault.REFUSED}
            faults[found[n + 2]] = {Fault.QUOTE_DEAR}
            faults[found[n + 3]] = {Fault.WRONG_FULFILMENT}
            faults[found[n + 4]] = {Fault.SILENT}
        desk.bulk.shuffles = True
        desk.bulk.faults = {adapter.QUOTE: {Fault.DUPLICATE}, adapter.DONE: {Fault.DUPLICATE}}
        given = orders(600, batch_id="B-1")
        await desk.pay(*given)
        assert desk.ledger.totals() == {"paid": 552, "failed": 36, "review": 12}
        sums = desk.sums()
        assert sum(sums.values()) == sum(one.amount.minor_units for one in given)
        assert sums["paid"] + sums["review"] == desk.moved, (
            "what waits for a person has been paid there without proof"
        )
        reasons = Counter(row.reason for row in desk.ledger.rows.values())
        assert reasons == {None: 552, "3204": 12, "5104": 12, "quote-cost": 12, "fulfilment-wrong": 12}
        sizes = [len(orjson.loads(raw)["individualTransfers"]) for raw in desk.bulk.posts]
        assert (max(sizes), sum(sizes)) == (250, 600)
        assert len(accepted(desk, "acceptQuote")) == len(set(accepted(desk, "acceptQuote"))) == 576


@pytest.mark.parametrize(
    ("fault", "state", "reason", "times"),
    [
        (Fault.PARTY_UNKNOWN, "failed", "3204", 0),
        (Fault.PARTY_OTHER, "failed", "party-differs", 0),
        (Fault.QUOTE_REFUSED, "failed", "5103", 0),
        (Fault.QUOTE_DEAR, "failed", "quote-cost", 0),
        (Fault.QUOTE_OTHER_CURRENCY, "failed", "quote-currency", 0),
        (Fault.QUOTE_OTHER_PAYEE, "failed", "quote-payee", 0),
        (Fault.QUOTE_OTHER_AMOUNT, "failed", "quote-amount", 0),
        (Fault.QUOTE_EXPIRED, "failed", "quote-expired", 0),
        (Fault.REFUSED, "failed", "5104", 0),
        (Fault.ITEM_MISSING, "failed", "party-missing", 0),
        (Fault.ITEM_DOUBLED, "failed", "item-contradictory", 0),
        (Fault.WRONG_FULFILMENT, "review", "fulfilment-wrong", 1),
        (Fault.NO_FULFILMENT, "review", "fulfilment-missing", 1),
        (Fault.SILENT, "paid", None, 1),
        (Fault.MUTE, "unknown", "unanswered", 1),
        (Fault.LOST, "unknown", "unanswered", 0),
        (Fault.ABORTED, "failed", "aborted", 0),
    ],
)
async def test_a_fault_of_one_entry_stays_with_that_entry(fault, state, reason, times):
    async with BulkDesk(ask_seconds=0.2, asks=2) as desk:
        desk.scheme.faults[phones(5)[2]] = {fault}
        await desk.pay(*orders(5))
        assert desk.state("P-2") == (state, reason)
        assert {desk.state(f"P-{n}") for n in (0, 1, 3, 4)} == {("paid", None)}
        assert len(desk.scheme.committed()) == 4 + times


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"supportedCurrencies": ["KES"]}, "party-currency"),
        ({"partyIdInfo": {"partyIdType": "MSISDN", "partyIdentifier": "+1"}}, "party-unreadable"),
        (None, "party-unreadable"),
    ],
    ids=["other currency", "no institution", "nobody"],
)
async def test_a_payee_that_does_not_fit_the_order_is_refused_and_never_quoted(change, reason):
    def alter(state, body):
        if state == adapter.PARTY:
            entry = body["individualTransferResults"][0]
            entry["to"] = entry["to"] | change if change else None

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(2))
        assert (desk.state("P-0"), desk.state("P-1")) == (("failed", reason), ("paid", None))
        (first, _) = map(orjson.loads, desk.bulk.puts)
        assert [entry["acceptParty"] for entry in first["individualTransfers"]] == [False, True]
        assert len(desk.scheme.quotes) == 1


@pytest.mark.parametrize("state", [adapter.PARTY, adapter.QUOTE])
async def test_an_entry_that_repeats_another_amount_than_ordered_is_not_accepted(state):
    def alter(told, body):
        if told == state:
            body["individualTransferResults"][1]["amount"] = "9999"

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(3))
        assert desk.state("P-1") == ("failed", "item-differs")
        assert desk.ledger.totals() == {"failed": 1, "paid": 2}


async def test_two_entries_with_one_quote_are_neither_paid():
    def alter(state, body):
        if state == adapter.QUOTE:
            first, second, _ = body["individualTransferResults"]
            second |= {name: first[name] for name in ("quoteId", "quoteResponse")}

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(3))
        assert [desk.state(f"P-{n}")[1] for n in range(3)] == [
            "item-contradictory",
            "item-contradictory",
            None,
        ]
        assert len(desk.scheme.committed()) == 1


async def test_entries_of_another_batch_change_nothing_there():
    def alter(state, body):
        body["individualTransferResults"].append(
            {"homeTransactionId": "P-100", "transferId": new_ulid(), "lastError": {"httpStatusCode": 500}}
        )

    async with BulkDesk() as desk:
        desk.ledger.order([order("P-100", batch_id="B-2")])
        await desk.ledger.stop("B-2", "held")
        desk.bulk.alter = alter
        await desk.pay(*orders(3, batch_id="B-1"))
        assert desk.ledger.totals() == {"paid": 3, "queued": 1}
        listed = [entry["transferId"] for body in sent(desk)[1:] for entry in body["individualTransfers"]]
        assert len(listed) == 6, "nobody else is accepted"


async def test_a_callback_with_the_ids_of_another_bulk_is_refused_and_changes_nothing():
    async with BulkDesk(**QUICK) as desk:
        desk.bulk.faults = {adapter.QUOTE: {Fault.TAMPERED}}
        await desk.pay(*orders(2))
        assert desk.bulk.answers == [200, 400]
        assert {desk.state(f"P-{n}") for n in range(2)} == {("failed", "quote-unanswered")}
        assert not desk.scheme.committed()
        assert await desk.bulk.deliver(new_uuid(), {}) == 400


@pytest.mark.parametrize(
    ("told", "state", "reason"),
    [
        (adapter.PARTY, "unknown", "unanswered"),
        (adapter.QUOTE, "failed", "quote-unanswered"),
    ],
)
async def test_silence_before_a_quote_is_accepted_pays_nothing_and_asks_for_nothing_again(
    told, state, reason
):
    async with BulkDesk(**QUICK) as desk:
        desk.bulk.faults = {told: {Fault.SILENT}}
        await desk.pay(*orders(3))
        assert {desk.state(f"P-{n}") for n in range(3)} == {(state, reason)}
        assert len(desk.bulk.posts) == 1
        assert not desk.scheme.committed()


async def test_silence_after_the_quotes_were_accepted_is_asked_about_payment_by_payment():
    async with BulkDesk(**QUICK) as desk:
        desk.bulk.faults = {adapter.DONE: {Fault.SILENT}}
        desk.scheme.faults[phones(3)[1]] = {Fault.MUTE}
        await desk.pay(*orders(3))
        assert [desk.state(f"P-{n}")[0] for n in range(3)] == ["paid", "unknown", "paid"]
        assert (len(desk.bulk.posts), len(desk.bulk.puts)) == (1, 2)
        assert len(desk.scheme.committed()) == 3


async def test_an_answer_after_the_time_still_ends_what_became_unknown():
    async with BulkDesk(**QUICK) as desk:
        desk.scheme.every.add(Fault.MUTE)
        desk.bulk.faults = {adapter.DONE: {Fault.SILENT}}
        await desk.pay(*orders(2))
        assert desk.ledger.totals() == {"unknown": 2}
        desk.scheme.every.clear()
        desk.bulk.faults = {}
        ((bulk_id, bulk),) = desk.bulk.bulks.items()
        for entry in bulk.entries:
            entry.told["fulfil"] = {
                "transferId": entry.transaction_id,
                "fulfilment": entry.paid.fulfilment,
                "transferState": "COMMITTED",
            }
        await desk.bulk._tell(bulk_id, bulk, adapter.DONE)
        assert desk.ledger.totals() == {"paid": 2}


async def test_parties_told_after_the_time_are_not_accepted_any_more():
    async with BulkDesk(**QUICK) as desk:
        desk.bulk.faults = {adapter.PARTY: {Fault.LATE}}
        desk.bulk.late_seconds = 4.5
        await desk.pay(*orders(2))
        assert {desk.state(f"P-{n}") for n in range(2)} == {("failed", "lookup-unanswered")}
        (refused,) = map(orjson.loads, desk.bulk.puts)
        assert [entry["acceptParty"] for entry in refused["individualTransfers"]] == [False, False]
        assert not desk.scheme.quotes


@pytest.mark.parametrize("fault", [Fault.EARLY, Fault.DUPLICATE, Fault.LATE])
async def test_a_callback_before_the_202_twice_or_late_pays_once(fault):
    async with BulkDesk() as desk:
        desk.bulk.late_seconds = 0.3
        desk.bulk.faults = {state: {fault} for state in (adapter.PARTY, adapter.QUOTE, adapter.DONE)}
        await desk.pay(*orders(4))
        assert desk.ledger.totals() == {"paid": 4}
        assert (len(desk.bulk.posts), len(desk.bulk.puts)) == (1, 2)
        assert set(desk.bulk.answers) == {200}


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_call_whose_answer_is_lost_is_never_made_again(method):
    async with BulkDesk(**QUICK) as desk:
        desk.bulk.drops.add(method)
        await desk.pay(*orders(3))
        assert desk.ledger.totals() == {"paid": 3}
        assert (len(desk.bulk.posts), len(desk.bulk.puts)) == (1, 2)


async def test_an_acceptance_of_quotes_whose_answer_and_callback_are_lost_is_never_made_again():
    async with BulkDesk(**QUICK) as desk:
        desk.bulk.faults = {adapter.DONE: {Fault.SILENT}}
        desk.scheme.every.add(Fault.MUTE)

        def drop_next(state, body):
            if state == adapter.QUOTE:
                desk.bulk.drops.add("PUT")

        desk.bulk.alter = drop_next
        await desk.pay(*orders(3))
        assert desk.ledger.totals() == {"unknown": 3}
        assert len([raw for raw in desk.bulk.puts if b"acceptQuote" in raw]) == 1
        assert len(desk.scheme.committed()) == 3


async def test_a_call_that_was_not_taken_is_made_again_with_the_same_bytes():
    async with BulkDesk(bulk_seconds=30.0, retry_after_limit=1.0) as desk:
        desk.bulk.busy = 1

        def busy_next(state, body):
            if state in (adapter.PARTY, adapter.QUOTE):
                desk.bulk.busy = 1

        desk.bulk.alter = busy_next
        desk.ledger.order(orders(3))
        driving = asyncio.ensure_future(desk.drive())
        for tries in (1, 3, 5):
            await desk.until(lambda tries=tries: len(sent(desk)) == tries and not desk.rail.under_way)
            desk.ledger.hurry()
        async with asyncio.timeout(30):
            await driving
        assert desk.ledger.totals() == {"paid": 3}
        for calls in (desk.bulk.posts, desk.bulk.puts[:2], desk.bulk.puts[2:]):
            assert len(calls) == 2
            assert len(set(calls)) == 1


async def test_a_call_made_again_whose_answer_is_lost_is_not_made_a_third_time():
    async with BulkDesk(bulk_seconds=30.0) as desk:
        desk.bulk.busy = 1
        desk.bulk.drops.add("POST")
        desk.bulk.faults = {adapter.PARTY: {Fault.SILENT}}
        desk.ledger.order(orders(2))
        for tries in (1, 2, 2):
            for _ in range(3):
                await desk.driver.turn()
                await desk.quiet()
            assert len(desk.bulk.posts) == tries
            desk.ledger.hurry()
        assert desk.ledger.totals() == {"unknown": 2}


async def _waiting_to_accept_quotes(desk, count=3):
    """Let the adapter be busy from the moment its quotes have come: their acceptance is not taken."""
    desk.bulk.alter = lambda state, body: setattr(desk.bulk, "busy", 100 if state == adapter.QUOTE else 0)
    desk.ledger.order(orders(count))
    while len(desk.bulk.puts) < 2:
        await desk.driver.turn()
        await desk.quiet()
    desk.bulk.busy = 0
    assert {row.state for row in desk.ledger.rows.values()} == {"sent"}


async def test_a_call_that_was_not_taken_is_not_made_again_for_a_payment_that_went_elsewhere():
    async with BulkDesk() as desk:
        await _waiting_to_accept_quotes(desk)
        row = desk.ledger.of("P-1")
        await desk.ledger.apply([ended_as(row, "review", "moved")])
        desk.ledger.hurry()
        await desk.pay()
        assert [desk.state(f"P-{n}")[0] for n in range(3)] == ["failed", "review", "failed"]
        assert not desk.scheme.committed()


async def test_payments_of_a_call_that_was_not_taken_are_not_given_up_by_who_has_not_its_bytes():
    async with BulkDesk() as desk:
        await _waiting_to_accept_quotes(desk)
        others = [
            replace(row)
            for row in desk.ledger.rows.values()
            if not row.references.get("lead", "").startswith("transfer ")
        ]
        assert len(others) == 2
        await desk.rail.ask(others)
        assert [row.asked for row in desk.ledger.rows.values()] == [0, 0, 0], (
            "nothing is there to be asked about"
        )
        desk.ledger.hurry()
        await desk.pay()
        assert desk.ledger.totals() == {"paid": 3}
        assert len(desk.bulk.puts) == 3


async def test_paid_after_the_batch_was_stopped_goes_to_a_person_before_it_is_paid_again():
    async with BulkDesk() as desk:
        desk.scheme.every.add(Fault.NO_LIQUIDITY)
        await desk.pay(*orders(2, batch_id="B-1"))
        assert desk.ledger.totals() == {"queued": 2}
        ((bulk_id, bulk),) = desk.bulk.bulks.items()
        victim = bulk.entries[0]
        victim.told.pop("lastError")
        fulfilment = desk.scheme.quotes[victim.quote_id].fulfilment
        victim.told["fulfil"] = {"transferId": victim.transaction_id, "fulfilment": fulfilment}
        await desk.bulk._tell(bulk_id, bulk, adapter.DONE)
        assert desk.state(victim.home_id) == ("review", "paid-after-failure")
        desk.scheme.every.clear()
        desk.ledger.resume()
        await desk.pay()
        assert desk.ledger.totals() == {"review": 1, "paid": 1}


async def test_a_call_never_taken_in_its_time_has_not_happened():
    async with BulkDesk(**QUICK | {"bulk_seconds": 1.0}) as desk:
        desk.bulk.alter = lambda state, body: setattr(desk.bulk, "busy", 100 if state == adapter.QUOTE else 0)
        desk.ledger.order(orders(3))
        driving = asyncio.ensure_future(desk.drive())
        await desk.until(lambda: {row.state for row in desk.ledger.rows.values()} == {"sent"})
        await desk.until(lambda: len(desk.bulk.puts) == 2 and not desk.rail.under_way)
        # The time of the quotes is over.
        for row in desk.ledger.rows.values():
            if row.references.get("lead", "").startswith("transfer "):
                row.references["lead"] = row.references["untaken"] = (
                    f"transfer {row.references['bulk_transaction']} 2020-01-01T00:00:00.000Z"
                )
        desk.ledger.hurry()
        async with asyncio.timeout(30):
            await driving
        assert {desk.state(f"P-{n}") for n in range(3)} == {("failed", "quote-expired")}
        assert not desk.scheme.committed()


async def test_an_adapter_that_is_away_for_long_fails_nobody():
    async with BulkDesk(**QUICK | {"bulk_seconds": 30.0}) as desk:
        await desk.sandbox.stop()
        desk.ledger.order(orders(2))
        for _ in range(4):
            await desk.driver.turn()
            await desk.quiet()
            desk.ledger.hurry()
        assert {row.state for row in desk.ledger.rows.values()} == {"working"}
        await desk.sandbox.start()
        desk.ledger.hurry()
        await desk.pay()
        assert desk.ledger.totals() == {"paid": 2}
        assert len(desk.bulk.posts) == 1


async def test_a_bulk_the_adapter_refuses_fails_and_one_without_the_bulk_part_stops_the_batch():
    async with BulkDesk() as desk:
        desk.bulk._read = lambda body: _refuse()
        await desk.pay(*orders(2))
        assert {desk.state(f"P-{n}") for n in range(2)} == {("failed", "3100")}
    async with BulkDesk() as desk:
        await desk.close()
        desk._settings["transfers_url"] = f"http://127.0.0.1:{desk.sandbox.port}/elsewhere"
        desk.open()
        await desk.pay(*orders(2, batch_id="B-1"))
        assert desk.ledger.stopped == {"B-1": "http-404"}
        assert desk.ledger.totals() == {"queued": 2}


def _refuse():
    from connectors.mojaloop.sandbox_wire import Turned

    raise Turned(400, "3100", "no")


async def test_a_hub_that_stops_just_after_the_post_goes_on_with_the_one_bulk():
    async with BulkDesk() as desk:
        desk.bulk.faults = {adapter.PARTY: {Fault.LATE}}
        desk.ledger.order(orders(3))
        driving = asyncio.ensure_future(desk.drive())
        await desk.until(lambda: len(desk.bulk.posts) == 1)
        driving.cancel()
        await desk.close()
        assert {row.state for row in desk.ledger.rows.values()} == {"working"}
        desk.open()
        assert desk.ledger.order(orders(3)) == 0
        await desk.pay()
        assert desk.ledger.totals() == {"paid": 3}
        assert (len(desk.bulk.posts), len(desk.scheme.committed())) == (1, 3)


async def test_a_bulk_whose_post_was_never_made_is_not_made_later():
    async with BulkDesk(**QUICK) as desk:
        desk.rail._call_bulk = lambda *_: asyncio.sleep(0)
        await desk.pay(*orders(2))
        assert desk.ledger.totals() == {"unknown": 2}
        assert desk.bulk.posts == []
        stored = next(row.request for row in desk.ledger.rows.values() if "lead" in row.references)
        assert len(orjson.loads(stored)["individualTransfers"]) == 2


@pytest.mark.parametrize("stage", ["acceptParty", "acceptQuote"])
async def test_a_row_another_process_moved_meanwhile_is_not_accepted(stage):
    async with BulkDesk() as desk:
        apply = desk.ledger.apply

        async def racing(steps):
            to = {"acceptParty": ("quote", "working"), "acceptQuote": ("transfer", "sent")}[stage]
            if any((step.stage, step.state) == to for step in steps):
                desk.ledger.apply = apply
                await apply([ended_as(desk.ledger.of("P-0"), "failed", "moved")])
            return await apply(steps)

        desk.ledger.apply = racing
        await desk.pay(*orders(3))
        assert desk.ledger.totals() == {"failed": 1, "paid": 2}
        assert len(accepted(desk, stage)) == 2


@pytest.mark.parametrize("state", [adapter.DONE, "ERROR_OCCURRED"])
async def test_a_bulk_that_ends_before_anything_was_accepted_fails_and_what_is_told_of_it_counts(state):
    def alter(told, body):
        if told == adapter.PARTY:
            body["currentState"] = state
            information = {"errorCode": "3204", "errorDescription": "nobody"}
            body["individualTransferResults"][0] |= {
                "lastError": {"mojaloopError": {"errorInformation": information}}
            }

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(2))
        assert [desk.state(f"P-{n}") for n in range(2)] == [
            ("failed", "3204"),
            ("failed", "item-without-result"),
        ]
        assert desk.bulk.puts == []


async def test_an_adapter_that_accepts_by_itself_is_found_out_and_a_person_decides():
    async with BulkDesk(AdapterSandbox(accepts_by_itself=True)) as desk:
        await desk.pay(*orders(2, batch_id="B-1"))
        assert {desk.state(f"P-{n}") for n in range(2)} == {("review", "adapter-accepts-by-itself")}
        assert desk.ledger.stopped == {"B-1": "adapter-accepts-by-itself"}


async def test_quotes_told_without_the_parties_being_accepted_stop_the_batch_and_pay_nothing():
    def alter(told, body):
        if told == adapter.PARTY:
            body["currentState"] = adapter.QUOTE

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(2, batch_id="B-1"))
        assert desk.ledger.stopped == {"B-1": "adapter-accepts-by-itself"}
        assert desk.ledger.totals() == {"queued": 2}
        assert not desk.scheme.committed()


async def test_paid_after_failed_goes_to_a_person():
    async with BulkDesk() as desk:
        desk.scheme.faults[phones(2)[0]] = {Fault.REFUSED}
        await desk.pay(*orders(2))
        assert desk.state("P-0") == ("failed", "5104")
        ((bulk_id, bulk),) = desk.bulk.bulks.items()
        victim = bulk.entries[0]
        victim.told.pop("lastError")
        fulfilment = desk.scheme.quotes[victim.quote_id].fulfilment
        victim.told["fulfil"] = {"transferId": victim.transaction_id, "fulfilment": fulfilment}
        await desk.bulk._tell(bulk_id, bulk, adapter.DONE)
        assert desk.state("P-0") == ("review", "paid-after-failure")
        assert desk.state("P-1") == ("paid", None)


async def test_paid_in_an_earlier_bulk_goes_to_a_person():
    async with BulkDesk() as desk:
        desk.scheme.every.add(Fault.NO_LIQUIDITY)
        await desk.pay(*orders(2, batch_id="B-1"))
        assert desk.ledger.stopped == {"B-1": "4001"}
        assert desk.ledger.totals() == {"queued": 2}
        desk.scheme.every.clear()
        ((bulk_id, bulk),) = desk.bulk.bulks.items()
        desk.ledger.resume()
        await desk.pay()
        assert desk.ledger.totals() == {"paid": 2}
        assert len(desk.bulk.posts) == 2
        victim = bulk.entries[0]
        victim.told.pop("lastError")
        fulfilment = desk.scheme.quotes[victim.quote_id].fulfilment
        victim.told["fulfil"] = {"transferId": victim.transaction_id, "fulfilment": fulfilment}
        await desk.bulk._tell(bulk_id, bulk, adapter.DONE)
        assert desk.state(victim.home_id) == ("review", "paid-after-failure")


async def test_proof_with_an_error_beside_it_goes_to_a_person():
    def alter(told, body):
        if told == adapter.DONE:
            body["individualTransferResults"][0]["lastError"] = {"httpStatusCode": 504}

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(2))
        assert [desk.state(f"P-{n}")[0] for n in range(2)] == ["review", "paid"]


async def test_an_error_told_for_the_transfer_of_another_payment_decides_nothing():
    def alter(told, body):
        if told == adapter.DONE:
            entry = body["individualTransferResults"][0]
            entry.pop("fulfil")
            information = {"errorCode": "5104", "errorDescription": "no"}
            entry |= {
                "transferId": new_ulid(),
                "lastError": {"mojaloopError": {"errorInformation": information}},
            }

    async with BulkDesk() as desk:
        desk.bulk.alter = alter
        await desk.pay(*orders(2))
        assert [desk.state(f"P-{n}")[0] for n in range(2)] == ["review", "paid"]


async def test_an_order_that_is_not_to_be_paid_any_more_is_not():
    async with BulkDesk() as desk:
        await desk.pay(order(expires_at="2020-01-01T00:00:00Z"))
        assert desk.state("P-1") == ("failed", "order-expired")
        assert desk.bulk.posts == []


async def test_what_is_under_way_stays_within_the_window_and_bodies_within_their_bound(monkeypatch):
    monkeypatch.setattr("connectors.mojaloop.adapter_bulk_rail.MAX_BODY", 64 * 1024 + 2500)
    async with BulkDesk(bulk_items=20, window=30) as desk:
        await desk.pay(*orders(90))
        assert desk.ledger.totals() == {"paid": 90}
        assert max(desk.ledger.most_in_flight.values()) <= 40
        sizes = [len(orjson.loads(raw)["individualTransfers"]) for raw in desk.bulk.posts]
        assert max(sizes) < 20
        assert sum(sizes) == 90
        assert max(map(len, desk.bulk.posts)) <= 64 * 1024 + 2500


@pytest.mark.parametrize("given", [None, "wrong-wrong-wrong-1"])
async def test_with_a_secret_set_a_callback_without_it_changes_nothing(given):
    async with BulkDesk(**QUICK, callback_secret="right-right-right-1") as desk:
        desk.bulk.bearer = given
        await desk.pay(*orders(2))
        assert set(desk.bulk.answers) == {401}
        assert desk.ledger.totals() == {"unknown": 2}
        assert desk.bulk.puts == []


async def test_with_the_secret_it_is_taken():
    async with BulkDesk(callback_secret="right-right-right-1") as desk:
        desk.bulk.bearer = "right-right-right-1"
        await desk.pay(*orders(2))
        assert desk.ledger.totals() == {"paid": 2}


@pytest.mark.parametrize(
    ("method", "path", "content", "status"),
    [
        ("PUT", "/transfers/" + new_uuid(), b"{}", 404),
        ("POST", "/bulkTransactions/" + new_uuid(), b"{}", 405),
        ("PUT", "/bulkTransactions/x", b"{}", 400),
        ("PUT", "/bulkTransactions/" + new_uuid(), b"[]", 400),
        ("PUT", "/bulkTransactions/" + new_uuid(), b"{", 400),
        ("PUT", "/bulkTransactions/" + new_uuid(), b" " * 5_242_881, 400),
        ("PUT", "/bulkTransactions/" + new_uuid(), b"{}", 400),
    ],
    ids=["address", "method", "id", "no object", "no json", "size", "nobody's"],
)
async def test_what_is_no_callback_is_refused_in_the_form_of_the_adapters_api(method, path, content, status):
    async with BulkDesk() as desk:
        answer = await desk.rail.receive(method, path, {}, content)
        assert answer.status == status
        told = orjson.loads(answer.body)
        assert set(told) == {"statusCode", "message"}
        assert (told["statusCode"] == "3104") == (len(content) > 5_242_880)


@pytest.mark.parametrize(
    "change",
    [
        {"currentState": "SOMETHING"},
        {"individualTransferResults": None},
        {"individualTransferResults": ["x"]},
        {"bulkHomeTransactionID": "other"},
    ],
)
async def test_a_callback_that_cannot_be_read_is_refused_and_the_right_one_still_counts(change):
    async with BulkDesk() as desk:
        desk.bulk.alter = lambda state, body: body.update(change) if state == adapter.QUOTE else None
        desk.ledger.order(orders(2))
        driving = asyncio.ensure_future(desk.drive())
        await desk.until(lambda: 400 in desk.bulk.answers)
        desk.bulk.alter = None
        ((bulk_id, bulk),) = desk.bulk.bulks.items()
        await desk.bulk._tell(bulk_id, bulk, adapter.QUOTE)
        async with asyncio.timeout(30):
            await driving
        assert desk.ledger.totals() == {"paid": 2}


async def test_what_began_in_bulk_ends_in_bulk_when_the_setting_is_turned_off():
    async with BulkDesk() as desk:
        desk.bulk.faults = {adapter.PARTY: {Fault.LATE}}
        desk.ledger.order(orders(2))
        driving = asyncio.ensure_future(desk.drive())
        await desk.until(lambda: len(desk.bulk.posts) == 1)
        driving.cancel()
        await desk.close()
        desk._settings["bulk"] = False
        desk.open()
        await desk.pay(order("P-9", "+27713999999"))
        assert desk.ledger.totals() == {"paid": 3}
        assert (len(desk.bulk.posts), desk.sandbox.posts) == (1, ["P-9"])
        assert isinstance(desk.rail, AdapterRail)


async def test_no_personal_datum_is_in_any_log_line(caplog):
    caplog.set_level(logging.DEBUG)
    async with BulkDesk(**QUICK) as desk:
        for fault in (None, Fault.PARTY_OTHER, Fault.REFUSED, Fault.WRONG_FULFILMENT):
            desk.scheme.every = {fault} if fault else set()
            await desk.pay(order(f"P-{fault}", "+999555012345"))
        lines = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith("aiohttp.server"))
        assert "999555012345" not in lines
        assert "ZM-P" not in lines


_LEAVES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)


def _places(node, before=()):
    yield before
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in children:
        yield from _places(value, (*before, key))


def _told_body():
    bulk_id = "b51ec534-ee48-4575-b6a9-ead2955b8069"
    party = {"partyIdInfo": {"partyIdType": "MSISDN", "partyIdentifier": "1", "fspId": "bluebank"}}
    money = {"currency": "USD", "amount": "1"}
    quote = {"quoteId": bulk_id, "transferAmount": money, "ilpPacket": "AA", "condition": "A" * 43}
    error = {"mojaloopError": {"errorInformation": {"errorCode": "5104", "errorDescription": "no"}}}
    fulfil = {"transferId": bulk_id, "transferState": "COMMITTED", "fulfilment": "A" * 43}
    entry = {"homeTransactionId": "P-1", "transferId": bulk_id, "to": party, "quoteResponse": quote}
    return bulk_id, {
        "bulkTransactionId": bulk_id,
        "bulkHomeTransactionID": bulk_id,
        "currentState": "COMPLETED",
        "individualTransferResults": [entry | {"fulfil": fulfil, "lastError": error}],
    }


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_whatever_a_callback_holds_it_is_read_or_refused(data):
    bulk_id, body = _told_body()
    place = data.draw(st.sampled_from([found for found in _places(body) if found]))
    node = body
    for key in place[:-1]:
        node = node[key]
    node[place[-1]] = data.draw(_LEAVES)
    try:
        report = adapter_bulk.read(bulk_id, body)
    except BodyInvalid:
        return
    assert report.state in {adapter.PARTY, adapter.QUOTE, adapter.DONE, adapter_bulk.ERROR}
