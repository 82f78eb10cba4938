"""The webhook connector: CloudEvents by signed POST to any endpoint, and what receivers need to verify them."""

from connectors.webhook.connector import WebhookConnector
from connectors.webhook.settings import WebhookSettings
from connectors.webhook.signing import Verified, verify

__all__ = ["Verified", "WebhookConnector", "WebhookSettings", "verify"]
