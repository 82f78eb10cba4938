"""Drafts of registrants nobody knows yet, made ready for their tables without merging: one draft says all there is.

Whatever is not plain (an event, a correction, a member named by identifier, a death) goes through `registry.people.chunk`,
and so does every draft whose identifiers turn out to be known. What both write is the same; a test holds them to it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.civil_event import CivilEventType
from canonical_model.household import Household
from canonical_model.identifiers import Identifier
from canonical_model.message import uuid7, uuid7_time
from canonical_model.person import Person
from registry.people import versions
from registry.people.drafts import Change, Draft, Task, Tokens, Written
from registry.people.identity import known
from registry.people.idtypes import IdentifierTypes
from registry.people.made import Newcomer, Rows
from registry.people.record import APART, clock_of, columns_of, promoted, turn_of
from registry.people.referring import Referring
from registry.vault import FORMAT, BlindIndex, DataKey, sealed_place

Connection = asyncpg.Connection | PoolConnectionProxy
_ID_ONLY: Final = frozenset({"id_type", "value"})
_ID_URN: Final = frozenset({"id_type", "value", "namespace"})


def task_of(blind: BlindIndex, draft: Draft) -> Task:
    """Make a draft ready outside of any transaction: hash its identifiers, fix the time of its facts."""
    value = draft.value
    members = value.memberships if isinstance(value, Household) else ()
    return Task(
        draft,
        _bounded(value.last_updated or draft.at, draft.message_id),
        draft.message_id,
        known(blind, (*value.identifiers, *_number(draft))),
        [(each, known(blind, each.identifiers)) for each in members],
        b"" if draft.event is None else draft.event.model_dump_json(exclude_none=True).encode(),
    )


def _bounded(at: datetime | None, message_id: UUID | None) -> datetime:
    """Return the time of a fact, never later than the hub had it: a partner's fast clock must not lock values."""
    had = datetime.now(UTC) if message_id is None else uuid7_time(message_id)
    return had if at is None else min(at.astimezone(UTC), had)


def _number(draft: Draft) -> tuple[Identifier, ...]:
    """Return the registry's number of a birth, which is an identifier of the child."""
    event = draft.event
    if event is None or event.registration_number is None:
        return ()
    birth = event.event_type in (CivilEventType.BIRTH, CivilEventType.FETAL_DEATH)
    return (event.registration_number,) if birth else ()


def is_plain(task: Task, referring: Referring | None = None) -> bool:
    """Say whether a draft says nothing but who somebody is, or which new people form a group.

    A person whose identity stays at an ID system is not plain: only part of what is said may be kept.
    """
    draft = task.draft
    if draft.event is not None or draft.cleared or draft.version is not None or task.given_id is not None:
        return False
    if not task.identifiers and not draft.unidentified:
        return False
    if not all(one.live for one, _ in task.identifiers.values()):
        return False
    value = draft.value
    if isinstance(value, Person):
        return value.death_date is None and (referring is None or not referring.covers(draft.source))
    seen = set()
    for member, identifiers in task.members:
        if (
            identifiers
            or member.person_id is None
            or member.start_date is not None
            or member.ended_date is not None
        ):
            return False
        seen.add(member.person_id)
    return len(seen) == len(task.members)


def made_ready(task: Task, key: DataKey, tokens: Tokens | None, declared: Collection[str]) -> Newcomer:
    """Return the rows of a plain draft, whom nobody is assumed to know; needs no database."""
    value = task.draft.value
    is_group = isinstance(value, Household)
    said = value.model_dump(
        mode="json",
        exclude=APART["group" if is_group else "individual"],
        exclude_unset=True,
        exclude_none=True,
    )
    values: dict[str, Any] = {name: one for name, one in said.items() if one not in ([], {})}
    for name, one in value.attributes.items():
        values[f"attributes.{name}"] = one
    marital = value.marital_status.value if isinstance(value, Person) and value.marital_status else None
    document = {
        "values": {name: (one, 0) for name, one in values.items()},
        "identifiers": {key_: (_identifier(one), 0) for key_, (_, one) in task.identifiers.items()},
        "facts": {} if marital is None else {"person": ({"marital": marital}, 0)},
        "clocks": (clock_of(task.at, task.turn or turn_of()),),
    }
    id_ = task.draft.new_id or uuid7()
    names, contacts = (None, ()) if tokens is None else tokens(value)
    return Newcomer(
        id_, is_group,
        columns_of("group" if is_group else "individual", values.get, marital=marital),
        promoted(values.items(), declared) if declared else {},
        key, key.seal(orjson.dumps(document), sealed_place(FORMAT, id_)), None if names is None else list(names), list(contacts),
    )  # fmt: skip


def _identifier(one: Identifier) -> dict[str, Any]:
    told = one.model_fields_set
    if told == _ID_ONLY:
        return {"id_type": one.id_type, "value": one.value}
    if told == _ID_URN and one.namespace is not None:
        return {"id_type": one.id_type, "value": one.value, "namespace": one.namespace}
    return one.model_dump(mode="json", exclude_none=True)


@dataclass(slots=True)
class Newcomers:
    """The plain drafts of one call that are about new registrants, by their place in the call."""

    types: IdentifierTypes
    referring: Referring | None = None
    taken: dict[int, tuple[Task, Newcomer]] = field(default_factory=dict)
    people: set[UUID] = field(default_factory=set)
    hashes: dict[bytes, Newcomer] = field(default_factory=dict)

    def choose(self, tasks: Sequence[Task], known: Collection[bytes], claimed: set[UUID]) -> list[int]:
        """Return the places of tasks that may be new registrants' as they are; `known` are hashes that somebody has.

        Of several drafts with one identifier only the first is new, and nobody is before drafts that have to be merged.
        """
        plain = [place for place, task in enumerate(tasks) if is_plain(task, self.referring)]
        seen = set(known)
        if len(plain) < len(tasks):
            left = set(range(len(tasks))).difference(plain)
            for place in left:
                task = tasks[place]
                seen.update(one.hash for one, _ in task.identifiers.values())
                for _, identifiers in task.members:
                    seen.update(one.hash for one, _ in identifiers.values())
        facts: set[UUID] = set()
        chosen = []
        for is_group in (False, True):
            for place in plain:
                task = tasks[place]
                if task.is_group is is_group and self._is_new(task, seen, claimed, facts):
                    chosen.append(place)
                    if not is_group and task.draft.new_id is not None:
                        self.people.add(task.draft.new_id)
        return chosen

    def _is_new(self, task: Task, seen: set[bytes], claimed: set[UUID], facts: set[UUID]) -> bool:
        own = [one.hash for one, _ in task.identifiers.values()]
        new = not any(hash_ in seen for hash_ in own)
        seen.update(own)
        if task.fact_id is not None:
            if task.fact_id in facts or task.fact_id not in claimed:
                return False
            facts.add(task.fact_id)
        return (
            new
            and all(member.person_id in self.people for member, _ in task.members)
            and self.types.keeps(task.identifiers, "group" if task.is_group else "individual")
        )

    def take(self, place: int, task: Task, one: Newcomer) -> None:
        """Note one to be written."""
        self.taken[place] = task, one
        for held, _ in task.identifiers.values():
            self.hashes[held.hash] = one

    def found(self) -> list[dict[str, Any]]:
        """Return who has which identifier now, as a search for it would."""
        return [
            {
                "hash": hash_,
                "id": one.id,
                "kind": "group" if one.is_group else "individual",
                "merged_into": None,
            }
            for hash_, one in self.hashes.items()
        ]

    def answer(self, place: int) -> Written:
        """Return what became of a draft that was taken."""
        return Written(self.taken[place][1].id, created=True, changed=True, version=1)

    async def write(
        self, connection: Connection, areas: Mapping[str, int], history: DataKey, at: datetime
    ) -> None:
        """Write all rows, each table at once; `history` is the key of the table of versions."""
        new = self.taken.values()
        if not new:
            return
        rows = Rows()
        for task, one in new:
            rows.add(task, one, areas)
        await rows.write(connection)
        made = [Change(one.id, 1, task, created=True) for task, one in new]
        await versions.write(connection, made, history, at)
