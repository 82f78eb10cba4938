"""What is handed to the writer, and what it answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from canonical_model.civil_event import CivilEvent
from canonical_model.household import Household, Membership
from canonical_model.identifiers import Identifier
from canonical_model.person import Person
from registry.people.identity import Known

Tokens = Callable[[Person | Household], tuple[Sequence[int], Sequence[int]]]
"""Returns the search tokens of a registrant's names, and of its contact points and accounts."""


StatusHook = Callable[[Any, Sequence[UUID]], Awaitable[object]]
"""Is told, on the connection and in the transaction of the writing, whose status changed: what hangs on it stops with it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A person or group as somebody describes it: found by its hub id or any identifier, else made.

    `at` is the time of the facts (default: `last_updated` of the value, else when it is written); a value gives way only
    to a later one. With a `message_id` the draft is applied once, however often it is written. `new_id` is the id it
    gets when it is new, so that groups of the same call can name it as a member. `unidentified` lets somebody without
    any identifier be written, who then is always new. `cleared` names fields that have no value any more (attributes as
    `attributes.NAME`). With `only_new` the draft is refused (`identifier-taken`) when somebody has one of its identifiers
    already. With a `version` the draft is refused (`registrant-changed`) when the registrant has another.
    """

    value: Person | Household
    source: str
    actor: str = "hub"
    at: datetime | None = None
    message_id: UUID | None = None
    request_id: str | None = None
    new_id: UUID | None = None
    unidentified: bool = False
    cleared: tuple[str, ...] = ()
    version: int | None = None
    only_new: bool = False
    event: CivilEvent | None = None
    """The civil event this is the subject of, recorded sealed; needs a `message_id`, which becomes its id."""


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a draft; `id` is None only for a repeat whose identifiers were withdrawn since."""

    id: UUID | None
    created: bool = False
    changed: bool = False
    repeated: bool = False
    version: int | None = None
    """The version the registrant has now; None for a repeat."""


@dataclass(slots=True, eq=False)
class Task:
    """A draft made ready: its identifiers hashed, its event as JSON."""

    draft: Draft
    at: datetime
    fact_id: UUID | None
    identifiers: Mapping[str, tuple[Known, Identifier]]
    members: Sequence[tuple[Membership, Mapping[str, tuple[Known, Identifier]]]] = ()
    event: bytes = b""
    ready: object | None = None
    """Its rows, where they were made ahead on the guess that the registrant is new."""

    @property
    def turn(self) -> str:
        """What tells its facts from others of the same millisecond; empty without a message."""
        return "" if self.fact_id is None else self.fact_id.hex

    @property
    def is_group(self) -> bool:
        """Whether it describes a group."""
        return isinstance(self.draft.value, Household)

    @property
    def given_id(self) -> UUID | None:
        """The hub's id the draft names, if any."""
        value = self.draft.value
        return value.household_id if isinstance(value, Household) else value.person_id


@dataclass(slots=True)
class Change:
    """One new version of a registrant, for its history."""

    registrant_id: UUID
    version: int
    task: Task
    created: bool = False
    fields: list[str] = field(default_factory=list)
    clear: dict[str, list[object]] | None = None
    sealed: bytes | None = None
