"""Making two registrants one, and parting them again: what the writer of drafts cannot say."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.errors import Refused, Unavailable
from canonical_model.household import Household
from canonical_model.person import Person
from registry.people import joining, rows
from registry.people.chunk import Chunk, cycle
from registry.people.drafts import Change, Draft, StatusHook, Task, Tokens
from registry.people.identity import known
from registry.people.idtypes import IdentifierTypes
from registry.people.joining import Row
from registry.people.record import Record
from registry.people.rows import Connection, Keys
from registry.vault import Vault, aad, sealed_place

_ROUNDS: Final = 5
_IDENTIFIERS: Final = 50
"""Most identifiers of one registrant, as the canonical model has it."""
_REFERRED: Final = "SELECT registrant_id FROM registrant_reference WHERE registrant_id = ANY($1::uuid[])"
_HASHES: Final = "SELECT DISTINCT hash FROM registrant_identifier WHERE registrant_id = ANY($1::uuid[])"
_GROUPS: Final = "SELECT DISTINCT group_id FROM membership WHERE member_id = ANY($1::uuid[])"
_ABSORB: Final = """
UPDATE registrant SET status = 'merged', merged_into = $2, version = version + 1, updated_at = now() WHERE id = $1
RETURNING version
"""
_BRING: Final = "UPDATE registrant SET merged_into = $2 WHERE merged_into = $1 AND id <> $1 RETURNING id"
_KEEP: Final = """
INSERT INTO registrant_merge (absorbed_id, survivor_id, actor, request_id, status, brought, memberships, key_id, sealed)
VALUES ($1, $2, $3, $4, $5, $6::uuid[], $7, $8, $9)
"""
_FREE: Final = """
UPDATE registrant SET status = $2, merged_into = NULL, version = version + 1, updated_at = now() WHERE id = $1
RETURNING version
"""
_GIVE_BACK: Final = "UPDATE registrant SET merged_into = $1 WHERE id = ANY($2::uuid[]) AND merged_into = $3"
_GONE: Final = "DELETE FROM registrant_identifier WHERE registrant_id = $1 AND hash = ANY($2::bytea[])"
_BUMP: Final = """
UPDATE registrant SET version = version + 1, updated_at = now() WHERE id = ANY($1::uuid[]) RETURNING id, version
"""


class Merging:
    """Merges and splits registrants in the caller's transaction; both keep search tokens, history and identifiers right."""

    def __init__(
        self,
        vault: Vault,
        types: IdentifierTypes | None = None,
        *,
        tokens: Tokens | None = None,
        declared: Collection[str] = (),
        on_status: StatusHook | None = None,
    ) -> None:
        self._on_status = on_status
        self._vault = vault
        self._types = types or IdentifierTypes()
        self._tokens = tokens
        self._declared = declared

    async def merge(
        self,
        connection: Connection,
        survivor: UUID,
        absorbed: UUID,
        *,
        actor: str,
        source: str,
        request_id: str,
    ) -> None:
        """Let one registrant absorb another: identifiers, contacts, names, memberships and what it lacks go over.

        The absorbed keeps its document and points to the survivor from then on; the survivor takes part in its programs. Raises `Refused`
        (`merge-impossible`, `identifiers-too-many`, `membership-overlaps`, `group-cycle`) and `Unavailable` (`people-busy`).
        """
        held = await self._hold(connection, (survivor, absorbed))
        mine, theirs = held.get(survivor), held.get(absorbed)
        if mine is None or theirs is None or mine["kind"] != theirs["kind"]:
            raise _impossible(survivor, absorbed, "they are not two registrants of one kind")
        if mine["merged_into"] is not None or theirs["merged_into"] is not None:
            raise _impossible(survivor, absorbed, "one of them was merged already")
        if len(await connection.fetch(_REFERRED, [survivor, absorbed])) == 1:
            raise _impossible(
                survivor, absorbed, "one is kept by reference at an ID system and the other here"
            )
        records = await self._opened(connection, (mine, theirs))
        keeper, gone = records[survivor], records[absorbed]
        task = self._task(keeper, actor, source, request_id)
        columns, attributes, status = keeper.columns, keeper.attributes, gone.columns.status
        keeper.begin()
        taken = keeper.absorb(gone)
        if len(keeper.identifiers()) > _IDENTIFIERS:
            raise Refused(
                f"Registrant {survivor} would have more than {_IDENTIFIERS} identifiers; nothing was changed.",
                code="identifiers-too-many",
                remedy="End identifiers that no longer hold first.",
            )
        keeper.version += 1
        chunk = Chunk(self._types, self._declared)
        chunk.records[survivor] = keeper
        chunk.touched[survivor] = task
        chunk.resaid.add(survivor)
        for key, (entry, identifier) in known(self._vault.blind, gone.identifiers()).items():
            chunk.identifiers[absorbed, entry.hash] = (entry, identifier, False)
            if key in taken["identifiers"]:
                chunk.identifiers[survivor, entry.hash] = (entry, identifier, keeper.is_live(key))
        chunk.note(task, keeper, columns, attributes, None)
        version = await connection.fetchval(_ABSORB, absorbed, survivor)
        clear: dict[str, list[object]] = {
            "status": [status, "merged"], "merged_into": [None, str(survivor)],
        }  # fmt: skip
        chunk.changes.append(Change(absorbed, version, task, fields=sorted(clear), clear=clear))
        brought = [row["id"] for row in await connection.fetch(_BRING, absorbed, survivor)]
        moves = joining.merged(await joining.read(connection, (survivor, absorbed)), survivor, absorbed)
        await self._move(connection, chunk, task, moves, survivor)
        enrolled = await joining.handed_over(connection, survivor, absorbed, actor)
        await self._write(connection, chunk)
        chunk.nestings = [(task, row.group, row.member) for _, row in moves if row.start != row.end]
        if keeper.kind == "group" and (found := await rows.cycles(connection, chunk)):
            raise cycle(task, min(found))
        merge_key = await self._vault.current_key("registrant_merge")
        sealed = merge_key.seal(orjson.dumps({"taken": taken, "enrollments": enrolled}), _place(absorbed))
        await connection.execute(
            _KEEP, absorbed, survivor, actor, request_id, status, brought,
            [[before.as_json(), after.as_json()] for before, after in moves], merge_key.id, sealed,
        )  # fmt: skip
        if self._on_status is not None:
            await self._on_status(connection, [absorbed])

    async def split(
        self, connection: Connection, absorbed: UUID, *, actor: str, source: str, request_id: str
    ) -> UUID:
        """Part a merged registrant from its survivor, whose id is returned: what came from it goes back.

        What was said anew of the survivor since stays with the survivor. Raises `Refused` (`split-impossible`,
        `membership-overlaps`) and `Unavailable` (`people-busy`).
        """
        merge = await connection.fetchrow(
            "SELECT * FROM registrant_merge WHERE absorbed_id = $1 FOR UPDATE", absorbed
        )
        if merge is None:
            raise _unsplit(absorbed, "it is not merged, or was merged before merges were kept")
        survivor: UUID = merge["survivor_id"]
        held = await self._hold(connection, (survivor, absorbed))
        if held[survivor]["merged_into"] is not None:
            raise _unsplit(
                absorbed,
                f"registrant {survivor}, whom it was merged into, was merged itself; split that first",
            )
        records = await self._opened(connection, (held[survivor], held[absorbed]))
        keeper, freed = records[survivor], records[absorbed]
        task = self._task(keeper, actor, source, request_id)
        columns, attributes = keeper.columns, keeper.attributes
        opened = orjson.loads(
            (await self._vault.key(merge["key_id"])).open(merge["sealed"], _place(absorbed))
        )
        keeper.begin()
        parted = keeper.part_from(opened["taken"])
        keeper.version += 1
        chunk = Chunk(self._types, self._declared)
        chunk.records[survivor] = keeper
        chunk.touched[survivor] = task
        chunk.resaid.add(survivor)
        lost = []
        theirs = known(self._vault.blind, keeper.identifiers())
        for key, (entry, identifier) in known(self._vault.blind, freed.identifiers()).items():
            if key not in theirs:
                lost.append(entry.hash)
            elif key in parted:
                chunk.identifiers[survivor, entry.hash] = (entry, theirs[key][1], keeper.is_live(key))
            if key in parted or key not in theirs:
                chunk.identifiers[absorbed, entry.hash] = (entry, identifier, freed.is_live(key))
        if lost:
            await connection.execute(_GONE, survivor, lost)
        chunk.note(task, keeper, columns, attributes, None)
        version = await connection.fetchval(_FREE, absorbed, merge["status"])
        clear: dict[str, list[object]] = {
            "status": ["merged", merge["status"]], "merged_into": [str(survivor), None],
        }  # fmt: skip
        chunk.changes.append(Change(absorbed, version, task, fields=sorted(clear), clear=clear))
        await connection.execute(_GIVE_BACK, absorbed, merge["brought"], survivor)
        moves = await joining.parted(connection, merge["memberships"])
        await self._move(connection, chunk, task, moves, survivor)
        await joining.enrolled_again(connection, survivor, absorbed, opened["enrollments"], actor)
        await self._write(connection, chunk)
        if self._on_status is not None:
            # Before the merge is forgotten: it says whom what is given back went to.
            await self._on_status(connection, [absorbed])
        await connection.execute("DELETE FROM registrant_merge WHERE absorbed_id = $1", absorbed)
        return survivor

    async def concerned(
        self, connection: Connection, ids: Collection[UUID]
    ) -> tuple[list[bytes], list[UUID]]:
        """Return the identifiers and registrants whose locks a merge or split of these takes, still unlocked."""
        hashes = [row["hash"] for row in await connection.fetch(_HASHES, list(ids))]
        groups = [row["group_id"] for row in await connection.fetch(_GROUPS, list(ids))]
        return hashes, sorted({*ids, *groups})

    async def _hold(self, connection: Connection, ids: Collection[UUID]) -> Mapping[UUID, asyncpg.Record]:
        for _ in range(_ROUNDS):
            with contextlib.suppress(_MoreGroups):
                # Going back to the savepoint gives the locks back, so that more of them are taken in order.
                async with connection.transaction():
                    hashes, everybody = await self.concerned(connection, ids)
                    held = {row["id"]: row for row in await rows.hold(connection, hashes, everybody)}
                    if not set((await self.concerned(connection, ids))[1]) <= set(everybody):
                        raise _MoreGroups
                    return held
        raise Unavailable(
            f"The groups of registrants {', '.join(map(str, ids))} kept changing; nothing was changed.",
            code="people-busy",
            retry_after=1,
            remedy="Nothing: it is tried again.",
        )

    async def _opened(self, connection: Connection, held: Iterable[asyncpg.Record]) -> dict[UUID, Record]:
        return await opened(connection, self._vault, held, self._declared)

    def _task(self, record: Record, actor: str, source: str, request_id: str) -> Task:
        value = Person() if record.kind == "individual" else Household()
        return Task(Draft(value, source, actor, request_id=request_id), datetime.now(UTC), None, {})

    async def _move(
        self,
        connection: Connection,
        chunk: Chunk,
        task: Task,
        moves: Sequence[tuple[Row, Row]],
        survivor: UUID,
    ) -> None:
        """Write moved memberships and note them in the history of every group they were or are in."""
        if not moves:
            return
        try:
            async with connection.transaction():
                await joining.write(connection, [after for _, after in moves])
        except (asyncpg.UniqueViolationError, asyncpg.ExclusionViolationError):
            raise Refused(
                f"Memberships of registrant {survivor} and the other would meet in one group; nothing was changed.",
                code="membership-overlaps",
                remedy="End one of the memberships or roles first, then ask again.",
            ) from None
        shown: dict[UUID, tuple[list[Any], list[Any]]] = {}
        for before, after in moves:
            shown.setdefault(before.group, ([], []))[0].append(before.shown())
            shown.setdefault(after.group, ([], []))[1].append(after.shown())
        groups = [each for each in shown if each not in chunk.records and each not in _named(chunk)]
        for row in await connection.fetch(_BUMP, groups):
            old, new = shown[row["id"]]
            chunk.changes.append(
                Change(
                    row["id"], row["version"], task, fields=["memberships"], clear={"memberships": [old, new]}
                )
            )
        for change in chunk.changes:
            if change.registrant_id in shown and change.registrant_id not in groups:
                change.clear = {**(change.clear or {}), "memberships": list(shown[change.registrant_id])}
                change.fields = sorted({*change.fields, "memberships"})

    async def _write(self, connection: Connection, chunk: Chunk) -> None:
        keys = Keys(
            await self._vault.current_key("registrant_vault"),
            await self._vault.current_key("registrant_change"),
        )
        await rows.write(connection, chunk, keys, self._tokens, datetime.now(UTC))


async def opened(
    connection: Connection, vault: Vault, held: Iterable[asyncpg.Record], declared: Collection[str] = ()
) -> dict[UUID, Record]:
    """Open the records of registrants as `rows.hold` returned them."""
    by_id = {row["id"]: row for row in held}
    found = {}
    for row in await rows.documents(connection, by_id):
        of = by_id[row["registrant_id"]]
        key = await vault.key(row["key_id"])
        raw = key.open(row["sealed"], sealed_place(row["format"], of["id"]))
        found[of["id"]] = Record.from_bytes(
            of["id"], of["source"], of["version"], raw, kind=of["kind"], declared=declared
        )
    return found


class _MoreGroups(Exception):
    """Somebody joined a group between the look at the groups and the locks."""


def _named(chunk: Chunk) -> set[UUID]:
    return {change.registrant_id for change in chunk.changes}


def _place(absorbed: UUID) -> bytes:
    return aad("registrant_merge", "sealed", absorbed.bytes)


def _impossible(survivor: UUID, absorbed: UUID, why: str) -> Refused:
    return Refused(
        f"Registrants {survivor} and {absorbed} cannot be merged: {why}. Nothing was changed.",
        code="merge-impossible",
        remedy="Look at both with their newest state, then ask for a merge of those that are still apart.",
    )


def _unsplit(absorbed: UUID, why: str) -> Refused:
    return Refused(
        f"Registrant {absorbed} cannot be split off: {why}. Nothing was changed.",
        code="split-impossible",
        remedy="Split the newest merge first; a registrant that was never merged needs no split.",
    )
