"""Alembic migrations; `hub db upgrade` runs them."""
