"""What a change means for the registry as it is: the drafts that carry it out, and the change that takes it back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final
from uuid import UUID

import orjson
from pydantic import ValidationError

from canonical_model.dates import PartialDate
from canonical_model.errors import Refused
from canonical_model.household import Household, Membership, MembershipRole
from canonical_model.identifiers import Identifier, IdentifierStatus
from canonical_model.message import uuid7
from canonical_model.person import Person
from registry.changes.kinds import (
    CHANGE,
    TYPES,
    AddMember,
    Change,
    ChangeHead,
    CreateGroup,
    Edit,
    Exit,
    Held,
    Identify,
    RemoveMember,
    Restore,
    TransferMember,
)
from registry.people import Draft
from registry.people.identity import known
from registry.people.joining import Row
from registry.people.phones import internationally
from registry.people.record import Record
from registry.vault import BlindIndex

_HEAD: Final = MembershipRole.HEAD.value


@dataclass(frozen=True, slots=True)
class State:
    """The registrants a change touches, opened and locked, and every membership of its groups."""

    records: Mapping[UUID, Record]
    memberships: Sequence[Row]
    blind: BlindIndex
    region: str | None = None

    def active(self, group: UUID, member: UUID, on: date) -> Row:
        """Return the membership that holds on a day; raises `Refused` (`change-impossible`) when none does."""
        for row in self.memberships:
            if row.group == group and row.member == member and holds(row, on):
                return row
        raise impossible(f"registrant {member} is no member of group {group} on {on}")


@dataclass(slots=True)
class Plan:
    """The drafts of a change, and the change that undoes it."""

    values: list[Person | Household] = field(default_factory=list)
    cleared: list[tuple[str, ...]] = field(default_factory=list)
    undo: Change | None = None
    new_id: UUID | None = None

    def add(self, value: Person | Household, cleared: Iterable[str] = ()) -> None:
        """Add what is said of one registrant, and which of its fields have no value any more."""
        self.values.append(value)
        self.cleared.append(tuple(cleared))

    def drafts(self, actor: str, source: str, request_id: str) -> list[Draft]:
        """Return it as drafts for the writer of registrants."""
        return [
            Draft(
                value, source, actor, request_id=request_id, cleared=cleared,
                new_id=self.new_id, unidentified=self.new_id is not None,
            )
            for value, cleared in zip(self.values, self.cleared, strict=True)
        ]  # fmt: skip


def holds(row: Row, on: date) -> bool:
    """Say whether a membership holds on a day."""
    return row.start <= on and (row.end is None or on < row.end)


def plan(change: Change, state: State) -> Plan:
    """Say how a change is carried out; of merges and splits, which no draft can say, nothing.

    Raises `Refused`: `change-invalid` for values the canonical model does not take, `change-impossible` where the registry
    is not as the change takes it to be.
    """
    made = Plan()
    if isinstance(change, Edit):
        made.undo = Restore(edits=(_edit(made, change, state),))
    elif isinstance(change, Exit):
        if state.records[change.registrant].columns.status == "inactive":
            raise impossible(f"registrant {change.registrant} is inactive already")
        edit = Edit(
            registrant=change.registrant, set={"status": "inactive", "disabled_reason": change.reason}
        )
        made.undo = Restore(edits=(_edit(made, edit, state),))
    elif isinstance(change, Identify):
        made.undo = Restore(identifiers=(_identify(made, change, state),))
    elif isinstance(change, CreateGroup):
        made.new_id = uuid7()
        made.add(change.household)
    elif isinstance(change, Restore):
        made.undo = Restore(
            edits=tuple(_edit(made, one, state) for one in change.edits),
            identifiers=tuple(_identify(made, one, state) for one in change.identifiers),
            memberships=_hold(made, change.memberships, state),
        )
    elif isinstance(change, AddMember | RemoveMember | TransferMember | ChangeHead):
        made.undo = Restore(memberships=_hold(made, _memberships(change, state), state))
    return made


def emptied(memberships: Sequence[Row], group: UUID) -> Restore:
    """Return what takes back the making of a group: it goes out of use, and its memberships hold on no day."""
    edit = Edit(registrant=group, set={"status": "inactive", "disabled_reason": "created by mistake"})
    return Restore(edits=(edit,), memberships=tuple(_held(row.emptied()) for row in memberships))


def shown(record: Record) -> dict[str, Any]:
    """Return a record's fields as JSON, those without a value left out."""
    told = record.canonical().model_dump(mode="json", exclude_none=True)
    return {name: value for name, value in told.items() if value not in ([], {})}


def _edit(made: Plan, change: Edit, state: State) -> Edit:
    record = state.records[change.registrant]
    model: type[Person] | type[Household] = Person if record.kind == "individual" else Household
    given: dict[str, Any] = {}
    cleared = []
    for name, value in change.set.items():
        if name not in model.model_fields:
            raise invalid("a field belongs to the other kind of registrant", f"/set/{name}")
        if name == "attributes":
            cleared += [f"attributes.{each}" for each, held in value.items() if held is None]
            given[name] = {each: held for each, held in value.items() if held is not None}
        elif value in (None, [], {}):
            cleared.append(name)
        else:
            given[name] = value
    given["person_id" if model is Person else "household_id"] = str(record.id)
    made.add(checked(model, internationally(given, state.region), "/set"), cleared)
    old = shown(record)
    back = {name: old.get(name) for name in change.set if name != "attributes"}
    if "attributes" in change.set:
        held = old.get("attributes", {})
        back["attributes"] = {name: held.get(name) for name in change.set["attributes"]}
    return Edit(registrant=record.id, set=back)


def _identify(made: Plan, change: Identify, state: State) -> Identify:
    record = state.records[change.registrant]
    held = {key: one for key, (_, one) in known(state.blind, record.identifiers()).items()}
    added = {key: one for key, (_, one) in known(state.blind, change.add).items()}
    ended = {}
    for key in known(state.blind, change.end):
        if key not in held or not record.is_live(key):
            raise impossible(f"registrant {record.id} has no such valid identifier to end")
        ended[key] = held[key].model_copy(update={"status": IdentifierStatus.INVALID})
    if clash := ended.keys() & added.keys():
        raise invalid(f"{len(clash)} identifiers are both added and ended", "/end")
    identifiers = (*added.values(), *ended.values())
    made.add(
        Person(person_id=record.id, identifiers=identifiers)
        if record.kind == "individual"
        else Household(household_id=record.id, identifiers=identifiers)
    )
    return Identify(
        registrant=record.id,
        add=tuple(held[key] for key in (*added, *ended) if key in held),
        end=tuple(_named(one) for key, one in added.items() if key not in held),
    )


def _named(identifier: Identifier) -> Identifier:
    return Identifier(id_type=identifier.id_type, namespace=identifier.namespace, value=identifier.value)


def _memberships(
    change: AddMember | RemoveMember | TransferMember | ChangeHead, state: State
) -> Sequence[Held]:
    if isinstance(change, AddMember):
        return _added(state, change.group, change.member, change.on, change.roles)
    if isinstance(change, RemoveMember):
        return _ended(state, change.group, change.member, change.on)
    if isinstance(change, TransferMember):
        return [
            *_ended(state, change.source, change.member, change.on),
            *_added(state, change.destination, change.member, change.on, change.roles),
        ]
    on = change.on
    new = state.active(change.group, change.member, on)
    if _HEAD in new.roles:
        raise impossible(f"registrant {change.member} is head of group {change.group} already")
    heads = [
        row
        for row in state.memberships
        if row.group == change.group and _HEAD in row.roles and holds(row, on)
    ]
    changed = [(row, tuple(role for role in row.roles if role != _HEAD)) for row in heads]
    # Roles have no dates of their own, so a new time of the membership begins where they change.
    parts = []
    for row, roles in (*changed, (new, (_HEAD, *new.roles))):
        if row.start < on:
            parts.append(_held(row, end=on))
        parts.append(_held(row, start=on, roles=roles))
    return parts


def _added(
    state: State, group: UUID, member: UUID, on: date, roles: Sequence[MembershipRole]
) -> Sequence[Held]:
    new = Row(UUID(int=0), group, member, tuple(role.value for role in roles), on, None)
    if any(row.group == group and row.member == member and row.overlaps(new) for row in state.memberships):
        raise impossible(f"registrant {member} is a member of group {group} then already")
    return [_held(new)]


def _ended(state: State, group: UUID, member: UUID, on: date) -> Sequence[Held]:
    return [_held(state.active(group, member, on), end=on)]


_SAME: Final = object()


def _held(row: Row, *, start: Any = _SAME, end: Any = _SAME, roles: Any = _SAME) -> Held:
    return Held(
        group=row.group,
        member=row.member,
        start=row.start if start is _SAME else start,
        end=row.end if end is _SAME else end,
        roles=tuple(map(MembershipRole, row.roles if roles is _SAME else roles)),
    )


def _hold(made: Plan, wanted: Sequence[Held], state: State) -> tuple[Held, ...]:
    """Say memberships group by group; return each as it was, one that is new as holding on no day."""
    there = {(row.group, row.member, row.start): row for row in state.memberships}
    by_group: dict[UUID, list[Membership]] = defaultdict(list)
    back = []
    # Who gives something up stands first, so that a start is never taken for one that was not known.
    for one in sorted(wanted, key=lambda one: one.start):
        by_group[one.group].append(
            Membership(
                person_id=one.member,
                roles=one.roles,
                start_date=PartialDate.from_date(one.start),
                ended_date=None if one.end is None else PartialDate.from_date(one.end),
            )
        )
        row = there.get((one.group, one.member, one.start))
        back.append(one.model_copy(update={"end": one.start}) if row is None else _held(row))
    for group, memberships in by_group.items():
        made.add(Household(household_id=group, memberships=tuple(memberships)))
    return tuple(back)


def checked(model: type[Any], data: Mapping[str, Any], before: str) -> Any:
    """Read data by the canonical model; raises `Refused` (`change-invalid`) that names the place and repeats no value."""
    try:
        return model.model_validate_json(orjson.dumps(data))
    except ValidationError as error:
        raise unreadable(error, before) from None


def unreadable(error: ValidationError, before: str = "") -> Refused:
    """Return the refusal of data of another shape; names no model knows may be somebody's and are left out."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    steps = first["loc"][first["loc"][:1] != () and first["loc"][0] in TYPES :]
    place = "".join(f"/{step}" for step in steps if isinstance(step, int) or step in _NAMES)
    what = "there is no such type of change" if first["type"].startswith("union_tag") else first["msg"]
    return invalid(what.rstrip("."), before + place)


def _names(*schemas: Mapping[str, Any]) -> frozenset[str]:
    parts = [part for schema in schemas for part in (schema, *schema.get("$defs", {}).values())]
    return frozenset(name for part in parts for name in part.get("properties", ()))


_NAMES: Final = _names(CHANGE.json_schema(), Person.model_json_schema())


def invalid(what: str, pointer: str | None = None) -> Refused:
    """Return the refusal of a change that is none, whatever the registry holds."""
    where = f" at {pointer}" if pointer else ""
    return Refused(
        f"The change cannot be read{where}: {what}. Nothing was kept.",
        code="change-invalid",
        pointer=pointer or None,
        remedy="Correct it; docs/changes.md shows each kind of change.",
    )


def impossible(what: str) -> Refused:
    """Return the refusal of a change that does not fit the registry as it is."""
    return Refused(
        f"The change cannot be made: {what}. Nothing was changed.",
        code="change-impossible",
        remedy="Look at the registrants with their newest state, then ask for what is still to be done.",
    )
