"""What workers write: claims, outcomes, and the sweep that leaves nothing behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.errors import HubError, Refused
from canonical_model.message import Message, uuid7
from registry.logs import log
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from routing.intake import Entry, Intake

_LOG = logging.getLogger(__name__)
SWEEP_LOCK: Final = 0x6F70_7377

_CLAIM: Final = """
WITH i AS (SELECT id, max(hold) AS hold FROM unnest($1::uuid[], $3::float8[]) AS i (id, hold) GROUP BY id),
owned AS (
    UPDATE delivery d SET state = 'sending', worker = $2, claimed_at = now(), attempts = d.attempts + 1, next_at = NULL,
        held_until = now() + make_interval(secs => i.hold)
    FROM i
    WHERE d.id = i.id AND d.state IN ('queued', 'waiting')
      AND (d.next_at IS NULL OR d.next_at <= now() + interval '100 milliseconds')
      AND (d.order_key IS NULL OR NOT EXISTS (
          SELECT 1 FROM delivery e WHERE e.route = d.route AND e.order_key = d.order_key AND e.ended_at IS NULL
          AND e.seq < d.seq))
    RETURNING d.id, d.message_id, d.route, d.route_version, d.target, d.mapping, d.attempts, d.code, d.replay_of
)
SELECT o.*, CASE WHEN o.attempts > 1 THEN (SELECT min(a.started_at) FROM attempt a WHERE a.delivery_id = o.id) END AS first_at,
    m.key_id, m.body, m.claim, m.accepted_at, m.partner FROM owned o JOIN message m ON m.id = o.message_id
"""

_NOT_CLAIMED: Final = """
SELECT id, state, ended_at IS NOT NULL AS ended, greatest(extract(epoch FROM next_at - now()), 0)::float8 AS due_in
FROM delivery WHERE id = ANY($1)
"""

_FINISH: Final = """
WITH i AS (
    SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::text[], $6::text[], $7::timestamptz[], $8::smallint[],
        $9::timestamptz[], $10::real[], $11::text[], $12::text[], $13::boolean[], $14::uuid[], $15::boolean[])
    AS i (id, state, code, reason, reference, next_at, number, started_at, seconds, outcome, exchanges, requeue,
        audit_id, counted)
), changed AS (
    UPDATE delivery d SET state = i.state, code = i.code, reason = i.reason,
        reference = coalesce(i.reference, d.reference), next_at = i.next_at, worker = NULL,
        attempts = CASE WHEN i.counted THEN d.attempts ELSE greatest(d.attempts - 1, 0) END,
        ended_at = CASE WHEN i.state IN ('delivered', 'refused', 'dead') THEN now() END
    FROM i WHERE d.id = i.id AND d.state = 'sending' AND d.worker = $1
    RETURNING d.id, d.message_id, d.route, d.route_version, d.target, d.mapping, d.order_key, d.seq, d.ended_at
), tried AS (
    INSERT INTO attempt (delivery_id, number, message_id, started_at, seconds, outcome, code, detail, route_version,
        mapping, worker, exchanges)
    SELECT i.id, i.number, c.message_id, i.started_at, i.seconds, i.outcome, i.code, i.reason, c.route_version, c.mapping,
        $1, i.exchanges::jsonb
    FROM i JOIN changed c ON c.id = i.id WHERE i.counted
), next_in_order AS (
    SELECT DISTINCT n.id, n.message_id, n.route FROM changed c CROSS JOIN LATERAL (
        SELECT e.id, e.message_id, e.route FROM delivery e
        WHERE e.route = c.route AND e.order_key = c.order_key AND e.ended_at IS NULL AND e.seq > c.seq
        ORDER BY e.seq LIMIT 1
    ) n WHERE c.ended_at IS NOT NULL AND c.order_key IS NOT NULL
), requeued AS (
    INSERT INTO outbox (delivery_id, message_id, route, available_at, traceparent)
    SELECT p.id, p.message_id, p.route, p.available_at, m.traceparent FROM (
        SELECT n.id, n.message_id, n.route, now() AS available_at FROM next_in_order n
        UNION ALL
        SELECT c.id, c.message_id, c.route, i.next_at FROM i JOIN changed c ON c.id = i.id WHERE i.requeue
    ) p JOIN message m ON m.id = p.message_id
    RETURNING route
), audited AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, details)
    SELECT i.audit_id, 'hub', 'delivery.end', 'delivery', c.id::text, i.state,
        jsonb_build_object('message', c.message_id, 'route', c.route, 'target', c.target, 'code', i.code)
    FROM i JOIN changed c ON c.id = i.id WHERE c.ended_at IS NOT NULL
), woken AS (
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM requeued) AS routes
)
SELECT id, (SELECT count(*) FROM woken) AS woken FROM changed
"""

_RETURN_LOST: Final = """
WITH gone AS (
    SELECT d.id, d.message_id, d.route, d.route_version, d.mapping, d.attempts, d.worker, d.claimed_at
    FROM delivery d WHERE d.ended_at IS NULL AND d.state = 'sending'
      AND NOT EXISTS (SELECT 1 FROM worker w WHERE w.id = d.worker AND w.seen_at > now() - $1::interval)
      AND d.claimed_at < now() - $1::interval AND coalesce(d.held_until, d.claimed_at) < now()
    LIMIT 1000 FOR UPDATE SKIP LOCKED
), freed AS (
    UPDATE delivery d SET state = 'waiting', worker = NULL, next_at = now(), code = 'outcome-unknown',
        reason = 'The worker stopped in the middle of this attempt.'
    FROM gone g WHERE d.id = g.id AND d.state = 'sending' RETURNING d.id
), tried AS (
    INSERT INTO attempt (delivery_id, number, message_id, started_at, seconds, outcome, code, detail, route_version,
        mapping, worker)
    SELECT g.id, g.attempts, g.message_id, g.claimed_at, extract(epoch FROM now() - g.claimed_at), 'abandoned',
        'outcome-unknown', 'The worker stopped in the middle of this attempt.', g.route_version, g.mapping, g.worker
    FROM gone g JOIN freed f ON f.id = g.id
    ON CONFLICT DO NOTHING
)
INSERT INTO outbox (delivery_id, message_id, route, traceparent)
SELECT g.id, g.message_id, g.route, m.traceparent FROM gone g JOIN freed f ON f.id = g.id
JOIN message m ON m.id = g.message_id RETURNING route
"""

# A pointer may be lost with a broker's disk, or parked behind an earlier message that has ended since: point again. Each
# is pointed to at most once in `$1`, so that a long backlog does not fill the broker with copies. Those pointed to longest
# ago come first, so that the search can end with the last one renewed instead of looking at the whole backlog.
_POINT_AGAIN: Final = """
WITH lost AS (
    SELECT d.id, d.message_id, d.route FROM delivery d
    WHERE d.ended_at IS NULL AND d.state IN ('queued', 'waiting')
      AND d.pointed_at < now() - $1::interval AND (d.next_at IS NULL OR d.next_at < now() - $1::interval)
      AND ($3::text[] IS NULL OR d.route = ANY($3::text[]))
      AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.delivery_id = d.id)
      AND (d.order_key IS NULL OR NOT EXISTS (
          SELECT 1 FROM delivery e WHERE e.route = d.route AND e.order_key = d.order_key AND e.ended_at IS NULL
          AND e.seq < d.seq))
    ORDER BY d.pointed_at, d.seq LIMIT $2 FOR UPDATE SKIP LOCKED
), marked AS (
    UPDATE delivery d SET pointed_at = now() FROM lost WHERE d.id = lost.id
)
INSERT INTO outbox (delivery_id, message_id, route, traceparent)
SELECT lost.id, lost.message_id, lost.route, m.traceparent FROM lost JOIN message m ON m.id = lost.message_id
RETURNING route
"""

# A claim whose answer never reached this worker (the connection broke after the commit) was certainly not sent.
_STRAYS: Final = """
WITH freed AS (
    UPDATE delivery SET state = 'waiting', worker = NULL, next_at = now(), attempts = greatest(attempts - 1, 0)
    WHERE ended_at IS NULL AND state = 'sending' AND worker = $1 AND claimed_at < now() - interval '10 seconds'
      AND id <> ALL($2::uuid[])
    RETURNING id, message_id, route
)
INSERT INTO outbox (delivery_id, message_id, route, traceparent)
SELECT f.id, f.message_id, f.route, m.traceparent FROM freed f JOIN message m ON m.id = f.message_id
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """A delivery in a worker's hands, with its sealed message."""

    delivery_id: UUID
    message_id: UUID
    route: str
    route_version: int
    target: str
    mapping: str | None
    attempt: int
    code: str | None
    """`outcome-unknown` when an earlier attempt may have reached the target."""
    key_id: int
    body: bytes | None
    claim_key: str | None
    accepted_at: datetime
    partner: str
    first_at: datetime | None = None
    """When the first attempt began; None on the first."""


class NotNow(StrEnum):
    """Why a delivery is not to be sent now."""

    ENDED = "ended"
    """It has ended, or is not there: the pointer may go."""
    ELSEWHERE = "elsewhere"
    """It is being sent: the pointer may be needed again."""
    BEHIND = "behind"
    """An earlier message of the same subject has not ended; its end points to this one."""
    EARLY = "early"
    """Its next try is not due yet."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """A delivery that was not claimed, why, and for `EARLY` the seconds until it is due."""

    why: NotNow
    due_in: float = 0.0


@dataclass(slots=True)
class Outcome:
    """What became of one attempt."""

    delivery_id: UUID
    state: str
    outcome: str
    attempt: int
    started_at: datetime
    seconds: float
    code: str | None = None
    reason: str | None = None
    reference: str | None = None
    next_at: datetime | None = None
    requeue: bool = False
    counted: bool = True
    exchanges: list[dict[str, Any]] | None = None
    produced: list[Entry] = field(default_factory=list)
    told: Sequence[Message] = field(default=(), repr=False)
    """What was told for who waits for the answer; not recorded."""


class DeliveryStore:
    """Grouped claims and outcomes of one worker process."""

    def __init__(
        self, pool: asyncpg.Pool, worker_id: UUID, intake: Intake, *, group_commit_ms: float = 3.0
    ) -> None:
        self._pool = pool
        self._worker = worker_id
        self._intake = intake
        delay = group_commit_ms / 1000
        self._claims: GroupCommit[tuple[UUID, float], Claim | Withheld] = GroupCommit(
            self._claim_all, delay=delay, most=200, parallel=1
        )
        self._outcomes: GroupCommit[Outcome, bool] = GroupCommit(
            self._finish_all, delay=delay, most=200, parallel=1
        )

    async def claim(self, delivery_id: UUID, hold: float = 0.0) -> Claim | Withheld:
        """Take a delivery, or say why it is not to be sent now.

        For `hold` seconds nobody else may take it, even if this worker falls silent: so long a send may be under way.
        """
        return await self._claims.submit((delivery_id, hold))

    async def finish(self, outcome: Outcome) -> bool:
        """Record an attempt's outcome, with the messages it produced; False when the claim was lost meanwhile."""
        return await self._outcomes.submit(outcome)

    async def drain(self) -> None:
        """Return once everything handed in is written."""
        await self._outcomes.drain()
        await self._claims.drain()

    async def _claim_all(self, asked: Sequence[tuple[UUID, float]]) -> Sequence[Claim | Withheld]:
        ids = [id_ for id_, _ in asked]
        async with database_errors("claiming deliveries"), self._pool.acquire() as connection:
            rows = await connection.fetch(_CLAIM, ids, self._worker, [hold for _, hold in asked])
        found: dict[UUID, Claim] = {}
        withheld: dict[UUID, Withheld] = {}
        if len(rows) < len(ids):
            withheld = await self._withheld(set(ids).difference(row["id"] for row in rows))
        for row in rows:
            found[row["id"]] = Claim(
                row["id"], row["message_id"], row["route"], row["route_version"], row["target"], row["mapping"],
                row["attempts"], row["code"], row["key_id"], row["body"], row["claim"], row["accepted_at"], row["partner"],
                row["first_at"],
            )  # fmt: skip
        claimed = set(found)
        # One pointer may come twice in one group: only the first caller gets the claim.
        return [
            (found.pop(id_) if id_ in found else None)
            or withheld.get(id_)
            or Withheld(NotNow.ELSEWHERE if id_ in claimed else NotNow.ENDED)
            for id_ in ids
        ]

    async def _withheld(self, ids: Collection[UUID]) -> dict[UUID, Withheld]:
        # The claim is committed: whatever happens here, its answer must reach the caller.
        try:
            async with database_errors("looking at deliveries"), self._pool.acquire() as connection:
                rows = await connection.fetch(_NOT_CLAIMED, list(ids))
        except (HubError, asyncpg.PostgresError):
            return dict.fromkeys(ids, Withheld(NotNow.ELSEWHERE))
        return {row["id"]: _why(row) for row in rows}

    async def _finish_all(self, outcomes: Sequence[Outcome]) -> Sequence[bool]:
        columns = [
            list(column)
            for column in zip(
                *(
                    (
                        o.delivery_id, o.state, _text(o.code), _text(o.reason), _text(o.reference), o.next_at, o.attempt, o.started_at,
                        o.seconds, o.outcome, _json(o.exchanges), o.requeue, uuid7(), o.counted,
                    )
                    for o in outcomes
                ),
                strict=True,
            )
        ]  # fmt: skip
        produced = [entry for o in outcomes for entry in o.produced]
        async with database_errors("recording outcomes"), self._pool.acquire() as connection:
            if not produced:
                rows = await connection.fetch(_FINISH, self._worker, *columns)
            else:
                async with connection.transaction():
                    rows = await connection.fetch(_FINISH, self._worker, *columns)
                    kept = {row[0] for row in rows}
                    wanted = [entry for o in outcomes if o.delivery_id in kept for entry in o.produced]
                    if wanted:
                        # An answer that came before with other words stands as it first came; what was sent is
                        # recorded all the same.
                        for entry, answer in zip(
                            wanted, await self._intake.write(connection, wanted), strict=True
                        ):
                            if isinstance(answer, Refused):
                                log(
                                    _LOG,
                                    logging.WARNING,
                                    "answer-came-before",
                                    message_id=str(entry.message.id),
                                    code=answer.code,
                                )
                            elif isinstance(answer, Exception):
                                raise answer
        done = {row[0] for row in rows}
        return [o.delivery_id in done for o in outcomes]

    async def release_strays(self, in_hand: Collection[UUID]) -> None:
        """Give back claims that were committed for this worker but never reached it; `in_hand` are those that did."""
        async with self._pool.acquire(timeout=10) as connection:
            # Looked at only now: what was claimed while waiting for the connection is in hand as well.
            await connection.execute(_STRAYS, self._worker, list(in_hand))

    async def beat(self, role: str) -> None:
        """Say that this worker lives; its claims are given back ten seconds after the last beat."""
        await self._pool.execute(
            "INSERT INTO worker (id, role) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET seen_at = now()",
            self._worker,
            role,
        )


def _why(row: asyncpg.Record) -> Withheld:
    if row["ended"]:
        return Withheld(NotNow.ENDED)
    if row["state"] == "sending":
        return Withheld(NotNow.ELSEWHERE)
    if row["due_in"]:
        return Withheld(NotNow.EARLY, row["due_in"])
    return Withheld(NotNow.BEHIND)


def _text(value: str | None) -> str | None:
    """Return text the database takes, whatever a connector put into it."""
    return None if value is None else value.replace("\x00", "").encode("utf-8", "replace").decode()


def _json(value: Any) -> str | None:
    """Return JSON text: an array of jsonb values cannot be told from a nested array by the driver."""
    if value is None:
        return None
    try:
        text = orjson.dumps(value, option=orjson.OPT_UTC_Z).decode()
    except TypeError:
        return None  # a connector's notes that are no JSON must not keep the outcome from being recorded
    return text.replace("\\u0000", "")


class Sweeper:
    """Finds what a crash or a lost broker left behind and points to it again."""

    def __init__(self, pool: asyncpg.Pool, *, dead_after: float = 10.0, lost_after: float = 60.0) -> None:
        self._pool = pool
        self._dead_after = dead_after
        self._lost_after = lost_after
        self._pointed = -lost_after

    async def sweep(self, idle_routes: Sequence[str] = ()) -> tuple[int, int]:
        """Return how many claims of dead workers were freed and how many lost pointers were renewed.

        One worker sweeps at a time. Pointers are renewed after `lost_after` seconds on `idle_routes`, those whose broker
        queue is empty; elsewhere they merely wait their turn, so there only a few, after thirty times as long.
        """
        async with (
            database_errors("sweeping"),
            self._pool.acquire(timeout=10) as connection,
            connection.transaction(),
        ):
            if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", SWEEP_LOCK):
                return 0, 0
            freed = await connection.fetch(_RETURN_LOST, timedelta(seconds=self._dead_after))
            again: list[asyncpg.Record] = []
            if time.monotonic() - self._pointed >= self._lost_after / 3:
                self._pointed = time.monotonic()
                # What is lost is mostly nothing, and a plan that does not know the bounds reads the whole backlog for it.
                await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
                lost = timedelta(seconds=self._lost_after)
                again = await connection.fetch(_POINT_AGAIN, lost, 2000, list(idle_routes))
                again += await connection.fetch(_POINT_AGAIN, lost * 30, 200, None)
            for route in {row["route"] for row in (*freed, *again)}:
                await connection.execute("SELECT pg_notify('hub_outbox', $1)", route)
            await connection.execute("DELETE FROM worker WHERE seen_at < now() - interval '1 hour'")
        return len(freed), len(again)
