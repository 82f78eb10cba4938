"""The hub around a target that speaks G2P Connect, and the orders its tests give it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from services import payments
from services.apart import free_port
from services.payments import PayPath

from canonical_model.message import Message
from connectors.g2p_connect import G2pConnectConnector
from connectors.g2p_connect.mapper_peer import MapperPeer
from connectors.targets import TargetConfig


def target_of(name: str, kind: str, peer: Any, folder: Path, port: int, **more: Any) -> TargetConfig:
    """Return a target that pays through a system, asks soon, and takes callbacks at a port; its secrets lie in the folder."""
    settings = {
        **peer.settings(),
        "callback_url": f"http://127.0.0.1:{port}/callbacks/{name}",
        "first_ask": 0.3,
        "longest_ask": 0.3,
        "request_timeout": 5.0,
        **more,
    }
    for secret in ("signing_key", "client_secret"):
        kept = folder / secret
        kept.write_text(settings[secret])
        settings[secret] = {"file": str(kept)}
    return TargetConfig(name, kind, settings)


def resolving(mapper: MapperPeer, folder: Path, **change: Any) -> dict[str, Any]:
    """Return the settings by which a target resolves payees at a mapper before it pays them."""
    token, theirs = folder / "mapper-token", mapper.settings()
    token.write_text(theirs["bearer_token"])
    return {
        "payee_ids": {"UIN": "vid@nid"},
        "mapper": {
            "url": mapper.url,
            "peer_jwks": theirs["peer_jwks"],
            "bearer_token": {"file": str(token)},
            **change,
        },
    }


class G2pPath(PayPath):
    """The ledger, the driver and the callback endpoint around a target that speaks G2P Connect."""

    connector: ClassVar[type[Any]] = G2pConnectConnector
    more: ClassVar[dict[str, Any]] = {}

    def config(self) -> TargetConfig:
        self.port = free_port()
        return target_of("peer", "peer", self.peer, self.settings.data_dir, self.port, **self.more)


def instruction(number: int, **change: Any) -> dict[str, Any]:
    data = payments.instruction(number)
    data["payee_account"]["provider"] = "m-pay"
    return data | change


def single(number: int = 1, **change: Any) -> Message:
    data = {name: value for name, value in instruction(number, **change).items() if name != "batch_id"}
    return Message(source="hub", type="org.openspp.payment.instructed.v1", data=data)


def person(number: int, **change: Any) -> dict[str, Any]:
    """Return an order for somebody of whom only an identifier is known."""
    data = instruction(number, **change)
    del data["payee_account"]
    data["payee"]["identifiers"] = [{"id_type": "UIN", "value": str(number)}]
    return data
