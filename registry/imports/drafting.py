"""From rows to drafts: people as they are, and the households they say they belong to; needs no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from pydantic import ValidationError

from canonical_model.errors import HubError, Refused
from canonical_model.household import Household, Membership, MembershipRole
from canonical_model.identifiers import Identifier
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.imports.reading import RowRead
from registry.people.drafts import Draft

_URN: Final = "urn:"
_MEMBER: Final = Membership.model_construct(set())
_ROLES: Final = {role.value: (role,) for role in MembershipRole}


@dataclass(slots=True)
class _Group:
    identifier: Identifier
    members: list[Membership] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Drafted:
    """The drafts of a chunk: one for each row, in their order, then those of the households they name."""

    rows: int
    drafts: Sequence[Draft]
    households: Sequence[Sequence[int]]
    """For each household the places of its rows."""
    wrong: Sequence[tuple[int, HubError]]
    """Places of rows whose household does not hold together, and why."""

    def together(self) -> list[tuple[int, ...]]:
        """Return the places of drafts that belong together: a household with its people, or a row alone; wrong ones in none."""
        held = {place for places in self.households for place in places}
        held.update(place for place, _ in self.wrong)
        families = [(*places, self.rows + at) for at, places in enumerate(self.households)]
        return [*families, *((place,) for place in range(self.rows) if place not in held)]


@dataclass(frozen=True, slots=True)
class Drafting:
    """Makes drafts of what a file says at a time; `source` is what they are kept as."""

    source: str
    actor: str
    at: datetime

    def drafts(self, rows: Sequence[RowRead]) -> Drafted:
        """Return the drafts of rows without a problem."""
        drafts, ids = [], []
        groups: dict[tuple[str, str], _Group] = {}
        for place, row in enumerate(rows):
            assert row.value is not None
            ids.append(uuid7())
            drafts.append(self._draft(row.value, ids[-1]))
            if row.belongs is not None:
                _place(groups, place, row, ids[-1])
        households, wrong = self._households(groups)
        drafts += [household for household, _ in households]
        return Drafted(len(rows), drafts, [members for _, members in households], wrong)

    def _draft(self, value: Person | Household, new_id: UUID) -> Draft:
        return Draft(
            value, self.source, self.actor, self.at, new_id=new_id, unidentified=not value.identifiers
        )

    def _households(
        self, groups: dict[tuple[str, str], _Group]
    ) -> tuple[list[tuple[Draft, list[int]]], list[tuple[int, HubError]]]:
        made: list[tuple[Draft, list[int]]] = []
        wrong: list[tuple[int, HubError]] = []
        for group in groups.values():
            try:
                household = Household(identifiers=(group.identifier,), memberships=tuple(group.members))
            except ValidationError:
                wrong += [(place, _two_heads()) for place in group.places]
                continue
            made.append((self._draft(household, uuid7()), group.places))
        return made, wrong


def _place(groups: dict[tuple[str, str], _Group], place: int, row: RowRead, person: UUID) -> None:
    belongs = row.belongs
    assert belongs is not None
    key = (belongs.id_type, belongs.value)
    group = groups.get(key)
    if group is None:
        urn = belongs.id_type if belongs.id_type.startswith(_URN) else None
        group = groups[key] = _Group(
            Identifier(
                id_type=belongs.id_type.rpartition(":")[2] if urn else belongs.id_type,
                value=belongs.value,
                namespace=urn,
            )
        )
    roles = _ROLES[belongs.role] if belongs.role else ()
    # Made by the hub itself, so there is nothing to check.
    group.members.append(_MEMBER.model_copy(update={"person_id": person, "roles": roles}))
    group.places.append(place)


def _two_heads() -> Refused:
    return Refused(
        "Rows of this file give one household two heads, or two principal recipients; its members were not joined.",
        code="group-head-taken",
        remedy="Correct the roles of the household's rows, and import them again.",
    )
