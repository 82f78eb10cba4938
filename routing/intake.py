"""The one way in: a message, its deliveries, the audit entry and the outbox rows in one statement."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.errors import HubError, Refused, Unavailable
from canonical_model.message import Message, new_traceparent, uuid7
from registry.logs import log
from registry.objects import ObjectStore
from registry.storage.database import database_errors
from registry.storage.group import GroupCommit
from registry.vault import DataKey, Vault, aad
from registry.vault.blind import BlindIndex
from routing import metrics
from routing.conditions import ConditionError
from routing.exclusion import ORDERS, refuse_second_payer
from routing.routes import Route, RouteBook, Verdict

CHANNEL: Final = "hub_outbox"
CHUNK: Final = 50
"""Messages of one request made ready before others get their turn."""
_DISCARDS: Final = 1000
_BODY: Final = aad("message", "body", b"")
_LOG = logging.getLogger(__name__)
HUB: Final = "hub"
"""The partner name of messages the hub itself produces."""

_ACCEPT: Final = """
WITH i AS (
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::bytea[], $6::bytea[], $7::bytea[],
        $8::bytea[], $9::text[], $10::text[], $11::bigint[], $12::bytea[], $13::text[], $14::int[], $15::smallint[],
        $16::uuid[])
    AS i (id, partner, type, time, origin_hash, body_hash, subject_hash, correlation_hash, traceparent, request_id,
        key_id, body, claim, size, routes, audit_id)
), fresh AS (
    INSERT INTO accepted_origin (origin_hash, body_hash, message_id)
    SELECT origin_hash, body_hash, id FROM i ORDER BY origin_hash
    ON CONFLICT DO NOTHING RETURNING message_id, accepted_at
), stored AS (
    INSERT INTO message (id, partner, type, time, origin_hash, subject_hash, correlation_hash, traceparent, request_id,
        key_id, body, claim, size, routes)
    SELECT id, partner, type, time, origin_hash, subject_hash, correlation_hash, traceparent, request_id, key_id, body,
        claim, size, routes
    FROM i WHERE id IN (SELECT message_id FROM fresh)
), addressed AS (
    INSERT INTO delivery (id, message_id, route, route_version, target, mapping, order_key, state, code, reason,
        visible, ended_at)
    SELECT d.id, d.message_id, r.route, r.version, r.target, r.mapping, d.order_key,
        d.state, d.code, d.reason,
        string_to_array(r.visible, ' '), CASE WHEN d.state = 'dead' THEN now() END
    FROM unnest($17::uuid[], $18::uuid[], $19::int[], $20::bytea[], $21::text[], $22::text[],
        $23::text[]) WITH ORDINALITY AS d (id, message_id, place, order_key, state, code, reason, n)
    JOIN unnest($24::text[], $25::int[], $26::text[], $27::text[], $28::text[]) WITH ORDINALITY
        AS r (route, version, target, mapping, visible, place) ON r.place = d.place
    WHERE d.message_id IN (SELECT message_id FROM fresh)
    ORDER BY d.n
    RETURNING id, message_id, route, state
), sent AS (
    INSERT INTO outbox (delivery_id, message_id, route, traceparent)
    SELECT a.id, a.message_id, a.route, i.traceparent FROM addressed a JOIN i ON i.id = a.message_id
    WHERE a.state = 'queued'
    RETURNING route
), audited AS (
    INSERT INTO audit_event (id, actor, action, object_type, object_id, outcome, request_id)
    SELECT audit_id, partner, 'message.accept', 'message', id::text, 'accepted', request_id
    FROM i WHERE id IN (SELECT message_id FROM fresh)
), woken AS (
    SELECT pg_notify('hub_outbox', route) FROM (SELECT DISTINCT route FROM sent) AS routes
)
SELECT now() AS accepted_at, count(*) AS fresh,
    CASE WHEN count(*) < cardinality($1) THEN array_agg(message_id) END AS ids, (SELECT count(*) FROM woken) AS woken
FROM fresh
"""

_EARLIER: Final = (
    "SELECT o.origin_hash, o.body_hash, o.message_id, o.accepted_at, m.routes FROM accepted_origin o "
    "LEFT JOIN message m ON m.id = o.message_id WHERE o.origin_hash = ANY($1)"
)


@dataclass(slots=True)
class Accepted:
    """The hub's word that a message is durable."""

    message_id: UUID
    accepted_at: datetime
    duplicate: bool
    routes: int


@dataclass(slots=True)
class Delivery:
    """A message on its way to one route: `queued`, or `dead` when the route's condition could not be decided."""

    id: UUID
    route: Route
    order_key: bytes | None
    state: str = "queued"
    code: str | None = None
    reason: str | None = None


@dataclass(slots=True)
class Entry:
    """One message made ready to be written: sealed, matched, hashed."""

    message: Message
    partner: str
    request_id: str | None
    origin_hash: bytes
    body_hash: bytes
    subject_hash: bytes | None
    correlation_hash: bytes | None
    key_id: int
    body: bytes | None
    claim: str | None
    size: int
    deliveries: list[Delivery] = field(default_factory=list)


class _Digests:
    """Hashes of bodies, each computed once while the messages of one request share it."""

    def __init__(self, blind: BlindIndex) -> None:
        self._blind = blind
        self._last: tuple[bytes, bytes] | None = None

    def of(self, raw: bytes) -> bytes:
        if self._last is None or self._last[0] is not raw:
            self._last = (raw, self._blind.digest("body", raw))
        return self._last[1]


def _columns(entries: Sequence[Entry]) -> list[list[Any]]:
    """Return the arguments of the one statement: a list for each column of messages, of deliveries and of their routes."""
    messages = []
    deliveries = []
    places: dict[Route, int] = {}
    for entry in entries:
        message = entry.message
        id_ = message.id
        messages.append(
            (
                id_, entry.partner, message.type, message.time, entry.origin_hash, entry.body_hash, entry.subject_hash,
                entry.correlation_hash, message.traceparent, entry.request_id, entry.key_id, entry.body, entry.claim,
                entry.size, len(entry.deliveries), uuid7(),
            )
        )  # fmt: skip
        for one in entry.deliveries:
            place = places.setdefault(one.route, len(places) + 1)
            deliveries.append((one.id, id_, place, one.order_key, one.state, one.code, one.reason))
    routes = [
        (
            route.name,
            route.version,
            route.target,
            route.mapping,
            " ".join(route.visible) if route.visible else None,
        )
        for route in places
    ]
    return [*_turned(messages, 16), *_turned(deliveries, 7), *_turned(routes, 5)]


def _turned(rows: list[tuple[Any, ...]], width: int) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


class Intake:
    """Accepts messages: after `accept` returns, the message is committed and will be delivered or become a dead letter."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        vault: Vault,
        routes: RouteBook,
        objects: ObjectStore,
        *,
        retention_days: int = 400,
        claim_check_bytes: int = 256 * 1024,
        group_commit_ms: float = 3.0,
    ) -> None:
        self._pool = pool
        self._vault = vault
        self._blind = vault.blind
        self.routes = routes
        self._objects = objects
        self._retention = retention_days
        self._claim_bytes = claim_check_bytes
        # One group at a time: two at once could write the messages of one subject in the wrong order.
        self._group: GroupCommit[Entry, Accepted] = GroupCommit(
            self._write, delay=group_commit_ms / 1000, most=200, parallel=1
        )
        self._discarding: set[asyncio.Task[None]] = set()

    async def accept(
        self, message: Message, *, partner: str, raw: bytes, request_id: str | None = None
    ) -> Accepted:
        """Store one message durably; `raw` are the bytes by which a repeat is told from a reuse of its id.

        A repeat (same partner, same `originid`, same `raw`) gets the first answer with `duplicate` set. Raises `Refused`
        (code `message-id-reused`) when the id came before with another body, and `Unavailable` when the database is away.
        """
        started = time.perf_counter()
        entry = await self.prepare(message, partner=partner, raw=raw, request_id=request_id)
        if entry.claim is None:
            accepted = await self._group.submit(entry)
        else:
            try:
                accepted = await self._group.submit(entry)
            except Exception as error:
                self._tidy([(entry, error)])
                raise
            self._tidy([(entry, accepted)])
        if not accepted.duplicate:
            metrics.accepted(partner, message.type)
        metrics.accept_seconds(time.perf_counter() - started)
        return accepted

    async def accept_many(
        self, items: Sequence[tuple[Message, bytes]], *, partner: str, request_id: str | None = None
    ) -> list[Accepted | HubError]:
        """Accept a batch; each message gets its own answer, in order, and a subject's messages keep their order."""
        started = time.perf_counter()
        pending: list[asyncio.Future[Accepted] | HubError] = []
        entries: list[Entry | None] = []
        digests = _Digests(self._blind)
        for number, (message, raw) in enumerate(items):
            if number % CHUNK == CHUNK - 1:
                await asyncio.sleep(0)
            entry = None
            try:
                entry = await self.prepare(
                    message, partner=partner, raw=raw, request_id=request_id, body_hash=digests.of(raw)
                )
                pending.append(self._group.submit(entry))
            except HubError as error:
                pending.append(error)
            entries.append(entry)
        futures = [one for one in pending if not isinstance(one, HubError)]
        await asyncio.gather(*futures, return_exceptions=True)
        self._tidy(
            (entry, one if isinstance(one, HubError) else one.exception() or one.result())
            for entry, one in zip(entries, pending, strict=True)
            if entry is not None and not (isinstance(one, asyncio.Future) and one.cancelled())
        )
        answers: list[Accepted | HubError] = []
        for (message, _), one in zip(items, pending, strict=True):
            if isinstance(one, HubError):
                answers.append(one)
                continue
            error_or_none = one.exception()
            if error_or_none is None:
                answers.append(one.result())
                if not one.result().duplicate:
                    metrics.accepted(partner, message.type)
            elif isinstance(error_or_none, HubError):
                answers.append(error_or_none)
            else:
                raise error_or_none
        metrics.accept_seconds(time.perf_counter() - started)
        return answers

    async def accept_all(
        self, items: Sequence[tuple[Message, bytes]], *, partner: str, request_id: str | None = None
    ) -> list[Accepted]:
        """Accept a batch whole or not at all: one statement, and a reused id refuses every message of it."""
        entries: list[Entry] = []
        digests = _Digests(self._blind)
        try:
            for number, (message, raw) in enumerate(items):
                if number % CHUNK == CHUNK - 1:
                    await asyncio.sleep(0)
                entries.append(
                    await self.prepare(
                        message, partner=partner, raw=raw, request_id=request_id, body_hash=digests.of(raw)
                    )
                )
        except Exception:
            self._discard(entries)
            raise
        try:
            async with (
                database_errors("storing a batch of messages"),
                self._pool.acquire() as connection,
                connection.transaction(),
            ):
                results = await self.write(connection, entries)
                for result in results:
                    if isinstance(result, Exception):
                        raise result
        except Exception as error:
            self._tidy((entry, error) for entry in entries)
            raise
        self._tidy(zip(entries, results, strict=True))
        done = [result for result in results if isinstance(result, Accepted)]
        for entry, result in zip(entries, done, strict=True):
            if not result.duplicate:
                metrics.accepted(partner, entry.message.type)
        return done

    def _tidy(self, answered: Iterable[tuple[Entry, object]]) -> None:
        """Remove the objects of what was surely not stored; one of an unknown fate stays, since a row may point to it."""
        self._discard(
            [
                entry
                for entry, answer in answered
                if entry.claim is not None
                and (
                    answer.duplicate
                    if isinstance(answer, Accepted)
                    else not isinstance(answer, Unavailable) or answer.code == "overloaded"
                )
            ]
        )

    def _discard(self, entries: Iterable[Entry]) -> None:
        claims = [entry.claim for entry in entries if entry.claim is not None]
        if not claims:
            return
        if len(self._discarding) >= _DISCARDS:
            log(_LOG, logging.WARNING, "objects-left", count=len(claims))
            return
        task = asyncio.get_running_loop().create_task(self._delete(claims))
        self._discarding.add(task)
        task.add_done_callback(self._discarding.discard)

    async def _delete(self, claims: Sequence[str]) -> None:
        left = 0
        for claim in claims:
            try:
                await self._objects.delete(claim)
            except HubError:
                left += 1
        if left:
            log(_LOG, logging.WARNING, "objects-left", count=left)

    async def prepare(
        self,
        message: Message,
        *,
        partner: str,
        raw: bytes,
        request_id: str | None = None,
        body_hash: bytes | None = None,
    ) -> Entry:
        """Match, seal and hash one message, without writing it; `body_hash` spares hashing a `raw` hashed before."""
        if message.traceparent is None:
            message = message.model_copy(update={"traceparent": new_traceparent()})
        blind = self._blind
        matched = self.routes.match(message)
        if not matched and partner != HUB and not self.routes.candidates(message.type):
            # A condition that leaves a message out was meant so; a type nobody takes would vanish unnoticed.
            raise Refused(
                f"No route of this hub takes messages of type {message.type}; this one was not stored.",
                code="no-route",
                pointer="/type",
                remedy="Ask the operator of the hub for a route, then send it again.",
            )
        if len(matched) > 1 and message.type in ORDERS:
            refuse_second_payer(message.type, [route for route, _ in matched])
        retention = max(
            [route.retention_days or self._retention for route, _ in matched] or [self._retention]
        )
        key: DataKey | None = self._vault.cached_key("message", retention)
        if key is None:
            key = await self._vault.current_key("message", retention)
        plain = message.to_json()
        sealed: bytes | None = key.seal(plain, _BODY + message.id.bytes)
        claim = None
        if sealed is not None and len(sealed) > self._claim_bytes:
            claim = f"message/{message.id}"
            await self._objects.put(claim, sealed)
            sealed = None
        origin, subject, correlation = message.originid, message.subject, message.correlationid
        subject_hash = None if subject is None else blind.index("subject", subject)
        return Entry(
            message,
            partner,
            request_id,
            message.id.bytes if origin is None else self.origin_hash(partner, origin),
            blind.digest("body", raw) if body_hash is None else body_hash,
            subject_hash,
            None if correlation is None else blind.index("correlation", correlation),
            key.id,
            sealed,
            claim,
            len(plain),
            [self._address(message, route, verdict, subject_hash) for route, verdict in matched],
        )

    def origin_hash(self, partner: str, origin: str) -> bytes:
        """Return the keyed hash by which a partner's message is known again."""
        return self._blind.index("origin", f"{partner}\x00{origin}")

    def _address(
        self, message: Message, route: Route, verdict: Verdict, subject_hash: bytes | None
    ) -> Delivery:
        """Return the delivery of a message on a route that takes it."""
        order_key = None
        if route.by_subject:
            # One hash serves both: deliveries are ordered within a route, so equal keys of two routes do no harm.
            order_key = subject_hash
        else:
            try:
                order = route.order_value(message)
            except ConditionError as error:
                verdict = replace(verdict, broken=True, why=str(error))
            else:
                order_key = None if order is None else self._blind.index("order", order)
        if verdict.broken:
            return Delivery(
                uuid7(), route, order_key, "dead", code="route-condition-failed", reason=verdict.why
            )
        return Delivery(uuid7(), route, order_key)

    async def _write(self, entries: Sequence[Entry]) -> Sequence[Accepted | Exception]:
        async with database_errors("storing messages"), self._pool.acquire() as connection:
            return await self.write(connection, entries)

    async def write(
        self, connection: asyncpg.Connection | asyncpg.pool.PoolConnectionProxy, entries: Sequence[Entry]
    ) -> list[Accepted | Exception]:
        """Write prepared messages with one statement; one answer per entry, in order."""
        ((at, count, ids, _),) = await connection.fetch(_ACCEPT, *_columns(entries))
        if count == len(entries):
            # One moment for all: what a statement inserts carries the time its transaction began.
            return [Accepted(e.message.id, at, False, len(e.deliveries)) for e in entries]
        fresh = set(ids or ())
        repeats = [e.origin_hash for e in entries if e.message.id not in fresh]
        earlier = {found["origin_hash"]: found for found in await connection.fetch(_EARLIER, repeats)}
        answers: list[Accepted | Exception] = []
        for entry in entries:
            if entry.message.id in fresh:
                answers.append(Accepted(entry.message.id, at, duplicate=False, routes=len(entry.deliveries)))
                continue
            row = earlier.get(entry.origin_hash)
            if row is None:
                # The first one was forgotten between the two statements, at the end of its time.
                answers.append(
                    Unavailable(
                        "The message was not stored; send it again.",
                        code="database-unavailable",
                        retry_after=1,
                    )
                )
            elif row["body_hash"] == entry.body_hash:
                answers.append(
                    Accepted(
                        row["message_id"],
                        row["accepted_at"],
                        duplicate=True,
                        routes=len(entry.deliveries) if row["routes"] is None else row["routes"],
                    )
                )
            else:
                answers.append(
                    Refused(
                        f"This message id came before with another body, as message {row['message_id']}; "
                        "the first one stands and this one was not stored.",
                        code="message-id-reused",
                        pointer="/id",
                        remedy="Give every new message a new id; repeat a message with exactly the same body.",
                    )
                )
        return answers

    async def drain(self) -> None:
        """Return once every message handed in is committed or answered with an error."""
        await self._group.drain()
        while self._discarding:
            await asyncio.gather(*self._discarding)
