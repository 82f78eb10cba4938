"""The Payment Hub EE connector: payment files and single payments, reconciled row by row through the operations API."""

from connectors.payment_hub_ee.connector import PaymentHubConnector
from connectors.payment_hub_ee.settings import PaymentHubSettings

__all__ = ["PaymentHubConnector", "PaymentHubSettings"]
