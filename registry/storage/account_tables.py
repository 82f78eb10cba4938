"""The tables of the account mapper as SQLAlchemy Core metadata, mirroring migration 0031."""

from __future__ import annotations

from registry.storage.program_tables import _table

__all__ = ["account_link", "account_strategy"]

account_link = _table(
    "account_link",
    """
    id:uuid* id_hash:bytes fa_hash:bytes strategy:text valid_from:at valid_to:at? linked_by:text linked_at:at ended_at:at?
    ended_by:text? ended_how:text? key_id:big sealed:bytes
    """,
)
account_strategy = _table(
    "account_strategy",
    """
    name:text* kind:text spec:json updated_at:at
    """,
)
