"""The outside world of a hub that has none yet: another ministry's endpoint, an office's mailbox, mobile money."""

from __future__ import annotations

from connectors.email.sandbox import EmailSandbox
from connectors.webhook.sandbox import WebhookSandbox


class OutsideWorld:
    """Sandboxes that refuse what the real systems refuse, on free loopback ports."""

    def __init__(self) -> None:
        self.ministry = WebhookSandbox()
        self.mailbox = EmailSandbox()
        self.mobile = WebhookSandbox()

    async def start(self) -> None:
        """Start every sandbox."""
        await self.ministry.start()
        await self.mailbox.start()
        await self.mobile.start()

    async def stop(self) -> None:
        """Stop every sandbox; safe to call twice."""
        await self.ministry.stop()
        await self.mailbox.stop()
        await self.mobile.stop()
