"""Payments that partners order in a standard's own words."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of disbursements."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: without these tables a repeated order would be paid again; restore a backup instead."""
    raise RuntimeError(
        "0032 cannot be undone: without it an order that is repeated would be paid again. Restore a backup instead."
    )
