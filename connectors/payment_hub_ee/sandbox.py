"""What the conformance kit tries the connector against: a deployment over HTTP, and a ledger that fails as its database can."""

from __future__ import annotations

from connectors.payment_hub_ee.sandbox_http import DeploymentSandbox
from connectors.payments.sandbox import PayingSandbox, example_message

__all__ = ["PaymentHubSandbox", "example_message"]


class PaymentHubSandbox(PayingSandbox[DeploymentSandbox]):
    """A deployment on a loopback port; what the kit switches is how the ledger takes payments."""

    def __init__(self) -> None:
        super().__init__(DeploymentSandbox(login=True))
