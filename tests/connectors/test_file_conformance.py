from connectors.file import FileConnector
from connectors.file.sandbox import FileSandbox
from connectors.testing import connector_suite

TestConformance = connector_suite(FileConnector, sandbox=FileSandbox)
