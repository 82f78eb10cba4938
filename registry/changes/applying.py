"""Carrying a change out in the caller's transaction: locks in the writers' order, conflicts, drafts, and what undoes it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect, HubError, Refused
from registry.changes.conflicts import refuse_conflicts
from registry.changes.kinds import Change, CreateGroup, Edit, Identify, Merge, Restore, Split
from registry.changes.planning import State, emptied, impossible, plan, shown
from registry.people import PeopleStore, joining, rows
from registry.people.identity import known
from registry.people.merging import opened
from registry.people.referring import KEPT
from registry.people.rows import Connection
from registry.vault import Vault

_VERSIONS: Final = "SELECT id, version FROM registrant WHERE id = ANY($1::uuid[])"
_SURVIVOR: Final = "SELECT merged_into FROM registrant WHERE id = $1"
_REFERRED: Final = "SELECT registrant_id FROM registrant_reference WHERE registrant_id = ANY($1::uuid[])"
_SHOWN: Final = """
SELECT id, kind, source, version, status, merged_into FROM registrant WHERE id = ANY($1::uuid[])
"""


@dataclass(frozen=True, slots=True)
class Done:
    """What came of a change: the change that takes it back, the versions since, and whom it concerned."""

    undo: Change
    results: Mapping[UUID, int]


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of one registrant, before and after; None for what has no value."""

    registrant: UUID
    name: str
    before: Any = field(repr=False)
    after: Any = field(repr=False)


async def everybody(connection: Connection, change: Change) -> tuple[UUID, ...]:
    """Return whom a change concerns, the survivor of a split included."""
    if isinstance(change, Split):
        survivor = await connection.fetchval(_SURVIVOR, change.absorbed)
        return (change.absorbed,) if survivor is None else (change.absorbed, survivor)
    return change.touches


async def carry_out(
    connection: Connection,
    people: PeopleStore,
    vault: Vault,
    change: Change,
    *,
    request_id: UUID,
    actor: str,
    bases: Mapping[UUID, int],
) -> Done:
    """Carry a change out, all of it or, when it raises, nothing that the caller may commit.

    Raises `Conflict` with the names of the fields others changed, and `Refused`: `change-impossible`, `registrant-not-found`,
    and what the writer of registrants refuses.
    """
    ids = await everybody(connection, change)
    held = await _hold(connection, people, vault, change, ids)
    for each in ids:
        if each not in held:
            raise Refused(
                f"There is no registrant {each}; nothing was changed.",
                code="registrant-not-found",
                remedy="Look the registrant up by identifier or name, and ask with the id the hub has for them.",
            )
        merged = held[each]["merged_into"]
        if merged is not None and not isinstance(change, Split):
            raise impossible(f"registrant {each} was merged into {merged}")
    for name in change.groups:
        if held[getattr(change, name)]["kind"] != "group":
            raise impossible(f"registrant {getattr(change, name)} is no group")
    await refuse_conflicts(connection, change, bases)
    who = {"actor": actor, "source": f"change:{request_id}", "request_id": str(request_id)}
    if isinstance(change, Merge):
        await people.merging.merge(connection, change.survivor, change.absorbed, **who)
        undo: Change = Split(absorbed=change.absorbed)
    elif isinstance(change, Split):
        survivor = await people.merging.split(connection, change.absorbed, **who)
        undo = Merge(survivor=survivor, absorbed=change.absorbed)
    else:
        records = await opened(connection, vault, held.values())
        state = State(records, await joining.read(connection, ids), vault.blind, people.region)
        await _refuse_elsewhere(connection, change)
        made = plan(change, state)
        written = await people.writer.write(connection, made.drafts(**who))
        for answer in written:
            if isinstance(answer, HubError):
                raise answer
        if isinstance(change, CreateGroup):
            answer = written[0]
            if isinstance(answer, HubError) or answer.id is None or not answer.created:
                raise impossible("a group with one of these identifiers is there already")
            ids = (answer.id, *ids)
            made.undo = emptied(await joining.read(connection, (answer.id,)), answer.id)
        if made.undo is None:
            raise Defect(f"A change of type {change.type} has nothing that undoes it.")
        undo = made.undo
    versions = {row["id"]: row["version"] for row in await connection.fetch(_VERSIONS, list(ids))}
    return Done(undo, versions)


async def read(connection: Connection, vault: Vault, ids: Collection[UUID]) -> dict[UUID, dict[str, Any]]:
    """Return registrants opened, field by field, with status and, for groups, memberships as history shows them."""
    held = {row["id"]: row for row in await connection.fetch(_SHOWN, list(ids))}
    records = await opened(connection, vault, held.values())
    members: dict[UUID, list[Any]] = {}
    for one in await joining.read(connection, held):
        if one.end is None or one.end > one.start:
            members.setdefault(one.group, []).append(one.shown())
    found = {}
    for each, row in held.items():
        told = shown(records[each]) if each in records else {}
        attributes = told.pop("attributes", {})
        told.pop("person_id", None)
        told.pop("household_id", None)
        told |= {f"attributes.{name}": value for name, value in attributes.items()}
        told["status"] = row["status"]
        if row["merged_into"] is not None:
            told["merged_into"] = str(row["merged_into"])
        if members.get(each):
            told["memberships"] = members[each]
        found[each] = told
    return found


def differences(
    before: Mapping[UUID, Mapping[str, Any]], after: Mapping[UUID, Mapping[str, Any]]
) -> list[Difference]:
    """Return every field that differs, registrant by registrant."""
    return [
        Difference(each, name, old.get(name), new.get(name))
        for each in dict.fromkeys((*before, *after))
        for old, new in ((before.get(each, {}), after.get(each, {})),)
        for name in sorted(old.keys() | new.keys())
        if old.get(name) != new.get(name)
    ]


async def _refuse_elsewhere(connection: Connection, change: Change) -> None:
    """Refuse to edit here what of people kept by reference stays at the ID system."""
    edits = change.edits if isinstance(change, Restore) else (change,) if isinstance(change, Edit) else ()
    theirs = {one.registrant: sorted(one.set.keys() - {*KEPT, "attributes"}) for one in edits}
    for row in await connection.fetch(_REFERRED, list(theirs)) if theirs else ():
        if fields := theirs[row["registrant_id"]]:
            raise impossible(
                f"registrant {row['registrant_id']} is kept by reference, and the ID system keeps {', '.join(fields)}"
            )


async def _hold(
    connection: Connection, people: PeopleStore, vault: Vault, change: Change, ids: Sequence[UUID]
) -> Mapping[UUID, asyncpg.Record]:
    hashes: Collection[bytes]
    if isinstance(change, Merge | Split):
        hashes, everyone = await people.merging.concerned(connection, ids)
    else:
        hashes, everyone = _hashes(vault, change), list(ids)
    return {row["id"]: row for row in await rows.hold(connection, hashes, everyone) if row["id"] in set(ids)}


def _hashes(vault: Vault, change: Change) -> list[bytes]:
    if isinstance(change, Identify):
        given = (*change.add, *change.end)
    elif isinstance(change, Restore):
        given = tuple(each for one in change.identifiers for each in (*one.add, *one.end))
    elif isinstance(change, CreateGroup):
        members = change.household.memberships
        given = (*change.household.identifiers, *(each for one in members for each in one.identifiers))
    else:
        return []
    return [entry.hash for entry, _ in known(vault.blind, given).values()]
