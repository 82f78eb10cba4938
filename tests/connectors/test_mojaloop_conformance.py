from connectors.mojaloop import MojaloopConnector
from connectors.mojaloop.sandbox import MojaloopSandbox, example_message
from connectors.testing import connector_suite

TestConformance = connector_suite(MojaloopConnector, sandbox=MojaloopSandbox, message=example_message)
