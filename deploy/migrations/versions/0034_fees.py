"""Fees are taken from the fund of a program, as far as it holds enough."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let funds keep what rails charge."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would forget fees that were taken; restore a backup instead."""
    raise RuntimeError(
        "0034 cannot be undone: it would forget fees that were taken. Restore a backup instead."
    )
