"""Orders by G2P Connect: each paid once, refused in the standard's own words, answered from the ledger."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from services import official
from services.g2p import PAYER, Desk, desk, disbursing, envelope, now, order
from services.path import everything_as_text

from adapters.g2p.disburse_profile import callback_of
from adapters.g2p.disburse_schemas import EXAMPLES
from registry.signing import decode

BASE = "/g2p/v1.0.0"
SYNC = f"{BASE}/disburse/sync/disburse"
ASYNC = f"{BASE}/disburse"


@pytest.fixture
async def hub(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(serve_with, database_url, tmp_path) as made:
        yield made


def entries(reply: dict[str, Any]) -> dict[str, dict[str, Any]]:
    found = {one["reference_id"]: one for one in reply["message"]["disbursements_status"]}
    assert len(found) == len(reply["message"]["disbursements_status"])
    return found


async def states(hub: Desk, kind: str, value: Any, message_id: str, **more: Any) -> dict[str, Any]:
    asked = {"reference_id": "q", "txn_type": "disburse", "attribute_type": kind, "attribute_value": value}
    body = envelope("status", {"transaction_id": "t-1", "txnstatus_request": asked}, message_id)
    status, reply = await hub.post(f"{BASE}/disburse/sync/txn/status", body, **more)
    assert status == 200, reply
    told: dict[str, Any] = reply
    return told


async def test_an_order_is_stored_before_it_is_acknowledged_and_told_once_it_is_paid(hub: Desk) -> None:
    body = disbursing(order("r-1"), order("r-2", payee_fa="mobile:2547000001@m-pay"))
    status, reply = await hub.post(ASYNC, body)
    assert (status, reply["message"]["ack_status"]) == (200, "ACK"), reply
    assert await hub.stored() == 2
    await hub.settle("r-1", "paid")
    await hub.teller.round()
    assert not hub.listener.got, "told before everything had ended"
    await hub.settle("r-2", "failed", "payee-unaddressed")
    await hub.served.pool.execute("UPDATE disbursement_request SET due_at = now()")
    await hub.teller.round()
    ((path, told),) = hub.listener.got
    assert path == "/g2p/on-disburse"
    assert told["header"]["action"] == "on-disburse"
    assert (told["header"]["status"], told["header"]["completed_count"]) == ("succ", 2)
    found = entries(told)
    assert (found["r-1"]["status"], found["r-2"]["status"]) == ("succ", "rjct")
    assert found["r-2"]["status_reason_code"] == "rjct.payee_fa.invalid"
    assert (found["r-1"]["amount"], found["r-1"]["payee_fa"]) == ("1250.00", "account:12345@national-bank")
    await hub.teller.round()
    assert len(hub.listener.got) == 1, "told twice"


async def test_a_repeat_gets_the_same_acknowledgement_and_pays_once(hub: Desk) -> None:
    first = await hub.post(ASYNC, disbursing(order()))
    again = await hub.post(ASYNC, disbursing(order(), message_ts=now(seconds=1)))
    assert again == first
    other_id = await hub.post(ASYNC, disbursing(order(), message_id="m-2"))
    assert other_id[1]["message"]["ack_status"] == "ACK"
    assert await hub.stored() == 1


async def test_a_message_id_with_other_content_is_refused_and_nothing_of_it_is_stored(hub: Desk) -> None:
    await hub.post(ASYNC, disbursing(order()))
    status, reply = await hub.post(ASYNC, disbursing(order(), order("r-2")))
    assert (status, reply["message"]["ack_status"]) == (400, "ERR")
    assert await hub.stored() == 1


async def test_a_reference_stands_for_one_order_only(hub: Desk) -> None:
    await hub.post(SYNC, disbursing(order()))
    _, reply = await hub.post(SYNC, disbursing(order(amount="1.00"), message_id="m-2"))
    assert entries(reply)["r-1"]["status_reason_code"] == "rjct.reference_id.duplicate"
    _, reply = await hub.post(SYNC, disbursing(order(amount="1.00"), message_id="m-3"), by="other-ministry")
    assert entries(reply)["r-1"]["status"] == "rcvd", "references of two partners are no matter of each other"
    assert await hub.stored() == 2


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no-payer": ({"payer_fa": "nobody"}, "rjct.payer_fa.invalid"),
    "not-my-payer": ({"payer_fa": "account:9000002@treasury"}, "rjct.payer_fa.invalid"),
    "no-payee": ({"payee_fa": "account:1 2@bank"}, "rjct.payee_fa.invalid"),
    "amount-number": ({"amount": 12.5}, "rjct.amount.invalid"),
    "amount-whole": ({"amount": "12"}, "rjct.amount.invalid"),
    "amount-nothing": ({"amount": "0.00"}, "rjct.amount.invalid"),
    "amount-huge": ({"amount": "12345678901234.00"}, "rjct.amount.invalid"),
    "amount-fraction": ({"amount": "10.50", "currency_code": "JPY"}, "rjct.amount.invalid"),
    "currency": ({"currency_code": "XXX"}, "rjct.currency_code.invalid"),
    "currency-number": ({"currency_code": 608}, "rjct.currency_code.invalid"),
    "later": ({"scheduled_timestamp": now(days=3)}, "rjct.schedule_ts.invalid"),
    "": ({}, "rjct.reference_id.invalid"),
}


async def test_what_is_wrong_with_one_order_refuses_that_order_alone_by_its_code(hub: Desk) -> None:
    orders = [order(name, **change) for name, (change, _) in WRONG.items()]
    good = [
        order("good"),
        order("yen", amount="1250.00", currency_code="JPY"),
        order("past", scheduled_timestamp=now(days=-1)),
    ]
    status, reply = await hub.post(SYNC, disbursing(*orders, *good))
    assert status == 200, reply
    found = entries(reply)
    assert {name: found[name].get("status_reason_code") for name in WRONG} == {
        name: code for name, (_, code) in WRONG.items()
    }
    assert {found[one["reference_id"]]["status"] for one in good} == {"rcvd"}
    assert await hub.stored() == len(good)


async def test_a_reference_twice_in_one_message_is_ordered_once(hub: Desk) -> None:
    _, reply = await hub.post(SYNC, disbursing(order(), order()))
    assert [one["status"] for one in reply["message"]["disbursements_status"]] == ["rcvd", "rjct"]
    assert await hub.stored() == 1


async def test_the_status_is_that_of_the_ledger_by_each_attribute(hub: Desk) -> None:
    _, ack = await hub.post(ASYNC, disbursing(order("r-1"), order("r-2"), order("bad", amount="0.00")))
    await hub.settle("r-1", "paid")
    await hub.settle("r-2", "sent")
    by_transaction = await states(hub, "transaction_id", "t-1", "q-1")
    told = by_transaction["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]
    assert {one["reference_id"]: one["status"] for one in told} == {
        "r-1": "succ",
        "r-2": "pdng",
        "bad": "rjct",
    }
    assert (by_transaction["header"]["total_count"], by_transaction["header"]["completed_count"]) == (3, 2)
    by_correlation = await states(hub, "correlation_id", ack["message"]["correlation_id"], "q-2")
    assert by_correlation["message"]["txnstatus_response"]["txn_status"]["disbursements_status"] == told
    by_reference = await states(hub, "reference_id_list", ["r-2", "never"], "q-3")
    told = by_reference["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]
    assert [(one["status"], one.get("status_reason_code")) for one in told] == [
        ("pdng", None),
        ("rjct", "rjct.reference_id.invalid"),
    ]


async def test_a_payment_that_went_on_to_another_rail_is_told_by_that_one(hub: Desk) -> None:
    await hub.post(SYNC, disbursing(order("r-1")))
    await hub.settle("r-1", "failed", "rail-closed")
    await hub.served.pool.execute(
        "UPDATE transfer SET superseded = true, rails = 'pay', whole = batch WHERE state = 'failed'"
    )
    reply = await states(hub, "transaction_id", "t-1", "q-1")
    (told,) = reply["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]
    assert told["status"] != "rjct"


async def test_an_order_no_rail_would_take_is_told_as_refused(hub: Desk) -> None:
    await hub.post(SYNC, disbursing(order("r-1"), order("r-2")))
    message = await hub.served.pool.fetchval(
        "SELECT message_id FROM disbursement WHERE id = $1", await hub.payment("r-2")
    )
    await hub.served.pool.execute(
        "UPDATE delivery SET state = 'refused', code = 'payment-invalid', ended_at = now() WHERE message_id = $1 AND route = 'payments'",
        message,
    )
    reply = await states(hub, "transaction_id", "t-1", "q-1")
    told = reply["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]
    assert [(one["status"], one.get("status_reason_message")) for one in told] == [
        ("rcvd", None),
        ("rjct", "payment-invalid"),
    ]


@pytest.mark.parametrize(
    ("route", "state", "told"),
    [
        ("payments", "delivered", "pdng"),
        ("payments", "dead", "pdng"),
        ("payments", "refused", "rjct"),
        ("payments", "cancelled", "rjct"),
        ("archive", "delivered", "rcvd"),
        ("archive", "refused", "rcvd"),
    ],
)
async def test_an_order_of_which_no_ledger_knows_is_told_by_the_delivery_that_pays_and_by_no_copy(
    hub: Desk, route: str, state: str, told: str
) -> None:
    await hub.post(SYNC, disbursing(order("r-1")))
    others = "delivered" if route == "payments" else "queued"
    for change, which in ((state, [route]), (others, sorted({"payments", "archive"} - {route}))):
        await hub.served.pool.execute(
            "UPDATE delivery SET state = $1::text, ended_at = CASE WHEN $1::text <> 'queued' THEN now() END "
            "WHERE route = ANY ($2::text[])",
            change,
            which,
        )
    reply = await states(hub, "transaction_id", "t-1", "q-1")
    (found,) = reply["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]
    assert found["status"] == told


async def test_a_request_that_cannot_be_answered_keeps_no_other_from_being_told(hub: Desk) -> None:
    await hub.post(ASYNC, disbursing(order(amount="0.00"), message_id="m-1"))
    await hub.post(ASYNC, disbursing(order(amount="0.00"), message_id="m-2"))
    broken = await hub.served.pool.fetchval(
        "UPDATE disbursement_request SET kind = 'validate' WHERE id = (SELECT min(id::text)::uuid FROM disbursement_request) RETURNING id"
    )
    await hub.teller.round()
    assert len(hub.listener.got) == 1
    row = await hub.served.pool.fetchrow(
        "SELECT attempts, due_at FROM disbursement_request WHERE id = $1", broken
    )
    assert (row["attempts"], row["due_at"] is not None) == (1, True)


async def test_nobody_learns_of_the_orders_of_another_partner(hub: Desk) -> None:
    _, ack = await hub.post(ASYNC, disbursing(order()))
    for number, (kind, value) in enumerate(
        (("transaction_id", "t-1"), ("correlation_id", ack["message"]["correlation_id"]))
    ):
        reply = await states(hub, kind, value, f"q-{number}", by="other-ministry")
        assert reply["header"]["status"] == "rjct"
        assert not reply["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]


async def test_orders_are_found_by_the_address_of_payer_and_payee_in_any_case(hub: Desk) -> None:
    await hub.post(SYNC, disbursing(order("r-1"), order("r-2", payee_fa="account:777@national-bank")))
    criteria = [
        {"reference_id": "a", "request_type": "disburse", "attribute_type": "payee_fa", "attribute_value": "ACCOUNT:777@national-bank"},
        {"reference_id": "b", "request_type": "disburse", "attribute_type": "payer_fa", "attribute_value": "x"},
        {"reference_id": "c", "request_type": "link", "attribute_type": "payer_fa", "attribute_value": PAYER},
        {"reference_id": "d", "request_type": "disburse", "attribute_type": "name", "attribute_value": PAYER},
        {"reference_id": "e", "request_type": "disburse", "attribute_type": "payee_fa", "attribute_value": PAYER},
    ]  # fmt: skip
    body = envelope("search", {"transaction_id": "t-s", "search_criteria": criteria}, "s-1", len(criteria))
    status, reply = await hub.post(f"{BASE}/disburse/sync/search", body)
    assert status == 200, reply
    found = entries(reply)
    assert set(found) == {"r-2", "b", "c", "d", "e"}
    assert found["r-2"]["payee_fa"] == "account:777@national-bank"
    assert [found[name].get("status_reason_code") for name in "bcde"] == [
        "rjct.srch_payer_fa.invalid",
        "rjct.request_type.invalid",
        "rjct.attribute_type.invalid",
        None,
    ]


async def test_search_and_status_are_answered_by_callback_too(hub: Desk) -> None:
    await hub.post(SYNC, disbursing(order("r-1")))
    criterion = {
        "reference_id": "a",
        "request_type": "disburse",
        "attribute_type": "payer_fa",
        "attribute_value": PAYER,
    }
    search = envelope("search", {"transaction_id": "t-s", "search_criteria": [criterion]}, "s-1")
    asked = {
        "reference_id": "q",
        "txn_type": "disburse",
        "attribute_type": "transaction_id",
        "attribute_value": "t-1",
    }
    question = envelope("on-disburse", {"transaction_id": "t-1", "txnstatus_request": asked}, "q-1")
    for path, body in (("/disburse/search", search), ("/disburse/txn/status", question)):
        status, reply = await hub.post(BASE + path, body)
        assert (status, reply["message"]["ack_status"]) == (200, "ACK"), reply
    await hub.teller.round()
    told = dict(hub.listener.got)
    assert told["/g2p/disburse/on-search"]["message"]["disbursements_status"][0]["reference_id"] == "r-1"
    on_status = told["/g2p/disburse/txn/on-status"]["message"]["txnstatus_response"]
    assert on_status["txn_status"]["disbursements_status"][0]["status"] == "rcvd"


async def test_a_callback_nobody_took_comes_again_with_the_same_message_id(hub: Desk) -> None:
    hub.listener.status = 503
    await hub.post(ASYNC, disbursing(order(amount="0.00")))
    for status in (503, 200):
        hub.listener.status = status
        await hub.served.pool.execute("UPDATE disbursement_request SET due_at = now()")
        await hub.teller.round()
    first, second = (told for _, told in hub.listener.got)
    assert first["header"]["message_id"] == second["header"]["message_id"]
    assert await hub.served.pool.fetchval(
        "SELECT told_at IS NOT NULL AND due_at IS NULL FROM disbursement_request"
    )


async def test_a_callback_is_signed_by_the_key_of_the_hub(hub: Desk) -> None:
    await hub.post(ASYNC, disbursing(order(amount="0.00")))
    await hub.teller.round()
    ((_, told),) = hub.listener.got
    payload = orjson.loads(decode(told["signature"].split(".")[1]))
    assert payload == {name: value for name, value in told.items() if name != "signature"}


async def test_a_callback_goes_nowhere_but_where_it_was_agreed(hub: Desk) -> None:
    own = f"{hub.listener.base}/mine/on-disburse"
    for number, address in enumerate(
        ("https://elsewhere.example/on-disburse", f"{hub.listener.base}/../x", f"{hub.listener.base}x")
    ):
        body = disbursing(order(), message_id=f"m-{number}", sender_uri=address)
        status, reply = await hub.post(ASYNC, body)
        assert (status, reply["message"]["error"]["code"]) == (400, "err.sender_uri.invalid"), address
    assert await hub.stored() == 0
    await hub.post(ASYNC, disbursing(order(amount="0.00"), message_id="good", sender_uri=own))
    await hub.teller.round()
    assert [path for path, _ in hub.listener.got] == ["/g2p/mine/on-disburse"]


def test_an_address_with_a_login_or_another_port_is_not_the_agreed_one() -> None:
    bases = ["https://m.example/cb"]
    assert callback_of("https://m.example/cb/on-disburse", bases, "") is not None
    for address in (
        "https://u@m.example/cb",
        "https://m.example:8443/cb",
        "http://m.example/cb",
        "https://m.example/",
    ):
        assert callback_of(address, bases, "") is None, address
    assert callback_of(None, [], "/on-disburse") is None


async def test_a_partner_confined_to_a_part_of_the_registry_orders_nothing(hub: Desk) -> None:
    status, reply = await hub.post(SYNC, disbursing(order()), by="confined")
    assert (status, reply["errors"][0]["code"]) == (403, "err.request.forbidden")
    assert await hub.stored() == 0


ENVELOPES: dict[str, dict[str, Any]] = {
    "count": {"total_count": 3},
    "no-count": {"total_count": None},
    "action": {"action": "link"},
    "old": {"message_ts": now(days=-90)},
    "encrypted": {"is_msg_encrypted": True},
    "version": {"version": "2.0.0"},
}


async def test_an_envelope_that_cannot_be_used_is_refused_whole(hub: Desk) -> None:
    for name, change in ENVELOPES.items():
        status, reply = await hub.post(SYNC, disbursing(order(), message_id=name, **change))
        assert (status, reply["message"]["ack_status"]) == (400, "ERR"), name
        assert "Planted" not in str(reply)
    too_many = disbursing(*(order(str(number)) for number in range(1001)))
    assert (await hub.post(SYNC, too_many))[0] == 400
    assert await hub.stored() == 0


async def test_a_tolerated_sender_may_leave_out_decimals_and_the_count(hub: Desk) -> None:
    body = disbursing(order(amount="12"), total_count="")
    status, reply = await hub.post(SYNC, body, by="loose")
    assert (status, entries(reply)["r-1"]["status"]) == (200, "rcvd")


async def test_no_person_and_no_account_lies_in_clear(hub: Desk) -> None:
    await hub.post(ASYNC, disbursing(order(payee_fa="account:5550001@national-bank")))
    text = await everything_as_text(hub.served.pool)
    for planted in ("Planted", "5550001", "9000001", "r-1", "t-1"):
        assert planted not in text, planted


# The official description

SLIP = "disburemsents"
"""The list of required members misspells the array."""


def described(path: str, answer: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the official description and one schema of it, with its slips of the pen corrected."""
    document = copy.deepcopy(official.document("g2p-connect/openapi/disburse_core_api_v1.0.0.yaml"))
    required = document["components"]["schemas"]["DisburseRequest"]["required"]
    required[required.index(SLIP)] = "disbursements"
    asked = document["components"]["schemas"]["TxnStatusRequest"]["properties"]["txnstatus_request"]
    value = asked["properties"]["attribute_value"]
    # Every text fits two of the three forms, so that "exactly one" never holds.
    value["anyOf"] = value.pop("oneOf")
    operation = document["paths"][path]["post"]
    place = operation["responses"]["default"] if answer else operation["requestBody"]
    schema = place["content"]["application/json"]["schema"]
    # The lists of actions are copies of one another and do not fit their paths.
    schema["properties"]["header"]["allOf"].pop()
    return document, schema


@pytest.mark.parametrize(
    ("kind", "path"),
    [("disburse", "/disburse"), ("search", "/disburse/search"), ("status", "/disburse/txn/status")],
)
def test_the_examples_of_the_hub_are_valid_by_the_official_description(kind: str, path: str) -> None:
    document, schema = described(path)
    assert official.faults(document, schema, EXAMPLES[kind]) == []


async def test_answers_and_callbacks_are_valid_by_the_official_description(hub: Desk) -> None:
    wrong = [order(name, **change) for name, (change, _) in WRONG.items()]
    _, reply = await hub.post(SYNC, disbursing(order("r-1"), *wrong))
    assert official.faults(*described("/disburse/sync/disburse", answer=True), reply) == []
    await hub.settle("r-1", "failed", "payer-suspended")
    _, ack = await hub.post(ASYNC, disbursing(order("r-1"), *wrong, message_id="m-2"))
    document, _ = described("/disburse")
    schema = document["components"]["responses"]["Response"]["content"]["application/json"]["schema"]
    assert official.faults(document, schema, ack) == []
    await hub.teller.round()
    ((_, told),) = hub.listener.got
    assert official.faults(*described("/on-disburse"), told) == []
    asked = await states(hub, "transaction_id", "t-1", "q-1")
    assert official.faults(*described("/disburse/sync/txn/status", answer=True), asked) == []
    criterion = {
        "reference_id": "a",
        "request_type": "disburse",
        "attribute_type": "payer_fa",
        "attribute_value": PAYER,
    }
    search = envelope("search", {"transaction_id": "t-s", "search_criteria": [criterion]}, "s-1")
    _, found = await hub.post(f"{BASE}/disburse/sync/search", search)
    assert official.faults(*described("/disburse/sync/search", answer=True), found) == []
