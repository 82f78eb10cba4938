"""The errors a connector may raise; the runner decides on the class alone."""

from canonical_model.errors import ConfigError, Defect, HubError, Refused, Unavailable, Unknown

__all__ = ["ConfigError", "Defect", "HubError", "Refused", "Unavailable", "Unknown"]
