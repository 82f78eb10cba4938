"""The Mojaloop connector: payments through a scheme by FSPIOP, or through an institution's SDK scheme adapter."""

from connectors.mojaloop.connector import MojaloopConnector
from connectors.mojaloop.settings import MojaloopSettings

__all__ = ["MojaloopConnector", "MojaloopSettings"]
