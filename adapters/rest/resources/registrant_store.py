"""Writing registrants: several creates in one transaction, changes only of the version that was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from adapters.http.problems import RequestRefused
from adapters.rest.resources.declaration import Args, Connection, Resource, Viewer
from adapters.rest.resources.registrant_entry import RegistrantBase, entry_of
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.writing import Reply, checked, out_of_sight, tag_of, trace_of
from canonical_model.errors import HubError, Refused
from canonical_model.household import Household
from canonical_model.identifiers import IdentifierStatus
from canonical_model.person import Person
from registry.attributes import Catalog
from registry.audit import insert_many
from registry.people import Draft, PeopleStore, Written
from registry.people.identity import known
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from registry.vault import BlindIndex

_AREAS: Final = """
SELECT a.code, ARRAY(SELECT t.code FROM area t WHERE t.id = ANY (a.path)) AS above FROM area a WHERE a.code = ANY ($1::text[])
"""
_MEMBERS: Final = """
SELECT i.hash, r.id FROM registrant_identifier i JOIN registrant r ON r.id = i.registrant_id
WHERE i.hash = ANY ($2::bytea[]) AND i.live{condition}
UNION ALL SELECT NULL, r.id FROM registrant r WHERE r.id = ANY ($1::uuid[]){condition}
"""
_TAKEN: Final = {"identifier-ambiguous", "identifier-taken"}
_PARALLEL: Final = 3


@dataclass(frozen=True, slots=True)
class _New:
    """One create on its way: who makes whom."""

    viewer: Viewer
    value: Person | Household
    draft: Draft


class Registrants:
    """The store of registrants; what it writes goes through the one writer of people."""

    def __init__(
        self, pool: asyncpg.Pool, people: PeopleStore, blind: BlindIndex, visibility: Visibility,
        catalog: Callable[[], Catalog] | None, *, delay: float = 0.003, most: int = 64,
    ) -> None:  # fmt: skip
        self._pool, self._people, self._blind = pool, people, blind
        self._visibility, self._catalog = visibility, catalog
        self._groups: GroupCommit[_New, Reply] = GroupCommit(
            self._make, delay=delay, most=most, parallel=_PARALLEL
        )
        self.resource: Resource | None = None

    async def gather(self, viewer: Viewer, body: Any) -> Reply:
        """Make one registrant in a transaction with those made at the same time; each has its own answer."""
        assert self.resource is not None
        assert self.resource.entry is not None
        entry = checked(self.resource.entry, body)
        assert isinstance(entry, RegistrantBase)
        return await self._groups.submit(self._new(viewer, entry))

    async def create(self, connection: Connection, viewer: Viewer, entry: RegistrantBase) -> UUID:
        """Make one registrant in the caller's transaction."""
        [made] = await self._written(connection, [self._new(viewer, entry)])
        if isinstance(made, HubError):
            raise made
        return made

    async def current(
        self, connection: Connection, viewer: Viewer, seen: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return a registrant as the body that would write it; nothing of it is answered."""
        record = await self._people.opened(connection, seen["id"])
        if record is None or record.version != seen["version"]:
            raise _changed()
        return entry_of(record)

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: RegistrantBase, seen: Mapping[str, Any]
    ) -> None:
        """Give a registrant the values of the entry and take away those it does not have."""
        if seen["status"] == "merged":
            raise Refused(
                "The registrant was merged into another one. Nothing was changed.",
                code="registrant-merged",
                remedy="Change the registrant that merged_into names.",
            )
        if "memberships" in entry.model_fields_set:
            raise _wrong("/memberships", "Members are changed as memberships of their own")
        if entry.kind != seen["kind"]:
            raise _wrong("/kind", "The kind of a registrant cannot be changed")
        record = await self._people.opened(connection, key)
        if record is None or record.version != seen["version"]:
            raise _changed()
        whole = entry.canonical(key)
        self._check_attributes(entry.kind, whole)
        [problem] = await self._places(connection, [(viewer, whole)])
        if problem is not None:
            raise problem
        value, cleared = _difference(record.canonical(), whole, self._blind)
        draft = Draft(
            value, viewer.name, viewer.actor, request_id=viewer.request_id, cleared=cleared,
            version=seen["version"], unidentified=True,
        )  # fmt: skip
        [done] = await self._people.writer.write(connection, [draft])
        if isinstance(done, HubError):
            raise _said(done)

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        """Refuse: what was registered stays known."""
        raise RequestRefused("A registrant is set inactive, never deleted.", code="method-not-allowed")

    def _new(self, viewer: Viewer, entry: RegistrantBase) -> _New:
        value = entry.canonical()
        self._check_attributes(entry.kind, value)
        draft = Draft(
            value, viewer.name, viewer.actor, request_id=viewer.request_id, unidentified=True, only_new=True
        )
        return _New(viewer, value, draft)

    async def _make(self, group: Sequence[_New]) -> list[Reply | Exception]:
        assert self.resource is not None
        async with (
            database_errors("writing registrants"),
            self._pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            made = await self._written(connection, group)
            ids = [each for each in made if isinstance(each, UUID)]
            await insert_many(
                connection,
                [
                    trace_of(one.viewer, "registrant", id_, "create")
                    for one, id_ in zip(group, made, strict=True)
                    if isinstance(id_, UUID)
                ],
            )
            found = await connection.fetch(f"{self.resource.select} WHERE r.id = ANY ($1::uuid[])", ids)
        rows = {row["id"]: dict(row) for row in found}
        return [each if isinstance(each, HubError) else _reply(self.resource, rows[each]) for each in made]

    async def _written(self, connection: Connection, group: Sequence[_New]) -> list[UUID | HubError]:
        problems = await self._places(connection, [(one.viewer, one.value) for one in group])
        for place, one in enumerate(group):
            if problems[place] is None and one.viewer.partner.programs is not None:
                problems[place] = out_of_sight("registrant")  # nobody is in a program when they are made
            if problems[place] is None and isinstance(one.value, Household) and one.value.memberships:
                problems[place] = await self._members(connection, one.viewer, one.value)
        good = [place for place in range(len(group)) if problems[place] is None]
        done = await self._people.writer.write(connection, [group[place].draft for place in good])
        answers: dict[int, Written | HubError] = dict(zip(good, done, strict=True))
        return [_id_of(problems[place] or answers[place]) for place in range(len(group))]

    async def _places(
        self, connection: Connection, given: Sequence[tuple[Viewer, Person | Household]]
    ) -> list[HubError | None]:
        """Return for each what is wrong with its area: unknown, or outside of the writer's own."""
        codes = {value.area_code for _, value in given} - {None}
        rows = await connection.fetch(_AREAS, list(codes)) if codes else ()
        above = {row["code"]: set(row["above"]) for row in rows}
        problems: list[HubError | None] = []
        for viewer, value in given:
            areas, problem = viewer.partner.areas, None
            if areas is not None and above.get(value.area_code or "", set()).isdisjoint(areas):
                problem = out_of_sight("registrant")
            elif value.area_code is not None and value.area_code not in above:
                problem = _wrong("/area_code", "There is no area with this code")
            problems.append(problem)
        return problems

    async def _members(self, connection: Connection, viewer: Viewer, group: Household) -> HubError | None:
        """Return the refusal of a group with a member the writer may not see, who is as if not there."""
        args = Args([one.person_id for one in group.memberships if one.person_id is not None])
        hashed = [
            {held.hash for held, _ in known(self._blind, one.identifiers).values() if held.live}
            for one in group.memberships
        ]
        args.add([each for hashes in hashed for each in hashes])
        condition = self._visibility(viewer, args)
        statement = _MEMBERS.format(condition=f" AND ({condition})" if condition else "")
        rows = await connection.fetch(statement, *args.values)
        ids, seen = {row["id"] for row in rows if row["hash"] is None}, {row["hash"] for row in rows}
        for place, one in enumerate(group.memberships):
            unknown = one.person_id is not None and one.person_id not in ids
            # Who sees everybody may name a member by an identifier that is new; for others it may be hidden.
            if unknown or (condition is not None and not hashed[place] <= seen):
                return RequestRefused(
                    "There is no such member that you may see. Nothing was changed.",
                    code="member-unknown",
                    pointer=f"/memberships/{place}",
                    remedy="Register the member first, then name them by their id.",
                )
        return None

    def _check_attributes(self, kind: Any, value: Person | Household) -> None:
        problems = [] if self._catalog is None else self._catalog().problems(kind, value.attributes)
        if problems:
            raise RequestRefused(
                f"The attributes break their schema in {len(problems)} places. Nothing was changed.",
                code="attributes-invalid",
                remedy=f"Correct the places named; `hub attributes show {kind}` shows what is declared.",
                places=[{"pointer": one.pointer, "detail": one.rule} for one in problems],
            )


def _difference(
    old: Person | Household, new: Person | Household, blind: BlindIndex
) -> tuple[Person | Household, tuple[str, ...]]:
    """Return what is said anew of a registrant, and the names of what it has no more.

    An identifier left out was withdrawn: it stays known, as one that is no longer valid.
    """
    before, after = (one.model_dump(mode="json", exclude_none=True) for one in (old, new))
    apart = {"identifiers", "attributes", "memberships", "last_updated", "person_id", "household_id"}
    given = {
        name: value
        for name, value in after.items()
        if name not in apart and value not in ([], {}) and before.get(name) != value
    }
    cleared = [
        name
        for name, value in before.items()
        if name not in apart and value not in ([], {}) and after.get(name) in (None, [], {})
    ]
    given["attributes"] = {
        name: value for name, value in new.attributes.items() if old.attributes.get(name) != value
    }
    cleared += [
        f"attributes.{name}" for name, value in old.attributes.items()
        if value is not None and new.attributes.get(name) is None
    ]  # fmt: skip
    held, said = known(blind, old.identifiers), known(blind, new.identifiers)
    given["identifiers"] = [
        one for key, (_, one) in said.items() if key not in held or held[key][1] != one
    ] + [
        one.model_copy(update={"status": IdentifierStatus.INVALID})
        for key, (state, one) in held.items()
        if key not in said and state.live
    ]
    name = "household_id" if isinstance(new, Household) else "person_id"
    model = type(new)
    return model.model_validate({**given, name: getattr(new, name)}), tuple(
        each for each in cleared if each not in given
    )


def _reply(resource: Resource, row: dict[str, Any]) -> Reply:
    return Reply(201, row, {"ETag": tag_of(row), "Location": f"{resource.path}/{row['id']}"})


def _id_of(answer: Written | HubError) -> UUID | HubError:
    if isinstance(answer, HubError):
        return _said(answer)
    assert answer.id is not None  # a draft without a message is no repeat
    return answer.id


def _said(error: HubError) -> HubError:
    """Return a refusal of the writer as a partner may read it: it names nobody the partner may not see."""
    if error.code in _TAKEN:
        return RequestRefused(
            "An identifier belongs to somebody who is registered already. Nothing was changed.",
            code="identifier-taken",
            pointer="/identifiers",
            remedy="Look the registrant up by the identifier. If you do not find it, ask the operator of the hub.",
        )
    if error.code == "registrant-changed":
        return _changed()
    if error.code == "registrant-kind-differs":
        return RequestRefused(
            "An identifier belongs to a registrant of the other kind. Nothing was changed.",
            code="identifier-taken",
            pointer="/identifiers",
        )
    return error


def _changed() -> Refused:
    return Refused(
        "The registrant was changed since it was read. Nothing was changed.",
        code="precondition-failed",
        remedy="Read it again, see what is different, then send your change with the new ETag.",
    )


def _wrong(pointer: str, what: str) -> RequestRefused:
    return RequestRefused(f"{what}. Nothing was changed.", code="request-invalid", pointer=pointer)
