"""A ledger of transfers in memory: for the sandbox, the tests and the bench, never for money."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from itertools import islice
from operator import attrgetter
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
    WORKING,
    Bounds,
    Step,
    Transfer,
)

_CHANGES: Final = (
    "stage", "state", "institution", "request", "condition", "amount", "fee", "asked", "resent", "reason",
)  # fmt: skip
_VALUES: Final = attrgetter(*(one.name for one in fields(Transfer)))
_UNDER_WAY: Final = frozenset({WORKING, SENT})
_KEEPS_ROOM: Final = _UNDER_WAY | {None}
"""States after a step that give nobody anything to take; None is the state before."""
_Place = tuple[str, str, str]
"""Stage, state and institution of a row."""
_Queue = tuple[str | None, str, str]
"""Batch, stage and institution of rows that wait."""


class MemoryLedger:
    """Rows by id and by every reference they ever had; a step takes effect only from the place it expects.

    What is taken is bounded as in `routing.ledger.Books`. There are no leases: a row that a rail leaves as it is stays there.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Transfer] = {}
        self.stopped: dict[str | None, str] = {}
        self.rail_references: dict[str, str] = {}
        self.history: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.changed: dict[str, asyncio.Event] = {}
        self.most_in_flight: dict[str, int] = {}
        """The most transfers that ever were under way at each institution at one time."""
        self.moments: dict[str, list[float]] = {}
        """When each row was first taken and when it ended (0: not yet), in seconds of the loop's clock."""
        self._of_payment: dict[str, str] = {}
        self._references: dict[tuple[str, str], list[str]] = defaultdict(list)
        self._queued: dict[_Queue, dict[str, None]] = defaultdict(dict)
        self._counts: Counter[tuple[str | None, bool, str]] = Counter()
        self._in_flight: Counter[str] = Counter()
        self._due: list[tuple[float, str]] = []
        self._due_at: dict[str, float] = {}
        self._moved = asyncio.Event()

    def order(self, orders: Iterable[PaymentInstruction], batch_id: str | None = None) -> int:
        """Enter payments as queued and return how many are new; one that is there already changes nothing."""
        new = 0
        for order in orders:
            if order.payment_id in self._of_payment:
                continue
            row = Transfer(f"row-{len(self.rows)}", order.payment_id, batch_id or order.batch_id, order)
            row.institution = order.payee_account.provider if order.payee_account else None
            self.rows[row.id] = row
            self._of_payment[order.payment_id] = row.id
            self._enters(row, _place(row))
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
            many and state in LIVE and not (state == QUEUED and self._is_stopped(batch_id))
            for (batch_id, _, state), many in self._counts.items()
        )

    async def still(self) -> None:
        """Wait until nothing can move by itself."""
        while self.moving():
            self._moved.clear()
            await self._moved.wait()

    async def apply(self, steps: Sequence[Step]) -> list[bool]:
        """Take steps, all at one point in time."""
        took = [self._take(step) for step in steps]
        if any(done and step.state not in _KEEPS_ROOM for step, done in zip(steps, took, strict=True)):
            self._wake()
        return took

    async def find(self, kind: str, value: str) -> list[Transfer]:
        """Return copies of the rows that ever had this reference."""
        return [_copy(self.rows[row_id]) for row_id in self._references.get((kind, value), ())]

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Let nothing more of the batch be taken."""
        self.stopped[batch_id] = reason
        self._wake()

    def resume(self) -> None:
        """Go on with everything that was stopped."""
        self.stopped.clear()
        self._wake()

    async def take(self, target: str, bounds: Bounds) -> tuple[list[Transfer], dict[str, list[Transfer]]]:
        """Return rows to begin with, and by institution those to go on with, as far as the bounds allow."""
        looked_up = sum(
            many for (_, first, state), many in self._counts.items() if first and state == WORKING
        )
        begin: list[Transfer] = []
        onward: dict[str, list[Transfer]] = defaultdict(list)
        for (batch_id, stage, institution), queued in self._queued.items():
            if not queued or self._is_stopped(batch_id):
                continue
            if stage == LOOKUP:
                room = bounds.lookups - looked_up - len(begin)
                if bounds.ahead:
                    room = min(room, bounds.ahead - self._counts[batch_id, False, QUEUED])
                begin += self._taken(queued, room)
            elif len(queued) >= bounds.bulk or not self._looking_up(batch_id):
                room = bounds.window - self._in_flight[institution] - len(onward[institution])
                onward[institution] += self._taken(queued, room)
        return begin, {institution: rows for institution, rows in onward.items() if rows}

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

    def _taken(self, queued: dict[str, None], most: int) -> list[Transfer]:
        ids = list(islice(queued, max(most, 0)))
        for row_id in ids:
            del queued[row_id]
        return [_copy(self.rows[row_id]) for row_id in ids]

    def _looking_up(self, batch_id: str | None) -> int:
        return self._counts[batch_id, True, QUEUED] + self._counts[batch_id, True, WORKING]

    def _is_stopped(self, batch_id: str | None) -> bool:
        return None in self.stopped or batch_id in self.stopped

    def _wake(self) -> None:
        self._moved.set()
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
        before = _place(row)
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
        if row.state == SENT and step.expected[1] != SENT:
            row.sent_at = datetime.now(UTC)
        if step.due_in is not None:
            self._put_off(row.id, step.due_in)
        elif step.state is not None and step.state not in _UNDER_WAY:
            self._due_at.pop(row.id, None)
        after = _place(row)
        if after != before:
            self._leaves(row, before)
            self._enters(row, after)
        if (row.stage, row.state) != step.expected:
            self.history[row.payment_id].append((row.stage, row.state))
            self._clock(row, step.expected[1])
        return True

    def _leaves(self, row: Transfer, place: _Place) -> None:
        stage, state, institution = place
        self._counts[row.batch_id, stage == LOOKUP, state] -= 1
        if state == QUEUED:
            self._queued[_queue(row, place)].pop(row.id, None)
        elif stage != LOOKUP and state in _UNDER_WAY:
            self._in_flight[institution] -= 1

    def _enters(self, row: Transfer, place: _Place) -> None:
        stage, state, institution = place
        self._counts[row.batch_id, stage == LOOKUP, state] += 1
        if state == QUEUED:
            self._queued[_queue(row, place)][row.id] = None
        elif stage != LOOKUP and state in _UNDER_WAY:
            self._in_flight[institution] += 1
            most = max(self.most_in_flight.get(institution, 0), self._in_flight[institution])
            self.most_in_flight[institution] = most

    def _clock(self, row: Transfer, before: str) -> None:
        now = asyncio.get_running_loop().time()
        if before == QUEUED and row.state != QUEUED:
            self.moments.setdefault(row.id, [now, 0.0])
        elif row.state not in LIVE and row.id in self.moments:
            self.moments[row.id][1] = now


def _place(row: Transfer) -> _Place:
    return row.stage, row.state, row.institution or ""


def _queue(row: Transfer, place: _Place) -> _Queue:
    stage, _, institution = place
    # Look-ups are bounded together, whatever institution their orders name.
    return row.batch_id, stage, "" if stage == LOOKUP else institution


def _copy(row: Transfer) -> Transfer:
    found = Transfer(*_VALUES(row))
    found.references = dict(row.references)
    return found
