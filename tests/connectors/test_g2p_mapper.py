"""The hub as a client of another account mapper: never the address of somebody else, never a guess of what was done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError
from services import official

from connectors.errors import ConfigError, Refused, Unavailable, Unknown
from connectors.g2p_connect.disburse_client import DisburseClient
from connectors.g2p_connect.disburse_settings import DisburseSettings
from connectors.g2p_connect.mapper import Answered, Item, Mapper
from connectors.g2p_connect.mapper_peer import MapperPeer

FILE = "g2p-connect/openapi/mapper_core_api_v1.0.0.yaml"
ID, FA = "vid:54321@nid", "account:99881@national-bank"


class Side:
    """The hub's side: a mapper client, and the address its callbacks come to."""

    def __init__(self, peer: MapperPeer) -> None:
        self.peer = peer
        self.codes: list[str | None] = []
        self.mapper: Mapper
        self._client: DisburseClient | None = None
        app = web.Application()
        app.router.add_post("/callbacks/peer/{verb}", self._take)
        self.server = TestServer(app)

    async def open(self, **change: Any) -> Mapper:
        await self.close()
        settings = DisburseSettings.model_validate({**self.peer.settings(), **change})
        self._client = DisburseClient(settings)
        self.mapper = Mapper(settings, self._client)
        return self.mapper

    async def open_later(self) -> Mapper:
        return await self.open(
            mapper_callbacks=True, callback_url=str(self.server.make_url("/callbacks/peer"))
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def _take(self, request: web.Request) -> web.Response:
        code = self.mapper.deliver(orjson.loads(await request.read()))
        self.codes.append(code)
        return web.Response(status=200 if code is None else 400)


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    peer = MapperPeer()
    await peer.start()
    made = Side(peer)
    await made.server.start_server()
    yield made
    await made.close()
    await made.server.close()
    await peer.stop()


def soon(seconds: float = 45.0) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize("later", [False, True], ids=["at-once", "by-callback"])
async def test_what_is_linked_there_is_resolved_from_there(side: Side, later: bool) -> None:
    mapper = await (side.open_later() if later else side.open())
    item = Item(ID, FA, "Amina Planted", "+254700111222")
    assert await mapper.link([item], soon()) == [Answered("done")]
    assert [one.code for one in await mapper.link([item], soon())] == ["rjct.reference_id.duplicate"]
    side.peer.links["vid:2@nid"] = "account:2@bank"
    side.peer.inactive.add("vid:2@nid")
    asked = [Item("vid:1@nid"), Item("vid:2@nid"), Item(ID), Item(ID, "account:1@other"), Item(ID, FA)]
    found = await mapper.resolve(asked, soon())
    assert [(one.state, one.address) for one in found] == [
        ("absent", None), ("inactive", "account:2@bank"), ("active", FA), ("elsewhere", None), ("active", FA),
    ]  # fmt: skip
    assert await mapper.update([Item(ID, "account:3@bank")], soon()) == [Answered("done")]
    assert await mapper.unlink([Item(ID)], soon()) == [Answered("done")]
    assert [one.state for one in await mapper.unlink([Item(ID)], soon())] == ["refused"]
    assert side.codes == ([None] * len(side.peer.asked) if later else [])


async def test_what_is_said_of_somebody_else_or_twice_or_not_at_all_is_unclear(side: Side) -> None:
    mapper = await side.open()
    for number, kind in enumerate((side.peer.swapped, side.peer.silent, side.peer.doubled), 1):
        side.peer.links[f"vid:{number}@nid"] = FA
        kind.add(f"vid:{number}@nid")
    found = await mapper.resolve([Item(f"vid:{number}@nid") for number in (1, 2, 3)], soon())
    assert [(one.state, one.address) for one in found] == [("unclear", None)] * 3


async def test_a_question_without_an_answer_may_be_asked_again_and_a_change_may_not(side: Side) -> None:
    mapper = await side.open()
    for fault in ("lost", "broken"):
        setattr(side.peer, fault, 1)
        with pytest.raises(Unavailable):
            await mapper.resolve([Item(ID)], soon())
        setattr(side.peer, fault, 1)
        with pytest.raises(Unknown):
            await mapper.link([Item(f"vid:{fault}@nid", FA)], soon())
        assert [one.state for one in await mapper.resolve([Item(f"vid:{fault}@nid")], soon())] == ["active"]
    side.peer.busy = 1
    with pytest.raises(Unavailable) as busy:
        await mapper.link([Item("vid:9@nid", FA)], soon())
    assert busy.value.retry_after == 1
    assert "vid:9@nid" not in side.peer.links


async def test_an_answer_its_keys_did_not_sign_is_not_believed(side: Side) -> None:
    mapper = await side.open()
    side.peer.links[ID] = FA
    side.peer.signed = False
    with pytest.raises(Unavailable) as unsigned:
        await mapper.resolve([Item(ID)], soon())
    assert unsigned.value.code == "answer-unsigned"
    mapper = await side.open(peer_jwks={})
    assert [one.state for one in await mapper.resolve([Item(ID)], soon())] == ["active"], "none were agreed"
    mapper = await side.open_later()
    with pytest.raises(Unavailable) as missing:
        await mapper.resolve([Item(ID)], soon(3.0))
    assert missing.value.code == "callback-missing"
    async with asyncio.timeout(45):
        while not side.codes:
            await asyncio.sleep(0.01)
    assert side.codes == ["err.signature.invalid"]


async def test_a_callback_nobody_waits_for_and_a_message_that_is_not_taken_change_nothing(side: Side) -> None:
    mapper = await side.open_later()
    side.peer.signed = True
    reply = side.peer._reply("link", "unknown", [])
    assert mapper.deliver(reply) == "err.request.not_found"
    mapper = await side.open(bearer_token="wrong")
    with pytest.raises(Refused) as refused:
        await mapper.link([Item(ID, FA)], soon())
    assert refused.value.code == "target-refused"
    with pytest.raises(Refused):
        await mapper.resolve([Item(ID)] * 1001, soon())
    mapper = await side.open(mapper_url=None)
    with pytest.raises(ConfigError):
        await mapper.resolve([Item(ID)], soon())
    assert await mapper.resolve([], soon()) == []
    assert side.peer.asked == []


async def test_every_message_is_what_the_official_file_asks_for(side: Side) -> None:
    document = official.document(FILE)
    mapper = await side.open()
    for verb in ("link", "update", "resolve", "unlink"):
        await getattr(mapper, verb)([Item(ID, FA, "Amina", "+254700111222")], soon())
    for verb, message in zip(("link", "update", "resolve", "unlink"), side.peer.asked, strict=True):
        schema = document["components"]["schemas"][f"{verb.capitalize()}Request"]
        assert official.faults(document, schema, message) == [], verb


def test_a_mapper_that_calls_back_needs_an_address_and_its_keys() -> None:
    base = {
        "url": "https://m.example",
        "mapper_url": "https://m.example",
        "sender_id": "h",
        "payer_fa": "account:1@t",
    }
    with pytest.raises(ValidationError, match="mapper_callbacks needs"):
        DisburseSettings.model_validate({**base, "mapper_callbacks": True})
