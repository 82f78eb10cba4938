"""The kinds of change that can be asked for, each as data that says everything needed to carry it out."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, ClassVar, Final, Literal, Self, TypeAlias
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from canonical_model.household import Household, MembershipRole
from canonical_model.identifiers import Identifier
from canonical_model.person import Person

_FIXED: Final = frozenset({"person_id", "household_id", "identifiers", "memberships", "last_updated"})
"""Fields an edit leaves alone: the ids, and what has kinds of change of its own."""
EDITABLE: Final = (frozenset(Person.model_fields) | frozenset(Household.model_fields)) - _FIXED


class _Kind(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    groups: ClassVar[tuple[str, ...]] = ()
    """The fields that name a group."""

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns, the one it is about first."""
        raise NotImplementedError


class Edit(_Kind):
    """Set fields of a person or group; null takes a value away. Attributes are merged name by name."""

    type: Literal["edit"] = "edit"
    registrant: UUID
    set: dict[str, Any] = Field(min_length=1, max_length=100)

    @model_validator(mode="after")
    def _names_fields(self) -> Self:
        if unknown := sorted(self.set.keys() - EDITABLE):
            raise ValueError(
                f"{len(unknown)} of the fields cannot be edited; identifiers and members have changes of their own"
            )
        if "attributes" in self.set and not isinstance(self.set["attributes"], dict):
            raise ValueError("attributes are set name by name")
        return self

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.registrant,)


class Identify(_Kind):
    """Add identifiers, and end those that no longer hold."""

    type: Literal["identify"] = "identify"
    registrant: UUID
    add: tuple[Identifier, ...] = Field(default=(), max_length=20)
    end: tuple[Identifier, ...] = Field(default=(), max_length=20)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.add and not self.end:
            raise ValueError("nothing is added and nothing is ended")
        return self

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.registrant,)


class AddMember(_Kind):
    """Make a person a member of a group from a day on."""

    groups = ("group",)
    type: Literal["add_member"] = "add_member"
    group: UUID
    member: UUID
    roles: tuple[MembershipRole, ...] = ()
    on: date

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.group, self.member)


class RemoveMember(_Kind):
    """End a membership; on that day it no longer holds."""

    groups = ("group",)
    type: Literal["remove_member"] = "remove_member"
    group: UUID
    member: UUID
    on: date

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.group, self.member)


class TransferMember(_Kind):
    """End a membership and begin one in another group on the same day."""

    groups = ("source", "destination")
    type: Literal["transfer_member"] = "transfer_member"
    member: UUID
    source: UUID
    destination: UUID
    roles: tuple[MembershipRole, ...] = ()
    on: date

    @model_validator(mode="after")
    def _names_two(self) -> Self:
        if self.source == self.destination:
            raise ValueError("the source and the destination are one group")
        return self

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.source, self.destination, self.member)


class ChangeHead(_Kind):
    """Make another member the head of a group from a day on; who was head stays a member."""

    groups = ("group",)
    type: Literal["change_head"] = "change_head"
    group: UUID
    member: UUID
    on: date

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.group, self.member)


class CreateGroup(_Kind):
    """Register a group with its members."""

    type: Literal["create_group"] = "create_group"
    household: Household

    @model_validator(mode="after")
    def _is_new(self) -> Self:
        if self.household.household_id is not None:
            raise ValueError("a new group has no id yet")
        return self

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns: the members known by id."""
        return tuple(
            dict.fromkeys(one.person_id for one in self.household.memberships if one.person_id is not None)
        )


class Merge(_Kind):
    """Two registrants are one: the survivor keeps all, the other points to it."""

    type: Literal["merge"] = "merge"
    survivor: UUID
    absorbed: UUID

    @model_validator(mode="after")
    def _names_two(self) -> Self:
        if self.survivor == self.absorbed:
            raise ValueError("nobody can be merged with themselves")
        return self

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.survivor, self.absorbed)


class Split(_Kind):
    """Undo a merge: the absorbed registrant stands alone again, with what it had."""

    type: Literal["split"] = "split"
    absorbed: UUID

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.absorbed,)


class Exit(_Kind):
    """Take a registrant out of use; what is recorded stays."""

    type: Literal["exit"] = "exit"
    registrant: UUID
    reason: Annotated[str, Field(min_length=1, max_length=200)]

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return (self.registrant,)


class Held(_Kind):
    """A membership as it is to be, known by group, member and start; a start nobody knows is `0001-01-01`."""

    group: UUID
    member: UUID
    start: date
    end: date | None
    roles: tuple[MembershipRole, ...]


class Restore(_Kind):
    """Put fields, identifiers and memberships back to what they were: what undoes another change is of this kind."""

    type: Literal["restore"] = "restore"
    edits: tuple[Edit, ...] = Field(default=(), max_length=10)
    identifiers: tuple[Identify, ...] = Field(default=(), max_length=10)
    memberships: tuple[Held, ...] = Field(default=(), max_length=4000)

    @property
    def touches(self) -> tuple[UUID, ...]:
        """Whom the change concerns."""
        return tuple(
            dict.fromkeys(
                (
                    *(one.registrant for one in self.edits),
                    *(one.registrant for one in self.identifiers),
                    *(one.group for one in self.memberships),
                    *(one.member for one in self.memberships),
                )
            )
        )


Change: TypeAlias = Annotated[
    Edit
    | Identify
    | AddMember
    | RemoveMember
    | TransferMember
    | ChangeHead
    | CreateGroup
    | Merge
    | Split
    | Exit
    | Restore,
    Field(discriminator="type"),
]
CHANGE: Final[TypeAdapter[Change]] = TypeAdapter(Change)
"""Reads a change from JSON; raises `pydantic.ValidationError`, which repeats no value."""
TYPES: Final = (
    "edit", "identify", "add_member", "remove_member", "transfer_member", "change_head", "create_group", "merge", "split",
    "exit", "restore",
)  # fmt: skip


def dumped(change: Change) -> bytes:
    """Return a change as JSON that `CHANGE` reads; what was not said stays unsaid."""
    return orjson.dumps(change.model_dump(mode="json", exclude_unset=True) | {"type": change.type})
