from connectors.bank_file import BankFileConnector
from connectors.bank_file.sandbox import BankFileSandbox, example_message
from connectors.testing import connector_suite

TestConformance = connector_suite(BankFileConnector, sandbox=BankFileSandbox, message=example_message)
