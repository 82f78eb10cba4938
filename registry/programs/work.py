"""Long work of programs: steps of one transaction each, run as jobs.

A step is `step(connection, position) -> (position, done)`: it does one chunk in the caller's transaction and says where
the next begins. What is done twice counts once, so whoever drives may be killed at any instant.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from registry.jobs import JobContext, JobStore
from registry.programs.refusals import Connection, transaction

Position = dict[str, Any]
"""Where the next chunk begins, as JSON; `count` is what is done so far, `total` what there is, `result` what came of it."""
Step = Callable[[Connection, Position], Awaitable[tuple[Position, bool]]]
_LIVE: Final = "SELECT id FROM job WHERE kind = $1 AND params ->> $2 = $3 AND ended_at IS NULL"
SETTINGS: Final = (
    # Plans for these very values, and room to sort and hash a chunk: the pool is set for small statements.
    "SET LOCAL plan_cache_mode = force_custom_plan",
    "SET LOCAL work_mem = '64MB'",
)
"""What a transaction of work over many rows is run with."""


@dataclass(frozen=True, slots=True)
class Operation:
    """How one kind of work is stepped, and whether it can be stopped in the middle."""

    step: Step
    stopped: Callable[[Connection], Awaitable[None]] | None = None
    """What is to be put right when it is cancelled or refused; None: a cancellation is not heard, it goes on to its end."""


async def live(connection: Connection, kind: str, key: str, value: str) -> UUID | None:
    """Return the job of this kind that is under way for one program or cycle."""
    found: UUID | None = await connection.fetchval(_LIVE, kind, key, value)
    return found


async def submit(
    jobs: JobStore,
    connection: Connection,
    kind: str,
    actor: str,
    params: Mapping[str, Any],
    total: int | None = None,
) -> UUID:
    """Put a job into the queue in the caller's transaction."""
    made = await jobs.submit(kind, actor=actor, params=params, total=total, connection=connection)
    return made.job.id


async def drive(context: JobContext, operation: Operation) -> Mapping[str, Any] | None:
    """Step an operation to its end, one transaction a step with the position saved in it; the handler of a job."""
    stopped = operation.stopped
    try:
        while not (context.position or {}).get("ended"):
            if stopped is not None and context.cancelled:
                async with transaction(context.pool, "stopping work of a program") as connection:
                    await stopped(connection)
                break
            async with transaction(context.pool, "working on a program") as connection:
                for setting in SETTINGS:
                    await connection.execute(setting)
                position, done = await operation.step(connection, context.position or {})
                position = {**position, "ended": done}
                await context.save(connection, position, position.get("count", 0), position.get("total"))
    except Refused:
        if stopped is not None:
            async with transaction(context.pool, "stopping work of a program") as connection:
                await stopped(connection)
        raise
    result: Mapping[str, Any] | None = (context.position or {}).get("result")
    return result
