"""The examples of the page about G2P Connect do what the page says, in its order."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import documents
import orjson
import pytest
import yaml
from services.g2p import Desk, desk

from adapters.g2p.disburse_profile import DisburseProfile, disburse_profile_of
from adapters.g2p.govstack_profile import GovstackProfile, govstack_profile_of
from adapters.http.security import load_partners


@pytest.fixture
async def hub(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(serve_with, database_url, tmp_path) as made:
        yield made


def example(word: str) -> dict[str, Any]:
    (block,) = documents.marked("json", word)
    found: dict[str, Any] = orjson.loads(block.text)
    if "header" in found:
        # A message is taken for thirty days, and a page is read for longer.
        found["header"]["message_ts"] = datetime.now(UTC).isoformat()
    return found


async def test_the_examples_order_what_the_page_says(hub: Desk) -> None:
    _, told = await hub.post("/g2p/v1.0.0/disburse/sync/disburse", example("disburse"))
    expected = [("r-1", "rcvd", None), ("r-2", "rjct", "rjct.payee_fa.invalid")]
    entries = told["message"]["disbursements_status"]
    assert [
        (one["reference_id"], one["status"], one.get("status_reason_code")) for one in entries
    ] == expected
    await hub.settle("r-1", "paid")
    _, told = await hub.post("/g2p/v1.0.0/disburse/sync/txn/status", example("disburse-status"))
    entries = told["message"]["txnstatus_response"]["txn_status"]["disbursements_status"]
    assert {one["reference_id"]: one["status"] for one in entries} == {"r-1": "succ", "r-2": "rjct"}


async def test_the_examples_of_govstack_register_and_pay(hub: Desk) -> None:
    for path, word in (
        ("/register-beneficiary", "govstack-register"),
        ("/prepayment-validation", "govstack-bulk"),
        ("/bulk-payment", "govstack-bulk"),
    ):
        status, told = await hub.post(f"/govstack{path}", example(word), by="welfare")
        assert (status, told["ResponseCode"]) == (200, "00"), told
    assert await hub.stored() == 1


def test_the_partners_of_the_page_have_options_the_hub_reads(tmp_path: Path) -> None:
    (block,) = [one for one in documents.marked("yaml", "partners") if "g2p-connect.md" in one.place]
    (tmp_path / "partners.yaml").write_text(block.text, encoding="utf-8")
    partners = load_partners(tmp_path)
    assert disburse_profile_of(partners["ministry"]).currency == "PHP"
    assert govstack_profile_of(partners["welfare"]).source_id == "SOCIALWELFAR"
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("name", [*DisburseProfile.__annotations__, *GovstackProfile.model_fields])
def test_every_option_is_in_the_page(name: str) -> None:
    assert f"`{name}`" in documents.page("g2p-connect.md")
