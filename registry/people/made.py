"""Rows of new registrants in the form in which their tables take them, so that they can be made far from the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

from canonical_model.message import uuid7
from registry.people.drafts import Task
from registry.people.members import EVER
from registry.people.tables import IDENTIFIER, MEMBERSHIP, REGISTRANT, SEARCH, VAULT
from registry.people.tokens import facets_of
from registry.storage import copying
from registry.storage.copying import FALSE, NULL, TRUE, Connection
from registry.vault import FORMAT, DataKey

_FORMAT: Final = copying.smallint(FORMAT)
_FIRST: Final = copying.integer(1)
_EVER: Final = copying.day(EVER)
_GROUP: Final = copying.text("group")
_INDIVIDUAL: Final = copying.text("individual")
_EMPTY: Final = copying.jsonb({})


@dataclass(slots=True)
class Newcomer:
    """A plain draft as rows; `columns` has the code of the area where the table has its id.

    It does not know its task, which knows it: a circle would outlive its chunk until the collector finds it.
    """

    id: UUID
    is_group: bool
    columns: Sequence[Any]
    attributes: Mapping[str, Any]
    key: DataKey
    sealed: bytes
    names: list[int] | None
    """Its search tokens; None where none are made, so that they are made later."""
    contacts: list[int]


@dataclass(slots=True)
class Rows:
    """Rows of new registrants by table, encoded; identifiers with their hash, by which they are written in order."""

    registrants: list[bytes] = field(default_factory=list)
    vault: list[bytes] = field(default_factory=list)
    identifiers: list[tuple[bytes, bytes]] = field(default_factory=list)
    searches: list[bytes] = field(default_factory=list)
    members: list[bytes] = field(default_factory=list)

    def add(self, task: Task, one: Newcomer, areas: Mapping[str, int]) -> None:
        """Take a newcomer's rows; an area that is not among `areas` is left out."""
        id_ = copying.uuid(one.id)
        area = areas.get(one.columns[9] or "")
        self.registrants.append(_registrant(task, one, id_, area))
        self.vault.append(copying.row((id_, copying.bigint(one.key.id), _FORMAT, copying.raw(one.sealed))))
        for known, given in task.identifiers.values():
            first: date | None = given.issue_date.first if given.issue_date else None
            last: date | None = given.expiry_date.last if given.expiry_date else None
            method = given.verification_method.value if given.verification_method else None
            fields = (
                copying.uuid(uuid7()), id_, copying.text(known.type), copying.raw(known.hash), TRUE, copying.day(first),
                copying.day(last), copying.text(method),
            )  # fmt: skip
            self.identifiers.append((known.hash, copying.row(fields)))
        if one.names is not None:
            facets = facets_of(one.columns[5], area)
            self.searches.append(
                copying.row(
                    (id_, copying.bigints(one.names), copying.bigints(one.contacts), copying.integers(facets))
                )
            )
        for member, _ in task.members:
            roles = copying.texts([role.value for role in member.roles])
            said = copying.instant(task.at) if "roles" in member.model_fields_set else NULL
            joined = (
                copying.uuid(uuid7()), id_, copying.uuid(member.person_id), roles, _EVER, NULL,
                copying.text(task.draft.source), NULL, NULL, said,
            )  # fmt: skip
            self.members.append(copying.row(joined))

    def extend(self, other: Rows) -> None:
        """Take the rows of others too."""
        self.registrants += other.registrants
        self.vault += other.vault
        self.identifiers += other.identifiers
        self.searches += other.searches
        self.members += other.members

    async def write(self, connection: Connection) -> None:
        """Write all rows, each table at once."""
        # Others who write the same identifiers wait for one another in this order only.
        identifiers = [row for _, row in sorted(self.identifiers)]
        for table, columns, rows in (
            ("registrant", REGISTRANT, self.registrants),
            ("registrant_vault", VAULT, self.vault),
            ("registrant_identifier", IDENTIFIER, identifiers),
            ("registrant_search", SEARCH, self.searches),
            ("membership", MEMBERSHIP, self.members),
        ):
            if rows:
                await copying.copy(connection, table, columns, rows)


def _registrant(task: Task, one: Newcomer, id_: bytes, area: int | None) -> bytes:
    said = one.columns
    draft = task.draft
    return copying.row(
        (
            id_, _GROUP if one.is_group else _INDIVIDUAL, copying.text(said[0]), copying.text(said[1]),
            copying.boolean(said[2]), copying.integer(said[3]), copying.text(said[4]), copying.day(said[5]),
            TRUE if said[6] else FALSE, copying.day(said[7]), copying.text(said[8]), copying.integer(area),
            copying.day(said[10]), copying.text(said[11]), copying.jsonb(one.attributes) if one.attributes else _EMPTY, _FIRST,
            copying.text(draft.source), copying.uuid(draft.message_id),
        )
    )  # fmt: skip
