"""People: history of every change, areas and vocabularies, relationships, documents."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

from registry.people.standards import load

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables of history, vocabularies, relationships and documents, and fill in the code lists of ISO."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    driver = op.get_bind().connection.driver_connection
    await_only(driver.execute(script))
    await_only(load(driver))


def downgrade() -> None:
    """Refuse: going back would destroy history; restore a backup instead."""
    raise RuntimeError("0011 cannot be undone: it would destroy history. Restore a backup instead.")
