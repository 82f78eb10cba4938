"""Making new registrants ready far from the database: in a thread while another chunk is written, or in another process.

It is done on the guess that nobody knows whom the drafts describe. A wrong guess costs the work done here and nothing else.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from registry.people.drafts import Draft, Task, Tokens
from registry.people.idtypes import IdentifierType, IdentifierTypes
from registry.people.made import Newcomer, Rows
from registry.people.newcomers import Newcomers, made_ready, task_of
from registry.people.tokens import registrant_tokens
from registry.vault import BlindIndex, DataKey


@dataclass(frozen=True, slots=True)
class Lent:
    """What of a writer another process of the hub needs; it holds secrets, and goes over a pipe only that process reads."""

    key: tuple[int, bytes] = field(repr=False)
    blind: bytes = field(repr=False)
    tokens: bool
    """Whether search tokens are made."""
    declared: frozenset[str]
    types: Mapping[str, IdentifierType]


@dataclass(slots=True)
class MadeUnit:
    """Registrants that are written together or not at all: a household and its people, or somebody alone."""

    hashes: list[bytes]
    """Of all their identifiers: when somebody has one of them, the unit is not new."""
    ids: bytes
    """The ids of all, 16 bytes each."""
    rows: Rows


class Maker:
    """Makes the units of a chunk from its drafts, in another process than the writer's."""

    def __init__(self, lent: Lent, areas: Mapping[str, int]) -> None:
        self._key = DataKey(*lent.key)
        self._blind = BlindIndex(lent.blind)
        self._tokens: Tokens | None = partial(registrant_tokens, self._blind) if lent.tokens else None
        self._declared: Collection[str] = lent.declared
        self._types = IdentifierTypes.held_elsewhere(lent.types)
        self._areas = areas

    def units(
        self, drafts: Sequence[Draft], together: Sequence[Sequence[int]]
    ) -> dict[Sequence[int], MadeUnit]:
        """Return the units of drafts that may be written as they are, by their places; `together` names places per unit."""
        tasks = [task_of(self._blind, draft) for draft in drafts]
        chosen = set(Newcomers(self._types).choose(tasks, (), set()))
        made: dict[Sequence[int], MadeUnit] = {}
        for places in together:
            if chosen.issuperset(places):
                made[tuple(places)] = self._unit([tasks[place] for place in places])
        return made

    def _unit(self, tasks: Sequence[Task]) -> MadeUnit:
        rows = Rows()
        ids = []
        for task in tasks:
            one: Newcomer = made_ready(task, self._key, self._tokens, self._declared)
            rows.add(task, one, self._areas)
            ids.append(one.id.bytes)
        hashes = [known.hash for task in tasks for known, _ in task.identifiers.values()]
        return MadeUnit(hashes, b"".join(ids), rows)
