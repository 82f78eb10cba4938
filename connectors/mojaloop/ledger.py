"""The rail's own words in the hub's ledger of transfers: its stages, its references, and the parts of a bulk body.

Stages are `lookup`, `quote`, `transfer`, and `item` for an entry that a bulk answer left out and that is asked about by itself.
Through an adapter's bulk transactions `bulk` stands before `quote`: the adapter looks the payees of a bulk up.
References: `party` (whom a look-up is about; it names a person), `quote`, `transfer`, `bulk_quote`, `bulk_transfer`; through an
adapter `bulk_transaction`, `institution` (where the payee is) and `lead` (see `lead_mark`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from connectors.payments.contract import SENT, UNKNOWN, Transfer

QUOTE: Final = "quote"
TRANSFER: Final = "transfer"
ITEM: Final = "item"
BULK: Final = "bulk"
PARTY: Final = "party"
OPEN_TRANSFERS: Final = frozenset({(stage, state) for stage in (TRANSFER, ITEM) for state in (SENT, UNKNOWN)})
"""Where an answer about a transfer still ends it."""


def stored_part(place: int, expires: str, part: bytes) -> bytes:
    """Return what a row keeps of a bulk body: its place, the expiry of the whole, and its own entry."""
    return f"{place} {expires} ".encode() + part


def bulk_parts(rows: Sequence[Transfer]) -> tuple[str, list[bytes]]:
    """Return the expiry of a bulk body and its entries in the order in which they were sent."""
    kept = [(row.request or b"").split(b" ", 2) for row in rows]
    kept.sort(key=lambda fields: int(fields[0]))
    return kept[0][1].decode(), [fields[2] for fields in kept]


def lead_mark(stage: str, bulk_id: str, expires: str) -> str:
    """Return the reference `lead` of the one transfer of a bulk that keeps the bytes of its call, and until when they are sent."""
    return f"{stage} {bulk_id} {expires}"


def lead_expiry(row: Transfer, bulk_id: str) -> str | None:
    """Return until when the call this transfer keeps the bytes of may be sent, or None when another one keeps them."""
    stage, _, rest = row.references.get("lead", "").partition(" ")
    known, _, expires = rest.partition(" ")
    return expires if (stage, known) == (row.stage, bulk_id) else None
