"""The message path: messages, deliveries, attempts, outbox, audit and the thin people store."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table of the message path."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy messages; restore a backup instead."""
    raise RuntimeError("0001 cannot be undone: it would destroy accepted messages. Restore a backup instead.")
