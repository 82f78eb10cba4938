"""The people store: who is known, by which identifiers, in which groups, and what happened to them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import asyncpg
import orjson
from pydantic import BaseModel, ValidationError

from canonical_model.civil_event import CivilEvent, CivilEventType
from canonical_model.errors import HubError, Refused
from canonical_model.household import Household
from canonical_model.person import Person
from registry.people.drafts import Draft, StatusHook, Task, Tokens, Written
from registry.people.idtypes import IdentifierTypes
from registry.people.listing import PeopleFilter, PeoplePage, list_people
from registry.people.merging import Merging
from registry.people.phones import internationally
from registry.people.reading import WAIT, Reader
from registry.people.referring import Referring
from registry.people.search import Search
from registry.people.writing import Writer
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from registry.vault import BlindIndex, ReferenceVault, Vault

_M = TypeVar("_M", bound=BaseModel)
_CALLED: Final = {CivilEvent: "civil event", Household: "household", Person: "person"}


@dataclass(frozen=True, slots=True)
class PersonResult:
    """What became of a record; `id` is None only for a repeat whose identifiers were withdrawn since."""

    id: UUID | None
    created: bool
    changed: bool
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class EventResult:
    """What became of a civil event; `id` is that of its message, `created` says it made the person known."""

    id: UUID
    person_id: UUID | None
    created: bool
    changed: bool
    repeated: bool = False


class PeopleStore(Reader):
    """Individuals and groups by identifier and the vital events recorded of them; identity data lies sealed.

    Concurrent calls are collected for `delay` seconds and written in one transaction by `writer`; each message is applied
    once, however often it is handed in. Every method raises `Unavailable` (`database-unavailable`, `people-busy`) when the
    database cannot do it now.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        blind: BlindIndex,
        *,
        tokens: Tokens | None = None,
        declared: Collection[str] = (),
        nested: bool = False,
        region: str | None = None,
        on_status: StatusHook | None = None,
        referring: Referring | None = None,
        references: ReferenceVault | None = None,
        delay: float = 0.003,
        group: int = 128,
    ) -> None:
        super().__init__(pool, vault, blind, references)
        self.identifier_types = IdentifierTypes(pool)
        self.writer = Writer(
            vault,
            tokens=tokens,
            declared=declared,
            nested=nested,
            types=self.identifier_types,
            on_status=on_status,
            referring=referring,
            references=references,
        )
        self.search = Search(pool, vault, blind, referring=referring, references=references)
        self.merging = Merging(
            vault, self.identifier_types, tokens=tokens, declared=declared, on_status=on_status
        )
        self.region = region
        self._groups: GroupCommit[Task, Written] = GroupCommit(
            self._write, delay=delay, most=group, parallel=2
        )

    async def upsert(
        self,
        person: Mapping[str, Any],
        *,
        source: str,
        message_id: UUID | None = None,
        at: datetime | None = None,
        actor: str = "hub",
        request_id: str | None = None,
        unidentified: bool = False,
    ) -> PersonResult:
        """Create or update the person a canonical `Person` describes, found by any of its identifiers.

        `at` is the time of the facts (default: when the hub accepted the message); a value is replaced only by a later
        one. With `unidentified` somebody without any identifier is new. Raises `Refused`: `person-invalid`, `identifier-missing`, `identifier-ambiguous`, `identifiers-too-many`,
        `registrant-kind-differs`, `identifier-invalid`, `phone-invalid`.
        """
        given = _checked(Person, internationally(person, self.region), message_id)
        done = await self._submit(
            Draft(given, source, actor, at, message_id, request_id, unidentified=unidentified)
        )
        return PersonResult(done.id, done.created, done.changed, done.repeated)

    async def upsert_group(
        self,
        household: Mapping[str, Any],
        *,
        source: str,
        message_id: UUID | None = None,
        at: datetime | None = None,
        actor: str = "hub",
        request_id: str | None = None,
        unidentified: bool = False,
    ) -> PersonResult:
        """Create or update the group a canonical `Household` describes, and the memberships it names.

        A member is found by the hub's id or by identifier; one known by an identifier alone becomes known by it. Members
        not named stay, unless `is_partial_group` is false: then the list is whole, and who is missing left on the day of
        the fact. Raises `Refused` as `upsert` does, with `household-invalid`, `member-unknown`, `group-head-taken`,
        `group-recipient-taken`, `membership-overlaps`, `membership-dates-reversed`, `group-nested`, `group-cycle`,
        `group-too-large`.
        """
        given = _checked(Household, internationally(household, self.region), message_id)
        done = await self._submit(
            Draft(given, source, actor, at, message_id, request_id, unidentified=unidentified)
        )
        return PersonResult(done.id, done.created, done.changed, done.repeated)

    async def end_membership(
        self, group_id: UUID, member_id: UUID, *, source: str, actor: str, on: date | None = None
    ) -> PersonResult:
        """End somebody's membership on a day (default: today, UTC), from which on they no longer belong to the group."""
        day = on or datetime.now(UTC).date()
        members = [{"person_id": str(member_id), "ended_date": day.isoformat()}]
        if not any(each.member_id == member_id for each in await self.members(group_id, past=True)):
            raise Refused(
                f"Registrant {member_id} was never a member of group {group_id}; nothing was changed.",
                code="member-unknown",
                remedy="Look at the members the group has, then name one of them.",
            )
        return await self.upsert_group(
            {"household_id": str(group_id), "memberships": members}, source=source, actor=actor
        )

    async def record_event(
        self, event: Mapping[str, Any], *, source: str, message_id: UUID, at: datetime | None = None
    ) -> EventResult:
        """Record a canonical `CivilEvent` and what it means for its subject, who becomes known by it when they were not.

        Raises `Refused` as `upsert` does, with `civil-event-invalid` for data of another shape.
        """
        given = _checked(CivilEvent, event, message_id)
        done = await self._submit(
            Draft(_subject_of(given), source, at=at, message_id=message_id, event=given)
        )
        return EventResult(message_id, done.id, done.created, done.changed, done.repeated)

    async def list(
        self, wanted: PeopleFilter | None = None, *, limit: int = 50, cursor: str | None = None
    ) -> PeoplePage:
        """Return a page of registrants without identity data, newest first, at most 200; `PeopleFilter.read` reads filters.

        Raises `Refused`: `cursor-invalid` for a cursor of another list, `area-unknown`.
        """
        return await list_people(self._pool, wanted or PeopleFilter(), limit=limit, cursor=cursor)

    async def was_applied(self, message_id: UUID) -> bool:
        """Say whether a message was applied here."""
        async with database_errors("asking about a message"), asyncio.timeout(WAIT):
            found = await self._pool.fetchval(
                "SELECT EXISTS (SELECT 1 FROM applied_message WHERE message_id = $1)", message_id
            )
        return bool(found)

    async def probe(self) -> None:
        """Prove that the store can be read; raises `Unavailable`."""
        async with database_errors("probing the people store"), asyncio.timeout(WAIT):
            await self._pool.fetchval("SELECT EXISTS (SELECT 1 FROM registrant)")

    async def close(self) -> None:
        """Write what was handed in and return; the pool stays the caller's."""
        await self._groups.drain()

    async def _submit(self, draft: Draft) -> Written:
        return await self._groups.submit(self.writer.prepare(draft))

    async def _write(self, tasks: Sequence[Task]) -> Sequence[Written | HubError]:
        async with (
            database_errors("writing people"),
            self._pool.acquire(timeout=WAIT) as connection,
        ):
            return await self.writer.write(connection, tasks)


def _subject_of(event: CivilEvent) -> Person:
    """Return what an event says of its subject besides the event itself, whose meaning is merged on its own."""
    subject = event.subject
    kind = event.event_type
    if kind in (CivilEventType.DEATH, CivilEventType.FETAL_DEATH):
        return subject.model_copy(update={"death_date": None})
    if kind in (CivilEventType.MARRIAGE, CivilEventType.DIVORCE):
        return subject.model_copy(update={"marital_status": None})
    return subject


def _checked(model: type[_M], data: Mapping[str, Any], message_id: UUID | None) -> _M:
    try:
        return model.model_validate(orjson.loads(orjson.dumps(dict(data))))
    except (ValidationError, orjson.JSONEncodeError) as error:
        places = (
            sorted(
                {"/".join(_step(each) for each in item["loc"]) for item in error.errors(include_input=False)}
            )[:10]
            if isinstance(error, ValidationError)
            else []
        )
        name = _CALLED[model]
        what = "The data given" if message_id is None else f"The data of message {message_id}"
        raise Refused(
            f"{what} is no canonical {name}: {', '.join(places) or 'not JSON'}. Nothing was changed.",
            code=f"{name.replace(' ', '-')}-invalid",
            pointer=f"/data/{places[0]}" if places else None,
            remedy="Correct the mapping that made the message, then replay it.",
        ) from None


def _step(place: Any) -> str:
    """Return one step of a path; a name the model does not know may be somebody's and is not repeated."""
    return str(place) if isinstance(place, int) or place in _NAMES else "?"


def _names(model: type[BaseModel]) -> set[str]:
    schema = model.model_json_schema()
    return {
        name for part in (schema, *schema.get("$defs", {}).values()) for name in part.get("properties", ())
    }


_NAMES: Final = _names(CivilEvent) | _names(Household)
