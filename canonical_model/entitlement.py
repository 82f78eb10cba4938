"""What a registrant is entitled to in a cycle: money or goods."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Self

from pydantic import StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code, LocalizedText
from canonical_model.money import Money
from canonical_model.registrant import RegistrantRef

Quantity = Annotated[str, StringConstraints(pattern=r"^(0|[1-9][0-9]{0,11})(\.[0-9]{1,6})?$")]
"""A decimal quantity as text, so that no float touches it: `12`, `2.5`."""


class BenefitKind(StrEnum):
    """What is given."""

    CASH = "cash"
    IN_KIND = "in_kind"
    VOUCHER = "voucher"


class EntitlementStatus(StrEnum):
    """The state of an entitlement, as OpenSPP has it with its abbreviations spelt out."""

    DRAFT = "draft"
    PENDING_VALIDATION = "pending_validation"
    APPROVED = "approved"
    SENT_TO_PROVIDER = "sent_to_provider"
    REDEEMED = "redeemed"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class InKindItem(CanonicalModel):
    """An amount of one product: a quantity in a unit of UN/ECE Recommendation 20 (`KGM`, `LTR`, `H87` for pieces)."""

    product_code: Code = private(Privacy.FINANCIAL)
    names: LocalizedText | None = private(Privacy.FINANCIAL, default=None)
    quantity: Quantity = private(Privacy.FINANCIAL)
    unit: Code = private(Privacy.PUBLIC, default="H87")


class Entitlement(CanonicalModel):
    """What one registrant may receive in one cycle; cash and vouchers carry an amount, goods carry items."""

    entitlement_id: Code = private(Privacy.PUBLIC)
    program_id: Code = private(Privacy.PUBLIC)
    cycle_id: Code = private(Privacy.PUBLIC)
    registrant: RegistrantRef = private(Privacy.IDENTIFIER)
    kind: BenefitKind = private(Privacy.PUBLIC)
    amount: Money | None = private(Privacy.FINANCIAL, default=None)
    transfer_fee: Money | None = private(Privacy.FINANCIAL, default=None)
    items: tuple[InKindItem, ...] = private(Privacy.FINANCIAL, default=(), max_length=200)
    valid_from: date | None = private(Privacy.PUBLIC, default=None)
    valid_until: date | None = private(Privacy.PUBLIC, default=None)
    status: EntitlementStatus = private(Privacy.PUBLIC)

    @model_validator(mode="after")
    def _gives_what_its_kind_says(self) -> Self:
        if self.kind is BenefitKind.IN_KIND:
            if not self.items or self.amount is not None:
                raise PydanticCustomError(
                    "entitlement_kind", "An entitlement in kind has items and no amount"
                )
        elif self.amount is None:
            raise PydanticCustomError("entitlement_kind", "An entitlement of cash or a voucher has an amount")
        if any(money is not None and money.minor_units < 0 for money in (self.amount, self.transfer_fee)):
            raise PydanticCustomError("amount_negative", "An amount is not negative")
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise PydanticCustomError("dates_reversed", "An entitlement cannot end before it starts")
        return self
