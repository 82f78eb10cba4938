"""Programs: enrollment, cycles, entitlements, approvals, funds, payments and what became of them."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of programs, from enrollment to reconciliation."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy history; restore a backup instead."""
    raise RuntimeError(
        "0014 cannot be undone: it would destroy the accounts of programs. Restore a backup instead."
    )
