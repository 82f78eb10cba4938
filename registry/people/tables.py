"""The columns in which rows of new registrants are handed to their tables."""

from __future__ import annotations

from typing import Final

REGISTRANT: Final = (
    "id", "kind", "status", "group_kind", "is_partial_group", "group_size", "sex", "birthdate",
    "birthdate_not_exact", "deathdate", "marital_status", "area_id", "registration_date", "language",
    "attributes", "version", "source", "message_id",
)  # fmt: skip
IDENTIFIER: Final = (
    "id", "registrant_id", "type", "hash", "live", "valid_from", "expiry_date", "verification_method",
)  # fmt: skip
MEMBERSHIP: Final = (
    "id", "group_id", "member_id", "roles", "start_date", "ended_date", "source", "start_said_at", "end_said_at",
    "roles_said_at",
)  # fmt: skip
SEARCH: Final = ("registrant_id", "names", "contacts", "facets")
VAULT: Final = ("registrant_id", "key_id", "format", "sealed")
