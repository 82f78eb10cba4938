"""One hub pays through another: what the client sends the server takes, and what the server tells the client believes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

from services import payments
from services.apart import free_port
from services.g2p import PAYER, desk
from services.payments import PayPath

from canonical_model.message import Message
from connectors.g2p_connect import G2pConnectConnector
from connectors.targets import TargetConfig


class OtherHub(PayPath):
    """The ledger of a hub whose rail is another hub."""

    connector: ClassVar[type[Any]] = G2pConnectConnector

    def config(self) -> TargetConfig:
        return TargetConfig("peer", "peer", self.peer.settings)  # type: ignore[arg-type]


async def test_a_payment_ordered_from_another_hub_is_paid_once_and_told_by_its_signed_callback(
    serve_with: Any, databases: Any, tmp_path: Path
) -> None:
    port = free_port()
    mine, theirs = databases.take(), databases.take()
    (tmp_path / "token").touch()
    try:
        callbacks = f"http://127.0.0.1:{port}/callbacks/peer"
        async with desk(serve_with, theirs, tmp_path, callbacks) as other:
            (tmp_path / "token").write_text(other.served.token("ministry", "payments:order"))
            settings = {
                "url": str(other.served.client.make_url("/g2p/v1.0.0")),
                "sender_id": "first.hub.example",
                "payer_fa": PAYER,
                "callback_url": callbacks,
                "peer_jwks": other.jwks,
                "bearer_token": {"file": str(tmp_path / "token")},
                "allow_private_networks": ["127.0.0.0/8"],
                "first_ask": 60.0,
            }
            OtherHub.port = port
            peer = SimpleNamespace(settings=settings)
            async with OtherHub(mine, tmp_path, peer) as path:  # type: ignore[arg-type]
                data = payments.instruction(1, batch_id=None)
                data["payee_account"]["provider"] = "m-pay"
                order = Message(source="hub", type="org.openspp.payment.instructed.v1", data=data)
                for _ in range(2):
                    await path.instruct(order)
                async with asyncio.timeout(45):
                    while not await other.stored():
                        await asyncio.sleep(0.02)
                await other.settle("P-1", "paid")
                await other.served.pool.execute("UPDATE disbursement_request SET due_at = now()")
                await other.teller.round()
                await path.reach(paid=1)
                assert await other.stored() == 1
                told = await other.served.pool.fetchval("SELECT told_at FROM disbursement_request")
                assert told is not None
    finally:
        databases.give_back(mine)
        databases.give_back(theirs)
