from connectors.payment_hub_ee import PaymentHubConnector
from connectors.payment_hub_ee.sandbox import PaymentHubSandbox, example_message
from connectors.testing import connector_suite

TestConformance = connector_suite(PaymentHubConnector, sandbox=PaymentHubSandbox, message=example_message)
