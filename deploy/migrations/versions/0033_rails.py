"""Several rails for one payment: each attempt a transfer, of which one counts."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let a payment have an attempt on each of several rails."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would forget which attempt of a payment counts; restore a backup instead."""
    raise RuntimeError(
        "0033 cannot be undone: it would forget which attempt of a payment counts. Restore a backup instead."
    )
