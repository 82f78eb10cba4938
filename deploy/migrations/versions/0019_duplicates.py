"""Duplicates: pairs that may be one, and what was decided of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of pairs."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy decisions about duplicates; restore a backup instead."""
    raise RuntimeError(
        "0019 cannot be undone: it would destroy decisions about duplicates. Restore a backup instead."
    )
