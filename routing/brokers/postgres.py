"""The PostgreSQL broker: the outbox is the queue; for an installation without a message broker.

Rows are claimed in batches with SKIP LOCKED and stay in the table until they are acknowledged, so nothing is lost when a
worker dies: its row in `worker` goes stale and its parcels are given back. NOTIFY wakes consumers; a poll once a second
finds what no notice announced (delayed parcels, a missed notice, a pooler that does not pass LISTEN).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from canonical_model.errors import Unavailable
from registry.logs import log
from registry.storage.database import GONE
from routing.brokers.claims import CHANNEL, Claimer
from routing.brokers.contract import Handler, Parcel
from routing.brokers.settling import Settler

_LOG = logging.getLogger(__name__)

AWAY = (*GONE, asyncpg.PostgresError)

PUBLISH = """
    WITH put AS (
        INSERT INTO outbox (delivery_id, message_id, route, traceparent)
        SELECT d, m, r, t FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[]) WITH ORDINALITY AS p(d, m, r, t, n)
        ORDER BY n
        RETURNING route
    )
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM put) AS routes
"""
DEPTH = "SELECT count(*) FROM outbox WHERE route = $1 AND taken_by IS NULL AND available_at <= now()"
BEAT = """
    INSERT INTO worker (id, role) VALUES ($1, 'worker')
    ON CONFLICT (id) DO UPDATE SET seen_at = now() RETURNING (xmax = 0) AS fresh
"""
BURY = "DELETE FROM worker WHERE seen_at < now() - $1::interval RETURNING id"
GIVE_BACK = """
    WITH given AS (
        UPDATE outbox SET taken_by = NULL, taken_at = NULL, redelivered = true
        WHERE taken_by = ANY($1::uuid[]) AND id <> ALL($2::bigint[]) RETURNING route
    )
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM given) AS routes
"""


class PostgresBroker:
    """Carries parcels in the `outbox` table of the hub's own database.

    `worker_id` names this process in `taken_by`; `dead_after` is how many seconds a worker may be silent before its
    parcels are given to others, `beat_seconds` how often it shows itself, `poll_seconds` the longest sleep of a consumer.
    """

    name = "postgres"

    def __init__(
        self,
        pool: asyncpg.Pool,
        worker_id: UUID,
        *,
        dead_after: float = 10.0,
        beat_seconds: float = 2.0,
        poll_seconds: float = 1.0,
    ) -> None:
        self._pool = pool
        self._worker = worker_id
        self._dead_after = timedelta(seconds=dead_after)
        self._beat_seconds = beat_seconds
        self._poll_seconds = poll_seconds
        self._settler = Settler(pool, worker_id)
        self._claimers: list[Claimer] = []
        self._shared: dict[str, tuple[asyncio.Lock, set[int]]] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Prove the database; raises `Unavailable`."""
        await self._run("fetchval", "SELECT 1 FROM outbox LIMIT 1")

    async def close(self) -> None:
        """Stop consumers, write what was settled (bounded), give back the rest."""
        for claimer in self._claimers:
            await claimer.cancel()
        for claimer in self._claimers:
            await claimer.finish(10.0)
        await self._settler.close(5.0)
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        keeper.cancel()
        await asyncio.wait({keeper}, timeout=5.0)
        try:
            await self._run("execute", GIVE_BACK, [self._worker], [])
            await self._run("execute", "DELETE FROM worker WHERE id = $1", self._worker)
        except Unavailable as error:
            # Other workers take this worker's parcels when it is found silent.
            log(_LOG, logging.WARNING, "broker-parcels-not-given-back", code=error.code)

    async def declare(self, routes: Sequence[str]) -> None:
        """Nothing has to be made: a route is a value in a column."""

    async def publish(self, parcels: Sequence[Parcel]) -> Sequence[Parcel]:
        """Write the parcels in one statement; return all of them.

        Raises `Unavailable` when the database cannot be reached; then at most the answer was lost, never a parcel.
        """
        if parcels:
            await self._run(
                "execute",
                PUBLISH,
                [parcel.delivery_id for parcel in parcels],
                [parcel.message_id for parcel in parcels],
                [parcel.route for parcel in parcels],
                [parcel.headers.get("traceparent") for parcel in parcels],
            )
        return list(parcels)

    async def consume(self, route: str, handler: Handler, *, prefetch: int) -> Claimer:
        """Call `handler` for each parcel of a route, at most `prefetch` unsettled at a time; survives restarts."""
        if self._keeper is None:
            await self._run("fetchval", BEAT, self._worker)
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="broker-keeper")
        lock, held = self._shared.setdefault(route, (asyncio.Lock(), set()))
        claimer = Claimer(
            self._pool,
            self._worker,
            route,
            handler,
            prefetch,
            settler=self._settler,
            lock=lock,
            held=held,
            poll_seconds=self._poll_seconds,
        )
        self._claimers.append(claimer)
        claimer.start()
        return claimer

    async def depth(self, route: str) -> int:
        """Return how many parcels wait on a route; those delayed or in a worker's hands are not counted."""
        return int(await self._run("fetchval", DEPTH, route))

    async def healthy(self) -> bool:
        """Say whether parcels can be published now."""
        try:
            await self._run("fetchval", "SELECT 1", seconds=2.0)
        except Unavailable:
            return False
        return True

    async def _run(self, method: str, query: str, *args: Any, seconds: float = 10.0) -> Any:
        try:
            async with self._pool.acquire(timeout=seconds) as connection:
                return await getattr(connection, method)(query, *args, timeout=seconds)
        except GONE as error:
            raise Unavailable(
                f"The database that carries the parcels does not answer ({type(error).__name__}).",
                code="broker-unavailable",
                remedy="Start PostgreSQL or correct HUB_DATABASE_URL; the hub reconnects by itself.",
                retry_after=1.0,
            ) from error

    def _on_notice(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        for claimer in self._claimers:
            if claimer.route == payload:
                claimer.wake()

    async def _keep(self) -> None:
        """Hold one connection of its own for notices and heartbeats: a busy pool must not make this worker look dead."""
        pause = 0.2
        while True:
            try:
                async with self._pool.acquire(timeout=10.0) as connection:
                    await self._watch(connection)
                pause = 0.2
            except AWAY as error:
                log(
                    _LOG,
                    logging.WARNING,
                    "broker-connection-lost",
                    broker="postgres",
                    code="database-unavailable",
                    error_class=type(error).__name__,
                )
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)

    async def _watch(self, connection: Any) -> None:
        ended = asyncio.Event()

        def on_end(_connection: Any) -> None:
            ended.set()

        connection.add_termination_listener(on_end)
        await connection.add_listener(CHANNEL, self._on_notice)
        try:
            while not connection.is_closed():
                if await connection.fetchval(BEAT, self._worker, timeout=5.0):
                    # The row was gone: others took us for dead and were given what we held.
                    log(_LOG, logging.WARNING, "worker-taken-for-dead", worker=self._worker)
                for claimer in self._claimers:
                    claimer.wake()
                await self._bury(connection)
                try:
                    async with asyncio.timeout(self._beat_seconds):
                        await ended.wait()
                except TimeoutError:
                    continue
        finally:
            if not connection.is_closed():
                connection.remove_termination_listener(on_end)
                await connection.remove_listener(CHANNEL, self._on_notice)

    async def _bury(self, connection: Any) -> None:
        """Give back what silent workers hold.

        Their rows go first: a claim holds a key lock on its worker's row, so after this statement no claim of theirs can
        still commit, and the next statement sees all they took.
        """
        async with connection.transaction():
            dead = [row["id"] for row in await connection.fetch(BURY, self._dead_after, timeout=10.0)]
            if dead:
                await connection.execute(GIVE_BACK, dead, [], timeout=30.0)
        if dead:
            log(_LOG, logging.WARNING, "worker-parcels-given-back", worker=dead, count=len(dead))
