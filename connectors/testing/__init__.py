"""The conformance kit: every property a connector must hold, and the sandboxes it is tried against."""
