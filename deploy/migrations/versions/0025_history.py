"""One history: every change of a registrant is held by the audit trail, and values are kept once."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let the trail hold the history, and drop the store of values beside it."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would cut the history off the trail; restore a backup instead."""
    raise RuntimeError("0025 cannot be undone: the trail holds the history. Restore a backup instead.")
