"""What the hub measures of itself, in the Prometheus form, with bounded labels that name no person."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Generic, TypeVar

import asyncpg
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from registry.logs import log

__all__ = [
    "CHILD_LIMIT",
    "CONTENT_TYPE",
    "REGISTRY",
    "accept_seconds",
    "accepted",
    "attempted",
    "breaker_state",
    "dead",
    "ended",
    "in_flight",
    "published",
    "refused",
    "render",
    "retried",
    "sample_backlog",
    "sample_once",
    "transfer_moved",
    "transfer_went_on",
]

_LOG = logging.getLogger(__name__)
CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
REGISTRY: Final = CollectorRegistry(auto_describe=True)

CHILD_LIMIT: Final = 500
"""Most label combinations of one metric; further ones are counted under the label `other`."""
OTHER: Final = "other"

_FAST: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_SLOW: Final = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86400.0)

M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """One metric with its children cached, so that an increment is a dictionary look-up and an addition."""

    def __init__(self, metric: M, width: int) -> None:
        self.metric: M = metric
        self._children: dict[tuple[str, ...], M] = {}
        self._rest = (OTHER,) * width

    def at(self, *labels: str) -> M:
        """Return the child of these label values; the shared child `other` once `CHILD_LIMIT` exist."""
        child = self._children.get(labels)
        if child is None:
            if len(self._children) >= CHILD_LIMIT:
                labels = self._rest
                child = self._children.get(labels)
            if child is None:
                child = self._children[labels] = self.metric.labels(*labels)
        return child

    def keep_only(self, wanted: set[tuple[str, ...]]) -> None:
        """Forget children that are not in `wanted`: a route that is gone must not keep its last gauge for ever."""
        for labels in [labels for labels in self._children if labels not in wanted]:
            del self._children[labels]
            self.metric.remove(*labels)


def _counter(name: str, text: str, *labels: str) -> Family[Counter]:
    return Family(Counter(name, text, labels, registry=REGISTRY), len(labels))


def _gauge(name: str, text: str, *labels: str) -> Family[Gauge]:
    return Family(Gauge(name, text, labels, registry=REGISTRY), len(labels))


def _histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Family[Histogram]:
    return Family(Histogram(name, text, labels, buckets=buckets, registry=REGISTRY), len(labels))


_accepted = _counter("hub_messages_accepted_total", "Messages durably accepted.", "partner", "type")
_refused = _counter("hub_messages_refused_total", "Messages refused at the door.", "code")
_deliveries = _counter("hub_deliveries_total", "Deliveries ended, by outcome.", "route", "target", "outcome")
_retries = _counter(
    "hub_delivery_retries_total", "Attempts that will be repeated.", "route", "target", "code"
)
_dead = _counter("hub_dead_letters_total", "Deliveries that need a person.", "route", "code")
_published = _counter("hub_outbox_published_total", "Parcels the broker confirmed.", "route")
_delivery_seconds = _histogram("hub_delivery_seconds", "Seconds from accepted to delivered.", _SLOW, "route")
_attempt_seconds = _histogram(
    "hub_attempt_seconds", "Seconds one attempt took.", (*_FAST, 30.0, 60.0), "target"
)
_backlog_age = _gauge("hub_backlog_age_seconds", "Age of the oldest live delivery.", "route")
_backlog = _gauge("hub_backlog", "Live deliveries.", "route", "state")
_breaker = _gauge("hub_breaker_state", "Breaker of a target: 0 closed, 1 half-open, 2 open.", "target")
_in_flight = _gauge("hub_in_flight", "Sends under way.", "target")
_outbox_route = _gauge("hub_outbox_depth", "Parcels that still have to reach a worker.", "route")
_accept_seconds = Histogram(
    "hub_accept_seconds", "Seconds from request to durable answer.", buckets=_FAST, registry=REGISTRY
)
_transfers = _counter("hub_transfers_total", "Transfers that came into a state.", "target", "state")
_went_on = _counter(
    "hub_transfers_next_rail_total",
    "Payments that failed on one rail and were ordered at the next.",
    "target",
    "rail",
)
_transfer_seconds = _histogram(
    "hub_transfer_step_seconds", "Seconds a transfer was at a stage.", _SLOW, "target", "stage"
)
_transfers_live = _gauge(
    "hub_transfers_open",
    "Transfers that have not ended, and those that wait for a person.",
    "target",
    "state",
)
_transfer_age = _gauge(
    "hub_transfers_unclear_age_seconds", "Age of the oldest transfer sent and not known.", "target"
)
_workers = Gauge("hub_workers", "Workers seen in the last minute.", registry=REGISTRY)
_sampled = Gauge(
    "hub_backlog_sampled_timestamp_seconds", "When the backlog was last counted.", registry=REGISTRY
)


def accepted(partner: str, message_type: str, count: int = 1) -> None:
    """Count messages durably accepted."""
    _accepted.at(partner, message_type).inc(count)


def accept_seconds(seconds: float) -> None:
    """Record how long one request took to its durable answer."""
    _accept_seconds.observe(seconds)


def refused(code: str, count: int = 1) -> None:
    """Count messages refused at the door under their error code."""
    _refused.at(code).inc(count)


def published(route: str, count: int = 1) -> None:
    """Count parcels the broker confirmed."""
    _published.at(route).inc(count)


def attempted(target: str, seconds: float) -> None:
    """Record how long one attempt took."""
    _attempt_seconds.at(target).observe(seconds)


def ended(route: str, target: str, outcome: str, seconds: float | None = None) -> None:
    """Count an ended delivery (`delivered`, `refused`, `dead`, `cancelled`); `seconds` runs from acceptance."""
    _deliveries.at(route, target, outcome).inc()
    if outcome == "delivered" and seconds is not None:
        _delivery_seconds.at(route).observe(seconds)


def retried(route: str, target: str, code: str) -> None:
    """Count an attempt that will be repeated."""
    _retries.at(route, target, code).inc()


def dead(route: str, code: str) -> None:
    """Count a delivery that now needs a person."""
    _dead.at(route, code).inc()


def breaker_state(target: str, state: int) -> None:
    """Show a breaker's state: 0 closed, 1 half-open, 2 open."""
    _breaker.at(target).set(state)


def in_flight(target: str, change: int) -> None:
    """Add to (or take from) the sends under way at a target."""
    _in_flight.at(target).inc(change)


def transfer_moved(target: str, state: str, stage: str, seconds: float) -> None:
    """Count a transfer that came into a state, and the seconds since its step before."""
    _transfers.at(target, state).inc()
    _transfer_seconds.at(target, stage).observe(max(seconds, 0.0))


def transfer_went_on(target: str, rail: str) -> None:
    """Count a payment that failed on one rail and is ordered at the next."""
    _went_on.at(target, rail).inc()


def render() -> bytes:
    """Return all metrics in the Prometheus text form (`CONTENT_TYPE`)."""
    return generate_latest(REGISTRY)


_BACKLOG_SQL: Final = """
SELECT route, state, count(*) AS live, extract(epoch FROM now() - min(created_at))::float8 AS age
FROM delivery WHERE ended_at IS NULL GROUP BY route, state
"""
_OUTBOX_SQL: Final = "SELECT route, count(*) AS waiting FROM outbox GROUP BY route"
_WORKERS_SQL: Final = (
    "SELECT count(*) FROM worker WHERE role = 'worker' AND seen_at > now() - interval '1 minute'"
)

_TRANSFERS_SQL: Final = """
SELECT target, state, count(*) AS live, CASE WHEN state <> 'working' AND state <> 'queued'
    THEN extract(epoch FROM now() - min(sent_at))::float8 END AS age
FROM transfer WHERE state IN ('queued', 'working', 'sent') GROUP BY target, state
UNION ALL
SELECT target, state, count(*), extract(epoch FROM now() - min(sent_at))::float8
FROM transfer WHERE state IN ('unknown', 'review') GROUP BY target, state
"""


async def sample_once(pool: asyncpg.Pool, *, timeout: float = 10.0) -> None:  # noqa: ASYNC109
    """Count the backlog now and set the gauges; `timeout` (seconds) bounds each query."""
    async with pool.acquire(timeout=timeout) as connection:
        rows = await connection.fetch(_BACKLOG_SQL, timeout=timeout)
        waiting = await connection.fetch(_OUTBOX_SQL, timeout=timeout)
        workers = await connection.fetchval(_WORKERS_SQL, timeout=timeout)
        transfers = await connection.fetch(_TRANSFERS_SQL, timeout=timeout)
    ages: dict[str, float] = {}
    counts: set[tuple[str, ...]] = set()
    for row in rows:
        counts.add((row["route"], row["state"]))
        _backlog.at(row["route"], row["state"]).set(row["live"])
        ages[row["route"]] = max(ages.get(row["route"], 0.0), row["age"])
    _backlog.keep_only(counts)
    for route, age in ages.items():
        _backlog_age.at(route).set(age)
    _backlog_age.keep_only({(route,) for route in ages})
    for row in waiting:
        _outbox_route.at(row["route"]).set(row["waiting"])
    _outbox_route.keep_only({(row["route"],) for row in waiting})
    for row in transfers:
        _transfers_live.at(row["target"], row["state"]).set(row["live"])
    _transfers_live.keep_only({(row["target"], row["state"]) for row in transfers})
    unclear: dict[str, float] = {}
    for row in transfers:
        if row["age"] is not None:
            unclear[row["target"]] = max(unclear.get(row["target"], 0.0), row["age"])
    for target, age in unclear.items():
        _transfer_age.at(target).set(age)
    _transfer_age.keep_only({(target,) for target in unclear})
    _workers.set(workers)
    _sampled.set_to_current_time()


async def sample_backlog(pool: asyncpg.Pool, interval: float = 10.0) -> None:
    """Set the backlog gauges every `interval` seconds until cancelled; a failed count is logged and tried again."""
    while True:
        try:
            await sample_once(pool, timeout=max(1.0, interval))
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            log(_LOG, logging.WARNING, "backlog-not-sampled", error=error)
        await asyncio.sleep(interval)
