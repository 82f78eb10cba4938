from connectors.email import EmailConnector
from connectors.email.sandbox import EmailSandbox
from connectors.testing import connector_suite

TestConformance = connector_suite(EmailConnector, sandbox=EmailSandbox)
