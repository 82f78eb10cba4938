"""The message path: messages, deliveries, attempts, outbox, audit and the thin people store."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table of the message path."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().exec_driver_sql(script)


def downgrade() -> None:
    """Refuse: going back would destroy messages; restore a backup instead."""
    raise RuntimeError("0001 cannot be undone: it would destroy accepted messages. Restore a backup instead.")
