"""The people store."""
