"""The hub is killed with the bytes of an order on their way to a rail; the order comes again and again, and money moves once."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from services.rail_path import G2P_CONNECT_QUICK, MOJALOOP_QUICK, PAYMENT_HUB_QUICK, RailPath

from canonical_model.message import Message
from connectors.g2p_connect.disburse_peer import DisbursePeer
from connectors.mojaloop import adapter
from connectors.mojaloop.sandbox_adapter import AdapterSandbox
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.mojaloop.sandbox_scheme import Fault, Paid, Scheme
from connectors.mojaloop.sandbox_wire import Asked
from connectors.payment_hub_ee.sandbox_http import DeploymentSandbox

pytestmark = [pytest.mark.crash, pytest.mark.slow]

ORDER = {
    "payment_id": "P-1",
    "payee": {"identifiers": [{"id_type": "NID", "value": "ZM-1"}]},
    "payee_account": {"kind": "mobile_money", "account_number": "+254700000001"},
    "amount": {"minor_units": 101_500, "currency": "KES"},
}


def of_batch(number: int) -> dict[str, Any]:
    account = {"kind": "mobile_money", "account_number": f"+2547{number:08d}"}
    return ORDER | {"payment_id": f"P-{number}", "batch_id": "B-1", "payee_account": account}


class Deadly(Scheme):
    """A scheme whose first transfer request is the last thing the payer does; the money moves, or the request gets lost too."""

    victim: asyncio.subprocess.Process | None = None
    loses = False

    def transfer(self, asked: Asked, body: bytes) -> Paid | None:
        victim, self.victim = self.victim, None
        if victim is not None:
            victim.kill()
            if self.loses:
                return None
        return super().transfer(asked, body)


async def worker(
    database_url: str, folder: Path, connector: str, settings: dict[str, Any]
) -> tuple[asyncio.subprocess.Process, str]:
    """Start a hub's process that drives payments; return it with the address of its callbacks."""
    (folder / "settings.json").write_text(json.dumps(settings))
    root = Path(__file__).parents[2]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.rail_path", database_url, str(folder), connector, str(folder / "settings.json"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(root / "tests"), str(root)))},
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    return process, (await asyncio.wait_for(process.stdout.readline(), 60)).decode().strip()


@pytest.mark.parametrize("bulk", [False, True], ids=["single", "bulk"])
@pytest.mark.parametrize("loses", [False, True], ids=["money moved", "request lost"])
async def test_killed_just_after_the_post_of_a_transfer_the_peer_has_one_and_gets_identical_bytes(
    database_url: str, tmp_path: Path, bulk: bool, loses: bool
) -> None:
    sandbox = SchemeSandbox(algorithm="ES256")
    made = sandbox.scheme
    sandbox.scheme = sandbox._switch._scheme = scheme = Deadly(made.wire, made.fsps)
    scheme.loses = loses
    await sandbox.start()
    quick = {**MOJALOOP_QUICK, "bulk": bulk}
    try:
        async with RailPath(
            database_url, tmp_path, "mojaloop", sandbox.settings, quick, sandbox.calls_back_to
        ) as path:
            await path.driver.stop()
            process, address = await worker(database_url, tmp_path, "mojaloop", sandbox.settings() | quick)
            sandbox.calls_back_to(address)
            scheme.victim = process
            order = Message(source="hub", type="org.openspp.payment.instructed.v1", data=ORDER)
            await path.instruct(order)
            assert await asyncio.wait_for(process.wait(), 30) == -signal.SIGKILL
            assert (await path.one())["state"] == "sent", "the order was stored before its first byte left"
            sandbox.calls_back_to(path.address)
            for _ in range(3):
                await path.instruct(order)
            path.driver.start()
            await path.reach(30, **({"review": 1} if loses and bulk else {"paid": 1}))
        assert len(scheme.committed()) == (0 if loses and bulk else 1)
        sent = [seen.body for seen in sandbox.received if b"ilpPacket" in seen.body]
        assert len(set(sent)) == 1, "a repeat is the same to the byte"
        assert not loses or bulk or len(sent) > 1
    finally:
        await sandbox.stop()


@pytest.mark.parametrize("step", ["created", "quotes accepted"])
async def test_killed_just_after_a_call_of_an_adapters_bulk_the_peer_has_one_bulk_and_pays_it_once(
    database_url: str, tmp_path: Path, step: str
) -> None:
    sandbox = AdapterSandbox()
    made = sandbox.scheme
    sandbox.scheme = sandbox.bulk.scheme = scheme = Deadly(made.wire, made.fsps)
    if step == "created":
        sandbox.bulk.faults, sandbox.bulk.late_seconds = {adapter.PARTY: {Fault.LATE}}, 3.0
    await sandbox.start()
    quick = {"bulk": True, "bulk_seconds": 20.0 if step == "created" else 3.0, "ask_seconds": 0.5, "asks": 3}
    try:
        async with RailPath(
            database_url, tmp_path, "mojaloop", sandbox.settings, quick, sandbox.calls_back_to
        ) as path:
            await path.driver.stop()
            process, address = await worker(database_url, tmp_path, "mojaloop", sandbox.settings() | quick)
            sandbox.calls_back_to(address)
            if step == "quotes accepted":
                scheme.victim = process
            order = path.order([of_batch(n) for n in range(8)])
            await path.instruct(order)
            if step == "created":
                async with asyncio.timeout(30):
                    while not sandbox.bulk.posts:
                        await asyncio.sleep(0.005)
                process.kill()
            async with asyncio.timeout(30):
                assert await process.wait() == -signal.SIGKILL
            states = await path.states()
            assert states == {"working" if step == "created" else "sent": 8}, (
                "stored before the first byte left"
            )
            sandbox.calls_back_to(path.address)
            for _ in range(3):
                await path.instruct(order)
            path.driver.start()
            await path.reach(30, paid=8)
        assert len(sandbox.bulk.posts) == 1
        assert len([raw for raw in sandbox.bulk.puts if b"acceptQuote" in raw]) == 1
        assert len(scheme.committed()) == 8
    finally:
        await sandbox.stop()


async def test_killed_with_a_file_on_its_way_it_is_found_again_and_paid_once(
    database_url: str, tmp_path: Path
) -> None:
    deployment = DeploymentSandbox()
    await deployment.start()

    def call_back(address: str) -> None:
        deployment.callbacks = address

    try:
        async with RailPath(
            database_url, tmp_path, "payment_hub_ee", deployment.settings, PAYMENT_HUB_QUICK, call_back
        ) as path:
            await path.driver.stop()
            deployment.held = asyncio.Event()
            settings = deployment.settings() | PAYMENT_HUB_QUICK
            process, _ = await worker(database_url, tmp_path, "payment_hub_ee", settings)
            order = path.order([of_batch(n) for n in range(8)])
            await path.instruct(order)
            async with asyncio.timeout(30):
                while not any(way == "/batchtransactions" for _, way, _ in deployment.requests):
                    await asyncio.sleep(0.01)
            process.kill()
            await process.wait()
            deployment.held.set()
            for _ in range(3):
                await path.instruct(order)
            path.driver.start()
            await path.reach(30, paid=8)
        assert len(deployment.books.moved) == 8
        assert len({request for request, *_ in deployment.books.moved}) == 8
    finally:
        await deployment.stop()


class DeadlyPeer(DisbursePeer):
    """A system for which the first order is the last thing the payer does; it takes it, or it is lost on the way."""

    victim: asyncio.subprocess.Process | None = None
    loses = False

    async def _disburse(self, request: web.Request) -> web.StreamResponse:
        await request.read()
        victim, self.victim = self.victim, None
        if victim is not None:
            victim.kill()
            await victim.wait()
            if self.loses:
                self.bodies.append(await request.read())
                return web.Response(status=500)
        return await super()._disburse(request)


@pytest.mark.parametrize("loses", [False, True], ids=["order taken", "order lost"])
async def test_killed_with_an_order_of_g2p_connect_on_its_way_it_is_asked_about_and_paid_once(
    database_url: str, tmp_path: Path, loses: bool
) -> None:
    peer = DeadlyPeer()
    peer.loses = loses
    await peer.start()
    try:
        async with RailPath(
            database_url, tmp_path, "g2p_connect", peer.settings, G2P_CONNECT_QUICK, lambda _: None
        ) as path:
            await path.driver.stop()
            settings = peer.settings() | G2P_CONNECT_QUICK
            process, _ = await worker(database_url, tmp_path, "g2p_connect", settings)
            peer.victim = process
            rows = [of_batch(number) for number in range(8)]
            for row in rows:
                row["payee_account"] |= {"provider": "m-pay"}
            order = path.order(rows)
            await path.instruct(order)
            async with asyncio.timeout(45):
                assert await process.wait() == -signal.SIGKILL
            assert await path.states() == {"sent": 8}, "stored before the first byte left"
            for _ in range(3):
                await path.instruct(order)
            path.driver.start()
            await path.reach(paid=8)
        assert sorted(reference for _, reference in peer.moved) == [f"P-{number}" for number in range(8)]
        assert len(set(peer.bodies)) == 1, "a repeat is the same to the byte"
        assert len(peer.bodies) == (2 if loses else 1)
    finally:
        await peer.stop()
