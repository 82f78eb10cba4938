"""The ledger of transfers: payments on their way through a rail."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0030"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the ledger."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy what is known of payments under way; restore a backup instead."""
    raise RuntimeError(
        "0030 cannot be undone: it would destroy what is known of payments under way. Restore a backup instead."
    )
