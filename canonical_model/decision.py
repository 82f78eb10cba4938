"""Questions of a program to an outside service that decides a part of its work, and the answers."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code
from canonical_model.money import Money
from canonical_model.registrant import RegistrantRef


class DecisionSlot(StrEnum):
    """What is decided outside: who is eligible, who is in twice, how much each gets, whether a cycle is agreed to."""

    ELIGIBILITY = "eligibility"
    DEDUPLICATION = "deduplication"
    ENTITLEMENT = "entitlement"
    APPROVAL = "approval"


class DecisionRequest(CanonicalModel):
    """A question about many registrants as one message; they stay with the hub and are fetched with `rows_claim`."""

    decision_id: Code = private(Privacy.PUBLIC)
    slot: DecisionSlot = private(Privacy.PUBLIC)
    program_id: Code = private(Privacy.PUBLIC)
    cycle_id: Code | None = private(Privacy.PUBLIC, default=None)
    rows_claim: Code | None = private(
        Privacy.PUBLIC,
        default=None,
        description="Reference the hub exchanges for the rows; absent for an approval.",
    )
    count: int = private(Privacy.PUBLIC, ge=0, le=50_000_000)
    total: Money | None = private(Privacy.PUBLIC, default=None, description="What an approval is about.")


class DecisionRow(CanonicalModel):
    """What was decided of one registrant: yes or no, or an amount."""

    registrant: RegistrantRef = private(Privacy.IDENTIFIER)
    agreed: bool | None = private(
        Privacy.SENSITIVE, default=None, description="Whether they are eligible, or in only once."
    )
    amount: Money | None = private(Privacy.FINANCIAL, default=None)
    reason: Code | None = private(Privacy.SENSITIVE, default=None, description="Code of why.")


class DecisionResult(CanonicalModel):
    """Some or all answers to a question; there may be many such messages for one."""

    decision_id: Code = private(Privacy.PUBLIC)
    rows: tuple[DecisionRow, ...] = private(Privacy.SENSITIVE, default=(), max_length=10_000)
    agreed: bool | None = private(Privacy.PUBLIC, default=None, description="Of an approval.")
    reason: Code | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _answers_something(self) -> Self:
        if not self.rows and self.agreed is None:
            raise PydanticCustomError("decision_empty", "A result has rows, or agrees or not")
        return self
