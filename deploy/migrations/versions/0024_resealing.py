"""History sealed anew: a change may get another data key, and nothing else of it changes."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0024"
down_revision = "0022"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Let values of the history be sealed anew."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: a database whose keys are being replaced does not go back; restore a backup instead."""
    raise RuntimeError("0024 cannot be undone: keys may be being replaced. Restore a backup instead.")
