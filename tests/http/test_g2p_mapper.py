"""The hub as an account mapper of G2P Connect: links kept once, codes of the official lists, answers the official file takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from services import official
from services.g2p import SCOPES, Desk, desk, envelope, now
from services.path import everything_as_text

from adapters.g2p.mapper_schemas import EXAMPLES
from connectors.g2p_connect.disburse_client import DisburseClient
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.g2p_connect.mapper import Item, Mapper

BASE = "/g2p/v1.0.0/mapper"
FILE = "g2p-connect/openapi/mapper_core_api_v1.0.0.yaml"
ID, FA = "vid:54321@nid", "account:99881@national-bank"


@pytest.fixture
async def hub(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(serve_with, database_url, tmp_path) as made:
        yield made


def one(reference: str = "r-1", **more: Any) -> dict[str, Any]:
    return {"reference_id": reference, "timestamp": now(), "id": ID, **more}


def asking(
    verb: str,
    *items: dict[str, Any],
    message_id: str | None = None,
    transaction_id: str = "t-1",
    **header: Any,
) -> dict[str, Any]:
    message = {"transaction_id": transaction_id, f"{verb}_request": list(items)}
    action = header.pop("action", verb)
    return envelope(action, message, message_id or f"m-{verb}", len(items), **header)


async def sync(
    hub: Desk, verb: str, *items: dict[str, Any], by: str = "ministry", **more: Any
) -> dict[str, Any]:
    status, reply = await hub.post(f"{BASE}/sync/{verb}", asking(verb, *items, **more), by=by)
    assert status == 200, reply
    told: dict[str, Any] = reply
    return told


def entries(reply: dict[str, Any], verb: str) -> dict[str, dict[str, Any]]:
    return {each["reference_id"]: each for each in reply["message"][f"{verb}_response"]}


def said(reply: dict[str, Any], verb: str) -> dict[str, str | None]:
    return {name: each.get("status_reason_code") for name, each in entries(reply, verb).items()}


async def test_what_one_partner_links_another_resolves_and_nothing_lies_in_clear(hub: Desk) -> None:
    info = [{"name": "strategy", "value": "7"}]
    link = one(fa=FA, name="Amina Planted", phone_number="+254700111222", additional_info=info)
    assert entries(await sync(hub, "link", link), "link")["r-1"]["status"] == "succ"
    asked = [one("yes"), one("all", scope="details"), one("both", fa=FA), one("other", fa="account:1@x"),
        one("nobody", id="vid:1@nid"), {**one("by-fa", fa=FA.upper()), "id": None}]  # fmt: skip
    reply = await sync(hub, "resolve", *asked, by="other-ministry")
    assert said(reply, "resolve") == {
        "yes": "succ.id.active", "all": "succ.id.active", "both": "succ.id.active",
        "other": "succ.fa.not_linked_to_id", "nobody": "succ.id.not_found", "by-fa": "succ.fa.active",
    }  # fmt: skip
    found = entries(reply, "resolve")
    assert "fa" not in found["yes"], "an address was shown to who asked for yes or no"
    assert found["all"]["fa"] == FA
    assert found["all"]["account_provider_info"] == {"name": "national-bank", "code": "national-bank"}
    assert found["all"]["additional_info"] == info
    text = await everything_as_text(hub.served.pool)
    for planted in ("54321", "99881", "Planted", "254700111222"):
        assert planted not in text, planted


WRONG: dict[str, tuple[dict[str, Any], str, str, str, str]] = {
    # of each: the change, then the code in link, update, unlink and resolve
    "time": ({"timestamp": "yesterday"}, *["rjct.timestamp.invalid"] * 4),
    "no-id": (
        {"id": None, "fa": None},
        "rjct.id.invalid",
        *["rjct.reference_id.invalid"] * 2,
        "rjct.id.invalid",
    ),
    "odd-id": ({"id": "5 4@nid"}, "rjct.id.invalid", *["rjct.reference_id.invalid"] * 2, "rjct.id.invalid"),
    "id-number": ({"id": 54321}, "rjct.id.invalid", *["rjct.reference_id.invalid"] * 2, "rjct.id.invalid"),
    "odd-fa": ({"fa": "nowhere"}, "rjct.fa.invalid", *["rjct.reference_id.invalid"] * 2, "rjct.fa.invalid"),
    "name": ({"name": "x" * 201}, "rjct.name.invalid", "rjct.beneficiary_name.invalid", "", ""),
    "phone": ({"phone_number": "call me"}, "rjct.mobile_number.invalid", "rjct.reference_id.invalid", "", ""),
    "info": ({"additional_info": [{"value": 1}]}, "rjct.other.error", "rjct.reference_id.invalid", "", ""),
    "": ({}, *["rjct.reference_id.invalid"] * 4),
}


@pytest.mark.parametrize(("verb", "place"), [("link", 1), ("update", 2), ("unlink", 3), ("resolve", 4)])
async def test_what_is_wrong_with_one_item_refuses_that_item_alone_by_an_official_code(
    hub: Desk, verb: str, place: int
) -> None:
    await sync(hub, "link", one("first", fa=FA, id="vid:900@nid"), message_id="m-0")
    items = [
        one(name, **{"fa": FA, "id": f"vid:{number}@nid", **given[0]})
        for number, (name, given) in enumerate(WRONG.items()) if given[place]
    ]  # fmt: skip
    if verb == "resolve":
        items.append(one("scope", scope="everything"))
    good = one("good", fa=FA, id="vid:901@nid" if verb == "link" else "vid:900@nid")
    reply = await sync(hub, verb, *items, good, good)
    found = said(reply, verb)
    expected = {name: given[place] for name, given in WRONG.items() if given[place]}
    if verb == "resolve":
        expected["scope"] = "rjct.resolve_type.not_supported"
    assert {name: found[name] for name in expected} == expected
    listed = [each for each in reply["message"][f"{verb}_response"] if each["reference_id"] == "good"]
    assert [each["status"] for each in listed] == ["succ", "rjct"]
    assert listed[1]["status_reason_code"] == "rjct.reference_id.duplicate"
    assert _faults(f"{'/mapper/on-' + verb}", reply) == []


async def test_a_link_that_stands_is_changed_by_an_update_and_ended_by_an_unlink(hub: Desk) -> None:
    assert said(await sync(hub, "update", one(fa=FA), message_id="1"), "update") == {
        "r-1": "rjct.reference_id.invalid"
    }
    await sync(hub, "link", one(fa=FA), message_id="2")
    assert said(await sync(hub, "link", one(fa=FA), message_id="3"), "link") == {
        "r-1": "rjct.reference_id.duplicate"
    }
    new = "mobile:254700111222@m-pay"
    assert (
        entries(await sync(hub, "update", one(fa=new), message_id="4"), "update")["r-1"]["status"] == "succ"
    )
    reply = await sync(hub, "resolve", one(scope="details"), message_id="5")
    assert entries(reply, "resolve")["r-1"]["fa"] == new
    assert entries(await sync(hub, "unlink", one(fa=FA), message_id="6"), "unlink")["r-1"]["status"] == "rjct"
    assert entries(await sync(hub, "unlink", one(), message_id="7"), "unlink")["r-1"]["status"] == "succ"
    assert said(await sync(hub, "resolve", one(), message_id="8"), "resolve") == {"r-1": "succ.id.not_found"}


async def test_a_repeat_gets_the_first_answer_and_links_once(hub: Desk) -> None:
    first = await sync(hub, "link", one(timestamp="2026-01-01T00:00:00Z", fa=FA))
    again = await sync(hub, "link", one(timestamp="2026-01-01T00:00:00Z", fa=FA), message_ts=now(seconds=1))
    assert again["message"] == first["message"]
    status, reply = await hub.post(f"{BASE}/sync/link", asking("link", one(fa=FA, id="vid:2@nid")))
    assert (status, reply["message"]["ack_status"]) == (400, "ERR")
    assert await hub.served.pool.fetchval("SELECT count(*) FROM account_link") == 1


async def test_a_message_that_comes_many_times_at_once_is_done_once_with_one_answer(hub: Desk) -> None:
    item = one(timestamp="2026-01-01T00:00:00Z", fa=FA)
    replies = await asyncio.gather(*(sync(hub, "link", item) for _ in range(6)))
    assert len({orjson.dumps(each["message"]) for each in replies}) == 1
    assert replies[0]["message"]["link_response"][0]["status"] == "succ"
    assert await hub.served.pool.fetchval("SELECT count(*) FROM account_link") == 1


@pytest.mark.parametrize("verb", ["link", "update", "unlink", "resolve"])
async def test_what_was_acknowledged_is_answered_by_a_callback_the_official_file_takes(
    hub: Desk, verb: str
) -> None:
    if verb != "link":
        await sync(hub, "link", one(fa=FA), message_id="m-0")
    status, ack = await hub.post(f"{BASE}/{verb}", asking(verb, one(fa=FA), one("bad", id="x", fa=FA)))
    assert (status, ack["message"]["ack_status"]) == (200, "ACK"), ack
    await hub.teller.round()
    ((path, told),) = hub.listener.got
    assert path == f"/g2p/mapper/on-{verb}"
    assert told["header"]["action"] == f"on-{verb}"
    assert told["message"]["correlation_id"] == ack["message"]["correlation_id"]
    assert [each["status"] for each in told["message"][f"{verb}_response"]] == ["succ", "rjct"]
    assert told["signature"].count(".") == 2
    assert _faults(f"/mapper/on-{verb}", told) == []
    await hub.teller.round()
    assert len(hub.listener.got) == 1, "told twice"


@pytest.mark.parametrize("path", [f"{BASE}/sync/txn/status", "/g2p/v1.0.0/registry/sync/txn/status"])
async def test_the_status_is_told_by_each_attribute_to_the_sender_alone(hub: Desk, path: str) -> None:
    linked = await sync(hub, "link", one("a", fa=FA), one("b", id="x", fa=FA))
    for kind, value, names in (
        ("transaction_id", "t-1", ["a", "b"]),
        ("correlation_id", linked["message"]["correlation_id"], ["a", "b"]),
        ("reference_id_list", ["b", "unknown"], ["b", "unknown"]),
    ):
        asked = {"reference_id": "q", "txn_type": "link", "attribute_type": kind, "attribute_value": value}
        body = envelope("txn-status", {"transaction_id": "t-1", "txnstatus_request": asked}, f"q-{kind}")
        status, reply = await hub.post(path, body)
        assert status == 200, reply
        response = reply["message"]["txnstatus_response"]
        assert response["txn_type"] == "on-link"
        found = response["txn_status"]["link_response"]
        assert [each["reference_id"] for each in found] == names
        assert _faults("/mapper/txn/on-status", reply) == []
        _, other = await hub.post(path, body, by="other-ministry")
        if kind != "reference_id_list":
            assert other["message"]["txnstatus_response"]["txn_status"]["link_response"] == []


async def test_an_envelope_that_cannot_be_used_is_refused_whole(hub: Desk) -> None:
    wrong = asking("link", one(fa=FA))
    wrong["header"]["total_count"] = 2
    for body, code in (
        (wrong, "err.request.bad"),
        (asking("resolve", one()), "err.request.bad"),
        (asking("link", one(fa=FA), version="2.0"), "err.version.not_supported"),
        (asking("link", *[one(f"r-{number}", fa=FA) for number in range(1001)]), "err.request.bad"),
    ):
        status, reply = await hub.post(f"{BASE}/sync/link", body)
        assert (status, reply["message"]["error"]["code"]) == (400, code)
    status, reply = await hub.post(
        f"{BASE}/link", asking("link", one(fa=FA), sender_uri="https://elsewhere.example/x")
    )
    assert (status, reply["message"]["error"]["code"]) == (400, "err.sender_uri.invalid")
    status, _ = await hub.post(f"{BASE}/sync/link", asking("link", one(fa=FA)), by="confined")
    assert status == 403
    assert await hub.served.pool.fetchval("SELECT count(*) FROM account_link") == 0


async def test_the_printed_action_of_sync_messages_is_understood_too(hub: Desk) -> None:
    await sync(hub, "link", one(fa=FA), message_id="m-0")
    reply = await sync(hub, "resolve", one(), action="link")
    assert said(reply, "resolve") == {"r-1": "succ.id.active"}


async def test_another_hub_uses_it_as_its_mapper(hub: Desk) -> None:
    url = str(hub.served.client.make_url("/g2p/v1.0.0"))
    settings = DisburseSettings.model_validate(
        {"url": url, "mapper_url": url, "sender_id": "other-hub", "payer_fa": "account:1@treasury",
         "bearer_token": hub.served.token("ministry", *SCOPES), "allow_private_networks": ["127.0.0.0/8"]}
    )  # fmt: skip
    client = DisburseClient(settings)
    there, soon = Mapper(settings, client), asyncio.get_running_loop().time() + 45
    items = [Item(f"vid:{number}@nid", f"account:{number}@bank") for number in range(1000)]
    assert {one.state for one in await there.link(items, soon)} == {"done"}
    found = await there.resolve([Item(each.id) for each in items], soon)
    assert [one.address for one in found] == [each.address for each in items]
    assert {one.provider for one in found} == {"bank"}
    assert [one.state for one in await there.resolve([Item("vid:x@nid"), Item(ID, FA)], soon)] == [
        "absent",
        "elsewhere",
    ]
    await client.close()


def test_the_examples_are_what_the_official_file_asks_for() -> None:
    for kind, example in EXAMPLES.items():
        path = "/mapper/txn/status" if kind == "status" else f"/mapper/{kind}"
        assert _faults(path, example) == [], kind


def _faults(path: str, body: dict[str, Any]) -> list[str]:
    try:
        document = official.document(FILE)
    except pytest.skip.Exception:
        return []  # the rest of the test holds without the official file
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    return official.faults(document, schema, body)
