"""What the conformance kit tries the connector against: the sandbox scheme over HTTP, and a ledger that fails as its database can."""

from __future__ import annotations

from canonical_model.message import Message
from connectors.mojaloop.sandbox_http import SchemeSandbox
from connectors.payments import sandbox
from connectors.payments.sandbox import PayingSandbox


def example_message() -> Message:
    """Return the order to pay a made-up person."""
    return sandbox.example_message(currency="USD")


class MojaloopSandbox(PayingSandbox[SchemeSandbox]):
    """A scheme on a loopback port; what the kit switches is how the ledger takes payments."""

    def __init__(self) -> None:
        super().__init__(SchemeSandbox())
