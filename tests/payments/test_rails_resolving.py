"""The next rail pays whom the first one's mapper does not know; while the mapper is away nobody pays, and then one rail does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar, cast

import orjson
import pytest
from services.apart import free_port
from services.g2p_paying import instruction, resolving, single, target_of
from services.payments import Peer, PeerConnector
from services.rails import RailsPath

from connectors.g2p_connect import G2pConnectConnector
from connectors.g2p_connect.disburse_peer import DisbursePeer
from connectors.g2p_connect.mapper_peer import MapperPeer
from connectors.targets import TargetConfig
from routing.ledger_desk import Desk

MAPPED_FIRST = """
route: pay
when: {type: [org.openspp.payment.instructed.v1, org.openspp.payment.batch_instructed.v1]}
rails:
  - to: wallets
  - to: banks
"""


class MappedPath(RailsPath):
    """A first rail that resolves payees at a mapper before it pays them, and a second one."""

    kinds: ClassVar[dict[str, type[Any]]] = {"g2p_connect": G2pConnectConnector, "peer": PeerConnector}

    def __init__(
        self, database_url: str, folder: Path, wallets: DisbursePeer, mapper: MapperPeer, banks: Peer
    ) -> None:
        super().__init__(database_url, folder, cast("Peer", wallets), banks, MAPPED_FIRST)
        self.wallets, self.mapper, self.port = wallets, mapper, free_port()

    def configs(self) -> list[TargetConfig]:
        folder = self.settings.data_dir
        more = {"request_timeout": 1.0, **resolving(self.mapper, folder)}
        first = target_of("wallets", "g2p_connect", self.wallets, folder, self.port, **more)
        return [first, self.of_peer(self.banks)]

    async def asked_in_vain(self, times: int) -> None:
        """Wait until the mapper was asked so often about a payment without an answer to be had."""
        trail: list[str] = []
        async with asyncio.timeout(45):
            while sum("|pause|" in step for step in trail) < times:
                trail = await self.pool.fetchval("SELECT trail FROM transfer WHERE target = 'wallets'") or []
                await asyncio.sleep(0.02)


@pytest.fixture
async def wallets() -> AsyncIterator[DisbursePeer]:
    found = DisbursePeer()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def mapper(wallets: DisbursePeer) -> AsyncIterator[MapperPeer]:
    found = MapperPeer(hub_pem=wallets.hub_pem)
    await found.start()
    found.links = {f"vid:{number}@nid": f"account:{number}@bank" for number in range(1, 8)}
    yield found
    if found.held is not None:
        found.held.set()
    await found.stop()


@pytest.fixture
async def banks() -> AsyncIterator[Peer]:
    async with Peer(target="banks") as found:
        yield found


@pytest.fixture
async def path(
    database_url: str, tmp_path: Path, wallets: DisbursePeer, mapper: MapperPeer, banks: Peer
) -> AsyncIterator[MappedPath]:
    async with MappedPath(database_url, tmp_path, wallets, mapper, banks) as found:
        await found.start()
        yield found  # type: ignore[misc]


def alias(number: int) -> dict[str, Any]:
    """Return the account of somebody who is known by an id that the mapper of the first rail resolves."""
    return {"kind": "alias", "provider": "nid", "id_type": "VID", "account_number": str(number)}


def ordered(wallets: DisbursePeer) -> list[str]:
    """Return the payments of which the first rail's system ever saw an order."""
    return [
        item["reference_id"]
        for raw in wallets.bodies
        for item in orjson.loads(raw)["message"]["disbursements"]
    ]


async def test_whom_the_first_rails_mapper_does_not_know_the_next_rail_pays_once(
    path: MappedPath, wallets: DisbursePeer, mapper: MapperPeer, banks: Peer
) -> None:
    del mapper.links["vid:1@nid"]
    mapper.inactive.add("vid:2@nid")
    mapper.silent.add("vid:3@nid")
    await path.instruct(path.order([instruction(n, payee_account=alias(n)) for n in range(1, 6)]))
    for number, reason in ((1, "payee-not-linked"), (2, "payee-inactive"), (3, "payee-unclear")):
        await path.until(f"P-{number}", ("wallets", "failed", reason), ("banks", "paid", None))
    batch = await path.whole()
    assert (batch["ordered"], batch["paid"], batch["failed"]) == (5, 5, 0)
    assert (batch["ordered_units"], batch["elsewhere"]) == (batch["paid_units"], 0)
    assert sorted(ordered(wallets)) == ["P-4", "P-5"], "of the others nothing was sent to the first rail"
    assert sorted(reference for _, reference in wallets.moved) == ["P-4", "P-5"]
    assert sorted(body["payee"] for body in banks.moved.values()) == ["1", "2", "3"]
    assert [len(posts) for posts in banks.posts.values()] == [1, 1, 1]
    told = await path.told(*(f"P-{number}" for number in range(1, 6)))
    assert {id_: [(one["status"], one["rail"]) for one in results] for id_, results in told.items()} == {
        f"P-{number}": [("paid", "banks" if number < 4 else "wallets")] for number in range(1, 6)
    }


async def _away(mapper: MapperPeer, fault: str) -> None:
    """Let the mapper give no answer: nobody listens, it takes messages in silence, its answers get lost or nobody signed them."""
    if fault == "unreachable":
        await mapper.stop()
    elif fault == "silent":
        mapper.held = asyncio.Event()
    elif fault == "unsigned":
        mapper.signed = False
    else:
        setattr(mapper, fault, 10**6)


async def _back(mapper: MapperPeer, fault: str) -> None:
    if fault == "unreachable":
        await mapper.start()
    elif mapper.held is not None:
        mapper.held.set()
    elif fault == "unsigned":
        mapper.signed = True
    else:
        setattr(mapper, fault, 0)


@pytest.mark.parametrize("fault", ["unreachable", "silent", "busy", "lost", "broken", "unsigned"])
@pytest.mark.parametrize("known", [True, False], ids=["known after all", "not known"])
async def test_while_the_mapper_gives_no_answer_no_rail_pays_and_afterwards_one_does(
    path: MappedPath, wallets: DisbursePeer, mapper: MapperPeer, banks: Peer, fault: str, known: bool
) -> None:
    await _away(mapper, fault)
    await path.instruct(single(payee_account=alias(1)))
    await path.asked_in_vain(2)
    ((target, state, _),) = await path.attempts()
    assert (target, state in {"queued", "working"}) == ("wallets", True)
    assert not wallets.bodies
    assert not banks.posts
    if not known:
        del mapper.links["vid:1@nid"]
    await _back(mapper, fault)
    if known:
        await path.until("P-1", ("wallets", "paid", None))
    else:
        await path.until("P-1", ("wallets", "failed", "payee-not-linked"), ("banks", "paid", None))
    told = (await path.told("P-1"))["P-1"]
    assert [(one["status"], one["rail"]) for one in told] == [("paid", "wallets" if known else "banks")]
    assert (len(wallets.moved), len(banks.moved)) == ((1, 0) if known else (0, 1))
    assert ordered(wallets) == (["P-1"] if known else [])


async def test_a_mapper_that_refuses_the_hub_holds_the_payment_where_it_is(
    path: MappedPath, wallets: DisbursePeer, mapper: MapperPeer, banks: Peer
) -> None:
    mapper._hub_keys, keys = {}, mapper._hub_keys
    await path.instruct(path.order([instruction(1, payee_account=alias(1))]))
    async with asyncio.timeout(45):
        query = "SELECT state FROM transfer_batch WHERE target = 'wallets'"
        while await path.pool.fetchval(query) != "stopped":
            await asyncio.sleep(0.02)
    await path.until("P-1", ("wallets", "queued", "target-refused"))
    mapper._hub_keys = keys
    await Desk(path.pool, path.books).resume("wallets", actor="auditor")
    await path.until("P-1", ("wallets", "paid", None))
    assert (len(wallets.moved), len(banks.posts)) == (1, 0)
