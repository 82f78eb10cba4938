"""The registry connector: delivers facts about people to the hub's own store."""

from connectors.registry.connector import RegistryConnector
from connectors.registry.settings import RegistrySettings

__all__ = ["RegistryConnector", "RegistrySettings"]
