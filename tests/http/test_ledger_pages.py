"""The ledger over HTTP: where a payment is, sums, and an export that names nobody, for whom sees the whole registry only."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer

from adapters.http.app import build_app
from adapters.rest.payments import extension
from canonical_model.message import uuid7
from canonical_model.payment import PaymentInstruction
from connectors.payments.contract import LOOKUP, PAID, QUEUED, SENT, Step
from registry.vault import KeyEncryptionKey, Vault
from routing.ledger import Books
from routing.ledger_desk import Desk
from routing.transfers import Bounds

PLANTED = "+254700999111"
CONFINED = ("north-office", "enrolled-only", "clinic")


def _order(number: int, cycle: str = "drought/1") -> PaymentInstruction:
    return PaymentInstruction.model_validate(
        {
            "payment_id": f"P-{number}", "cycle_id": cycle,
            "payee": {"identifiers": [{"id_type": "NID", "value": f"Planted-{number}"}]},
            "payee_account": {"kind": "mobile_money", "account_number": PLANTED},
            "amount": {"minor_units": 100 * number, "currency": "KES"},
        }
    )  # fmt: skip


@pytest.fixture
async def pages(registry: Any, tmp_path: Path) -> Any:
    """The registry's server once more, with the pages of a ledger that holds two payments."""
    books = Books(
        registry.pool, Vault(registry.pool, KeyEncryptionKey.load(registry.served.services.settings))
    )
    await books.enter("wallets", uuid7(), "B-1", [_order(1), _order(2)])
    ledger = books.transfers("wallets")
    rows, _ = await books.take("wallets", Bounds())
    first = next(row for row in rows if row.instruction.payment_id == "P-1")
    sent = Step(first.id, (LOOKUP, QUEUED), "transfer", SENT, institution="bank", references={"transfer": "t-1"},
                request=b"{}", due_in=60.0)  # fmt: skip
    assert await ledger.apply([sent]) == [True]
    assert await ledger.apply([Step(first.id, ("transfer", SENT), state=PAID, fee=7)]) == [True]
    registry.served.services.extra = [*registry.served.services.extra, extension(Desk(registry.pool, books))]
    await registry.served.client.close()
    registry.served.client = TestClient(TestServer(build_app(registry.served.services)))
    await registry.served.client.start_server()
    return registry


async def test_a_payment_is_shown_with_its_steps_and_without_its_payee(pages: Any) -> None:
    status, body, _ = await pages.call("GET", "/v1/transfers/P-1")
    [one] = body["items"]
    assert (status, one["state"], one["target"], one["fee"]) == (200, "paid", "wallets", 7)
    assert [step["state"] for step in one["steps"]] == ["sent", "paid"]
    assert PLANTED not in str(body)
    status, body, _ = await pages.call("GET", "/v1/transfers/nobody-s")
    assert (status, body["code"]) == (404, "payment-not-found")


async def test_sums_and_the_export_agree_and_name_nobody(pages: Any) -> None:
    sums = (await pages.call("GET", "/v1/settlement?cycle=drought/1"))[1]["items"]
    assert {each["state"]: each["payments"] for each in sums} == {"paid": 1, "queued": 1}
    _, raw, headers = await pages.call("GET", "/v1/settlement/export?target=wallets")
    rows = list(csv.DictReader(raw.decode().splitlines()))
    assert headers["Content-Type"].startswith("text/csv")
    assert {row["payment_id"]: row["state"] for row in rows} == {"P-1": "paid", "P-2": "queued"}
    _, lines, _ = await pages.call("GET", "/v1/settlement/export?format=ndjson&cycle=drought/1")
    assert {orjson.loads(line)["payment_id"] for line in lines.splitlines()} == {"P-1", "P-2"}
    assert PLANTED.encode() not in raw + lines
    assert b"Planted" not in raw + lines
    assert await pages.pool.fetchval("SELECT count(*) FROM audit_event WHERE action = 'payment.export'") == 2
    assert (await pages.call("GET", "/v1/settlement?colour=red"))[1]["code"] == "query-parameter-unknown"


async def test_whoever_sees_a_part_of_the_registry_sees_nothing_of_the_ledger(pages: Any) -> None:
    for path in ("/v1/transfers/P-1", "/v1/settlement", "/v1/settlement/export"):
        for partner in CONFINED:
            status, body, _ = await pages.call("GET", path, by=partner)
            assert (path, partner, status, body["code"]) == (path, partner, 403, "partner-confined")
        assert (await pages.call("GET", path, by="onlooker"))[0] == 403
