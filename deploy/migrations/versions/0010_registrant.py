"""The registry core: areas, registrants (individuals and groups), identifiers, memberships, events and jobs."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0010"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of the registry core and move the people of the thin store into them."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy registrants; restore a backup instead."""
    raise RuntimeError("0010 cannot be undone: it would destroy registrants. Restore a backup instead.")
