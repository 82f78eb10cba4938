"""What others changed since the maker of a change looked: only the fields the change is about count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from registry.changes.kinds import (
    AddMember,
    Change,
    ChangeHead,
    Edit,
    Exit,
    Identify,
    Merge,
    RemoveMember,
    Restore,
    TransferMember,
)
from registry.people.members import SINGLE_ROLES
from registry.people.rows import Connection

_SINCE: Final = """
SELECT c.registrant_id, c.fields, c.clear -> 'memberships' AS memberships
FROM unnest($1::uuid[], $2::int[]) AS t (id, base) JOIN registrant_change c ON c.registrant_id = t.id AND c.version > t.base
"""
_HISTORY: Final[Mapping[str, tuple[str, ...]]] = {
    "area_code": ("area",),
    "birthdate": ("birthdate", "birthdate_not_exact"),
    "death_date": ("deathdate", "death"),
    "kind": ("group_kind", "kind"),
    "marital_status": ("marital_status", "person", "marriage", "divorce"),
}
"""Under which names the history has a field where it is not the field's own."""
_IDENTITY: Final = ("names", "name", "birthdate", "identifiers")
"""What two registrants are held to be one by."""


class Conflict(Refused):
    """Others changed what a change is about since it was asked for."""

    default_code = "change-conflict"

    def __init__(self, fields: Sequence[str]) -> None:
        super().__init__(
            f"Others changed {', '.join(fields)} since the change was asked for; nothing was changed.",
            remedy="Look at what is recorded now, then ask for the change anew where it is still needed.",
        )
        self.fields = tuple(fields)


@dataclass(slots=True)
class _Concern:
    fields: dict[str, str] = field(default_factory=dict)
    """Name in the history to name of the field."""
    members: set[str] = field(default_factory=set)
    roles: set[str] = field(default_factory=set)

    def name(self, names: Iterable[str]) -> None:
        for name in names:
            for each in _HISTORY.get(name, (name,)):
                self.fields[each] = name

    def found(self, fields: Iterable[str], memberships: Any) -> set[str]:
        names = {self.fields[name] for name in fields if name in self.fields}
        if "memberships" in fields and (self.members or self.roles):
            rows = [row for side in memberships or () for row in side]
            if not rows or any(row[0] in self.members or self.roles.intersection(row[1]) for row in rows):
                names.add("memberships")
        return names


def fields_of(change: Change) -> list[str]:
    """Return the names of the fields a change is about, for policies."""
    if isinstance(change, Edit):
        return sorted(change.set)
    if isinstance(change, Exit):
        return ["disabled_reason", "status"]
    if isinstance(change, Identify):
        return ["identifiers"]
    if isinstance(change, Restore):
        named = {name for one in change.edits for name in one.set}
        named |= {"identifiers"} if change.identifiers else set()
        return sorted(named | ({"memberships"} if change.memberships else set()))
    return ["identifiers", "memberships"] if isinstance(change, Merge) else ["memberships"]


async def refuse_conflicts(connection: Connection, change: Change, bases: Mapping[UUID, int]) -> None:
    """Raise `Conflict` with the names of the fields that were changed since the versions the maker saw."""
    concerns = _concerns(change)
    ids = [each for each in concerns if each in bases]
    found: set[str] = set()
    for row in await connection.fetch(_SINCE, ids, [bases[each] for each in ids]):
        found |= concerns[row["registrant_id"]].found(row["fields"], row["memberships"])
    if found:
        raise Conflict(sorted(found))


def _concerns(change: Change) -> dict[UUID, _Concern]:
    concerns: dict[UUID, _Concern] = defaultdict(_Concern)
    if isinstance(change, Edit):
        _edits(concerns[change.registrant], change)
    elif isinstance(change, Exit):
        concerns[change.registrant].name(("status", "disabled_reason"))
    elif isinstance(change, Identify):
        _identifies(concerns[change.registrant], change)
    elif isinstance(change, Merge):
        for each in change.touches:
            concerns[each].name(_IDENTITY)
    elif isinstance(change, AddMember):
        _members(concerns[change.group], change.member, change.roles)
    elif isinstance(change, RemoveMember):
        _members(concerns[change.group], change.member)
    elif isinstance(change, TransferMember):
        _members(concerns[change.source], change.member)
        _members(concerns[change.destination], change.member, change.roles)
    elif isinstance(change, ChangeHead):
        _members(concerns[change.group], change.member, ("head",))
    elif isinstance(change, Restore):
        for edit in change.edits:
            _edits(concerns[edit.registrant], edit)
        for identify in change.identifiers:
            _identifies(concerns[identify.registrant], identify)
        for held in change.memberships:
            _members(concerns[held.group], held.member, held.roles)
    return concerns


def _edits(concern: _Concern, change: Edit) -> None:
    concern.name(name for name in change.set if name != "attributes")
    concern.name(f"attributes.{name}" for name in change.set.get("attributes", {}))


def _identifies(concern: _Concern, change: Identify) -> None:
    # One more identifier stands beside whatever others added.
    if change.end:
        concern.name(("identifiers",))


def _members(concern: _Concern, member: UUID, roles: Iterable[str] = ()) -> None:
    concern.members.add(str(member))
    concern.roles.update(str(role) for role in roles if role in SINGLE_ROLES)
