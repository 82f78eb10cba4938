"""The settings of a registry target: there are none, the store comes with the hub."""

from __future__ import annotations

from connectors.contract import Settings


class RegistrySettings(Settings):
    """Nothing to set; database and keys are those of the hub."""
