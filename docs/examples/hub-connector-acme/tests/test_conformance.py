from hub_connector_acme import AcmeConnector
from hub_connector_acme.sandbox import AcmeSandbox

from connectors.testing import connector_suite

TestConformance = connector_suite(AcmeConnector, sandbox=AcmeSandbox)
