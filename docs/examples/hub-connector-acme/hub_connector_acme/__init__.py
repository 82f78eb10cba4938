"""Connects OpenSPP Hub to acme."""

from hub_connector_acme.connector import AcmeConnector

__all__ = ["AcmeConnector"]
