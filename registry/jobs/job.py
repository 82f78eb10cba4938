"""One job as its row says: what it is, how far it is, how fast it goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

STATES: Final = ("queued", "running", "done", "failed", "cancelled")
COLUMNS: Final = (
    "id, kind, state, actor, once, params, position, done, total, result, error, cancel, worker, beat_at, created_at, "
    "started_at, ended_at, attempts, claimed_at, claimed_done"
)


@dataclass(frozen=True, slots=True)
class Job:
    """A piece of long work; `params` and `result` hold ids and numbers, never personal data."""

    id: UUID
    kind: str
    state: str
    actor: str
    once: str | None
    params: Mapping[str, Any]
    position: Any
    done: int
    total: int | None
    result: Mapping[str, Any] | None
    error: Mapping[str, Any] | None
    cancel: bool
    """Whether somebody asked for it to end."""
    worker: UUID | None
    beat_at: datetime | None
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    attempts: int
    claimed_at: datetime | None
    claimed_done: int

    @classmethod
    def of(cls, row: asyncpg.Record) -> Job:
        """Return the job of a row with the columns of `COLUMNS`."""
        return cls(**dict(row))

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.ended_at is not None

    @property
    def rate(self) -> float | None:
        """Items a second since it was last claimed, None before there is anything to count."""
        until = self.ended_at or self.beat_at
        if until is None or self.claimed_at is None or self.done <= self.claimed_done:
            return None
        seconds = (until - self.claimed_at).total_seconds()
        return (self.done - self.claimed_done) / seconds if seconds > 0 else None

    @property
    def remaining(self) -> float | None:
        """Seconds it will still take at this rate, None when that cannot be said."""
        if self.ended or self.total is None or not self.rate:
            return None
        return max(0.0, (self.total - self.done) / self.rate)

    def as_dict(self) -> dict[str, Any]:
        """Return what a caller may see; the position and the worker are the hub's own matter."""
        rate, remaining = self.rate, self.remaining
        return {
            "id": self.id,
            "kind": self.kind,
            "state": self.state,
            "actor": self.actor,
            "params": self.params,
            "done": self.done,
            "total": self.total,
            "rate": None if rate is None else round(rate, 1),
            "remaining": None if remaining is None else round(remaining, 1),
            "cancel": self.cancel,
            "result": self.result,
            "error": self.error,
            "created_at": self.created_at,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
        }
