"""G2P Connect, spoken as a client: payments through another system."""

from connectors.g2p_connect.disburse_connector import G2pConnectConnector
from connectors.g2p_connect.disburse_settings import DisburseSettings

__all__ = ["DisburseSettings", "G2pConnectConnector"]
