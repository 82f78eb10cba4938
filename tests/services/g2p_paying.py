"""The hub around a target that speaks G2P Connect, and the orders its tests give it."""

from __future__ import annotations

from typing import Any, ClassVar

from services import payments
from services.apart import free_port
from services.payments import PayPath

from canonical_model.message import Message
from connectors.g2p_connect import G2pConnectConnector
from connectors.targets import TargetConfig


class G2pPath(PayPath):
    """The ledger, the driver and the callback endpoint around a target that speaks G2P Connect."""

    connector: ClassVar[type[Any]] = G2pConnectConnector
    more: ClassVar[dict[str, Any]] = {}

    def config(self) -> TargetConfig:
        self.port = free_port()
        settings = {
            **self.peer.settings(),
            "callback_url": f"http://127.0.0.1:{self.port}/callbacks/peer",
            "first_ask": 0.3,
            "longest_ask": 0.3,
            "request_timeout": 5.0,
            **self.more,
        }
        for name in ("signing_key", "client_secret"):
            kept = self.settings.data_dir / name
            kept.write_text(settings[name])
            settings[name] = {"file": str(kept)}
        return TargetConfig("peer", "peer", settings)


def instruction(number: int, **change: Any) -> dict[str, Any]:
    data = payments.instruction(number)
    data["payee_account"]["provider"] = "m-pay"
    return data | change


def single(number: int = 1, **change: Any) -> Message:
    data = {name: value for name, value in instruction(number, **change).items() if name != "batch_id"}
    return Message(source="hub", type="org.openspp.payment.instructed.v1", data=data)
