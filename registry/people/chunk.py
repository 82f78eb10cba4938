"""Merging a chunk of drafts in memory, between the reading of what they concern and the writing of what became of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import orjson

from canonical_model.errors import HubError, Refused
from canonical_model.household import Household, Membership
from canonical_model.identifiers import Identifier
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.people.drafts import Change, Task, Written
from registry.people.identity import Known
from registry.people.idtypes import IdentifierTypes
from registry.people.members import Members
from registry.people.record import IDENTIFIER_LIMIT, Columns, Kind, Record, clock_of, turn_of
from registry.people.referring import Referring, speaks, stripped

_VOUCHED: Final = ("civil-event:", "household:")
"""How the source of a person begins who is known only because an event or a group named them."""
_ALIASES: Final = {"area_code": "area"}

Identifiers = Mapping[str, tuple[Known, Identifier]]


@dataclass(slots=True)
class Chunk:
    """Everything a chunk of drafts may concern, and what becomes of it."""

    types: IdentifierTypes
    declared: Collection[str] = ()
    nested: bool = False
    referring: Referring | None = None
    referred: set[UUID] = field(default_factory=set)
    """People whose identity stays at the ID system."""
    tokens: dict[UUID, str] = field(default_factory=dict)
    """New tokens of the ID system, to be kept for people."""
    spoken: dict[UUID, Person] = field(default_factory=dict)
    """What was said of names and contacts of people kept by reference, for search tokens where a country allows them."""
    owners: dict[bytes, UUID] = field(default_factory=dict)
    kinds: dict[UUID, str] = field(default_factory=dict)
    """The kind of every registrant that a draft names, as itself or as a member."""
    moved: dict[UUID, UUID] = field(default_factory=dict)
    """Ids that lead to another: merged registrants, and new ids of drafts whose registrant was there already."""
    records: dict[UUID, Record] = field(default_factory=dict)
    groups: dict[UUID, Members] = field(default_factory=dict)
    touched: dict[UUID, Task] = field(default_factory=dict)
    """Registrants to write, each with the last task that changed it."""
    only: dict[UUID, Task] = field(default_factory=dict)
    """New registrants of whom one draft says everything."""
    resaid: set[UUID] = field(default_factory=set)
    """Registrants whose search tokens have to be made anew."""
    identifiers: dict[tuple[UUID, bytes], tuple[Known, Identifier, bool]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    events: list[tuple[Task, UUID]] = field(default_factory=list)
    nestings: list[tuple[Task, UUID, UUID]] = field(default_factory=list)
    """Groups and the groups that become members of them."""
    broken: dict[UUID, HubError] = field(default_factory=dict)
    """Registrants whose sealed document cannot be opened."""

    def restated(self) -> list[UUID]:
        """Return the ids of those whose status these drafts change."""
        return [one.registrant_id for one in self.changes if "status" in (one.clear or {})]

    def resolve(self, registrant_id: UUID | None) -> UUID | None:
        """Return the id a registrant has now."""
        while registrant_id in self.moved:
            registrant_id = self.moved[registrant_id]
        return registrant_id

    def apply(self, task: Task, fresh: bool) -> Written | HubError:
        """Merge one draft; what is refused leaves everything as it was. `fresh` says that its message is new."""
        owners = self._owners(task.identifiers)
        given = self.resolve(task.given_id)
        if given in self.records:
            owners.add(given)
        for owner in owners & self.broken.keys():
            return self.broken[owner]
        if not fresh:
            return Written(next(iter(owners)) if len(owners) == 1 else None, repeated=True)
        what = _called(task)
        if owners and task.draft.only_new:
            return Refused(
                f"An identifier of {what} belongs to somebody who is registered already; nothing was changed.",
                code="identifier-taken",
                remedy="Look the registrant up by the identifier and change that one, or correct the identifier.",
            )
        if len(owners) > 1:
            return _ambiguous(what, "", owners)
        record = self._record(task, owners)
        if isinstance(record, Refused):
            return record
        expected = task.draft.version
        if expected is not None and expected != record.version:
            return Refused(
                f"Registrant {record.id} has version {record.version} and not {expected} any more; nothing was changed.",
                code="registrant-changed",
                remedy="Read the registrant again, see what others changed, then send your change with its new version.",
            )
        token = self._token(task, record)
        if isinstance(token, Refused):
            return token
        if not record.room_for(task.identifiers):
            return Refused(
                f"Registrant {record.id} would have more than {IDENTIFIER_LIMIT} identifiers with {what}; "
                "nothing was changed.",
                code="identifiers-too-many",
                remedy="Check whether the source gives one identifier to several people.",
            )
        try:
            self._check_identifiers(task, record, task.identifiers)
            members = self._members(task, record) if task.is_group else None
        except Refused as refused:
            return refused
        if token is not None:
            self._refer(record.id, token)
        return self._merge(task, record, members)

    def _token(self, task: Task, record: Record) -> str | Refused | None:
        """Return the token of a person who is kept by reference, empty when it is known; None for everybody else."""
        rules = self.referring
        if rules is None or record.kind != "individual":
            return None
        if record.id not in self.referred and not rules.covers(task.draft.source):
            return None
        found = rules.token(task.identifiers)
        if found is not None:
            known, value = found
            return "" if record.id in self.referred and self.owners.get(known.hash) == record.id else value
        return "" if record.id in self.referred else rules.missing(_called(task))

    def _token_of_member(self, task: Task, identifiers: Identifiers) -> str | Refused | None:
        rules = self.referring
        if rules is None or not rules.covers(task.draft.source):
            return None
        found = rules.token(identifiers)
        return rules.missing(_called(task)) if found is None else found[1]

    def _refer(self, person_id: UUID, token: str) -> None:
        self.referred.add(person_id)
        if token:
            self.tokens[person_id] = token

    def _owners(self, identifiers: Identifiers) -> set[UUID]:
        return {
            self.resolve(self.owners[known.hash]) or self.owners[known.hash]
            for known, _ in identifiers.values()
            if known.live and known.hash in self.owners
        }

    def _record(self, task: Task, owners: set[UUID]) -> Record | Refused:
        kind: Kind = "group" if task.is_group else "individual"
        if owners:
            found = owners.pop()
            if self.kinds.get(found, kind) != kind:
                return Refused(
                    f"{_called(task, first=True)} describes {_A[kind]}, and its identifiers belong to registrant {found}, "
                    "who is none; nothing was changed.",
                    code="registrant-kind-differs",
                    remedy="Correct the identifier at its source, or send it as what it is.",
                )
            return self.records[found]
        if not task.draft.unidentified and not any(known.live for known, _ in task.identifiers.values()):
            return Refused(
                f"{_called(task, first=True)} names no valid identifier of its {_NOUN[kind]}; nothing was changed.",
                code="identifier-missing",
                remedy="Have the partner send an identifier, or map one in the partner's dialect, then send again.",
            )
        source = f"civil-event:{task.draft.source}" if task.draft.event else task.draft.source
        return Record(task.draft.new_id or uuid7(), source, kind=kind, declared=self.declared)

    def _merge(self, task: Task, record: Record, members: Members | None) -> Written:
        draft, created = task.draft, record.created
        if draft.new_id is not None and draft.new_id != record.id:
            self.moved[draft.new_id] = record.id
        record.begin()
        columns, attributes = record.columns, record.attributes
        turn = task.turn or turn_of()
        said, identifiers = draft.value, task.identifiers
        if record.id in self.referred and isinstance(said, Person):
            if speaks(said):
                self.spoken[record.id] = said
                self.resaid.add(record.id)
            record.forget_identity()
            said, identifiers = stripped(said, self.declared), {}
        changed = record.merge(said, identifiers, clock_of(task.at, turn), draft.cleared)
        if draft.event is not None:
            changed = record.merge_event(draft.event, task.at, turn) or changed
            self.events.append((task, record.id))
        elif record.source.startswith(_VOUCHED) and not draft.source.startswith(_VOUCHED):
            # From here on a registry vouches for the person, not only an event or a group that named them.
            record.source = draft.source
            record.touched = True
        before = self.groups.get(record.id)
        if members is not None and any(row.changed for row in members.rows):
            changed = changed or before is None or _shown(before) != _shown(members)
            self.groups[record.id] = members
        record.created = False
        self.only.pop(record.id, None)
        self.records[record.id] = record
        self.kinds[record.id] = record.kind
        if created or changed or record.touched:
            record.version += changed or created
            self.touched[record.id] = task
            self._keep_identifiers(task.identifiers, record)
        if created or record.searched_differently():
            self.resaid.add(record.id)
        if created:
            self.changes.append(Change(record.id, record.version, task, created=True))
            self.only[record.id] = task
        elif changed:
            self.note(task, record, columns, attributes, before)
        return Written(record.id, created, changed or created, version=record.version)

    def _check_identifiers(self, task: Task, record: Record, identifiers: Identifiers) -> None:
        found = self.types.problem(identifiers, record.kind)
        if found is None:
            closed = [
                known.type
                for key, (known, _) in identifiers.items()
                if known.live and self.types.is_closed(known.type) and not record.is_live(key)
            ]
            found = (closed[0], "is new, and no new ones of its type are taken") if closed else None
        if found is not None:
            raise Refused(
                f"An identifier of type {found[0]} in {_called(task)} {found[1]}; nothing was changed.",
                code="identifier-invalid",
                remedy="Correct it at its source, or the rule of the type.",
            )

    def _keep_identifiers(self, identifiers: Identifiers, record: Record) -> None:
        referred = record.id in self.referred
        if referred and self.referring is not None:
            identifiers = self.referring.indexed(identifiers)
        for key, (known, identifier) in identifiers.items():
            live = known.live if referred else record.is_live(key)
            owner = self.owners.get(known.hash)
            if live and owner is None:
                self.owners[known.hash] = record.id
            elif not live and owner == record.id:
                del self.owners[known.hash]
            self.identifiers[record.id, known.hash] = (known, identifier, live)

    def note(
        self,
        task: Task,
        record: Record,
        columns: Columns,
        attributes: Mapping[str, Any],
        before: Members | None,
    ) -> None:
        """Note a new version of a record for its history: what it is now beside the columns and attributes it had."""
        clear: dict[str, list[object]] = {
            _ALIASES.get(name, name): [old, new]
            for name, old, new in zip(Columns._fields, columns, record.columns, strict=True)
            if old != new
        }
        for name in attributes.keys() | record.attributes.keys():
            if attributes.get(name) != record.attributes.get(name):
                clear[f"attributes.{name}"] = [attributes.get(name), record.attributes.get(name)]
        after = self.groups.get(record.id)
        if after is not None and after is not before:
            old = _shown(before) if before is not None else []
            new = _shown(after)
            if old != new:
                clear["memberships"] = [
                    [each for each in old if each not in new],
                    [each for each in new if each not in old],
                ]
        sealed = {
            name: [old, new]
            for (name, old), new in zip(record.before.items(), record.after().values(), strict=True)
        }
        names = clear.keys() | {_field(name) for name in (*sealed, *record.changed)}
        self.changes.append(
            Change(
                record.id,
                record.version,
                task,
                fields=sorted(names),
                clear=clear or None,
                sealed=_packed(sealed),
            )
        )

    def _members(self, task: Task, record: Record) -> Members:
        held = self.groups.get(record.id)
        members = held.copy() if held is not None else Members(record.id)
        if not task.members and not _is_whole(task.draft.value):
            return members
        named, made = [], _Made()
        for membership, identifiers in task.members:
            member_id = self._member(task, record, membership, identifiers, made)
            named.append(member_id)
            members.merge(member_id, membership, task.at)
        if _is_whole(task.draft.value):
            members.leave_others(named, task.at)
        members.check()
        self.nestings += [(task, record.id, inner) for inner in made.nested]
        for person, known in made.people:
            if person.id in made.tokens:
                self._refer(person.id, made.tokens[person.id])
            self.records[person.id] = person
            self.kinds[person.id] = "individual"
            self.touched[person.id] = task
            self.resaid.add(person.id)
            self._keep_identifiers(known, person)
            self.changes.append(Change(person.id, person.version, task, created=True))
        return members

    def _member(
        self, task: Task, record: Record, membership: Membership, identifiers: Identifiers, made: _Made
    ) -> UUID:
        found = self._owners(identifiers) | made.owners(identifiers)
        given = self.resolve(membership.person_id)
        if given is not None and given in self.kinds:
            found.add(given)
        if len(found) > 1:
            raise _ambiguous(_called(task), "a member of ", found)
        if not found:
            live = tuple(identifier for known, identifier in identifiers.values() if known.live)
            if given is not None or not live:
                raise Refused(
                    f"{_called(task, first=True)} names a member the registry does not have; nothing was changed.",
                    code="member-unknown",
                    remedy="Send the person first, or name the member by an identifier.",
                )
            # Nothing is known of them but an identifier; the person itself may come later.
            person = Record(uuid7(), f"household:{task.draft.source}", declared=self.declared)
            self._check_identifiers(task, person, identifiers)
            token = self._token_of_member(task, identifiers)
            if isinstance(token, Refused):
                raise token
            if token is None:
                person.merge(Person(identifiers=live), identifiers, clock_of(task.at, task.turn))
            else:
                made.tokens[person.id] = token
            person.created, person.version = False, 1
            made.people.append((person, identifiers))
            return person.id
        member = found.pop()
        if member == record.id:
            raise cycle(task, member)
        if self.kinds.get(member) == "group":
            if not self.nested:
                raise Refused(
                    f"{_called(task, first=True)} names group {member} as a member; groups in groups are not switched on. "
                    "Nothing was changed.",
                    code="group-nested",
                    remedy="Set HUB_NESTED_GROUPS=true if the country has groups of groups, or correct the member.",
                )
            made.nested.append(member)
        return member


@dataclass(slots=True)
class _Made:
    """What a group's draft makes besides the group; nothing of it counts when the group is refused."""

    people: list[tuple[Record, Identifiers]] = field(default_factory=list)
    nested: list[UUID] = field(default_factory=list)
    tokens: dict[UUID, str] = field(default_factory=dict)

    def owners(self, identifiers: Identifiers) -> set[UUID]:
        """Return who of the people made has one of these identifiers."""
        return {
            person.id
            for person, theirs in self.people
            if any(key in theirs and known.live for key, (known, _) in identifiers.items())
        }


def cycle(task: Task, group_id: UUID) -> Refused:
    """Return the refusal of a draft that would make a group a member of itself, directly or through others."""
    return Refused(
        f"Group {group_id} would be a member of itself with {_called(task)}; nothing was changed.",
        code="group-cycle",
        remedy="Correct the member at its source.",
    )


_A: Final = {"individual": "an individual", "group": "a group"}
_NOUN: Final = {"individual": "person", "group": "group"}


def _shown(members: Members) -> list[list[Any]]:
    return [row.shown() for row in members.rows]


def _is_whole(value: Person | Household) -> bool:
    """Say whether the members given are all there are, as a draft says by `is_partial_group: false`."""
    return (
        isinstance(value, Household)
        and value.is_partial_group is False
        and "memberships" in value.model_fields_set
    )


def _called(task: Task, *, first: bool = False) -> str:
    message_id = task.draft.message_id
    if message_id is not None:
        return f"{'M' if first else 'm'}essage {message_id}"
    return f"{'T' if first else 't'}he draft"


def _ambiguous(what: str, of: str, owners: Iterable[UUID]) -> Refused:
    found: Sequence[str] = sorted(map(str, owners))
    return Refused(
        f"The identifiers of {of}{what} belong to {len(found)} registrants ({', '.join(found)}); nothing was changed.",
        code="identifier-ambiguous",
        remedy="Find out which identifier is wrong, correct it at its source, then replay the message.",
    )


def _field(name: str) -> str:
    """Return the name of a changed field as it lies in clear; keys of facts and identifiers may hold their values."""
    place, _, key = name.partition("\x00")
    return _ALIASES.get(place, place) if place != "facts" else key.partition(":")[0]


def _packed(sealed: Mapping[str, list[Any]]) -> bytes | None:
    return orjson.dumps(sealed) if sealed else None
