"""Paying through Payment Hub EE: once, row by row, whatever the deployment does."""

from __future__ import annotations

import asyncio

import pytest
from services.payment_hub import Desk, order, payee

from connectors.payment_hub_ee.sandbox_books import Fault


async def test_a_batch_is_paid_row_by_row_and_notes_survive_splitting() -> None:
    async with Desk() as desk:
        await desk.pay([order(n) for n in range(23)])
        assert desk.ledger.totals() == {"paid": 23}
        assert desk.moved == 23 * 85_000
        assert len(desk.deployment.files) == 1
        [batch] = desk.books.batches.values()
        assert len(batch.sub_batches) == 5
        assert {entry["_note"] for entry in batch.transfers} == {"Cycle 2026-11"}
        assert desk.ledger.rail_references["P-1"].isdigit()


async def test_a_narrow_file_would_lose_its_notes() -> None:
    async with Desk(change={"wide": False}) as desk:
        await desk.pay([order(n) for n in range(8)])
        [batch] = desk.books.batches.values()
        assert {entry["_note"] for entry in batch.transfers} == {""}


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.ERROR_500, Fault.GARBAGE])
async def test_a_batch_whose_answer_is_lost_is_found_and_never_sent_again(fault: Fault) -> None:
    async with Desk(fault, Fault.CALLBACK_LOST) as desk:
        await desk.pay([order(n) for n in range(7)])
        assert desk.ledger.totals() == {"paid": 7}
        assert len(desk.deployment.files) == 1
        assert desk.moved == 7 * 85_000


async def test_a_batch_that_cannot_be_found_waits_for_a_person() -> None:
    async with Desk(Fault.REQUEST_LOST) as desk:
        await desk.pay([order(n) for n in range(7)])
        assert {desk.state(f"P-{n}") for n in range(7)} == {("review", "batch-not-found")}
        assert desk.deployment.files == []
        assert desk.moved == 0


async def test_a_process_killed_after_handing_a_file_over_finds_it_again_by_its_name() -> None:
    async with Desk(Fault.CALLBACK_LOST, change={"first_ask": 30.0}) as desk:
        desk.ledger.order([order(n) for n in range(7)], "B-1")
        async with asyncio.timeout(45):
            while not desk.deployment.files:
                await asyncio.sleep(0.005)
        await desk.restart()
        desk.ledger.hurry()
        await desk.run()
        assert desk.ledger.totals() == {"paid": 7}
        assert len(desk.deployment.files) == 1
        [row] = [one for one in desk.ledger.rows.values() if one.payment_id == "P-0"]
        assert (row.request or b"").split(b" ", 1)[1] in desk.deployment.files[0][1]


async def test_orders_delivered_three_times_are_in_one_file() -> None:
    async with Desk() as desk:
        orders = [order(n) for n in range(4)]
        for _ in range(3):
            desk.ledger.order(orders, "B-1")
        await desk.pay(orders)
        assert [len(content.split(b"\n")) for _, content in desk.deployment.files] == [5]
        assert desk.moved == 4 * 85_000


@pytest.mark.parametrize("fault", [Fault.CALLBACK_EARLY, Fault.CALLBACK_TWICE, Fault.CALLBACK_LOST])
async def test_callbacks_early_doubled_or_lost_change_nothing_of_the_result(fault: Fault) -> None:
    async with Desk(fault) as desk:
        await desk.pay([order(n) for n in range(7)])
        assert desk.ledger.totals() == {"paid": 7}
        assert len(desk.answers) == {Fault.CALLBACK_EARLY: 1, Fault.CALLBACK_TWICE: 2}.get(fault, 0)
        assert set(desk.answers) <= {202}


async def test_a_callback_lets_the_hub_ask_at_once() -> None:
    async with Desk(change={"first_ask": 60.0, "sweep_seconds": 600.0}) as desk:
        await desk.pay([order(n) for n in range(7)], within=10)
        assert desk.ledger.totals() == {"paid": 7}


async def test_an_importer_that_lags_and_late_rows_are_waited_for() -> None:
    async with Desk(Fault.IMPORTER_LAG, Fault.LATE, change={"lost_asks": 8, "missing_asks": 8}) as desk:
        await desk.pay([order(n) for n in range(7)])
        assert desk.ledger.totals() == {"paid": 7}
        assert len(desk.deployment.files) == 1


async def test_what_never_ends_there_becomes_unknown_and_a_late_answer_still_ends_it() -> None:
    async with Desk(change={"open_asks": 3}) as desk:
        desk.books.faults[payee(1)].add(Fault.STALLED)
        desk.books.faults[payee(2)].add(Fault.MISSING)
        await desk.pay([order(n) for n in range(7)])
        assert desk.state("P-1") == ("unknown", "still-open")
        assert desk.state("P-2") == ("unknown", "row-missing")
        assert desk.ledger.totals() == {"paid": 5, "unknown": 2}
        [batch] = desk.books.batches.values()
        entry = next(one for one in batch.transfers if one["status"] == "IN_PROGRESS")
        desk.books._complete(entry, entry["payeePartyId"])
        await desk.deployment._call_back(batch.id)
        await desk.run()
        assert desk.state("P-1")[0] == "paid"


async def test_contradictions_wait_for_a_person() -> None:
    async with Desk(change={"first_ask": 0.3}) as desk:
        for number, fault in enumerate((Fault.OTHER_AMOUNT, Fault.PAID_TWICE, Fault.TURNCOAT)):
            desk.books.faults[payee(number)].add(fault)
        await desk.pay([order(n) for n in range(4)])
        for batch in desk.books.batches.values():
            await desk.deployment._call_back(batch.id)
            await desk.run()
            await desk.deployment._call_back(batch.id)
            await desk.run()
        assert desk.state("P-0") == ("review", "amount-differs")
        assert desk.state("P-1") == ("review", "paid-twice")
        assert desk.state("P-2") == ("review", "paid-after-failure")
        assert desk.state("P-3") == ("paid", None)


async def test_lawful_equal_payments_to_one_phone_are_both_paid() -> None:
    async with Desk() as desk:
        await desk.pay([order(1, phone="+254700000020"), order(2, phone="+254700000020"), order(3)])
        assert desk.ledger.totals() == {"paid": 3}
        assert len(desk.deployment.files) == 2


async def test_decimals_are_paid_to_the_cent_in_spite_of_splitting() -> None:
    async with Desk() as desk:
        await desk.pay([order(n, units=85_050 if n % 2 else 85_000) for n in range(24)])
        assert desk.ledger.totals() == {"paid": 24}
        assert desk.moved == 12 * 85_050 + 12 * 85_000


async def test_a_systemic_refusal_stops_the_batch_and_it_goes_on_when_resumed() -> None:
    async with Desk(csv_size=2000, change={"max_file_bytes": 100_000}) as desk:
        await desk.pay([order(n) for n in range(40)])
        assert desk.ledger.stopped == {"B-1": "file-too-big"}
        assert desk.ledger.totals() == {"queued": 40}
        assert desk.moved == 0
        desk.deployment.csv_size = 100_000
        desk.ledger.resume()
        await desk.run()
        assert desk.ledger.totals() == {"paid": 40}
        assert desk.moved == 40 * 85_000


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"tenant": "Gorilla"}, "http-412"), ({"signing_key": None}, "InvalidJsonWebSignature")],
)
async def test_a_wrong_tenant_or_signature_stops_the_batch(change: dict[str, object], reason: str) -> None:
    async with Desk(change=change) as desk:
        await desk.pay([order(1), order(2)])
        assert desk.ledger.stopped == {"B-1": reason}
        assert desk.deployment.files == []


async def test_a_busy_server_has_taken_nothing_and_gets_a_new_file() -> None:
    async with Desk(Fault.BUSY) as desk:
        await desk.pay([order(n) for n in range(7)])
        assert desk.ledger.totals() == {"paid": 7}
        assert len(desk.deployment.files) == 1


async def test_an_answer_without_the_servers_signature_stops_what_follows() -> None:
    async with Desk(Fault.UNSIGNED) as desk:
        await desk.pay([order(1), order(2)])
        assert desk.ledger.stopped == {"B-1": "answer-unsigned"}
        assert desk.ledger.totals() == {"paid": 2}


async def test_rows_that_never_become_a_transfer_fail_with_their_reason() -> None:
    change = {
        "registering_institution": "SocialWelfare", "program": "SchoolMeals", "identifiers": ["NID"],
        "decimals": "channel",
    }  # fmt: skip
    async with Desk(change=change) as desk:
        for number in range(6):
            desk.books.mapper[f"ZM-{number}"] = {"financialAddress": "7", "bankingInstitutionCode": "rhino"}
        await desk.pay([order(n, payee_account=None) for n in range(7)])
        assert desk.state("P-6") == ("failed", "PayeeNotFound")
        assert desk.ledger.totals() == {"paid": 6, "failed": 1}


async def test_reading_the_batchs_own_pages_gives_the_same() -> None:
    async with Desk(change={"reconcile_by": "batch", "page_size": 3}) as desk:
        desk.books.faults[payee(3)].add(Fault.FAIL)
        await desk.pay([order(n) for n in range(11)])
        assert desk.ledger.totals() == {"paid": 10, "failed": 1}
        assert desk.state("P-3") == ("failed", "PayeeNotFound")


async def test_a_json_batch_is_found_by_its_correlation_id() -> None:
    async with Desk(Fault.ANSWER_LOST, Fault.CALLBACK_LOST, change={"form": "json"}) as desk:
        await desk.pay([order(n) for n in range(4)])
        assert desk.ledger.totals() == {"paid": 4}
        assert desk.deployment.files[0][1].startswith(b'[{"requestId":')


async def test_govstack_spellings_pay_too() -> None:
    async with Desk(change={"form": "json", "dialect": "govstack"}) as desk:
        await desk.pay([order(n) for n in range(4)])
        assert desk.ledger.totals() == {"paid": 4}
        path, headers = next((p, h) for m, p, h in desk.deployment.requests if p.startswith("/batchtrans"))
        assert path == "/batchtransactions?type=raw"
        assert "X-Callback-URL" in headers
        assert len(headers["X-CorrelationID"]) == 20
        assert "Type" not in headers
        assert all(
            len(t["clientCorrelationId"]) == 16 for b in desk.books.batches.values() for t in b.transfers
        )


@pytest.mark.parametrize("kind", ["mobile_money", "bank"])
async def test_a_single_payment_goes_through_the_channel(kind: str) -> None:
    account = {"kind": kind, "account_number": "254711222333"}
    async with Desk(change={"modes": {"mobile_money": "gsma"}}) as desk:
        await desk.pay([order(1, payee_account=account)], None)
        assert desk.state("P-1") == ("paid", None)
        path = "/channel/gsma/transfer" if kind == "mobile_money" else "/channel/transfer"
        assert [p for m, p, _ in desk.deployment.requests if p.startswith("/channel")] == [path]


async def test_a_single_whose_answer_is_lost_is_asked_about_and_not_repeated() -> None:
    async with Desk(Fault.ANSWER_LOST) as desk:
        await desk.pay([order(1)], None)
        assert desk.state("P-1") == ("paid", None)
        assert desk.moved == 85_000


@pytest.mark.parametrize("recognised", [True, False])
async def test_a_single_never_heard_of_is_repeated_only_where_repeats_are_recognised(
    recognised: bool,
) -> None:
    async with Desk(Fault.REQUEST_LOST, recognises_repeats=recognised) as desk:
        await desk.pay([order(1)], None)
        assert desk.state("P-1") == ("review", "order-not-found")
        sent = [p for _, p, _ in desk.deployment.requests if p == "/channel/transfer"]
        assert len(sent) == (2 if recognised else 1)


async def test_a_refusal_of_the_channel_fails_the_payment_with_its_code() -> None:
    async with Desk(change={"payer_id": "254711222333"}) as desk:
        await desk.pay([order(1, phone="254711222333")], None)
        assert desk.state("P-1") == ("failed", "SamePartiesError")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"payee_account": {"kind": "bank", "account_number": "1,2"}}, "payee-unwritable"),
        ({"payee_account": None}, "payee-unaddressed"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "order-expired"),
        ({"amount": {"minor_units": 85_050, "currency": "KES"}}, "amount-has-decimals"),
    ],
)
async def test_what_cannot_be_paid_fails_before_anything_is_sent(
    change: dict[str, object], reason: str
) -> None:
    async with Desk(change={"decimals": "refuse"}) as desk:
        await desk.pay([order(1, **change)])
        assert desk.state("P-1") == ("failed", reason)
        assert desk.deployment.files == []


async def test_a_batch_is_authorised_when_it_is_ours_and_asks_for_no_more_than_ordered() -> None:
    async with Desk(authorizes=True) as desk:
        await desk.pay([order(n) for n in range(7)])
        [batch] = desk.books.batches.values()
        # The batch may be done before the hub's answer has come.
        async with asyncio.timeout(45):
            while not desk.deployment.authorized:
                await asyncio.sleep(0.01)
        assert desk.deployment.authorized == {batch.id[:16]: "Y"}
        batch.rows[0]["amount"] = "900000"
        await desk.deployment._ask_funds(batch.id)
        async with asyncio.timeout(45):
            while desk.deployment.authorized[batch.id[:16]] != "N":
                await asyncio.sleep(0.01)


async def test_a_callback_without_the_secret_or_of_a_strangers_batch_changes_nothing() -> None:
    from connectors.contract import Callback

    async with Desk() as desk:
        body = b'{"clientCorrelationId": "nobody", "batchId": "nobody", "message": "100"}'
        for path in ("batch/wrong-secret-00000", f"batch/{desk.deployment.secret}", "batch", ""):
            answer = await desk.connector.answer(Callback(f"/callbacks/payment-hub/{path}", {}, body))
            assert answer.status == 404
        assert desk.rail.under_way == ()


async def test_2500_payees_with_faults_come_out_to_the_cent() -> None:
    change = {"max_file_rows": 300, "open_asks": 4, "page_size": 200}
    async with Desk(change=change) as desk:
        for number in range(0, 2500, 100):
            desk.books.faults[payee(number)].add(Fault.FAIL)
        desk.books.faults[payee(7)].add(Fault.MISSING)
        desk.books.faults[payee(8)].add(Fault.PAID_TWICE)
        orders = [
            order(n, units=10_000 + n * 100, payee_account={
                "kind": "mobile_money", "account_number": payee(n), "provider": f"bank-{n % 3}"})
            for n in range(2500)
        ]  # fmt: skip
        await desk.pay(orders, within=60)
        assert desk.ledger.totals() == {"paid": 2473, "failed": 25, "unknown": 1, "review": 1}
        assert sum(desk.balance.values()) == sum(o.amount.minor_units for o in orders)
        doubled = 10_000 + 8 * 100
        assert desk.moved == desk.balance["paid"] + 2 * doubled
        assert len({correlation for correlation, _ in desk.deployment.files}) == len(desk.deployment.files)
