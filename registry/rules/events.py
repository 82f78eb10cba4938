"""Whose events count for somebody: their own, and those of registrants they absorbed."""

from __future__ import annotations

from typing import Final

EVENTS: Final = """(
    SELECT id, registrant_id, type, collected_on, expires_on, data FROM registrant_event
    UNION ALL
    SELECT own.id, x.merged_into, own.type, own.collected_on, own.expires_on, own.data
    FROM registrant x JOIN registrant_event own ON own.registrant_id = x.id WHERE x.merged_into IS NOT NULL
)"""
"""Every event under everybody it counts for, for questions about everybody at once."""


def events_of(id_: str) -> str:
    """Return the condition that an event `e` counts for the registrant whose id is an SQL expression."""
    return f"e.registrant_id = ANY (array_append(ARRAY(SELECT x.id FROM registrant x WHERE x.merged_into = {id_}), {id_}))"
