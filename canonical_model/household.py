"""Households and who belongs to them."""

from __future__ import annotations

from enum import StrEnum
from typing import Self
from uuid import UUID

from pydantic import AwareDatetime, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.contact import Address, ContactPoint
from canonical_model.dates import PartialDate
from canonical_model.identifiers import Identifier
from canonical_model.localized import Code, Text
from canonical_model.person import AttributeName, RegistrantStatus


class GroupKind(StrEnum):
    """What kind of group it is; the DCI code list has 2 household, 3 family."""

    HOUSEHOLD = "household"
    FAMILY = "family"
    OTHER = "other"


class MembershipRole(StrEnum):
    """The part a member has in a group; a group has one head and one principal recipient at a time."""

    HEAD = "head"
    PRINCIPAL_RECIPIENT = "principal_recipient"
    ALTERNATIVE_RECIPIENT = "alternative_recipient"
    SPOUSE = "spouse"
    CHILD = "child"
    PARENT = "parent"
    RELATIVE = "relative"
    CAREGIVER = "caregiver"
    OTHER = "other"


class Membership(CanonicalModel):
    """A person's time in a household, known by the hub's id, by identifier or both; without `ended_date` it lasts."""

    person_id: UUID | None = private(Privacy.PUBLIC, default=None)
    identifiers: tuple[Identifier, ...] = private(Privacy.IDENTIFIER, default=(), max_length=20)
    roles: tuple[MembershipRole, ...] = private(Privacy.PERSONAL, default=(), max_length=9)
    start_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    ended_date: PartialDate | None = private(Privacy.PERSONAL, default=None)

    @model_validator(mode="after")
    def _names_one_person_in_order(self) -> Self:
        if self.person_id is None and not self.identifiers:
            raise PydanticCustomError("member_unnamed", "A member needs person_id or an identifier")
        if len(set(self.roles)) != len(self.roles):
            raise PydanticCustomError("role_repeated", "A role stands once")
        if self.start_date and self.ended_date and self.ended_date.is_before(self.start_date):
            raise PydanticCustomError("dates_reversed", "A membership cannot end before it starts")
        return self


class Household(CanonicalModel):
    """A household or other group that is registered, and helped, as one."""

    household_id: UUID | None = private(
        Privacy.PUBLIC, default=None, description="The hub's own id of the household."
    )
    kind: GroupKind = private(Privacy.PUBLIC, default=GroupKind.HOUSEHOLD)
    name: Text | None = private(Privacy.PERSONAL, default=None)
    identifiers: tuple[Identifier, ...] = private(Privacy.IDENTIFIER, default=(), max_length=50)
    memberships: tuple[Membership, ...] = private(Privacy.PERSONAL, default=(), max_length=1000)
    is_partial_group: bool | None = private(
        Privacy.PUBLIC, default=None, description="Members exist that are not in the list."
    )
    group_size: int | None = private(Privacy.PERSONAL, default=None, ge=0, le=100_000)
    addresses: tuple[Address, ...] = private(Privacy.CONTACT, default=(), max_length=20)
    contact_points: tuple[ContactPoint, ...] = private(Privacy.CONTACT, default=(), max_length=20)
    area_code: Code | None = private(Privacy.PERSONAL, default=None)
    poverty_score: float | None = private(Privacy.SENSITIVE, default=None, allow_inf_nan=False)
    poverty_score_type: Code | None = private(Privacy.PUBLIC, default=None)
    status: RegistrantStatus | None = private(Privacy.PUBLIC, default=None)
    disabled_reason: Text | None = private(Privacy.SENSITIVE, default=None)
    attributes: dict[AttributeName, JsonValue] = private(
        Privacy.SENSITIVE,
        default_factory=dict,
        max_length=200,
        description="Attributes the country declares.",
    )
    registration_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    last_updated: AwareDatetime | None = private(Privacy.PUBLIC, default=None)

    @model_validator(mode="after")
    def _has_one_head_at_a_time(self) -> Self:
        for role in (MembershipRole.HEAD, MembershipRole.PRINCIPAL_RECIPIENT):
            if sum(role in one.roles and one.ended_date is None for one in self.memberships) > 1:
                raise PydanticCustomError(
                    "role_taken", "A household has one head and one principal recipient at a time"
                )
        return self
