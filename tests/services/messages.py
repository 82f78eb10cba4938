"""Rows of the message store for tests of the read side, written as the message path writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from canonical_model.message import new_traceparent, uuid7
from registry.vault import BlindIndex

WORKER = UUID("0197c0de-0000-7000-8000-00000000beef")


class Planter:
    """Plants messages, deliveries and attempts, each with sensible defaults."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self.pool = pool
        self.blind = BlindIndex(b"k" * 32)
        self.worker = WORKER
        self._last = 0

    def _id(self) -> UUID:
        """Return an id later than every one before, so that order of planting is order of arrival."""
        id_ = uuid7()
        if id_.int >> 80 <= self._last:
            id_ = uuid7(self._last + 1)
        self._last = id_.int >> 80
        return id_

    async def message(
        self,
        *,
        partner: str = "civil",
        type_: str = "org.openspp.civil_event.registered.v1",
        subject: str | None = None,
        correlationid: str | None = None,
        originid: str | None = None,
        routes: int = 0,
        body: bytes = b"sealed",
    ) -> UUID:
        """Plant a message."""
        id_ = self._id()
        hashed = self.blind.index
        await self.pool.execute(
            "INSERT INTO message (id, partner, type, time, origin_hash, subject_hash, correlation_hash, traceparent, "
            "request_id, key_id, body, size, routes) VALUES ($1, $2, $3, now(), $4, $5, $6, $7, 'req-1', 1, $8, 321, $9)",
            id_,
            partner,
            type_,
            hashed("origin", f"{partner}\x00{originid}") if originid else None,
            hashed("subject", subject) if subject else None,
            hashed("correlation", correlationid) if correlationid else None,
            new_traceparent(),
            body,
            routes,
        )
        return id_

    async def delivery(
        self,
        message_id: UUID,
        *,
        route: str = "crvs-to-registry",
        target: str = "registry",
        state: str = "queued",
        code: str | None = None,
        reason: str | None = None,
        visible: list[str] | None = None,
        order_key: bytes | None = None,
        attempts: int = 0,
        replay_of: UUID | None = None,
    ) -> UUID:
        """Plant a delivery of a message and count it as one of the message's routes."""
        id_ = self._id()
        ended = datetime.now(UTC) if state in {"delivered", "refused", "dead", "cancelled"} else None
        await self.pool.execute(
            "INSERT INTO delivery (id, message_id, route, route_version, target, mapping, order_key, state, attempts, code, "
            "reason, visible, replay_of, ended_at) VALUES ($1, $2, $3, 3, $4, 'crvs@2', $5, $6, $7, $8, $9, $10, $11, $12)",
            id_,
            message_id,
            route,
            target,
            order_key,
            state,
            attempts,
            code,
            reason,
            visible,
            replay_of,
            ended,
        )
        await self.pool.execute("UPDATE message SET routes = routes + 1 WHERE id = $1", message_id)
        return id_

    async def attempt(
        self,
        delivery_id: UUID,
        message_id: UUID,
        number: int,
        *,
        outcome: str = "delivered",
        code: str | None = None,
        detail: str | None = None,
        exchanges: list[dict[str, Any]] | None = None,
    ) -> None:
        """Plant one attempt of a delivery."""
        await self.pool.execute(
            "INSERT INTO attempt (delivery_id, number, message_id, started_at, seconds, outcome, code, detail, "
            "route_version, mapping, worker, exchanges) VALUES ($1, $2, $3, clock_timestamp(), 0.25, $4, $5, $6, 3, 'crvs@2', $7, $8)",
            delivery_id,
            number,
            message_id,
            outcome,
            code,
            detail,
            self.worker,
            exchanges,
        )

    async def outbox(self, delivery_id: UUID, message_id: UUID, route: str = "crvs-to-registry") -> None:
        """Plant the pointer that has still to reach a worker."""
        await self.pool.execute(
            "INSERT INTO outbox (delivery_id, message_id, route) VALUES ($1, $2, $3)",
            delivery_id,
            message_id,
            route,
        )
