"""The settings of one acme target."""

from __future__ import annotations

from pydantic import Field, SecretStr

from connectors.contract import Settings


class AcmeSettings(Settings):
    """Where acme is and how the hub proves who it is."""

    base_url: str = Field(pattern=r"^https?://[^\s?#@]+$", max_length=500)
    """The address its API begins at, without a closing slash."""
    api_key: SecretStr
    """The key acme issued for the hub."""
