"""A running subscription to one route in PostgreSQL: claims outbox rows in batches as its worker has hands free."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from uuid import UUID

import asyncpg

from registry.logs import log
from registry.storage.database import GONE
from routing.brokers.contract import Handler, Parcel
from routing.brokers.settling import Settler

_LOG = logging.getLogger(__name__)

CHANNEL = "hub_outbox"
CLAIM_SECONDS = 10.0
CLAIM_ROWS = 500
AFTER_FAULT_SECONDS = 1.0
GATHER_SECONDS = 0.002
RECOVER_SECONDS = 30.0
RECOVER_EVERY = 1.0

CLAIM = """
    WITH me AS MATERIALIZED (SELECT id FROM worker WHERE id = $3 FOR KEY SHARE), due AS MATERIALIZED (
        SELECT id FROM outbox WHERE route = $1 AND taken_by IS NULL AND available_at <= now() AND EXISTS (SELECT FROM me)
        ORDER BY available_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
    )
    UPDATE outbox AS o SET taken_by = $3, taken_at = now() FROM due WHERE o.id = due.id
    RETURNING o.id, o.delivery_id, o.message_id, o.traceparent, o.redelivered, o.available_at
"""
RECOVER = """
    UPDATE outbox SET taken_by = NULL, taken_at = NULL, redelivered = true
    WHERE route = $1 AND taken_by = $2 AND id <> ALL($3::bigint[])
"""


class PostgresReceived:
    """One outbox row in hand; the first settlement counts, later ones change nothing."""

    __slots__ = ("_claimer", "_row", "parcel", "redelivered")

    def __init__(self, claimer: Claimer, row: int, parcel: Parcel, redelivered: bool) -> None:
        self._claimer = claimer
        self._row = row
        self.parcel = parcel
        self.redelivered = redelivered

    def ack(self) -> None:
        """Say that the parcel is dealt with."""
        row, self._row = self._row, 0
        if row:
            self._claimer.settler.done(row)
            self._claimer.release(row)

    def retry(self, delay: float) -> None:
        """Give it back for later."""
        row, self._row = self._row, 0
        if row:
            self._claimer.settler.later(row, max(delay, 0.0))
            self._claimer.release(row)

    def reject(self, reason: str) -> None:
        """Give it up: the row goes, the delivery stays and says what became of it."""
        row, self._row = self._row, 0
        if row:
            log(
                _LOG,
                logging.ERROR,
                "broker-parcel-given-up",
                delivery_id=self.parcel.delivery_id,
                route=self.parcel.route,
                reason_code=reason,
            )
            self._claimer.settler.done(row)
            self._claimer.release(row)


class Claimer:
    """Calls a handler for each due row of a route, at most `prefetch` unsettled at a time.

    `lock` is shared by the claimers of one route in this process, so that a recovery never meets a claim under way;
    `held` are the rows in their hands.
    """

    def __init__(
        self,
        pool: asyncpg.Pool,
        worker_id: UUID,
        route: str,
        handler: Handler,
        prefetch: int,
        *,
        settler: Settler,
        lock: asyncio.Lock,
        held: set[int],
        poll_seconds: float,
    ) -> None:
        self.route = route
        self.settler = settler
        self._pool = pool
        self._worker = worker_id
        self._handler = handler
        self._prefetch = prefetch
        self._lock = lock
        self._held = held
        self._in_hand = 0
        self._poll_seconds = poll_seconds
        self._stirred = asyncio.Event()
        self._uncertain = False
        self._recover_until = self._recovered = -math.inf
        self._loop_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to claim."""
        self._loop_task = asyncio.get_running_loop().create_task(
            self._claim_forever(), name=f"broker-claims-{self.route}"
        )

    def wake(self) -> None:
        """Look for due rows now."""
        self._stirred.set()

    def release(self, row: int) -> None:
        """Take note that a row left the worker's hands."""
        self._held.discard(row)
        self._in_hand -= 1
        self._stirred.set()

    async def cancel(self) -> None:
        """Stop taking parcels; those in hand may still be settled."""
        task, self._loop_task = self._loop_task, None
        if task is not None:
            async with self._lock:  # never in the middle of a claim, whose rows would be nobody's
                task.cancel()
            await asyncio.wait({task}, timeout=CLAIM_SECONDS)

    async def finish(self, seconds: float) -> None:
        """Wait for handlers in hand, at most `seconds`, then stop them."""
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=1.0)

    async def _claim_forever(self) -> None:
        pause = 0.1
        # A cancellation that meets the wake-up in `wait_for` is swallowed (Python 3.11), so the end is also a state.
        while self._loop_task is not None:
            free = self._prefetch - self._in_hand
            if free < 1:
                self._stirred.clear()
                await self._stirred.wait()
                continue
            if self._in_hand and free < self._prefetch // 4:
                await asyncio.sleep(GATHER_SECONDS)  # hands become free one by one; claim for several at once
                free = self._prefetch - self._in_hand
            self._stirred.clear()
            wanted = min(free, CLAIM_ROWS)
            try:
                found = await self._claim(wanted)
                pause = 0.1
            except (*GONE, asyncpg.PostgresError) as error:
                log(
                    _LOG,
                    logging.WARNING,
                    "broker-claim-failed",
                    route=self.route,
                    error_class=type(error).__name__,
                )
                await asyncio.sleep(pause)
                pause = min(2.0, pause * 2)
                continue
            if found < wanted:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._poll_seconds):
                        await self._stirred.wait()

    async def _claim(self, wanted: int) -> int:
        async with self._lock:
            async with self._pool.acquire(timeout=CLAIM_SECONDS) as connection:
                now = asyncio.get_running_loop().time()
                if self._uncertain:
                    # A claim whose connection broke may still be committed by the server after we looked; so look again.
                    self._recover_until = now + RECOVER_SECONDS
                    self._recovered = -math.inf
                if now < self._recover_until and now - self._recovered >= RECOVER_EVERY:
                    kept = list(self._held | self.settler.writing)
                    await connection.execute(RECOVER, self.route, self._worker, kept, timeout=CLAIM_SECONDS)
                    self._recovered = now
                self._uncertain = True  # until the answer is here, rows may be ours without our knowing
                rows = await connection.fetch(CLAIM, self.route, wanted, self._worker, timeout=CLAIM_SECONDS)
            # Not before the connection is given back: that may fail too, and then nobody hands these rows out.
            self._uncertain = False
            rows.sort(key=lambda row: (row["available_at"], row["id"]))
            for row in rows:
                self._hand_out(row)
        return len(rows)

    def _hand_out(self, row: asyncpg.Record) -> None:
        number, delivery_id, message_id, traceparent, redelivered, _ = row
        headers = {"traceparent": traceparent} if traceparent else {}
        self._held.add(number)
        self._in_hand += 1
        received = PostgresReceived(
            self, number, Parcel(delivery_id, message_id, self.route, headers), redelivered
        )
        task = asyncio.get_running_loop().create_task(self._run(received))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, received: PostgresReceived) -> None:
        try:
            await self._handler(received)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log(
                _LOG,
                logging.ERROR,
                "broker-handler-failed",
                error=error,
                route=self.route,
                delivery_id=received.parcel.delivery_id,
            )
            received.retry(AFTER_FAULT_SECONDS)
