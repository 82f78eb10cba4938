"""The account mapper: ids, financial addresses, and how both are written."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the account mapper."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: without these tables nobody would know where people are paid; restore a backup instead."""
    raise RuntimeError(
        "0031 cannot be undone: it would destroy the links of ids to accounts. Restore a backup instead."
    )
