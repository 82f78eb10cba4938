from connectors.testing import connector_suite
from connectors.webhook import WebhookConnector
from connectors.webhook.sandbox import WebhookSandbox

TestConformance = connector_suite(WebhookConnector, sandbox=WebhookSandbox)
