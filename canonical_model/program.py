"""Programs and their cycles."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import Code, LocalizedText
from canonical_model.money import CurrencyCode


class TargetType(StrEnum):
    """Who a program enrolls."""

    GROUP = "group"
    INDIVIDUAL = "individual"


class ProgramStatus(StrEnum):
    """The state of a program."""

    DRAFT = "draft"
    ACTIVE = "active"
    PAUSED = "paused"
    ENDED = "ended"


class CycleStatus(StrEnum):
    """The state of a cycle, as OpenSPP names it."""

    DRAFT = "draft"
    TO_APPROVE = "to_approve"
    APPROVED = "approved"
    DISTRIBUTED = "distributed"
    ENDED = "ended"
    CANCELLED = "cancelled"


class Program(CanonicalModel):
    """A social protection program."""

    program_id: Code = private(Privacy.PUBLIC)
    names: LocalizedText = private(Privacy.PUBLIC)
    description: LocalizedText | None = private(Privacy.PUBLIC, default=None)
    target_type: TargetType = private(Privacy.PUBLIC)
    status: ProgramStatus = private(Privacy.PUBLIC)
    currency: CurrencyCode | None = private(Privacy.PUBLIC, default=None)
    implementing_institution: Code | None = private(Privacy.PUBLIC, default=None)
    start_date: date | None = private(Privacy.PUBLIC, default=None)
    end_date: date | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.start_date and self.end_date and self.end_date < self.start_date:
            raise PydanticCustomError("dates_reversed", "A program cannot end before it starts")
        return self


class Cycle(CanonicalModel):
    """One round of a program: the days it covers, both included, and how far it is."""

    cycle_id: Code = private(Privacy.PUBLIC)
    program_id: Code = private(Privacy.PUBLIC)
    sequence: int = private(Privacy.PUBLIC, ge=1, le=100_000)
    names: LocalizedText | None = private(Privacy.PUBLIC, default=None)
    start_date: date = private(Privacy.PUBLIC)
    end_date: date = private(Privacy.PUBLIC)
    status: CycleStatus = private(Privacy.PUBLIC)

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.end_date < self.start_date:
            raise PydanticCustomError("dates_reversed", "A cycle cannot end before it starts")
        return self
