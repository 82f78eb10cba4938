"""Pairs that may be one: listed, looked at, and decided of; a decision is kept however often the pair is found again."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, check_purpose, insert_many
from registry.changes import ChangeStore
from registry.changes.kinds import Merge
from registry.people.rows import documents
from registry.people.search import names_of
from registry.storage.database import database_errors
from registry.vault import Vault, sealed_place

STATES: Final = ("open", "duplicate", "distinct")
LIMIT: Final = 200
_WAIT: Final = 30.0
_FIELDS: Final = """
d.first_id AS first, d.second_id AS second, d.score, d.reasons, d.state, d.decided_by, d.decided_at, d.note, d.request_id,
c.state AS request_state, d.found_at
"""
_ACTIVE: Final = """
(d.state <> 'open' OR NOT EXISTS (
    SELECT FROM registrant r WHERE r.id IN (d.first_id, d.second_id) AND r.status = 'merged'))
"""
_LIST: Final = f"""
SELECT {_FIELDS} FROM duplicate_pair d LEFT JOIN change_request c ON c.id = d.request_id
WHERE d.state = $1 AND {_ACTIVE} AND ($2::real IS NULL OR (d.score, d.first_id, d.second_id) < ($2, $3::uuid, $4::uuid))
    AND ($5::uuid IS NULL OR d.first_id = $5 OR d.second_id = $5)
ORDER BY d.score DESC, d.first_id DESC, d.second_id DESC LIMIT $6
"""
_LOCK: Final = f"""
SELECT {_FIELDS} FROM duplicate_pair d LEFT JOIN change_request c ON c.id = d.request_id
WHERE d.first_id = $1 AND d.second_id = $2 FOR NO KEY UPDATE OF d
"""
_DECIDE: Final = """
UPDATE duplicate_pair SET state = $3, decided_by = $4, decided_at = now(), note = $5, request_id = $6
WHERE first_id = $1 AND second_id = $2
"""
_DONE_WITH: Final = {"rejected", "cancelled"}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two registrants that may be one, why, and what was decided; `request_id` is the change that merges them."""

    first: UUID
    second: UUID
    score: float
    reasons: Sequence[str]
    state: str
    decided_by: str | None
    decided_at: datetime | None
    note: str | None
    request_id: UUID | None
    request_state: str | None
    found_at: datetime
    names: Mapping[UUID, Sequence[Mapping[str, str]]] | None = field(default=None, repr=False)
    """Names of both, where they were asked for with a purpose."""

    @property
    def cursor(self) -> str:
        """What names this place in a list, to go on behind it."""
        return f"{self.score!r}_{self.first.hex}_{self.second.hex}"


class DuplicateStore:
    """Pairs of likely duplicates and what was decided of them."""

    def __init__(self, pool: asyncpg.Pool, vault: Vault, changes: ChangeStore) -> None:
        self._pool = pool
        self._vault = vault
        self._changes = changes

    async def listed(
        self,
        *,
        state: str = "open",
        registrant: UUID | None = None,
        cursor: str | None = None,
        limit: int = 50,
        purpose: str | None = None,
        actor: str = "",
    ) -> list[Pair]:
        """Return pairs, the most alike first, going on behind the `cursor` of one; with a `purpose` with names, and the trail says so.

        Raises `Refused` (`filter-invalid`, `cursor-invalid`, `purpose-missing`) and `Unavailable`.
        """
        if state not in STATES:
            raise Refused(
                "There is no such state of a pair.",
                code="filter-invalid",
                remedy=f"Name one of {', '.join(STATES)}.",
            )
        why = None if purpose is None else check_purpose(purpose)
        place = (None, None, None) if cursor is None else _place(cursor)
        async with (
            database_errors("listing duplicates"),
            asyncio.timeout(_WAIT),
            self._pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            rows = await connection.fetch(_LIST, state, *place, registrant, max(1, min(limit, LIMIT)))
            ids = {row[side] for row in rows for side in ("first", "second")}
            opened: dict[UUID, Sequence[Mapping[str, str]]] = {}
            if why is not None:
                await insert_many(
                    connection,
                    [
                        AuditEvent(
                            actor, "duplicate.reveal", "registrant", str(each), details={"purpose": why}
                        )
                        for each in sorted(ids)
                    ],
                )
                for row in await documents(connection, ids):
                    key, who = await self._vault.key(row["key_id"]), row["registrant_id"]
                    opened[who] = names_of(key.open(row["sealed"], sealed_place(row["format"], who)))
        return [
            Pair(
                **dict(row),
                names=None
                if why is None
                else {each: opened.get(each, ()) for each in (row["first"], row["second"])},
            )
            for row in rows
        ]

    async def decide(
        self,
        first: UUID,
        second: UUID,
        state: str,
        actor: str,
        *,
        survivor: UUID | None = None,
        note: str | None = None,
    ) -> Pair:
        """Keep a decision: `distinct`, or `duplicate`, which asks for a merge that others agree to.

        The survivor is the one registered first unless another is named. A pair may be decided anew while no merge of it is
        open or made. Raises `Refused`: `duplicate-not-found`, `duplicate-decided`, `decision-invalid`, and as
        `ChangeStore.submit`.
        """
        pair = (min(first, second), max(first, second))
        if state not in STATES[1:] or survivor not in {None, *pair} or len(note or "") > 500:
            raise Refused(
                "The decision is none: it is neither duplicate nor distinct, its survivor is none of the two, or its note "
                "is longer than 500 characters. Nothing was kept.",
                code="decision-invalid",
                remedy="Say duplicate or distinct; a survivor is one of the pair.",
            )
        keep = survivor or pair[0]
        async with (
            database_errors("deciding over a duplicate"),
            asyncio.timeout(_WAIT),
            self._pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            row = await connection.fetchrow(_LOCK, *pair)
            if row is None:
                raise Refused(
                    "These two are no pair of likely duplicates.",
                    code="duplicate-not-found",
                    remedy="`hub duplicates list` shows the open pairs; `hub duplicates find` looks for new ones.",
                )
            if row["state"] == "duplicate" and row["request_state"] not in _DONE_WITH:
                raise Refused(
                    f"It was decided before that these two are one; change {row['request_id']} merges them.",
                    code="duplicate-decided",
                    remedy="Refuse or cancel that change, or undo it, then decide anew.",
                )
            request_id = None
            if state == "duplicate":
                request_id = uuid7()
                change = Merge(survivor=keep, absorbed=pair[1] if keep == pair[0] else pair[0])
                await self._changes.submit_in(connection, change, actor, id_=request_id)
            await connection.execute(_DECIDE, *pair, state, actor, note, request_id)
            details: dict[str, Any] = {"other": str(pair[1]), "state": state}
            if request_id is not None:
                details["change"] = str(request_id)
            await insert_many(
                connection,
                [AuditEvent(actor, "duplicate.decide", "registrant", str(pair[0]), details=details)],
            )
        if request_id is not None and (await self._changes.get(request_id)).state == "validated":
            await self._changes.apply(request_id, actor)
        async with database_errors("reading a duplicate"), asyncio.timeout(_WAIT):
            row = await self._pool.fetchrow(_LOCK.partition(" FOR NO KEY")[0], *pair)
        assert row is not None  # decided just above, and pairs are never deleted
        return Pair(**dict(row))


def _place(cursor: str) -> tuple[float, UUID, UUID]:
    try:
        score, first, second = cursor.split("_")
        return float(score), UUID(first), UUID(second)
    except ValueError:
        raise Refused(
            "The cursor is none that the hub gave out.",
            code="cursor-invalid",
            remedy="Begin at the first page again, without a cursor.",
        ) from None
