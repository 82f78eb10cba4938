"""Files in a folder, for banks and offices that read files."""

from connectors.file.connector import FileConnector

__all__ = ["FileConnector"]
