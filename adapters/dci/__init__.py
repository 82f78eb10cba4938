"""The DCI registry interface, spoken as a server: civil registries notify vital events."""

from adapters.dci.notify import operations
from adapters.dci.profile import DciProfile, SignaturePolicy

__all__ = ["DciProfile", "SignaturePolicy", "operations"]
