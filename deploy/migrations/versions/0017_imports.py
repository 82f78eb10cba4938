"""Imports: saved column mappings and the rows that were not taken."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of imports."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy rows that wait to be corrected; restore a backup instead."""
    raise RuntimeError(
        "0017 cannot be undone: it would destroy rows that wait to be corrected. Restore a backup instead."
    )
