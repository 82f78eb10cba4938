"""The relay: empties the outbox into the broker; a row leaves only after the broker's confirm."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, Final

import asyncpg

from canonical_model.errors import Unavailable
from registry.logs import log
from registry.storage.database import GONE
from registry.storage.listening import listen
from routing import metrics
from routing.brokers.contract import Broker, Parcel
from routing.intake import CHANNEL

_LOG = logging.getLogger(__name__)
BATCH: Final = 500
POLL: Final = 1.0
SET_ASIDE: Final = 10.0
"""Seconds for which a route whose parcels no queue takes is passed over, so that it holds up no other."""

GATHER: Final = 0.01
"""Seconds from one take to the next while little waits, so that many parcels share the cost of a take."""
_LEAST: Final = 20

# The routes are found by skipping along the index, so a take costs what it takes and what waits for a later hour costs
# nothing. A row is gone for good only when the transaction ends, and that is after the broker's confirm.
_TAKE: Final = """
WITH RECURSIVE waiting AS (
    (SELECT route FROM outbox WHERE taken_by IS NULL ORDER BY route LIMIT 1)
    UNION ALL
    SELECT (
        SELECT o.route FROM outbox o WHERE o.taken_by IS NULL AND o.route > waiting.route ORDER BY o.route LIMIT 1
    ) FROM waiting WHERE waiting.route IS NOT NULL
), due AS MATERIALIZED (
    SELECT row.id FROM waiting CROSS JOIN LATERAL (
        SELECT o.id FROM outbox o WHERE o.route = waiting.route AND o.taken_by IS NULL AND o.available_at <= now()
        ORDER BY o.available_at, o.id LIMIT $1 FOR UPDATE SKIP LOCKED
    ) AS row
    WHERE waiting.route <> ALL($2::text[])
)
DELETE FROM outbox o WHERE o.id = ANY (ARRAY(SELECT id FROM due))
RETURNING o.id, o.delivery_id, o.message_id, o.route, o.traceparent, o.available_at
"""
_PUT_BACK: Final = """
INSERT INTO outbox (id, delivery_id, message_id, route, traceparent, available_at)
SELECT * FROM unnest($1::bigint[], $2::uuid[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[])
"""


def _due(row: asyncpg.Record) -> tuple[Any, int]:
    return row[5], row[0]


class Relay:
    """Moves pointers from the outbox to the broker, those of one route in the order they are due, at least once."""

    def __init__(self, pool: asyncpg.Pool, broker: Broker) -> None:
        self._pool = pool
        self._broker = broker
        self._wake = asyncio.Event()
        self._stopping = False
        self._aside: dict[str, float] = {}
        self._share = BATCH
        """Most rows of one route in a take: every route gets a part of it."""

    async def run(self) -> None:
        """Work until `stop`; whatever fails is tried again, with back-off: nothing else empties the outbox."""
        listener = asyncio.create_task(listen(self._pool, CHANNEL, lambda _: self._wake.set()))
        wait = 0.1
        try:
            while not self._stopping:
                self._wake.clear()
                taken = time.monotonic()
                try:
                    more = await self.move()
                    wait = 0.1
                except Exception as error:
                    known = isinstance(error, (Unavailable, *GONE))
                    log(
                        _LOG,
                        logging.WARNING if known else logging.ERROR,
                        "relay-waits",
                        code=getattr(error, "code", "database-unavailable"),
                        seconds=wait,
                        error=None if known else error,
                    )
                    await self._sleep(wait)
                    wait = min(wait * 2, 5.0)
                    continue
                if not more:
                    await self._sleep(POLL)
                    if not self._stopping and (early := taken + GATHER - time.monotonic()) > 0:
                        await asyncio.sleep(early)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def move(self) -> bool:
        """Publish one batch; return whether more may be due already. The rows are locked until confirmed."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_TAKE, self._share, self._passed_over())
            if not rows:
                return False
            rows.sort(key=_due)
            parcels = [
                Parcel(row[1], row[2], row[3], {"traceparent": row[4]} if row[4] else {}) for row in rows
            ]
            confirmed = {id(parcel) for parcel in await self._broker.publish(parcels)}
            kept = [row for row, parcel in zip(rows, parcels, strict=True) if id(parcel) not in confirmed]
            if kept:
                await connection.execute(_PUT_BACK, *(list(column) for column in zip(*kept, strict=True)))
        counts: dict[str, int] = {}
        for parcel in parcels:
            if id(parcel) in confirmed:
                counts[parcel.route] = counts.get(parcel.route, 0) + 1
        for route, count in counts.items():
            metrics.published(route, count)
        if kept:
            until = time.monotonic() + SET_ASIDE
            self._aside.update((parcel.route, until) for parcel in parcels if parcel.route not in counts)
            raise Unavailable(
                f"The broker confirmed {len(rows) - len(kept)} of {len(rows)} pointers; the others stay in the outbox.",
                code="broker-unconfirmed",
            )
        full = max(counts.values()) >= self._share
        self._share = max(_LEAST, BATCH // len(counts))
        return full

    def _passed_over(self) -> list[str]:
        now = time.monotonic()
        self._aside = {route: until for route, until in self._aside.items() if until > now}
        return list(self._aside)

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def stop(self) -> None:
        """Ask `run` to return after the batch under way."""
        self._stopping = True
        self._wake.set()
