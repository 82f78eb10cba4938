"""The hub's own REST API."""
