"""The one writer of registrants: any number of drafts in a fixed number of statements."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Defect, HubError, Refused, Unavailable
from registry.people import rows, versions
from registry.people.ahead import Lent, MadeUnit
from registry.people.chunk import Chunk, cycle
from registry.people.drafts import Draft, StatusHook, Task, Tokens, Written
from registry.people.idtypes import IdentifierTypes
from registry.people.made import Newcomer, Rows
from registry.people.newcomers import Newcomers, is_plain, made_ready, task_of
from registry.people.record import Record
from registry.people.referring import Referring
from registry.people.rows import Connection, Keys
from registry.vault import DataKey, Entry, ReferenceVault, Vault, sealed_place

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
    groups in groups, `types` has the rules of identifiers, `on_status` is told whose status changed. With `referring` and
    `references` the identity of people stays at an ID system, and the hub keeps its token.
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
        referring: Referring | None = None,
        references: ReferenceVault | None = None,
    ) -> None:
        self._vault = vault
        self._tokens = tokens
        self._declared = declared
        self._nested = nested
        self._types = types or IdentifierTypes()
        self._typed = types is not None
        self._on_status = on_status
        self._referring = referring
        self._references = references

    def prepare(self, draft: Draft) -> Task:
        """Make a draft ready outside of any transaction: hash its identifiers, fix the time of its facts."""
        return task_of(self._vault.blind, draft)

    def ahead(self, drafts: Sequence[Draft]) -> list[Task]:
        """Make drafts ready, on the guess that nobody knows whom they describe; may be called in any thread.

        A wrong guess costs the work done here and nothing else.
        """
        key = self._vault.cached_key("registrant_vault")
        tasks = [self.prepare(draft) for draft in drafts]
        if key is not None:
            for task in tasks:
                if is_plain(task, self._referring):
                    task.ready = made_ready(task, key, self._tokens, self._declared)
        return tasks

    async def lend(self, connection: Connection, source: str) -> Lent | None:
        """Return what another process needs to make new people of a source ready, None where only this one can."""
        if self._referring is not None and self._referring.covers(source):
            return None
        if self._typed:
            await self._types.look(connection)
        key = await self._vault.current_key("registrant_vault")
        return Lent(
            key.lent(),
            self._vault.blind.lent(),
            self._tokens is not None,
            frozenset(self._declared),
            self._types.held,
        )

    async def write_made(
        self, connection: Connection, lent: Lent, units: Sequence[MadeUnit], *, source: str, actor: str
    ) -> list[bool] | None:
        """Write units whose people nobody knows; say for each whether it was written, None when what was lent is outdated.

        What is not written is left to `write`, which finds who is known already.
        """
        if lent != await self.lend(connection, source):
            return None
        try:
            async with connection.transaction():
                there = await rows.taken(connection, {hash_ for unit in units for hash_ in unit.hashes})
                new = [there.isdisjoint(unit.hashes) for unit in units]
                whole = Rows()
                ids: list[UUID] = []
                for unit, is_new in zip(units, new, strict=True):
                    if is_new:
                        whole.extend(unit.rows)
                        ids += [UUID(bytes=unit.ids[at : at + 16]) for at in range(0, len(unit.ids), 16)]
                await whole.write(connection)
                await versions.write_created(connection, ids, source, actor, datetime.now(UTC))
        except (*_AGAIN, *_DATA):
            # Another writer was faster, or the database does not take one of them: `write` sorts it out.
            return [False] * len(units)
        return new

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
        found = await rows.find(connection, tasks)
        newcomers = await self._newcomers(connection, tasks, found, keys, claimed)
        answers: dict[int, Written | HubError] = {place: newcomers.answer(place) for place in newcomers.taken}
        if len(answers) < len(tasks):
            found += newcomers.found()
            await self._merge(connection, tasks, found, keys, barred, claimed, answers)
        return [answers[place] for place in range(len(tasks))]

    async def _newcomers(
        self,
        connection: Connection,
        tasks: Sequence[Task],
        found: Sequence[rows.Found],
        keys: Keys,
        claimed: set[UUID],
    ) -> Newcomers:
        """Write those whom nobody knows; their messages are no longer among the claimed."""
        newcomers = Newcomers(self._types, self._referring)
        for place in newcomers.choose(tasks, {row["hash"] for row in found}, claimed):
            task = tasks[place]
            ready = task.ready
            if not isinstance(ready, Newcomer) or ready.key.id != keys.vault.id:
                ready = made_ready(task, keys.vault, self._tokens, self._declared)
            newcomers.take(place, task, ready)
            if task.fact_id is not None:
                claimed.discard(task.fact_id)
        areas = await rows.area_ids(connection, {one.columns[9] for _, one in newcomers.taken.values()})
        await newcomers.write(connection, areas, keys.change, datetime.now(UTC))
        return newcomers

    async def _merge(
        self,
        connection: Connection,
        tasks: Sequence[Task],
        found: Sequence[rows.Found],
        keys: Keys,
        barred: Mapping[int, HubError],
        claimed: set[UUID],
        answers: dict[int, Written | HubError],
    ) -> None:
        """Write the tasks that have no answer yet, merged with what is there."""
        chunk = Chunk(self._types, self._declared, self._nested, self._referring)
        left = [place for place in range(len(tasks)) if place not in answers]
        await self._open(chunk, await rows.read(connection, chunk, [tasks[place] for place in left], found))
        refused: set[UUID] = set()
        # People first, so that the groups of the same chunk find them.
        for place in sorted(left, key=lambda place: tasks[place].is_group):
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
        if self._references is not None and chunk.tokens:
            await self._references.put(
                connection, [Entry(id_, token=token) for id_, token in chunk.tokens.items()]
            )
        if self._on_status is not None and (restated := chunk.restated()):
            await self._on_status(connection, restated)
        cycles = await rows.cycles(connection, chunk)
        if cycles:
            raise _Cycles(
                {tasks.index(task): cycle(task, top) for task, top, _ in chunk.nestings if top in cycles}
            )
        await rows.release(connection, refused)

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
