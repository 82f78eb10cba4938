"""The one writer of registrants: any number of drafts in a fixed number of statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.civil_event import CivilEventType
from canonical_model.errors import Defect, HubError, Refused, Unavailable
from canonical_model.household import Household
from canonical_model.identifiers import Identifier
from canonical_model.message import uuid7_time
from registry.people import rows
from registry.people.chunk import Chunk, cycle
from registry.people.drafts import Draft, StatusHook, Task, Tokens, Written
from registry.people.identity import known
from registry.people.idtypes import IdentifierTypes
from registry.people.record import Record
from registry.people.rows import Connection, Keys
from registry.vault import DataKey, Vault, sealed_place

_ROUNDS: Final = 5
_AGAIN: Final = (
    asyncpg.UniqueViolationError,
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ForeignKeyViolationError,
)
_DATA: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
_MEMBERSHIP: Final = {
    "membership_one_head": "group-head-taken",
    "membership_one_recipient": "group-recipient-taken",
    "membership_once": "membership-overlaps",
}


class Writer:
    """Creates and updates individuals and groups from drafts; who gives one writes exactly this way.

    `tokens` makes the search tokens of a registrant, `declared` names the attributes that lie in clear, `nested` allows
    groups in groups, `types` has the rules of identifiers, `on_status` is told whose status changed.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        tokens: Tokens | None = None,
        declared: Collection[str] = (),
        nested: bool = False,
        types: IdentifierTypes | None = None,
        on_status: StatusHook | None = None,
    ) -> None:
        self._vault = vault
        self._tokens = tokens
        self._declared = declared
        self._nested = nested
        self._types = types or IdentifierTypes()
        self._typed = types is not None
        self._on_status = on_status

    def prepare(self, draft: Draft) -> Task:
        """Make a draft ready outside of any transaction: hash its identifiers, fix the time of its facts."""
        value, blind = draft.value, self._vault.blind
        members = value.memberships if isinstance(value, Household) else ()
        return Task(
            draft,
            _bounded(value.last_updated or draft.at, draft.message_id),
            draft.message_id,
            known(blind, (*value.identifiers, *_number(draft))),
            [(each, known(blind, each.identifiers)) for each in members],
            b"" if draft.event is None else draft.event.model_dump_json(exclude_none=True).encode(),
        )

    async def write(self, connection: Connection, drafts: Sequence[Draft | Task]) -> list[Written | HubError]:
        """Write drafts in one transaction, or within the caller's; return for each what became of it, or why nothing did.

        A draft that cannot be written harms no other: it is answered with `Refused` or `Defect`. Raises `Unavailable`
        (`people-busy`) when other writers were faster too often, and what the database raises when it is away.
        """
        tasks = [self.prepare(each) if isinstance(each, Draft) else each for each in drafts]
        return await self._write(connection, tasks) if tasks else []

    async def _write(self, connection: Connection, tasks: Sequence[Task]) -> list[Written | HubError]:
        try:
            return await self._rounds(connection, tasks)
        except _DATA as error:
            if len(tasks) == 1:
                return [_refused(error, tasks[0])]
        # One of them is not taken by the database; halving finds it in few transactions.
        half = len(tasks) // 2
        return [*await self._write(connection, tasks[:half]), *await self._write(connection, tasks[half:])]

    async def _rounds(self, connection: Connection, tasks: Sequence[Task]) -> list[Written | HubError]:
        keys = Keys(
            await self._vault.current_key("registrant_vault"),
            await self._vault.current_key("registrant_change"),
            await self._vault.current_key("civil_event") if any(task.event for task in tasks) else None,
        )
        barred: dict[int, HubError] = {}
        tries = 0
        while tries < _ROUNDS:
            try:
                async with connection.transaction():
                    return await self._once(connection, tasks, keys, barred)
            except _AGAIN as error:
                if _constraint(error) in _MEMBERSHIP:
                    raise
                # Another writer was faster; what it wrote is found in the next round.
                tries += 1
            except _Cycles as found:
                barred.update(found.refused)
        raise Unavailable(
            f"{len(tasks)} drafts of people met other writers {_ROUNDS} times; nothing of them was written.",
            code="people-busy",
            retry_after=1,
            remedy="Nothing: they are tried again. If it goes on, look for long transactions in the database.",
        )

    async def _once(
        self, connection: Connection, tasks: Sequence[Task], keys: Keys, barred: Mapping[int, HubError]
    ) -> list[Written | HubError]:
        claimed = await rows.claim(connection, {task.fact_id for task in tasks if task.fact_id is not None})
        if self._typed:
            await self._types.look(connection)
        chunk = Chunk(self._types, self._declared, self._nested)
        await self._open(chunk, await rows.read(connection, chunk, tasks))
        answers: dict[int, Written | HubError] = {}
        refused: set[UUID] = set()
        # People first, so that the groups of the same chunk find them.
        for place in sorted(range(len(tasks)), key=lambda place: tasks[place].is_group):
            task = tasks[place]
            # A repeat within the chunk is told apart by the first one having taken the claim away.
            fresh = task.fact_id is None or task.fact_id in claimed
            answer = barred.get(place) or chunk.apply(task, fresh)
            if task.fact_id is not None and fresh:
                if isinstance(answer, HubError):
                    refused.add(task.fact_id)
                else:
                    claimed.discard(task.fact_id)
                    refused.discard(task.fact_id)
            answers[place] = answer
        await rows.write(connection, chunk, keys, self._tokens, datetime.now(UTC))
        if self._on_status is not None and (restated := chunk.restated()):
            await self._on_status(connection, restated)
        cycles = await rows.cycles(connection, chunk)
        if cycles:
            raise _Cycles(
                {tasks.index(task): cycle(task, top) for task, top, _ in chunk.nestings if top in cycles}
            )
        await rows.release(connection, refused)
        return [answers[place] for place in range(len(tasks))]

    async def _open(self, chunk: Chunk, documents: Sequence[asyncpg.Record]) -> None:
        keys: dict[int, DataKey] = {}
        for row in documents:
            registrant_id, key_id = row["registrant_id"], row["key_id"]
            held = chunk.records[registrant_id]
            try:
                key = keys.get(key_id) or keys.setdefault(key_id, await self._vault.key(key_id))
                opened = key.open(row["sealed"], sealed_place(row["format"], registrant_id))
            except Defect as broken:
                chunk.broken[registrant_id] = broken
                continue
            chunk.records[registrant_id] = Record.from_bytes(
                registrant_id, held.source, held.version, opened, kind=held.kind, declared=self._declared
            )


class _Cycles(Exception):
    """Drafts that would make groups members of themselves; the chunk is written again without them."""

    def __init__(self, refused: Mapping[int, HubError]) -> None:
        super().__init__()
        self.refused = refused


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


def _constraint(error: BaseException) -> str | None:
    return getattr(error, "constraint_name", None)


def _refused(error: asyncpg.PostgresError, task: Task) -> Refused:
    """Return the refusal of what the database does not take; its own text holds rows and is dropped."""
    code = _MEMBERSHIP.get(_constraint(error) or "")
    what = f"message {task.draft.message_id}" if task.draft.message_id else "a draft"
    if code is not None:
        return Refused(
            f"A membership of {what} meets another one of its group; nothing was changed.",
            code=code,
            remedy="Send the end of the other membership or role first, then send it again.",
        )
    return Refused(
        f"The database does not take the data of {what} ({type(error).__name__}); nothing was changed.",
        code="person-data-refused",
        remedy="Look at the message's values in the console, correct the mapping, then replay it.",
    )
