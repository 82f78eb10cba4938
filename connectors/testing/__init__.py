"""The conformance kit: every property a connector must hold, and the sandboxes it is tried against."""

from connectors.testing.kit import Kit, PropertyFailed, kit_for, planted_message
from connectors.testing.properties import PROPERTIES, TIERS, Property
from connectors.testing.sandbox import Mode, Sandbox, Seen
from connectors.testing.suite import Outcome, check, connector_suite, score

__all__ = [
    "PROPERTIES",
    "TIERS",
    "Kit",
    "Mode",
    "Outcome",
    "Property",
    "PropertyFailed",
    "Sandbox",
    "Seen",
    "check",
    "connector_suite",
    "kit_for",
    "planted_message",
    "score",
]
