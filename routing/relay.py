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
from routing import metrics
from routing.brokers.contract import Broker, Parcel
from routing.intake import CHANNEL

_LOG = logging.getLogger(__name__)
BATCH: Final = 500
POLL: Final = 1.0
SET_ASIDE: Final = 10.0
"""Seconds for which a route whose parcels no queue takes is passed over, so that it holds up no other."""

_TAKE: Final = """
SELECT id, delivery_id, message_id, route, traceparent FROM outbox
WHERE available_at <= now() AND taken_by IS NULL AND route <> ALL($2::text[]) ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
"""


class Relay:
    """Moves pointers from the outbox to the broker, in order of the outbox, at least once."""

    def __init__(self, pool: asyncpg.Pool, broker: Broker) -> None:
        self._pool = pool
        self._broker = broker
        self._wake = asyncio.Event()
        self._stopping = False
        self._aside: dict[str, float] = {}

    async def run(self) -> None:
        """Work until `stop`; whatever fails is tried again, with back-off: nothing else empties the outbox."""
        listener = asyncio.create_task(self._listen())
        wait = 0.1
        try:
            while not self._stopping:
                self._wake.clear()
                try:
                    moved = await self.move()
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
                if moved < BATCH:
                    await self._sleep(POLL)
        finally:
            listener.cancel()
            await asyncio.gather(listener, return_exceptions=True)

    async def move(self) -> int:
        """Publish one batch; return how many rows were handed over. The rows are locked until confirmed."""
        async with self._pool.acquire() as connection, connection.transaction():
            rows = await connection.fetch(_TAKE, BATCH, self._passed_over())
            if not rows:
                return 0
            parcels = [
                Parcel(row[1], row[2], row[3], {"traceparent": row[4]} if row[4] else {}) for row in rows
            ]
            confirmed = {id(parcel) for parcel in await self._broker.publish(parcels)}
            done = [row[0] for row, parcel in zip(rows, parcels, strict=True) if id(parcel) in confirmed]
            await connection.execute("DELETE FROM outbox WHERE id = ANY($1::bigint[])", done)
        counts: dict[str, int] = {}
        for parcel in parcels:
            if id(parcel) in confirmed:
                counts[parcel.route] = counts.get(parcel.route, 0) + 1
        for route, count in counts.items():
            metrics.published(route, count)
        if len(done) < len(rows):
            until = time.monotonic() + SET_ASIDE
            self._aside.update((parcel.route, until) for parcel in parcels if parcel.route not in counts)
            raise Unavailable(
                f"The broker confirmed {len(done)} of {len(rows)} pointers; the others stay in the outbox.",
                code="broker-unconfirmed",
            )
        return len(rows)

    def _passed_over(self) -> list[str]:
        now = time.monotonic()
        self._aside = {route: until for route, until in self._aside.items() if until > now}
        return list(self._aside)

    async def _sleep(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            return

    async def _listen(self) -> None:
        """Keep one connection listening for new outbox rows; without it the relay still polls every second."""

        def woken(*_: Any) -> None:
            self._wake.set()

        while not self._stopping:
            try:
                async with self._pool.acquire() as connection:
                    await connection.add_listener(CHANNEL, woken)
                    try:
                        while not self._stopping and not connection.is_closed():
                            await connection.execute("SELECT 1")
                            await asyncio.sleep(5)
                    finally:
                        if not connection.is_closed():
                            await connection.remove_listener(CHANNEL, woken)
            except (*GONE, asyncpg.PostgresError):
                await asyncio.sleep(1)

    def stop(self) -> None:
        """Ask `run` to return after the batch under way."""
        self._stopping = True
        self._wake.set()
