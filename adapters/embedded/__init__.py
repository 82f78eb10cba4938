"""The embedded default: a working configuration and sandboxes of the outside systems, for a first run on loopback."""

from adapters.embedded.config import CIVIL_REGISTRY, OPERATOR, PAYMENT_RAIL, write_config
from adapters.embedded.outside import OutsideWorld

__all__ = ["CIVIL_REGISTRY", "OPERATOR", "PAYMENT_RAIL", "OutsideWorld", "write_config"]
