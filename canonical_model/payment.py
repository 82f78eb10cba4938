"""Payments: the instruction to pay and what became of it."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Self

from pydantic import AwareDatetime, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.account import Account
from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code, Text
from canonical_model.money import Money
from canonical_model.names import PersonName
from canonical_model.registrant import RegistrantRef


class PaymentStatus(StrEnum):
    """What is known of a payment; only `paid`, `failed`, `cancelled` and `reversed` are final."""

    RECEIVED = "received"
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERSED = "reversed"
    UNKNOWN = "unknown"


class PaymentInstruction(CanonicalModel):
    """The order to pay one amount, above zero, to one payee; `payment_id` is what a repeat is recognized by."""

    payment_id: Code = private(Privacy.PUBLIC)
    batch_id: Code | None = private(Privacy.PUBLIC, default=None)
    program_id: Code | None = private(Privacy.PUBLIC, default=None)
    cycle_id: Code | None = private(Privacy.PUBLIC, default=None)
    entitlement_id: Code | None = private(Privacy.PUBLIC, default=None)
    payee: RegistrantRef = private(Privacy.IDENTIFIER)
    payee_name: PersonName | None = private(Privacy.PERSONAL, default=None)
    payee_account: Account | None = private(
        Privacy.FINANCIAL,
        default=None,
        description="Absent when the rail finds the account by the payee's identifier.",
    )
    payer_account: Account | None = private(Privacy.FINANCIAL, default=None)
    amount: Money = private(Privacy.FINANCIAL)
    purpose: Code | None = private(
        Privacy.PUBLIC, default=None, description="Code of the purpose for the rail."
    )
    area: Code | None = private(
        Privacy.PERSONAL,
        default=None,
        description="Code of the area the payee lives in; a rail may be chosen by it.",
    )
    preferred_rail: Code | None = private(
        Privacy.PUBLIC,
        default=None,
        description="How the payee would rather be paid; a rail may be chosen by it.",
    )
    note: Text | None = private(Privacy.PERSONAL, default=None, description="Text the payee sees.")
    execution_date: date | None = private(Privacy.PUBLIC, default=None)
    expires_at: AwareDatetime | None = private(
        Privacy.PUBLIC, default=None, description="Not to be paid after this."
    )

    @model_validator(mode="after")
    def _pays_something(self) -> Self:
        if self.amount.minor_units <= 0:
            raise PydanticCustomError("amount_not_positive", "The amount of a payment is above zero")
        return self


class PaymentResult(CanonicalModel):
    """What a payment rail says became of one payment."""

    payment_id: Code = private(Privacy.PUBLIC)
    batch_id: Code | None = private(Privacy.PUBLIC, default=None)
    status: PaymentStatus = private(Privacy.PUBLIC)
    amount_paid: Money | None = private(Privacy.FINANCIAL, default=None)
    fee: Money | None = private(Privacy.FINANCIAL, default=None)
    rail: Code | None = private(
        Privacy.PUBLIC, default=None, description="The rail it went by, where there was a choice."
    )
    rail_reference: Code | None = private(
        Privacy.PUBLIC, default=None, description="The rail's own id of the transfer."
    )
    completed_at: AwareDatetime | None = private(Privacy.PUBLIC, default=None)
    reason_code: Code | None = private(
        Privacy.PUBLIC, default=None, description="The rail's code of a failure."
    )
    reason: Text | None = private(
        Privacy.FINANCIAL, default=None, description="The rail's words; they may name the payee."
    )


class PaymentResults(CanonicalModel):
    """What became of many payments of one rail, at most 1,000; a later result of a payment stands in a later message."""

    batch_id: Code | None = private(Privacy.PUBLIC, default=None)
    results: tuple[PaymentResult, ...] = private(Privacy.FINANCIAL, min_length=1, max_length=1000)


class PaymentBatch(CanonicalModel):
    """The order to pay many people as one message; the rows stay with the sender and are fetched with `rows_claim`."""

    batch_id: Code = private(Privacy.PUBLIC)
    program_id: Code | None = private(Privacy.PUBLIC, default=None)
    cycle_id: Code | None = private(Privacy.PUBLIC, default=None)
    rows_claim: Code = private(Privacy.PUBLIC, description="Reference the hub exchanges for the rows.")
    count: int = private(Privacy.PUBLIC, ge=1, le=50_000_000)
    total: Money = private(Privacy.PUBLIC)

    @model_validator(mode="after")
    def _pays_something(self) -> Self:
        if self.total.minor_units <= 0:
            raise PydanticCustomError("amount_not_positive", "The total of a batch is above zero")
        return self
