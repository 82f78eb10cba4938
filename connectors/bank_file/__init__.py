"""The connector of last resort: payments as files for a bank or a cash-out desk, and what became of them from its files."""

from connectors.bank_file.connector import BankFileConnector
from connectors.bank_file.settings import BankFileSettings

__all__ = ["BankFileConnector", "BankFileSettings"]
