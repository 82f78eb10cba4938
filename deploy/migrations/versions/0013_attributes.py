"""Attributes a country declares: their schemas by version, and the functions that read them out of a registrant."""

from __future__ import annotations

from pathlib import Path

from alembic import op
from sqlalchemy.util import await_only

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of attribute schemas and the reading functions."""
    script = Path(__file__).with_suffix(".sql").read_text(encoding="utf-8")
    # A script of many statements cannot be prepared, so it goes to asyncpg itself, inside the open transaction.
    await_only(op.get_bind().connection.driver_connection.execute(script))


def downgrade() -> None:
    """Refuse: going back would destroy what the attributes of registrants mean; restore a backup instead."""
    raise RuntimeError("0013 cannot be undone: it would destroy attribute schemas. Restore a backup instead.")
