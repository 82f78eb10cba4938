"""Vault: registrants whose identity data stays at an ID system, by reference."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of references."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy references; restore a backup instead."""
    raise RuntimeError("0012 cannot be undone: it would destroy references. Restore a backup instead.")
