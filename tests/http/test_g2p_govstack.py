"""Bulk payments and beneficiaries in the words of GovStack: whole or not at all, once, answered from the ledger."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from services import official
from services.g2p import Desk, desk
from services.path import everything_as_text

from adapters.g2p.govstack_beneficiaries import address_of
from adapters.g2p.govstack_profile import GovstackProfile
from adapters.g2p.govstack_schemas import EXAMPLES

BASE = "/govstack"


@pytest.fixture
async def hub(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(serve_with, database_url, tmp_path) as made:
        yield made


def functional(number: int) -> str:
    return f"FUNC{number:016d}"


def beneficiaries(*numbers: int, request_id: str = "REG000000001", **change: Any) -> dict[str, Any]:
    return {
        "RequestID": request_id,
        "SourceBBID": "SOCIALWELFAR",
        "Beneficiaries": [
            {
                "PayeeFunctionalID": functional(number),
                "PaymentModality": "00",
                "FinancialAddress": f"55500{number}@national-bank",
                **change,
            }
            for number in numbers
        ],
    }


def bulk(*numbers: int, request_id: str = "REQ000000001", **change: Any) -> dict[str, Any]:
    return {
        "RequestID": request_id,
        "SourceBBID": "SOCIALWELFAR",
        "BatchID": "BATCH2026001",
        "CreditInstructions": [
            {
                "InstructionID": f"INSTR{number:011d}",
                "PayeeFunctionalID": functional(number),
                "Amount": 1250.10,
                "Currency": "PHP",
                "Narration": "Relief",
                **change,
            }
            for number in numbers
        ],
    }


async def send(hub: Desk, path: str, body: Any, **more: Any) -> tuple[int, Any]:
    return await hub.post(f"{BASE}{path}", body, **{"by": "welfare", **more})


async def registered(hub: Desk, *numbers: int) -> None:
    status, reply = await send(hub, "/register-beneficiary", beneficiaries(*numbers))
    assert (status, reply["ResponseCode"]) == (200, "00"), reply


async def test_a_registered_beneficiary_is_paid_and_the_batch_told_to_the_cent(hub: Desk) -> None:
    await registered(hub, 1, 2)
    status, reply = await send(hub, "/bulk-payment", bulk(1, 2))
    assert (status, reply["ResponseCode"], reply["RequestID"]) == (200, "00", "REQ000000001"), reply
    assert await hub.stored() == 2
    await hub.settle("INSTR00000000001", "paid", by="welfare")
    await hub.teller.round()
    assert not hub.listener.got
    await hub.settle("INSTR00000000002", "failed", "payee-unaddressed", by="welfare")
    await hub.served.pool.execute("UPDATE disbursement_request SET due_at = now() WHERE due_at IS NOT NULL")
    await hub.teller.round()
    ((path, told),) = hub.listener.got
    assert (path, hub.listener.queries) == (
        "/g2p/api/v1/batch",
        [{"batchId": "BATCH2026001", "X-CorrelationID": "REQ000000001"}],
    )
    assert (told["TotalTransactions"], told["completed"], told["failed"], told["ongoing"]) == (2, 1, 1, 0)
    assert (told["completed_amount"], told["totalAmount"], told["currency"]) == (1250.10, 2500.20, "PHP")


async def test_a_repeat_gets_the_same_answer_and_pays_once(hub: Desk) -> None:
    await registered(hub, 1)
    first = await send(hub, "/bulk-payment", bulk(1))
    assert await send(hub, "/bulk-payment", bulk(1)) == first
    assert await send(hub, "/register-beneficiary", beneficiaries(1)) == (
        200,
        {
            "ResponseCode": "00",
            "ResponseDescription": "1 beneficiaries were registered",
            "RequestID": "REG000000001",
        },
    )
    assert await hub.stored() == 1


async def test_an_instruction_id_for_another_payment_refuses_the_whole_bulk(hub: Desk) -> None:
    await registered(hub, 1, 2)
    await send(hub, "/bulk-payment", bulk(1))
    changed = bulk(2, 1, request_id="REQ000000002", Amount=9)
    status, reply = await send(hub, "/bulk-payment", changed)
    assert (status, reply["ResponseCode"]) == (400, "01")
    assert await hub.stored() == 1


async def test_validation_names_what_cannot_be_paid_and_stores_nothing(hub: Desk) -> None:
    await registered(hub, 1)
    assert (await send(hub, "/prepayment-validation", bulk(1)))[1]["ResponseCode"] == "00"
    body = bulk(1, 2)
    body["CreditInstructions"].append(
        {**body["CreditInstructions"][0], "InstructionID": "INSTR00000000003", "Amount": 0}
    )
    for path in ("/prepayment-validation", "/bulk-payment"):
        status, reply = await send(hub, path, body)
        assert (status, reply["ResponseCode"], reply["RequestID"]) == (400, "01", "REQ000000001")
        assert "INSTR00000000002 (not registered)" in reply["ResponseDescription"]
        assert "INSTR00000000003 (Amount)" in reply["ResponseDescription"]
        assert "INSTR00000000001" not in reply["ResponseDescription"]
        assert len(reply["ResponseDescription"]) <= 200
    assert await hub.stored() == 0


WRONG: dict[str, dict[str, Any]] = {
    "short-request": {"RequestID": "R1"},
    "other-source": {"SourceBBID": "SOMEBODYELSE"},
    "no-batch": {"BatchID": None},
    "no-list": {"CreditInstructions": {}},
    "empty": {"CreditInstructions": []},
}


async def test_a_request_that_cannot_be_used_is_refused_by_code_01(hub: Desk) -> None:
    await registered(hub, 1)
    for name, change in WRONG.items():
        status, reply = await send(hub, "/bulk-payment", bulk(1) | change)
        assert (status, reply["ResponseCode"]) == (400, "01"), name
    for change in (
        {"Currency": "XXX"},
        {"Amount": "12"},
        {"Amount": 1.001},
        {"Amount": True},
        {"Narration": "x" * 51},
    ):
        status, reply = await send(hub, "/bulk-payment", bulk(1, **change))
        assert (status, reply["ResponseCode"]) == (400, "01"), change
    assert (await send(hub, "/bulk-payment", b"{"))[0] == 400
    twice = bulk(1, 1)
    assert (await send(hub, "/bulk-payment", twice))[0] == 400
    assert await hub.stored() == 0


async def test_beneficiaries_are_registered_all_or_none(hub: Desk) -> None:
    body = beneficiaries(1, 2)
    body["Beneficiaries"][1]["FinancialAddress"] = "no address @"
    status, reply = await send(hub, "/register-beneficiary", body)
    assert (status, reply["ResponseCode"]) == (400, "01")
    assert "entry 1" in reply["ResponseDescription"]
    assert (await send(hub, "/prepayment-validation", bulk(1)))[0] == 400, (
        "registered although all was refused"
    )


async def test_an_update_moves_the_next_payment_to_the_new_address(hub: Desk) -> None:
    await registered(hub, 1)
    assert (await send(hub, "/update-beneficiary-details", beneficiaries(2, request_id="UPD000000001")))[
        0
    ] == 400
    moved = beneficiaries(1, request_id="UPD000000002", PaymentModality="01", FinancialAddress="2547000001")
    assert (await send(hub, "/update-beneficiary-details", moved))[1]["ResponseCode"] == "00"
    assert (await send(hub, "/bulk-payment", bulk(1)))[1]["ResponseCode"] == "00"
    assert (
        address_of("01", "2547000001", GovstackProfile(providers={"01": "m-pay"}))
        == "mobile:2547000001@m-pay"
    )


async def test_chapter_8_tells_who_could_not_be_registered_by_callback(hub: Desk) -> None:
    headers = {"X_Callback_URL": f"{hub.listener.base}/told", "X_Registering_Institution_ID": "welfare"}
    entries = [
        {"payeeIdentity": functional(number), "PaymentModality": "00", "FinancialAddress": address}
        for number, address in ((1, "1@national-bank"), (2, "no address"))
    ]
    body = {"RequestID": "REQ8", "Beneficiaries": entries}
    status, reply = await send(hub, "/identityAccountMapper/beneficiary", body, **headers)
    assert (status, reply["responseCode"], reply["requestID"]) == (200, "00", "REQ8")
    await hub.teller.round()
    ((path, told),) = hub.listener.got
    assert (path, told["registerRequestID"], told["numberFailedCases"]) == ("/g2p/told", "REQ8", 1)
    (case,) = told["failedCases"]
    assert (case["payeeIdentity"], case["paymentModality"]) == (functional(2), "00")
    document = official.document("govstack/payments/RegisterBeneficiaryResponse.yml")
    schema = document["paths"]["/callback"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert official.faults({"components": {}}, schema, told) == []


async def test_a_batch_of_chapter_8_is_taken_by_account_and_told_by_callback(hub: Desk) -> None:
    headers = {
        "X_CorrelationID": "CORR1", "Platform_TenantId": "gorilla", "X_Callback_URL": f"{hub.listener.base}/told",
    }  # fmt: skip
    status, reply = await send(hub, "/batchtransactions?type=raw", EXAMPLES["Batch"], **headers)
    assert status == 202, reply
    again = await send(hub, "/batchtransactions?type=raw", EXAMPLES["Batch"], **headers)
    assert again == (202, reply)
    assert await hub.stored() == 1
    await hub.settle("INSTR20260000001", "paid", by="welfare")
    await hub.served.pool.execute("UPDATE disbursement_request SET due_at = now()")
    await hub.teller.round()
    ((_, told),) = hub.listener.got
    assert hub.listener.queries == [{"batchId": reply["batchId"], "X-CorrelationID": "CORR1"}]
    document = official.document("govstack/payments/v1_0_1_fixed_BulkPaymentStatusUpdate.yml")
    schema = document["paths"]["/api/v1/batch"]["post"]["requestBody"]["content"]["application/json"][
        "schema"
    ]
    schema["properties"]["result_file"]["type"] = ["string", "null"]  # "Null for JSON type request"
    assert official.faults({"components": {}}, schema, told) == []
    missing = await send(hub, "/batchtransactions?type=raw", EXAMPLES["Batch"], X_CorrelationID="CORR2")
    assert missing[0] == 400


async def test_a_partner_confined_to_a_part_of_the_registry_orders_nothing(hub: Desk) -> None:
    status, reply = await send(hub, "/bulk-payment", bulk(1), by="welfare-confined")
    assert (status, reply["ResponseCode"]) == (403, "01")


async def test_no_account_and_no_functional_id_lies_in_clear(hub: Desk) -> None:
    await registered(hub, 1)
    await send(hub, "/bulk-payment", bulk(1))
    text = await everything_as_text(hub.served.pool)
    for planted in (functional(1), "555001", "BATCH2026001"):
        assert planted not in text, planted


@pytest.mark.parametrize(
    ("file", "path", "name"),
    [
        ("Prepaymentvalidation.yaml", "/prepayment-validation", "Validate"),
        ("bulkpayment.yaml", "/bulk-payment", "Bulk"),
        ("Registerbeneficiary.yaml", "/register-beneficiary", "Register"),
        ("UpdateBeneficiary.yaml", "/update-beneficiary-details", "Update"),
        ("RegisterBeneficiaryRequest.yml", "/identityAccountMapper/beneficiary", "Register8"),
        ("v1_0_1_fixed_BulkPayment.yml", "/batchtransactions", "Batch"),
    ],
)
async def test_the_examples_of_the_hub_are_valid_by_the_official_description(
    file: str, path: str, name: str
) -> None:
    document = copy.deepcopy(official.document(f"govstack/payments/{file}"))
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert official.faults({"components": {}}, schema, EXAMPLES[name]) == []


def test_an_amount_is_read_as_it_was_written() -> None:
    from adapters.g2p.govstack_reading import read_json

    assert read_json(b'{"Amount": 0.10}') == {"Amount": Decimal("0.10")}
