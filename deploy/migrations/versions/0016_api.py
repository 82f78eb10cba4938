"""Jobs that are tried again, idempotency keys, consent records: what the API of resources stands on."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add what a job is tried again by, and make the tables of the API."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy consent records; restore a backup instead."""
    raise RuntimeError("0016 cannot be undone: it would destroy consent records. Restore a backup instead.")
