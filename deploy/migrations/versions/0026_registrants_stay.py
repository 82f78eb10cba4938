"""Registrants are never deleted: tables that refer to them by id alone always find them."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Refuse every delete of registrants, once a statement."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: enrollments made meanwhile would point to nobody; restore a backup instead."""
    raise RuntimeError("0026 cannot be undone: rows rely on registrants that stay. Restore a backup instead.")
