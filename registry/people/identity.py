"""What an identifier is compared by: its issuer or type, its normalised value, and the blind index of both."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from canonical_model.identifiers import Identifier, IdentifierStatus
from registry.vault import BlindIndex


@dataclass(slots=True)
class Known:
    """An identifier in the form it is looked up by."""

    key: str
    """Type and normalised value, kept sealed."""
    type: str
    hash: bytes
    """16 bytes; the only form of the value that lies in clear in the database."""
    live: bool
    """False for an identifier its issuer no longer holds valid: it finds nobody."""


def normalise(value: str) -> str:
    """Return an identifier as it is compared: NFKC, upper case, without spaces; hyphens and slashes count."""
    bare = value if value.isascii() else unicodedata.normalize("NFKC", value)
    return "".join(bare.upper().split())


def identifier_hash(blind: BlindIndex, type_: str, value: str) -> bytes:
    """Return the blind index of an identifier; `type_` is its namespace where it has one, else its type."""
    return blind.index("identifier", f"{type_}\x00{normalise(value)}")


def known(blind: BlindIndex, identifiers: Iterable[Identifier]) -> dict[str, tuple[Known, Identifier]]:
    """Return identifiers by key; of two with one key the last stands."""
    found = {}
    for each in identifiers:
        type_ = each.namespace or each.id_type
        key = f"{type_}\x00{normalise(each.value)}"
        live = each.status is not IdentifierStatus.INVALID
        found[key] = (Known(key, type_, blind.index("identifier", key), live), each)
    return found
