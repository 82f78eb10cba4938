"""Where a message is and what became of it: the read side of the message store."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg
import orjson

from canonical_model.message import uuid7_floor
from registry.storage.database import database_errors
from registry.storage.tables import compiled
from routing.search import (
    LIMIT,
    Blind,
    MessageFilter,
    Page,
    dead_statement,
    decode_cursor,
    encode_cursor,
    search_statement,
)

__all__ = ["DeadLetter", "DeliveryTrace", "Hop", "MessageSummary", "MessageTrace", "RouteFlow", "Trace"]

_HOP_LIMIT: Final = 2000
_HISTORY_LIMIT: Final = 20
_ENDED: Final = frozenset({"delivered", "refused", "dead", "cancelled"})
_EXCHANGE_KEYS: Final = (
    "method",
    "address",
    "status",
    "started_at",
    "seconds",
    "request_bytes",
    "reply_bytes",
    "notes",
)
_QUERY: Final = re.compile(r"[?#].*$", re.DOTALL)
# Ordered by how much a person should care; a message is as bad as its worst delivery.
_WORST: Final = ("dead", "refused", "waiting", "sending", "queued", "cancelled", "delivered")


@dataclass(frozen=True, slots=True)
class Hop:
    """One thing that happened to a message, at an instant, in order.

    `kind` is accepted, routed, published, attempt or ended; an instant is None where the store keeps no time for it.
    """

    kind: str
    at: datetime | None
    delivery_id: UUID | None = None
    route: str | None = None
    target: str | None = None
    route_version: int | None = None
    mapping: str | None = None
    number: int | None = None
    seconds: float | None = None
    outcome: str | None = None
    code: str | None = None
    detail: str | None = None
    worker: UUID | None = None
    exchanges: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class DeliveryTrace:
    """One message on one route, as it stands."""

    id: UUID
    route: str
    route_version: int
    target: str
    mapping: str | None
    state: str
    attempts: int
    next_at: datetime | None
    code: str | None
    reason: str | None
    reference: str | None
    replay_of: UUID | None
    replays: int
    created_at: datetime
    ended_at: datetime | None
    published: bool
    hops: Sequence[Hop] = field(default=())


@dataclass(frozen=True, slots=True)
class MessageSummary:
    """One message in a list: no payload, no subject."""

    id: UUID
    partner: str
    type: str
    time: datetime
    accepted_at: datetime
    size: int
    routes: int
    state: str
    """The worst state among the deliveries the caller may see; `unrouted` when there is none."""
    states: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class MessageTrace:
    """Every hop of one message, oldest first; `truncated` says that it has more hops than are shown."""

    id: UUID
    partner: str
    type: str
    time: datetime
    accepted_at: datetime
    size: int
    stored: str
    state: str
    traceparent: str | None
    request_id: str | None
    deliveries: Sequence[DeliveryTrace]
    hops: Sequence[Hop]
    truncated: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Return plain data: ids and instants stay `UUID` and `datetime`; asyncpg's UUIDs need `default=str` in orjson."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that needs a person, why, and what was tried."""

    id: UUID
    message_id: UUID
    partner: str
    type: str
    route: str
    route_version: int
    target: str
    mapping: str | None
    state: str
    attempts: int
    code: str | None
    reason: str | None
    replay_of: UUID | None
    replays: int
    accepted_at: datetime
    created_at: datetime
    ended_at: datetime | None
    history: Sequence[Hop]


@dataclass(frozen=True, slots=True)
class RouteFlow:
    """What one route carried: live deliveries as they stand, ended ones and accepted ones within the window."""

    route: str
    target: str
    accepted: int
    queued: int
    sending: int
    waiting: int
    delivered: int
    refused: int
    dead: int
    cancelled: int
    oldest_seconds: float | None
    dead_total: int


_MESSAGE_SQL: Final = """
SELECT id, partner, type, time, accepted_at, size, traceparent, request_id, routes, claim IS NOT NULL AS claimed,
       body IS NOT NULL AS inline
FROM message WHERE id = $1 AND ($2::text IS NULL OR partner = $2)
"""
_DELIVERIES_SQL: Final = """
SELECT d.*, NOT EXISTS (SELECT FROM outbox o WHERE o.delivery_id = d.id AND o.taken_by IS NULL AND NOT o.redelivered) AS published
FROM delivery d WHERE d.message_id = $1 AND ($2::text[] IS NULL OR d.visible IS NULL OR d.visible && $2::text[])
ORDER BY d.id
LIMIT 500
"""
_ATTEMPTS_SQL: Final = (
    "SELECT * FROM attempt WHERE delivery_id = ANY($1::uuid[]) ORDER BY started_at, number LIMIT $2"
)
# A delivery that was replayed is answered by its newest replay.
_STATES_SQL: Final = """
SELECT message_id, state, count(*) AS n FROM (
    SELECT DISTINCT ON (message_id, coalesce(replay_of, id)) message_id, state FROM delivery
    WHERE message_id = ANY($1::uuid[]) AND ($2::text[] IS NULL OR visible IS NULL OR visible && $2::text[])
    ORDER BY message_id, coalesce(replay_of, id), id DESC
) AS newest GROUP BY message_id, state
"""
# Live deliveries are counted whole (a partial index holds just them); the rest only inside the window, which the
# partition key bounds. A delivery that ended in the window but was made before it is found through attempts of the window.
_FLOW_SQL: Final = """
WITH seen AS (
    SELECT route, target, state, created_at, ended_at, replay_of IS NULL AS first FROM delivery
    WHERE id >= $1 AND ($3::text[] IS NULL OR visible IS NULL OR visible && $3::text[])
    UNION ALL
    SELECT route, target, state, created_at, ended_at, false FROM delivery
    WHERE id < $1 AND ended_at IS NULL AND ($3::text[] IS NULL OR visible IS NULL OR visible && $3::text[])
), dead AS (
    SELECT route, count(*) AS n FROM delivery d
    WHERE state = 'dead' AND NOT EXISTS (SELECT FROM delivery l WHERE l.message_id = d.message_id
        AND l.replay_of = coalesce(d.replay_of, d.id) AND l.id > d.id) AND ($3::text[] IS NULL OR visible IS NULL OR visible && $3::text[]) GROUP BY route
)
SELECT s.route, min(s.target) AS target,
       count(*) FILTER (WHERE s.created_at >= $2 AND s.first) AS accepted,
       count(*) FILTER (WHERE s.state = 'queued') AS queued,
       count(*) FILTER (WHERE s.state = 'sending') AS sending,
       count(*) FILTER (WHERE s.state = 'waiting') AS waiting,
       count(*) FILTER (WHERE s.state = 'delivered') AS delivered,
       count(*) FILTER (WHERE s.state = 'refused') AS refused,
       count(*) FILTER (WHERE s.state = 'dead') AS dead,
       count(*) FILTER (WHERE s.state = 'cancelled') AS cancelled,
       extract(epoch FROM now() - min(s.created_at) FILTER (WHERE s.ended_at IS NULL))::float8 AS oldest_seconds,
       coalesce(max(d.n), 0) AS dead_total
FROM seen s LEFT JOIN dead d USING (route) GROUP BY s.route ORDER BY s.route LIMIT 500
"""


def worst_state(states: Mapping[str, int]) -> str:
    """Return the state that most needs attention, `unrouted` when there is no delivery."""
    return next((state for state in _WORST if states.get(state)), "unrouted")


def _exchanges(raw: Any) -> tuple[Mapping[str, Any], ...]:
    """Return recorded exchanges with known keys only and addresses without query: redacted again when read."""
    found = orjson.loads(raw) if isinstance(raw, str | bytes) else raw
    if not isinstance(found, list):
        return ()
    kept: list[Mapping[str, Any]] = []
    for item in found[:100]:
        if isinstance(item, dict):
            entry = {key: item[key] for key in _EXCHANGE_KEYS if key in item}
            if isinstance(entry.get("address"), str):
                entry["address"] = _QUERY.sub("", entry["address"])
            kept.append(entry)
    return tuple(kept)


def _attempt_hop(row: asyncpg.Record, route: str, target: str) -> Hop:
    return Hop(
        kind="attempt",
        at=row["started_at"],
        delivery_id=row["delivery_id"],
        route=route,
        target=target,
        route_version=row["route_version"],
        mapping=row["mapping"],
        number=row["number"],
        seconds=round(float(row["seconds"]), 6),
        outcome=row["outcome"],
        code=row["code"],
        detail=row["detail"],
        worker=row["worker"],
        exchanges=_exchanges(row["exchanges"]),
    )


def _delivery(row: asyncpg.Record, attempts: Sequence[Hop]) -> DeliveryTrace:
    place: dict[str, Any] = {"delivery_id": row["id"], "route": row["route"], "target": row["target"]}
    version = {"route_version": row["route_version"], "mapping": row["mapping"]}
    hops = [
        Hop(
            kind="routed",
            at=row["created_at"],
            outcome="replay" if row["replay_of"] else None,
            **place,
            **version,
        )
    ]
    published = bool(row["published"] or attempts)
    if published and (attempts or row["state"] not in _ENDED):
        hops.append(Hop(kind="published", at=None, **place))
    hops.extend(attempts)
    if row["ended_at"] is not None:
        hops.append(
            Hop(
                kind="ended",
                at=row["ended_at"],
                outcome=row["state"],
                code=row["code"],
                detail=row["reason"],
                **place,
            )
        )
    names = (
        "id", "route", "route_version", "target", "mapping", "state", "attempts", "next_at", "code", "reason", "reference",
        "replay_of", "replays", "created_at", "ended_at",
    )  # fmt: skip
    return DeliveryTrace(**{name: row[name] for name in names}, published=published, hops=tuple(hops))


def _in_order(deliveries: Sequence[DeliveryTrace], first: Hop) -> tuple[Hop, ...]:
    """Merge the hops of all deliveries by time; a hop without a time stays behind the one before it."""
    keyed: list[tuple[datetime, int, int, Hop]] = []
    for place, one in enumerate(deliveries):
        last = one.created_at
        for step, hop in enumerate(one.hops):
            last = max(last, hop.at) if hop.at is not None else last
            keyed.append((last, place, step, hop))
    keyed.sort(key=lambda item: item[:3])
    return (first, *(item[3] for item in keyed))


class Trace:
    """Answers where a message is; `visible` is always the caller's scopes, None for one who may see every route."""

    def __init__(self, pool: asyncpg.Pool, blind: Blind) -> None:
        self._pool = pool
        self._blind = blind

    async def message(
        self, id_: UUID, visible: frozenset[str] | None = None, partner: str | None = None
    ) -> MessageTrace | None:
        """Return every hop of a message, None when there is none the caller may see; `partner` confines to its own."""
        scopes = None if visible is None else sorted(visible)
        async with database_errors("reading a trace"), self._pool.acquire(timeout=10) as connection:
            row = await connection.fetchrow(_MESSAGE_SQL, id_, partner)
            if row is None:
                return None
            rows = await connection.fetch(_DELIVERIES_SQL, id_, scopes)
            if not rows and row["routes"]:
                return None
            tried = await connection.fetch(_ATTEMPTS_SQL, [one["id"] for one in rows], _HOP_LIMIT + 1)
        by_delivery: dict[UUID, list[Hop]] = {one["id"]: [] for one in rows}
        routes = {one["id"]: (one["route"], one["target"]) for one in rows}
        for item in tried[:_HOP_LIMIT]:
            by_delivery[item["delivery_id"]].append(_attempt_hop(item, *routes[item["delivery_id"]]))
        deliveries = tuple(_delivery(one, by_delivery[one["id"]]) for one in rows)
        states: dict[str, int] = {}
        for one in deliveries:
            states[one.state] = states.get(one.state, 0) + 1
        accepted = Hop(kind="accepted", at=row["accepted_at"], outcome="accepted")
        return MessageTrace(
            id=row["id"],
            partner=row["partner"],
            type=row["type"],
            time=row["time"],
            accepted_at=row["accepted_at"],
            size=row["size"],
            stored="object-store" if row["claimed"] else "inline" if row["inline"] else "erased",
            state=worst_state(_without_superseded(deliveries, states)),
            traceparent=row["traceparent"],
            request_id=row["request_id"],
            deliveries=deliveries,
            hops=_in_order(deliveries, accepted),
            truncated=len(tried) > _HOP_LIMIT,
        )

    async def search(
        self,
        filter_: MessageFilter,
        cursor: str | None = None,
        limit: int = 50,
        *,
        visible: frozenset[str] | None = None,
        partner: str | None = None,
    ) -> Page:
        """Return a page of `MessageSummary`, newest first; raises `Refused` for a cursor of another search."""
        size = max(1, min(limit, LIMIT))
        after = decode_cursor("messages", filter_, cursor)
        sql, args = compiled(
            search_statement(
                filter_, self._blind, visible=visible, partner=partner, after=after, limit=size + 1
            )
        )
        async with database_errors("searching messages"), self._pool.acquire(timeout=10) as connection:
            rows = await connection.fetch(sql, *args)
            shown = rows[:size]
            counted = await connection.fetch(
                _STATES_SQL, [row["id"] for row in shown], None if visible is None else sorted(visible)
            )
        states: dict[UUID, dict[str, int]] = {}
        for row in counted:
            states.setdefault(row["message_id"], {})[row["state"]] = row["n"]
        items = tuple(
            MessageSummary(
                **dict(row), state=worst_state(states.get(row["id"], {})), states=states.get(row["id"], {})
            )
            for row in shown
        )
        return Page(items, encode_cursor("messages", filter_, shown[-1]["id"]) if len(rows) > size else None)

    async def dead_letters(
        self,
        filter_: MessageFilter,
        cursor: str | None = None,
        limit: int = 50,
        *,
        visible: frozenset[str] | None = None,
        partner: str | None = None,
    ) -> Page:
        """Return a page of `DeadLetter`, newest first, each with its reason, code and last attempts."""
        size = max(1, min(limit, LIMIT))
        after = decode_cursor("dead", filter_, cursor)
        sql, args = compiled(
            dead_statement(
                filter_, self._blind, visible=visible, partner=partner, after=after, limit=size + 1
            )
        )
        async with database_errors("listing dead letters"), self._pool.acquire(timeout=10) as connection:
            rows = await connection.fetch(sql, *args)
            shown = rows[:size]
            tried = await connection.fetch(_ATTEMPTS_SQL, [row["id"] for row in shown], _HISTORY_LIMIT * size)
        history: dict[UUID, list[Hop]] = {row["id"]: [] for row in shown}
        places = {row["id"]: (row["route"], row["target"]) for row in shown}
        for item in tried:
            history[item["delivery_id"]].append(_attempt_hop(item, *places[item["delivery_id"]]))
        items = tuple(
            DeadLetter(**dict(row), history=tuple(history[row["id"]][-_HISTORY_LIMIT:])) for row in shown
        )
        return Page(items, encode_cursor("dead", filter_, shown[-1]["id"]) if len(rows) > size else None)

    async def flow(self, minutes: int = 60, *, visible: frozenset[str] | None = None) -> Sequence[RouteFlow]:
        """Return what each route carried in the last `minutes` (1 to 10080), with what is still under way."""
        async with database_errors("counting flows"), self._pool.acquire(timeout=10) as connection:
            since = await connection.fetchval(
                "SELECT now() - make_interval(mins => $1)", max(1, min(minutes, 10080))
            )
            rows = await connection.fetch(
                _FLOW_SQL, uuid7_floor(since), since, None if visible is None else sorted(visible)
            )
        return tuple(RouteFlow(**dict(row)) for row in rows)


def _without_superseded(deliveries: Sequence[DeliveryTrace], states: Mapping[str, int]) -> Mapping[str, int]:
    """Return the states that still count: a delivery that was replayed is answered by its replay."""
    newest = {one.replay_of or one.id: one.state for one in deliveries}
    if len(newest) == len(deliveries):
        return states
    current: dict[str, int] = {}
    for state in newest.values():
        current[state] = current.get(state, 0) + 1
    return current
