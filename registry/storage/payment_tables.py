"""The tables of the ledger of transfers as SQLAlchemy Core metadata, mirroring migrations 0030 and 0033, and of disbursements (0032)."""

from __future__ import annotations

from typing import Final

from registry.storage.program_tables import _table

__all__ = [
    "disbursement",
    "disbursement_request",
    "transfer",
    "transfer_batch",
    "transfer_message",
    "transfer_reference",
    "transfer_stop",
]

_SUMS: Final = "paid:big failed:big unknown:big cancelled:big paid_units:big failed_units:big unknown_units:big cancelled_units:big"

transfer_batch = _table(
    "transfer_batch",
    f"""
    id:uuid* target:text batch_id:text state:text reason:text? currency:text? ordered:big? ordered_units:big? {_SUMS}
    created_at:at closed_at:at?
    over_rails:flag elsewhere:big elsewhere_units:big
    """,
)
transfer = _table(
    "transfer",
    """
    id:uuid* batch:uuid target:text payment_id:text cycle_id:text? institution:text? stage:text state:text units:big
    currency:text charged:big? fee:big? refs:json key_id:big instruction:bytes request_key_id:big? request:bytes?
    condition:text? asked:integer resent:integer reason:text? rail_reference:text? sent_at:at? due_at:at?
    leased_until:at completed_at:at? report:flag reported_at:at? decided_by:text? created_at:at updated_at:at trail:texts rails:text?
    whole:uuid? attempt:small superseded:flag
    """,
)
transfer_reference = _table(
    "transfer_reference",
    """
    transfer_id:uuid* target:text* hash:bytes*
    """,
)
transfer_message = _table(
    "transfer_message",
    """
    target:text* message_id:uuid* entered_at:at
    """,
)
transfer_stop = _table(
    "transfer_stop",
    """
    target:text* reason:text stopped_at:at
    """,
)
disbursement = _table(
    "disbursement",
    """
    id:uuid* partner:text transaction_hash:bytes reference_hash:bytes body_hash:bytes payer_hash:bytes? payee_hash:bytes?
    message_id:uuid created_at:at key_id:big sealed:bytes
    """,
)
disbursement_request = _table(
    "disbursement_request",
    """
    id:uuid* partner:text kind:text origin_hash:bytes body_hash:bytes transaction_hash:bytes received_at:at due_at:at?
    attempts:integer told_at:at? key_id:big sealed:bytes
    """,
)
