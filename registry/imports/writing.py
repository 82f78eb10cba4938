"""From rows to the registry: people as they are, and the households they say they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from asyncpg import Connection
from asyncpg.pool import PoolConnectionProxy
from pydantic import ValidationError

from canonical_model.errors import HubError, Refused
from canonical_model.household import Household, Membership, MembershipRole
from canonical_model.identifiers import Identifier
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.imports.reading import RowRead
from registry.people.drafts import Draft
from registry.people.writing import Writer

_URN: Final = "urn:"


@dataclass(slots=True)
class _Group:
    identifier: Identifier
    members: list[Membership] = field(default_factory=list)
    places: list[int] = field(default_factory=list)


class PeopleWriter:
    """Writes the rows of a chunk through the registry's writer; `at` is the time of what the file says."""

    def __init__(self, writer: Writer, *, source: str, actor: str, at: datetime) -> None:
        self._writer = writer
        self._source = source
        self._actor = actor
        self._at = at

    async def __call__(
        self, connection: Connection | PoolConnectionProxy, rows: Sequence[RowRead]
    ) -> Sequence[bool | HubError]:
        """Write all rows in the caller's transaction; say for each whether it is new, or why it was not taken.

        A row whose household does not take it (a second head) is told so; its person is written all the same.
        """
        drafts, ids = [], []
        groups: dict[tuple[str, str], _Group] = {}
        for place, row in enumerate(rows):
            assert row.value is not None
            ids.append(uuid7())
            drafts.append(self._draft(row.value, ids[-1]))
            if row.belongs is not None:
                self._place(groups, place, row, ids[-1])
        answers: list[bool | HubError] = []
        households, places = self._households(groups)
        written = await self._writer.write(connection, [*drafts, *(household for household, _ in households)])
        for one in written[: len(rows)]:
            answers.append(one if isinstance(one, HubError) else one.created)
        for (_, members), done in zip(households, written[len(rows) :], strict=True):
            if isinstance(done, HubError):
                places += [(place, done) for place in members]
        for place, error in places:
            answers[place] = error
        return answers

    def _draft(self, value: Person | Household, new_id: UUID) -> Draft:
        return Draft(
            value, self._source, self._actor, self._at, new_id=new_id, unidentified=not value.identifiers
        )

    def _place(self, groups: dict[tuple[str, str], _Group], place: int, row: RowRead, person: UUID) -> None:
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
        roles = (MembershipRole(belongs.role),) if belongs.role else ()
        group.members.append(Membership(person_id=person, roles=roles))
        group.places.append(place)

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


def _two_heads() -> Refused:
    return Refused(
        "Rows of this file give one household two heads, or two principal recipients; its members were not joined.",
        code="group-head-taken",
        remedy="Correct the roles of the household's rows, and import them again.",
    )
