"""How the hub talks to outside systems: the contract, its runtime and the built-in connectors."""

from connectors.contract import (
    Callback,
    Connector,
    Context,
    Exchange,
    Health,
    Manifest,
    Receipt,
    Repeat,
    Settings,
)
from connectors.errors import ConfigError, Defect, HubError, Refused, Unavailable, Unknown

__all__ = [
    "Callback", "ConfigError", "Connector", "Context", "Defect", "Exchange", "Health", "HubError", "Manifest",
    "Receipt", "Refused", "Repeat", "Settings", "Unavailable", "Unknown",
]  # fmt: skip
