"""Long work of programs in steps that any runner can drive, and a plain driver for commands.

A step is `step(connection, position) -> (position, done)`: it does one chunk in the caller's transaction and says where
the next begins. What it did twice counts once, so whoever drives may be killed at any instant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import HubError, Refused
from canonical_model.message import uuid7
from registry.audit import AuditEvent, insert_many
from registry.programs.refusals import STEP_SECONDS, Connection, not_found, one_row, transaction

Position = dict[str, Any]
"""Where the next chunk begins, as JSON; `count` is what is done so far, `total` what there is, `result` what came of it."""
Step = Callable[[Connection, Position], Awaitable[tuple[Position, bool]]]
Progress = Callable[[int, int | None], None]
_LIVE: Final = "SELECT id, params FROM job WHERE kind = $1 AND params ->> $2 = $3 AND ended_at IS NULL"


@dataclass(frozen=True, slots=True)
class Operation:
    """How one kind of work is stepped, and whether it can be stopped in the middle."""

    step: Step
    stopped: Callable[[Connection], Awaitable[None]] | None = None
    """What is to be put right when it is cancelled; None: it goes on to its end."""


@dataclass(frozen=True, slots=True)
class Worked:
    """How far a job is."""

    id: UUID
    kind: str
    state: str
    done: int
    total: int | None
    result: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "job": self.id, "kind": self.kind, "state": self.state, "done": self.done, "total": self.total,
            **(self.result or {}),
        }  # fmt: skip


async def live(connection: Connection, kind: str, key: str, value: str) -> UUID | None:
    """Return the job of this kind that is under way for one program or cycle."""
    row = await connection.fetchrow(_LIVE, kind, key, value)
    return None if row is None else row["id"]


async def submit(
    connection: Connection, kind: str, actor: str, params: Mapping[str, Any], total: int | None = None
) -> UUID:
    """Put a job into the table in the caller's transaction, with its audit event."""
    id_ = uuid7()
    await connection.execute(
        "INSERT INTO job (id, kind, actor, params, total) VALUES ($1, $2, $3, $4, $5)",
        id_,
        kind,
        actor,
        dict(params),
        total,
    )
    await insert_many(
        connection,
        [AuditEvent(actor, "job.submit", "job", str(id_), "queued", details={"kind": kind, **params})],
    )
    return id_


async def drive(
    pool: asyncpg.Pool, job_id: UUID, operation: Operation, progress: Progress | None = None
) -> Worked:
    """Step a job to its end, one transaction a step; many drivers of one job take turns and double nothing."""
    while True:
        try:
            worked = await _step(pool, job_id, operation)
        except Refused as error:
            await _fail(pool, job_id, operation, error)
            raise
        if progress is not None:
            progress(worked.done, worked.total)
        if worked.state not in {"queued", "running"}:
            return worked


async def _step(pool: asyncpg.Pool, job_id: UUID, operation: Operation) -> Worked:
    async with transaction(pool, "working on a program") as connection:
        row = await connection.fetchrow(
            "SELECT * FROM job WHERE id = $1 FOR UPDATE", job_id, timeout=STEP_SECONDS
        )
        if row is None:
            raise not_found("job", "job-not-found", "`hub program jobs` lists them.")
        if row["ended_at"] is not None:
            return _of(row)
        if row["cancel"] and operation.stopped is not None:
            await operation.stopped(connection)
            return await _end(connection, row, "cancelled", row["position"] or {})
        position, done = await operation.step(connection, row["position"] or {})
        if done:
            return await _end(connection, row, "done", position)
        saved = await one_row(
            connection,
            "UPDATE job SET state = 'running', position = $2, done = $3, total = coalesce($4, total), beat_at = now(), "
            "started_at = coalesce(started_at, now()) WHERE id = $1 RETURNING *",
            job_id,
            position,
            position.get("count", 0),
            position.get("total"),
        )
        return _of(saved)


async def _end(connection: Connection, row: asyncpg.Record, state: str, position: Position) -> Worked:
    ended = await one_row(
        connection,
        "UPDATE job SET state = $2, position = $3, done = $4, result = $5, started_at = coalesce(started_at, now()), "
        "beat_at = now(), ended_at = now() WHERE id = $1 RETURNING *",
        row["id"],
        state,
        position,
        position.get("count", row["done"]),
        position.get("result"),
    )
    await insert_many(
        connection,
        [
            AuditEvent(
                row["actor"],
                "job.end",
                "job",
                str(row["id"]),
                state,
                details={"kind": row["kind"], **row["params"]},
            )
        ],
    )
    return _of(ended)


async def _fail(pool: asyncpg.Pool, job_id: UUID, operation: Operation, error: HubError) -> None:
    async with transaction(pool, "ending the work on a program") as connection:
        row = await connection.fetchrow(
            "UPDATE job SET state = 'failed', error = $2, ended_at = now() WHERE id = $1 AND ended_at IS NULL "
            "RETURNING id",
            job_id,
            {"code": error.code, "detail": error.detail, "remedy": error.remedy},
        )
        if row is not None and operation.stopped is not None:
            await operation.stopped(connection)


def _of(row: asyncpg.Record) -> Worked:
    return Worked(row["id"], row["kind"], row["state"], row["done"], row["total"], row["result"])
