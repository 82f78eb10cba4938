"""A ledger of transfers in memory: for the sandbox, the tests and the bench, never for money."""

from __future__ import annotations

import asyncio
import copy
import heapq
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

from canonical_model.payment import PaymentInstruction
from connectors.errors import Defect
from connectors.payments.contract import (
    FINAL,
    LIVE,
    LOOKUP,
    PAID,
    QUEUED,
    REVIEW,
    SENT,
    Bounds,
    Step,
    Transfer,
)

_CHANGES: Final = (
    "stage", "state", "institution", "request", "condition", "amount", "fee", "asked", "resent", "reason",
)  # fmt: skip


class MemoryLedger:
    """Rows by id and by every reference they ever had; a step takes effect only from the place it expects."""

    def __init__(self) -> None:
        self.rows: dict[str, Transfer] = {}
        self.stopped: dict[str | None, str] = {}
        self.rail_references: dict[str, str] = {}
        self.history: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.changed: dict[str, asyncio.Event] = {}
        self._of_payment: dict[str, str] = {}
        self._references: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._waiting: deque[str] = deque()
        self._ready: dict[str | None, deque[str]] = defaultdict(deque)
        self._in_flight: Counter[str | None] = Counter()
        self._due: list[tuple[float, str]] = []
        self._due_at: dict[str, float] = {}

    def order(self, orders: Iterable[PaymentInstruction], batch_id: str | None = None) -> int:
        """Enter payments as queued and return how many are new; one that is there already changes nothing."""
        new = 0
        for order in orders:
            if order.payment_id in self._of_payment:
                continue
            row = Transfer(f"row-{len(self.rows)}", order.payment_id, batch_id, order)
            row.institution = order.payee_account.provider if order.payee_account else None
            self.rows[row.id] = row
            self._of_payment[order.payment_id] = row.id
            self._waiting.append(row.id)
            new += 1
        self._wake()
        return new

    def of(self, payment_id: str) -> Transfer:
        """Return the row of a payment."""
        return self.rows[self._of_payment[payment_id]]

    def totals(self) -> dict[str, int]:
        """Return how many transfers are in each state."""
        return dict(Counter(row.state for row in self.rows.values()))

    def moving(self) -> bool:
        """Say whether anything can still move by itself."""
        return any(
            row.state in LIVE and not (row.state == QUEUED and self._is_stopped(row))
            for row in self.rows.values()
        )

    async def apply(self, steps: Sequence[Step]) -> list[bool]:
        """Take steps, all at one point in time."""
        took = [self._take(step) for step in steps]
        self._wake()
        return took

    async def find(self, kind: str, value: str) -> list[Transfer]:
        """Return copies of the rows that ever had this reference."""
        return [_copy(self.rows[row_id]) for row_id in self._references.get((kind, value), ())]

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Let nothing more of the batch be taken."""
        self.stopped[batch_id] = reason

    def resume(self) -> None:
        """Go on with everything that was stopped."""
        self.stopped.clear()
        self._wake()

    async def take(self, target: str, bounds: Bounds) -> tuple[list[Transfer], dict[str, list[Transfer]]]:
        """Return rows to begin with, and by institution those to go on with, as far as the windows allow."""
        begin = self._taken(self._waiting, bounds.lookups)
        onward = {}
        for institution, ready in self._ready.items():
            room = bounds.window - self._in_flight[institution]
            rows = self._taken(ready, room) if room > 0 else []
            if rows:
                onward[institution or ""] = rows
        return begin, onward

    async def overdue(self, target: str, limit: int = 200) -> list[Transfer]:
        """Return rows whose time has come."""
        now = asyncio.get_running_loop().time()
        found: list[Transfer] = []
        while self._due and self._due[0][0] <= now and len(found) < limit:
            at, row_id = heapq.heappop(self._due)
            if self._due_at.get(row_id) == at:
                found.append(_copy(self.rows[row_id]))
                self._put_off(row_id, 1.0)
        return found

    def hurry(self) -> None:
        """Let every question be due now."""
        for row in self.rows.values():
            if row.state in LIVE and row.state != QUEUED:
                self._put_off(row.id, 0.0)
        self._wake()

    def _taken(self, queue: deque[str], most: int) -> list[Transfer]:
        found: list[Transfer] = []
        kept: list[str] = []
        while queue and len(found) < most:
            row = self.rows[queue.popleft()]
            if row.state != QUEUED:
                continue
            if self._is_stopped(row):
                kept.append(row.id)
            else:
                found.append(_copy(row))
        queue.extend(kept)
        return found

    def _is_stopped(self, row: Transfer) -> bool:
        return None in self.stopped or row.batch_id in self.stopped

    def _wake(self) -> None:
        for event in self.changed.values():
            event.set()

    def _put_off(self, row_id: str, seconds: float) -> None:
        at = asyncio.get_running_loop().time() + seconds
        self._due_at[row_id] = at
        heapq.heappush(self._due, (at, row_id))

    def _take(self, step: Step) -> bool:
        row = self.rows[step.id]
        if (row.stage, row.state) != step.expected:
            return False
        if step.state is not None and (row.state == REVIEW or (row.state in FINAL and step.state != REVIEW)):
            raise Defect(f"Transfer {row.id} is {row.state}; only a person moves it from there.")
        before, was_flying = (row.stage, row.state), _flies(row)
        for name in _CHANGES:
            value = getattr(step, name)
            if value is not None:
                setattr(row, name, value)
        if step.state == PAID:
            row.reason = None
        for kind, value in (step.references or {}).items():
            if row.references.get(kind) != value:
                self._references[kind, value].append(row.id)
                row.references[kind] = value
        if step.rail_reference is not None:
            self.rail_references[row.payment_id] = step.rail_reference
        if row.state == SENT and before[1] != SENT:
            row.sent_at = datetime.now(UTC)
        if step.due_in is not None:
            self._put_off(row.id, step.due_in)
        elif step.state is not None and step.state not in {SENT, "working"}:
            self._due_at.pop(row.id, None)
        self._in_flight[row.institution] += _flies(row) - was_flying
        if (row.stage, row.state) != before:
            self.history[row.payment_id].append((row.stage, row.state))
            if row.state == QUEUED:
                (self._waiting if row.stage == LOOKUP else self._ready[row.institution]).append(row.id)
        return True


def _flies(row: Transfer) -> bool:
    return row.stage != LOOKUP and row.state in {"working", "sent"}


def _copy(row: Transfer) -> Transfer:
    found = copy.copy(row)
    found.references = dict(row.references)
    return found
