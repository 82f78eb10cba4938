"""The sealed audit trail: checkpoints over it, the keys that sign them, old and new values under the vault."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Give every audit event the number of its transaction, and make the tables of checkpoints and sealed values."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy the proof that the trail is whole; restore a backup instead."""
    raise RuntimeError("0015 cannot be undone: it would destroy checkpoints. Restore a backup instead.")
