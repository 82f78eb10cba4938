"""What the conformance kit tries the connector against: another system over HTTP, and a ledger that fails as its database can."""

from __future__ import annotations

from canonical_model.message import Message
from connectors.g2p_connect.disburse_peer import DisbursePeer
from connectors.payments import sandbox
from connectors.payments.sandbox import PayingSandbox


def example_message() -> Message:
    """Return the order to pay a made-up person."""
    return sandbox.example_message({"provider": "m-pay"})


class G2pConnectSandbox(PayingSandbox[DisbursePeer]):
    """A system on a loopback port; what the kit switches is how the ledger takes payments."""

    def __init__(self) -> None:
        super().__init__(DisbursePeer())
