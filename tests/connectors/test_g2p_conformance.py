from connectors.g2p_connect import G2pConnectConnector
from connectors.g2p_connect.sandbox import G2pConnectSandbox, example_message
from connectors.testing import connector_suite

TestConformance = connector_suite(G2pConnectConnector, sandbox=G2pConnectSandbox, message=example_message)
