"""Payees resolved at the mapper of another system before they are paid: to the address it gives, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import ValidationError
from services import official
from services.g2p_paying import G2pPath, instruction, person, resolving, single

from connectors.g2p_connect import DisburseSettings
from connectors.g2p_connect.disburse_peer import DisbursePeer
from connectors.g2p_connect.mapper_peer import MapperPeer


class ResolvingPath(G2pPath):
    """A target that pays through one system and resolves payees at another."""

    def __init__(self, database_url: str, folder: Path, peer: Any, mapper: MapperPeer, **change: Any) -> None:
        super().__init__(database_url, folder, peer)
        self.mapper, self._change = mapper, change

    def config(self) -> Any:
        self.more = resolving(self.mapper, self.settings.data_dir, items=2, **self._change)  # type: ignore[misc]
        return super().config()


@pytest.fixture
async def peer() -> AsyncIterator[DisbursePeer]:
    found = DisbursePeer()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def mapper(peer: DisbursePeer) -> AsyncIterator[MapperPeer]:
    found = MapperPeer(hub_pem=peer.hub_pem)
    await found.start()
    found.links = {f"vid:{number}@nid": f"account:{number}@bank" for number in range(1, 8)}
    yield found
    await found.stop()


@pytest.fixture
async def path(
    database_url: str, tmp_path: Path, peer: DisbursePeer, mapper: MapperPeer, request: pytest.FixtureRequest
) -> AsyncIterator[ResolvingPath]:
    async with ResolvingPath(database_url, tmp_path, peer, mapper, **getattr(request, "param", {})) as found:
        yield found


def paid_to(peer: DisbursePeer) -> dict[str, str]:
    return {
        item["reference_id"]: item["payee_fa"]
        for raw in peer.bodies
        for item in orjson.loads(raw)["message"]["disbursements"]
    }


@pytest.mark.parametrize("path", [{}, {"callbacks": True}], indirect=True, ids=["at-once", "by-callback"])
async def test_a_payee_is_paid_at_the_address_the_mapper_gives_and_asked_about_in_bounded_messages(
    path: ResolvingPath, peer: DisbursePeer, mapper: MapperPeer
) -> None:
    alias = {"kind": "alias", "provider": "nid", "id_type": "VID", "account_number": "4"}
    rows = [*(person(number) for number in (1, 2, 3)), instruction(4, payee_account=alias), instruction(5)]
    await path.instruct(path.order(rows))
    await path.reach(paid=5)
    assert paid_to(peer) == {f"P-{n}": f"account:{n}@bank" for n in range(1, 5)} | {
        "P-5": "mobile:700000005@m-pay"
    }
    asked = [[one["id"] for one in message["resolve_request"]] for message in mapper.asked]
    assert sorted(one for part in asked for one in part) == [f"vid:{n}@nid" for n in range(1, 5)], (
        "accounts are not asked about"
    )
    assert max(map(len, asked)) == 2, "as many as `items` at once"
    document = official.document("g2p-connect/openapi/mapper_core_api_v1.0.0.yaml")
    schema = document["components"]["schemas"]["ResolveRequest"]
    assert [official.faults(document, schema, message) for message in mapper.asked] == [[]] * len(asked)


async def test_who_cannot_be_resolved_fails_with_nothing_sent_and_the_others_are_paid(
    path: ResolvingPath, peer: DisbursePeer, mapper: MapperPeer
) -> None:
    del mapper.links["vid:1@nid"]
    mapper.inactive.add("vid:2@nid")
    mapper.swapped.add("vid:3@nid")
    mapper.silent.add("vid:4@nid")
    mapper.doubled.add("vid:5@nid")
    mapper.links["vid:6@nid"] = "nobody"
    await path.instruct(path.order([person(number) for number in range(1, 8)]))
    await path.reach(paid=1, failed=6)
    rows = await path.pool.fetch("SELECT payment_id, reason, sent_at FROM transfer WHERE state = 'failed'")
    unclear = {f"P-{number}": "payee-unclear" for number in (3, 4, 5, 6)}
    assert {row["payment_id"]: row["reason"] for row in rows} == {
        "P-1": "payee-not-linked", "P-2": "payee-inactive", **unclear,
    }  # fmt: skip
    assert {row["sent_at"] for row in rows} == {None}, "so that the next rail may pay them"
    assert paid_to(peer) == {"P-7": "account:7@bank"}


@pytest.mark.parametrize("fault", ["busy", "broken", "lost"])
async def test_a_mapper_that_is_away_is_asked_again_and_each_is_paid_once(
    path: ResolvingPath, peer: DisbursePeer, mapper: MapperPeer, fault: str
) -> None:
    setattr(mapper, fault, 1)
    await path.instruct(path.order([person(1), person(2)]))
    await path.reach(paid=2)
    assert sorted(peer.moved) == [("B-1", "P-1"), ("B-1", "P-2")]


async def test_an_answer_the_mapper_did_not_sign_pays_nobody(
    path: ResolvingPath, peer: DisbursePeer, mapper: MapperPeer
) -> None:
    mapper.signed = False
    await path.instruct(path.order([person(1)]))
    async with asyncio.timeout(45):
        while len(mapper.asked) < 2:
            await asyncio.sleep(0.02)
    assert not peer.bodies
    mapper.signed = True
    await path.reach(paid=1)


async def test_a_mapper_that_refuses_the_hub_stops_the_batch_and_loses_nothing(
    path: ResolvingPath, peer: DisbursePeer, mapper: MapperPeer
) -> None:
    mapper._hub_keys = {}
    await path.instruct(path.order([person(1), person(2)]))
    async with asyncio.timeout(45):
        while await path.pool.fetchval("SELECT state FROM transfer_batch") != "stopped":
            await asyncio.sleep(0.02)
    await path.reach(queued=2)
    assert not peer.bodies


async def test_a_single_payment_of_an_unknown_person_fails_before_anything_is_sent(
    path: ResolvingPath, peer: DisbursePeer
) -> None:
    data = {name: value for name, value in person(99).items() if name not in {"batch_id", "payee_account"}}
    order = single()
    await path.instruct(order.model_copy(update={"data": data}))
    await path.reach(failed=1)
    assert not peer.bodies


BASE = {
    "url": "https://pay.example", "sender_id": "hub", "payer_fa": "account:1@t", "payee_ids": {"UIN": "vid@nid"},
    "bearer_token": "of-the-payer",
}  # fmt: skip


def test_the_login_and_keys_of_the_target_never_go_to_the_mapper() -> None:
    settings = DisburseSettings.model_validate({**BASE, "mapper": {"url": "https://mapper.example"}})
    resolving = settings.resolving()
    assert resolving is not None
    assert (resolving.url, resolving.mapper_url) == ("https://mapper.example",) * 2
    assert (resolving.bearer_token, resolving.peer_jwks, resolving.sender_id) == (None, {}, "hub")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"payee_ids": {}}, "mapper needs payee_ids"),
        ({"mapper": {"url": "https://m.example", "callbacks": True}}, "mapper_callbacks needs"),
        ({"mapper": {"url": "http://m.example"}}, "plain http needs"),
        ({"mapper": {"url": "https://10.0.0.1"}}, "may not reach"),
    ],
)
def test_a_mapper_that_could_never_be_asked_is_refused_with_the_settings(
    change: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        DisburseSettings.model_validate({**BASE, "mapper": {"url": "https://m.example"}, **change})
