"""The tables of programs as SQLAlchemy Core metadata, mirroring migration 0014 as `registry.storage.tables` does the others."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from registry.storage.metadata import METADATA

__all__ = [
    "cycle",
    "cycle_amount",
    "cycle_approval",
    "cycle_beneficiary",
    "decision_request",
    "enrollment",
    "enrollment_past",
    "entitlement",
    "fund",
    "fund_entry",
    "payment",
    "payment_batch",
    "payment_dispute",
    "program",
    "top_up",
    "verified_account",
]

_TYPES: Final[dict[str, Any]] = {
    "at": DateTime(timezone=True),
    "big": BigInteger,
    "bigs": ARRAY(BigInteger),
    "bytes": LargeBinary,
    "day": Date,
    "flag": Boolean,
    "integer": Integer,
    "json": JSONB,
    "small": SmallInteger,
    "text": Text,
    "texts": ARRAY(Text),
    "uuid": UUID(as_uuid=True),
}


def _table(name: str, columns: str) -> Table:
    """Return a table of `name:type` words; `?` marks what may be null, `*` the key."""
    return Table(name, METADATA, *(_column(*word.split(":")) for word in columns.split()))


def _column(name: str, kind: str) -> Column[Any]:
    return Column(
        name, _TYPES[kind.rstrip("?*")], nullable="?" in kind, primary_key="*" in kind, autoincrement=False
    )


fund = _table(
    "fund",
    """
    id:uuid* code:text names:json currency:text deposited:big reserved:big spent:big created_at:at
    updated_at:at fees_by:text fees:big fees_due:big
    """,
)
program = _table(
    "program",
    """
    id:uuid* code:text names:json target_type:text state:text currency:text fund_id:uuid?
    eligibility:text benefit:json managers:json schedule:json version:integer actor:text created_at:at
    updated_at:at
    """,
)
enrollment = _table(
    "enrollment",
    """
    program_id:uuid* registrant_id:uuid* state:text enrollment_date:day? exit_date:day? since:at
    cause:text reason:text? actor:text
    """,
)
enrollment_past = _table(
    "enrollment_past",
    """
    program_id:uuid registrant_id:uuid since:at until:at state:text cause:text reason:text? actor:text
    """,
)
cycle = _table(
    "cycle",
    """
    id:uuid* program_id:uuid sequence:integer names:json? start_date:day end_date:day state:text
    work:text? terms:json currency:text fund_id:uuid? makers:texts round:small steps:json snapshot_at:at?
    prepared_at:at? beneficiaries:big entitlements:big total:big largest:big reserved:big spent:big
    voucher_key_id:big? voucher_key:bytes? version:integer created_at:at updated_at:at
    """,
)
cycle_beneficiary = _table(
    "cycle_beneficiary",
    """
    cycle_id:uuid* registrant_id:uuid* version:integer area_id:integer? members:integer?
    recipient_id:uuid? amounts:bigs
    """,
)
entitlement = _table(
    "entitlement",
    """
    id:uuid* cycle_id:uuid registrant_id:uuid recipient_id:uuid? number:integer kind:text state:text
    amount:big? topped:big paid:big items:json? tries:small held:text? held_until:day? valid_from:day
    valid_until:day updated_at:at
    """,
)
cycle_approval = _table(
    "cycle_approval",
    """
    cycle_id:uuid* round:small* step:small* role:text actor:text makers:texts agreed:flag reason:text?
    at:at
    """,
)
fund_entry = _table(
    "fund_entry",
    """
    id:uuid* fund_id:uuid kind:text amount:big cycle_id:uuid? batch_id:uuid? once:text? actor:text
    reason:text? at:at
    """,
)
payment_batch = _table(
    "payment_batch",
    """
    id:uuid* cycle_id:uuid fund_id:uuid number:integer form:text route:text? count:big ordered:big
    version:integer message_id:uuid? fetched_at:at? actor:text created_at:at
    """,
)
payment = _table(
    "payment",
    """
    id:uuid* batch_id:uuid entitlement_id:uuid try:small recipient_id:uuid state:text amount:big paid:big
    failed:big cancelled:big unknown:big returned:big fee:big rail_reference:text? reason_code:text?
    decision_id:uuid? sent_at:at? completed_at:at?
    """,
)
payment_dispute = _table(
    "payment_dispute",
    """
    id:uuid* payment_id:uuid? message_id:uuid kind:text status:text amount_paid:big? currency:text?
    fee:big? rail_reference:text? reason_code:text? received_at:at decision:text? decided_by:text?
    decided_at:at? note:text?
    """,
)
top_up = _table(
    "top_up",
    """
    id:uuid* entitlement_id:uuid amount:big reason:text maker:text agreed:flag? checker:text?
    created_at:at decided_at:at?
    """,
)
decision_request = _table(
    "decision_request",
    """
    id:uuid* program_id:uuid cycle_id:uuid? slot:text route:text count:big answered:big created_at:at closed_at:at?
    """,
)
cycle_amount = _table(
    "cycle_amount",
    """
    cycle_id:uuid* registrant_id:uuid* amount:big
    """,
)
verified_account = _table(
    "verified_account",
    """
    registrant_id:uuid* verified_at:at expires_on:day? source:text
    """,
)
