"""The terms of a program: what it gives, who decides what, when its cycles begin."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self, TypeVar

import orjson
from dateutil.rrule import rrulestr
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.entitlement import BenefitKind, Quantity
from canonical_model.errors import Refused
from canonical_model.localized import Code, LocalizedText
from canonical_model.money import CurrencyCode
from canonical_model.program import TargetType

MOST_MINOR: Final = 10**15
"""The largest amount of one entitlement, in minor units; many of them still fit a 64-bit sum."""
RuleText = Annotated[str, StringConstraints(min_length=1, max_length=4000)]
ProgramCode = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
Amount = Annotated[int, Field(ge=1, le=MOST_MINOR, strict=True)]
_M = TypeVar("_M", bound=BaseModel)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class AmountTerm(_Part):
    """One part of an amount: a rule in minor units, under a condition, of at most `most`."""

    amount: RuleText
    condition: RuleText | None = None
    most: Amount | None = None


class ItemTerm(_Part):
    """One item of a benefit in kind, under a condition."""

    product_code: Code
    quantity: Quantity
    unit: Code = "H87"
    condition: RuleText | None = None


class Benefit(_Part):
    """What each beneficiary gets in a cycle: the sum of the amounts, capped at `most`, or items."""

    kind: BenefitKind = BenefitKind.CASH
    amounts: tuple[AmountTerm, ...] = Field(default=(), max_length=20)
    most: Amount | None = None
    items: tuple[ItemTerm, ...] = Field(default=(), max_length=20)
    valid_days: int = Field(default=90, ge=1, le=3650)
    """How long an entitlement holds, from the first day of its cycle."""

    @model_validator(mode="after")
    def _gives_what_its_kind_says(self) -> Self:
        if self.kind is BenefitKind.IN_KIND:
            if not self.items or self.amounts or self.most:
                raise PydanticCustomError("benefit_kind", "A benefit in kind has items and no amounts")
        elif not self.amounts or self.items:
            raise PydanticCustomError(
                "benefit_kind", "A benefit of cash or a voucher has amounts and no items"
            )
        return self


class _Slot(_Part):
    """A part of the work: built in, or an outside service behind a route."""

    route: Code | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if self.route is not None and getattr(self, "builtin", None) is not None:
            raise PydanticCustomError("manager_slot", "A slot is either builtin or a route")
        return self


class Eligibility(_Slot):
    """Who may be in: the program's rule, or whom of those it takes a service agrees to.

    With `each_cycle` a cycle asks the rule again of those enrolled.
    """

    builtin: Literal["rule"] | None = None
    each_cycle: bool = True


class Deduplication(_Slot):
    """Who would be in twice: `one_per_person` for groups that share a member, `one_per_household` for individuals."""

    builtin: Literal["none", "one_per_person", "one_per_household"] | None = None


class EntitlementManager(_Slot):
    """How much each gets: the benefit's rules, or what a service says, capped as the benefit says."""

    builtin: Literal["benefit"] | None = None


class ApprovalStep(_Part):
    """One agreement a cycle needs, by somebody of a role; `above` and `above_each` say from which amounts on."""

    role: Code
    above: int = Field(default=0, ge=0)
    """Only for cycles whose total is above this, in minor units."""
    above_each: int = Field(default=0, ge=0)
    """Only for cycles with an entitlement above this, in minor units."""


class Approval(_Slot):
    """Who agrees to a cycle, in this order; at least one step always holds."""

    builtin: Literal["steps"] | None = None
    steps: tuple[ApprovalStep, ...] = Field(
        default=(ApprovalStep(role="approver"),), min_length=1, max_length=10
    )

    @model_validator(mode="after")
    def _always_needs_somebody(self) -> Self:
        if all(step.above or step.above_each for step in self.steps):
            raise PydanticCustomError(
                "approval_steps", "One step at least has no amount from which on it is needed"
            )
        return self


class PaymentForm(StrEnum):
    """Whether many are paid by one message or each by its own."""

    BATCH = "batch"
    SINGLE = "single"


class Payment(_Slot):
    """How people are paid: one message for many or one for each, by any route or the one named."""

    builtin: PaymentForm | None = None
    form: PaymentForm = PaymentForm.BATCH
    rows: int = Field(default=100_000, ge=1, le=1_000_000)
    """Payments of one batch, at most."""
    account: Literal["any", "verified"] = "any"
    """With `verified`, who has no verified account is held for `grace_days`, then released or let expire."""
    grace_days: int = Field(default=30, ge=0, le=3650)
    after_grace: Literal["expire", "release"] = "expire"

    @property
    def shape(self) -> PaymentForm:
        """The form in force."""
        return self.builtin or self.form


class Notification(_Slot):
    """What is told to others besides the changes of the cycle, which are always told: `people` adds each person's.

    A route is the one that has to take each person's.
    """

    builtin: Literal["cycle", "people"] | None = None


class Managers(_Part):
    """Who does each part of the work."""

    eligibility: Eligibility = Eligibility()
    deduplication: Deduplication = Deduplication()
    entitlement: EntitlementManager = EntitlementManager()
    approval: Approval = Approval()
    payment: Payment = Payment()
    notification: Notification = Notification()


class Schedule(_Part):
    """When cycles begin: on `start`, and again by an RRULE (RFC 5545); each lasts until the next, or for `days`."""

    start: date | None = None
    rrule: Annotated[str, StringConstraints(max_length=200, pattern=r"^FREQ=[A-Z]")] | None = None
    days: int | None = Field(default=None, ge=1, le=3660)
    open: bool = False
    """Whether the hub opens the cycle of a day by itself, once that day has come."""

    @model_validator(mode="after")
    def _recurs(self) -> Self:
        if self.rrule is None:
            return self
        if self.start is None:
            raise PydanticCustomError("schedule_start", "A rule of recurrence needs a start")
        try:
            # Hours and minutes mean nothing for cycles, and would make a search for the next day endless.
            if any(
                part in self.rrule
                for part in ("HOURLY", "MINUTELY", "SECONDLY", "BYHOUR", "BYMINUTE", "BYSECOND")
            ):
                raise ValueError
            rrulestr(self.rrule)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise PydanticCustomError(
                "schedule_rrule", "Not a rule of recurrence by days, weeks, months or years"
            ) from None
        return self


class ProgramTerms(_Part):
    """A program as it is defined, the content of a file for `hub program define`."""

    code: ProgramCode
    names: LocalizedText
    target_type: TargetType = TargetType.INDIVIDUAL
    currency: CurrencyCode
    fund: ProgramCode | None = None
    eligibility: RuleText = "true"
    benefit: Benefit
    managers: Managers = Managers()
    schedule: Schedule = Schedule()

    @model_validator(mode="after")
    def _fits_its_target(self) -> Self:
        wrong = {"one_per_person": TargetType.INDIVIDUAL, "one_per_household": TargetType.GROUP}
        if wrong.get(self.managers.deduplication.builtin or "") is self.target_type:
            raise PydanticCustomError(
                "deduplication_target", "This deduplication is for the other kind of registrant"
            )
        if self.managers.entitlement.route is not None and self.benefit.kind is BenefitKind.IN_KIND:
            raise PydanticCustomError("entitlement_route", "A service says amounts, not goods")
        if self.benefit.kind is BenefitKind.CASH and self.fund is None:
            raise PydanticCustomError("fund_missing", "A program that pays money needs a fund")
        return self


def read(model: type[_M], given: Any, what: str) -> _M:
    """Return given JSON as a model; raises `Refused` (`program-invalid`) that names places and rules."""
    try:
        return model.model_validate_json(orjson.dumps(given))
    except (ValidationError, TypeError) as error:
        places = (
            [
                f"{'/'.join(map(str, one['loc'])) or '/'}: {one['msg']}"
                for one in error.errors(include_input=False)[:10]
            ]
            if isinstance(error, ValidationError)
            else ["not JSON"]
        )
    raise Refused(
        f"{what} is not as it must be at {'; '.join(places)}. Nothing was changed.",
        code="program-invalid",
        remedy="Correct the places named; docs/programs.md shows every field.",
    )
