"""A ledger of transfers in memory with the pump that drives a rail: for the sandbox, the tests and the bench, never for money."""

from __future__ import annotations

import asyncio
import heapq
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import Any, Final

from canonical_model.payment import PaymentInstruction
from connectors.errors import Defect
from connectors.mojaloop.rail import Rail
from connectors.payments.contract import FINAL, LIVE, LOOKUP, PAID, QUEUED, REVIEW, Step, Transfer

_CHANGES: Final = (
    "stage", "state", "institution", "request", "condition", "amount", "fee", "asked", "resent", "reason",
)  # fmt: skip


class MemoryLedger:
    """Holds rows by id and by every reference they ever had; a step takes effect only from the place it expects."""

    def __init__(self) -> None:
        self.rows: dict[str, Transfer] = {}
        self.by_payment: dict[str, str] = {}
        self.stopped: dict[str | None, str] = {}
        self.history: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.most_in_flight: dict[str, int] = defaultdict(int)
        self.changed = asyncio.Event()
        self.waiting: deque[str] = deque()
        self.ready: dict[str, deque[str]] = defaultdict(deque)
        self.in_flight: dict[str, int] = defaultdict(int)
        self.looking = 0
        self.live = 0
        self.commits = 0
        self.moments: dict[str, list[float]] = {}
        """When each row was first taken and when it ended, in seconds of the loop's clock."""
        self.due: list[tuple[float, str]] = []
        self._due_at: dict[str, float] = {}
        self._references: dict[tuple[str, str], list[str]] = defaultdict(list)

    def order(self, orders: Iterable[PaymentInstruction], batch_id: str | None = None) -> int:
        """Enter payments as queued and return how many are new; an id that is there already changes nothing."""
        new = 0
        for order in orders:
            if order.payment_id in self.by_payment:
                continue
            row_id = f"row-{len(self.rows)}"
            self.rows[row_id] = Transfer(row_id, order.payment_id, batch_id or order.batch_id, order)
            self.by_payment[order.payment_id] = row_id
            self.waiting.append(row_id)
            self.live += 1
            new += 1
        self.changed.set()
        return new

    def of(self, payment_id: str) -> Transfer:
        """Return the row of a payment."""
        return self.rows[self.by_payment[payment_id]]

    async def apply(self, steps: Sequence[Step]) -> list[bool]:
        """Take steps, all at one point in time."""
        self.commits += 1
        return [self._take(step) for step in steps]

    async def find(self, kind: str, value: str) -> list[Transfer]:
        """Return copies of the rows that ever had this reference."""
        return [_copy(self.rows[row_id]) for row_id in self._references.get((kind, value), ())]

    async def stop(self, batch_id: str | None, reason: str) -> None:
        """Let nothing more of the batch be taken."""
        self.stopped[batch_id] = reason

    def resume(self) -> None:
        """Go on with everything that was stopped."""
        self.stopped.clear()
        self.changed.set()

    def overdue(self, now: float, limit: int = 1000) -> list[Transfer]:
        """Return rows whose time has come, and put them off until a step says when they are due again."""
        found: list[Transfer] = []
        while self.due and self.due[0][0] <= now and len(found) < limit:
            at, row_id = heapq.heappop(self.due)
            row = self.rows[row_id]
            if self._due_at.get(row_id) == at and row.state in LIVE and row.state != QUEUED:
                found.append(_copy(row))
        return found

    def forget_time(self) -> None:
        """Let every question be due now."""
        for row_id, row in self.rows.items():
            if row.state in LIVE and row.state != QUEUED:
                self._due(row_id, 0.0)
        self.changed.set()

    def _due(self, row_id: str, at: float) -> None:
        self._due_at[row_id] = at
        heapq.heappush(self.due, (at, row_id))

    def _take(self, step: Step) -> bool:
        row = self.rows[step.id]
        if (row.stage, row.state) != step.expected:
            return False
        if step.state is not None and (row.state == REVIEW or (row.state in FINAL and step.state != REVIEW)):
            raise Defect(f"Transfer {row.id} is {row.state}; only a person moves it from there.")
        before, fsp = (row.stage, row.state), row.institution or ""
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
        if step.due_in is not None:
            self._due(row.id, asyncio.get_running_loop().time() + step.due_in)
        self._counted(row, before, fsp)
        return True

    def _counted(self, row: Transfer, before: tuple[str, str], left: str) -> None:
        after = (row.stage, row.state)
        if after == before:
            return
        self.history[row.payment_id].append(after)
        now = asyncio.get_running_loop().time()
        if before[1] == QUEUED:
            self.moments.setdefault(row.id, [now, 0.0])
        elif after[1] not in LIVE and row.id in self.moments:
            self.moments[row.id][1] = now
        self.looking += (after == (LOOKUP, "working")) - (before == (LOOKUP, "working"))
        busy_before = before[0] != LOOKUP and before[1] in {"working", "sent"}
        busy_after = after[0] != LOOKUP and after[1] in {"working", "sent"}
        fsp = row.institution or ""
        self.in_flight[left] -= busy_before
        self.in_flight[fsp] += busy_after
        self.most_in_flight[fsp] = max(self.most_in_flight[fsp], self.in_flight[fsp])
        if after[1] == QUEUED and after[0] != LOOKUP:
            self.ready[fsp].append(row.id)
        elif after == (LOOKUP, QUEUED):
            self.waiting.append(row.id)
        self.live += (after[1] in LIVE) - (before[1] in LIVE)
        self.changed.set()


class Pump:
    """Takes transfers from a ledger in bounded windows and asks about what is overdue."""

    def __init__(self, ledger: MemoryLedger, rail: Rail) -> None:
        self._ledger, self._rail = ledger, rail
        self._window, self._lookups, self._bulk = rail.bounds.window, rail.bounds.lookups, rail.bounds.bulk
        self._ahead = rail.bounds.ahead

    async def run(self, *, until_idle: bool = True) -> None:
        """Drive until nothing is live (or nothing can move because it was stopped)."""
        ledger = self._ledger
        while True:
            ledger.changed.clear()
            await self.turn()
            if until_idle and (ledger.live == 0 or (ledger.stopped and not self._moving())):
                return
            try:
                async with asyncio.timeout(self._pause()):
                    await ledger.changed.wait()
            except TimeoutError:
                continue

    async def turn(self) -> None:
        """Ask what is overdue, quote what has an institution, look up what is queued: as far as the windows allow."""
        ledger = self._ledger
        overdue = ledger.overdue(asyncio.get_running_loop().time())
        if overdue:
            await self._rail.ask(overdue)
        for fsp, ready in ledger.ready.items():
            room = self._window - ledger.in_flight[fsp]
            full = len(ready) >= self._bulk or not (ledger.looking or ledger.waiting) or ledger.stopped
            if ready and room > 0 and (full or not self._bulk):
                most = min(room, self._bulk or room)
                rows = [ledger.rows[ready.popleft()] for _ in range(min(most, len(ready)))]
                rows = [_copy(row) for row in rows if row.state == QUEUED and row.stage != LOOKUP]
                if rows and not ledger.stopped:
                    await self._rail.go_on(rows)
                elif rows:
                    ready.extendleft(row.id for row in reversed(rows))
        room = min(self._lookups - ledger.looking, len(ledger.waiting))
        if self._ahead:
            room = min(room, self._ahead - sum(map(len, ledger.ready.values())))
        if room > 0 and not ledger.stopped:
            begun = [ledger.rows[ledger.waiting.popleft()] for _ in range(room)]
            await self._rail.begin([_copy(r) for r in begun if (r.stage, r.state) == (LOOKUP, QUEUED)])

    def _moving(self) -> bool:
        return bool(self._ledger.looking or any(self._ledger.in_flight.values()))

    def _pause(self) -> float:
        ledger = self._ledger
        if not ledger.due:
            return 0.5
        return min(max(ledger.due[0][0] - asyncio.get_running_loop().time(), 0.001), 0.5)


def _copy(row: Transfer) -> Transfer:
    return Transfer(
        row.id, row.payment_id, row.batch_id, row.instruction, row.stage, row.state, row.institution,
        dict(row.references), row.request, row.condition, row.amount, row.fee, row.asked, row.resent, row.reason, row.sent_at,
    )  # fmt: skip


def totals(ledger: MemoryLedger) -> dict[str, int]:
    """Return how many transfers are in each state."""
    found: dict[str, Any] = defaultdict(int)
    for row in ledger.rows.values():
        found[row.state] += 1
    return dict(found)
