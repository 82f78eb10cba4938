"""Sending again, cancelling and dismissing: what a person does about deliveries, each deed audited and safe to repeat.

A replay is a new delivery of the same message: the old one and its attempts stay as they were. All replays of a delivery
point to the first of them, which counts them; only the newest can be replayed, and only when it has ended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, Select, and_, exists, func, select

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.storage.database import database_errors
from registry.storage.tables import attempt, compiled, delivery, message
from routing.routes import Route
from routing.search import Blind, MessageFilter, delivery_conditions, message_conditions, newest_condition
from routing.statements import CANCEL, DISMISS, REPLAY, WITHDRAWN

__all__ = ["MOST", "REPLAY_LIMIT", "Actor", "Replayer", "Report", "RouteDirectory"]

REPLAY_LIMIT: Final = 5
"""Most replays of one original delivery: a replay that fails in the same way again and again is no cure."""
MOST: Final = 10_000
"""Most deliveries one call deals with; `Report.more` says that there are more."""
CHUNK: Final = 500
RATE_LIMIT: Final = 5000.0
_SHOWN: Final = 20
_REASON_LENGTH: Final = 300
_NAMES_A_PERSON: Final = re.compile(r"@|[0-9][0-9 ./-]{5,}[0-9]|[\x00-\x1f]")
_ENDED_BADLY: Final = ("dead", "refused", "cancelled")


class RouteDirectory(Protocol):
    """The routes in force (`routing.routes.RouteBook`)."""

    def get(self, name: str) -> Route | None:
        """Return the route of this name."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who asks, and what they may see: `visible` scopes (None: every route), `partner` (None: every partner's messages)."""

    name: str
    visible: frozenset[str] | None = None
    partner: str | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a call did, or on a dry run would do.

    `matched` deliveries were found; `done` were replayed, cancelled or dismissed; the rest were left alone because their
    outcome is unknown or they were delivered (`needs_force`), their route is gone (`route_gone`), they were replayed too
    often (`spent`), or they were taken back by their sender or already dealt with, by an earlier call or by another at the same time (`skipped`).
    """

    matched: int
    done: int
    needs_force: int = 0
    route_gone: int = 0
    spent: int = 0
    skipped: int = 0
    dry_run: bool = False
    more: bool = False
    ids: Sequence[UUID] = ()
    """The first deliveries concerned, in order of arrival."""
    new_ids: Sequence[UUID] = ()
    """The first deliveries made."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain data; ids stay `UUID`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Candidate:
    id: UUID
    root: UUID
    message_id: UUID
    route: str
    state: str
    code: str | None
    replays: int
    unsure: bool
    made: UUID


def check_reason(reason: str | None, *, needed: bool) -> str | None:
    """Return the reason trimmed; raises `Refused` when it is missing though needed, too long, or may name a person."""
    text = (reason or "").strip()
    if not text:
        if needed:
            raise Refused(
                "This needs a reason. Nothing was changed.",
                code="reason-missing",
                remedy="Say in a few words why; the audit trail keeps it.",
                pointer="/reason",
            )
        return None
    if len(text) > _REASON_LENGTH or _NAMES_A_PERSON.search(text):
        raise Refused(
            f"The reason is longer than {_REASON_LENGTH} characters, or holds an address or a long number. Nothing was changed.",
            code="reason-invalid",
            remedy="Say why without naming a person: the audit trail keeps the reason for ever.",
            pointer="/reason",
        )
    return text


class Replayer:
    """Replays, cancels and dismisses deliveries on behalf of an `Actor`, within what that actor may see."""

    def __init__(self, pool: asyncpg.Pool, blind: Blind, routes: RouteDirectory) -> None:
        self._pool = pool
        self._blind = blind
        self._routes = routes

    async def replay(
        self,
        actor: Actor,
        *,
        delivery_id: UUID | None = None,
        message_id: UUID | None = None,
        filter_: MessageFilter | None = None,
        dry_run: bool = False,
        rate: float | None = None,
        force: bool = False,
        reason: str | None = None,
        most: int = MOST,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Send one delivery, the failed deliveries of one message, or those a filter finds, once more.

        In order of arrival, at most `rate` a second (the parcels become due one after the other, so the call itself does
        not wait). A filter without a state means dead letters. A delivery whose outcome is unknown, or that was
        delivered, is sent again only with `force` and a `reason`. `progress` is told how many of how many were dealt with.
        Raises `Refused` (`delivery-not-found`, `message-not-found`, `filter-empty`, `rate-invalid`, `reason-missing`,
        `reason-invalid`).
        """
        why = check_reason(reason, needed=force)
        if rate is not None and not 0.01 <= rate <= RATE_LIMIT:
            raise Refused(
                f"The rate must lie between 0.01 and {RATE_LIMIT:g} a second. Nothing was replayed.",
                code="rate-invalid",
                remedy="Give a rate the target can bear, or none.",
                pointer="/rate",
            )
        states: tuple[str, ...] = _ENDED_BADLY if filter_ is None else (filter_.state or "dead",)
        if delivery_id is not None:
            states = (*_ENDED_BADLY, "delivered")
        rows, more = await self._candidates(actor, delivery_id, message_id, filter_, states, most)
        report = Report(matched=len(rows), done=0, dry_run=dry_run, more=more)
        chosen: list[tuple[_Candidate, Route]] = []
        forced, gone, spent, withdrawn = 0, 0, 0, 0
        for one in rows:
            route = self._routes.get(one.route)
            if one.replays >= REPLAY_LIMIT:
                spent += 1
            elif one.code == WITHDRAWN:
                withdrawn += 1
            elif route is None or not route.file.enabled:
                gone += 1
            elif not force and (one.unsure or one.code == "outcome-unknown" or one.state == "delivered"):
                forced += 1
            else:
                chosen.append((one, route))
        skipped = withdrawn + int(not rows and filter_ is None)
        report = replace(report, needs_force=forced, route_gone=gone, spent=spent, skipped=skipped)
        ids = tuple(one.id for one, _ in chosen[:_SHOWN])
        if dry_run:
            return replace(report, done=len(chosen), ids=ids)
        made = await self._send_again(actor, chosen, rate, why, progress)
        return replace(
            report,
            done=len(made),
            ids=ids,
            new_ids=tuple(made[:_SHOWN]),
            skipped=skipped + len(chosen) - len(made),
        )

    async def resend(
        self, actor: Actor, delivery_id: UUID, *, force: bool = False, reason: str | None = None
    ) -> Report:
        """Replay one dead letter; a second call finds it dealt with and does nothing."""
        return await self.replay(actor, delivery_id=delivery_id, force=force, reason=reason)

    async def dismiss(self, actor: Actor, delivery_id: UUID, reason: str) -> Report:
        """Close a dead letter without sending it, for a reason; a second call does nothing.

        Raises `Refused` (`delivery-not-found`, `reason-missing`, `reason-invalid`).
        """
        why = check_reason(reason, needed=True)
        found = await self._state(actor, delivery_id)
        async with database_errors("dismissing a dead letter"), self._pool.acquire(timeout=10) as connection:
            rows = await connection.fetch(
                DISMISS, [delivery_id], [uuid7()], actor.name, actor.request_id, why
            )
        done = len(rows)
        return Report(
            matched=int(found in {"dead", "refused"}), done=done, skipped=1 - done, ids=(delivery_id,)
        )

    async def cancel(
        self,
        actor: Actor,
        *,
        delivery_id: UUID | None = None,
        message_id: UUID | None = None,
        filter_: MessageFilter | None = None,
        reason: str | None = None,
        dry_run: bool = False,
        most: int = MOST,
    ) -> Report:
        """Stop deliveries that wait to be sent; one that is being sent at this moment is left alone (`skipped`).

        Raises `Refused` like `replay`.
        """
        why = check_reason(reason, needed=True)
        rows, more = await self._candidates(
            actor, delivery_id, message_id, filter_, ("queued", "waiting", "sending"), most
        )
        idle = [one for one in rows if one.state != "sending"]
        report = Report(
            matched=len(rows),
            done=len(idle),
            dry_run=dry_run,
            more=more,
            ids=tuple(one.id for one in idle[:_SHOWN]),
        )
        if dry_run:
            return replace(report, skipped=len(rows) - len(idle))
        done = 0
        for start in range(0, len(idle), CHUNK):
            part = [one.id for one in idle[start : start + CHUNK]]
            async with database_errors("cancelling deliveries"), self._pool.acquire(timeout=10) as connection:
                changed = await connection.fetch(
                    CANCEL, part, [uuid7() for _ in part], actor.name, actor.request_id, why
                )
            done += len(changed)
        return replace(report, done=done, skipped=max(len(rows) - done, int(not rows and filter_ is None)))

    async def _send_again(
        self,
        actor: Actor,
        chosen: Sequence[tuple[_Candidate, Route]],
        rate: float | None,
        reason: str | None,
        progress: Callable[[int, int], None] | None,
    ) -> list[UUID]:
        made: list[UUID] = []
        start = datetime.now(UTC)
        for first in range(0, len(chosen), CHUNK):
            part = chosen[first : first + CHUNK]
            due = [
                start + timedelta(seconds=(first + place) / rate if rate else 0) for place in range(len(part))
            ]
            async with database_errors("replaying deliveries"), self._pool.acquire(timeout=10) as connection:
                rows = await connection.fetch(
                    REPLAY,
                    [one.id for one, _ in part],
                    [one.root for one, _ in part],
                    [one.replays for one, _ in part],
                    [one.made for one, _ in part],
                    [route.version for _, route in part],
                    [route.target for _, route in part],
                    [route.mapping for _, route in part],
                    [" ".join(route.visible) if route.visible else None for _, route in part],
                    due,
                    [uuid7() for _ in part],
                    actor.name,
                    actor.request_id,
                    reason,
                )
            kept = {row["id"] for row in rows}
            made += [one.made for one, _ in part if one.made in kept]
            if progress is not None:
                progress(first + len(part), len(chosen))
        return made

    async def _candidates(
        self,
        actor: Actor,
        delivery_id: UUID | None,
        message_id: UUID | None,
        filter_: MessageFilter | None,
        states: Sequence[str],
        most: int,
    ) -> tuple[list[_Candidate], bool]:
        """Return the newest delivery of each chain that is meant, in order of arrival, and whether there are more."""
        if delivery_id is not None:
            await self._state(actor, delivery_id)
        elif message_id is not None:
            await self._message(actor, message_id)
        elif filter_ is None or filter_.empty:
            raise Refused(
                "No filter was given, which would mean every message. Nothing was changed.",
                code="filter-empty",
                remedy="Name at least a route, a partner or a time.",
            )
        limit = max(1, min(most, MOST))
        statement = self._statement(
            actor, delivery_id, message_id, filter_ or MessageFilter(), states, limit + 1
        )
        sql, args = compiled(statement)
        async with database_errors("finding deliveries"), self._pool.acquire(timeout=10) as connection:
            rows = await connection.fetch(sql, *args)
        return [_Candidate(**dict(row), made=uuid7()) for row in rows[:limit]], len(rows) > limit

    def _statement(
        self,
        actor: Actor,
        delivery_id: UUID | None,
        message_id: UUID | None,
        filter_: MessageFilter,
        states: Sequence[str],
        limit: int,
    ) -> Select[Any]:
        root = func.coalesce(delivery.c.replay_of, delivery.c.id)
        first, tried = delivery.alias("first"), attempt
        conditions: list[ColumnElement[bool]] = [
            *message_conditions(filter_, actor.partner, self._blind),
            *delivery_conditions(replace(filter_, state=None), actor.visible),
            delivery.c.state.in_(states),
            newest_condition(),
        ]
        if delivery_id is not None:
            conditions.append(delivery.c.id == delivery_id)
        if message_id is not None:
            conditions.append(delivery.c.message_id == message_id)
        last_word = (
            select(tried.c.outcome)
            .where(tried.c.delivery_id == delivery.c.id, tried.c.outcome.not_in(("retry", "defect")))
            .order_by(tried.c.number.desc())
            .limit(1)
            .scalar_subquery()
        )
        return (
            select(
                delivery.c.id,
                root.label("root"),
                delivery.c.message_id,
                delivery.c.route,
                delivery.c.state,
                delivery.c.code,
                first.c.replays,
                func.coalesce(last_word.in_(("unknown", "abandoned")), False).label("unsure"),
            )
            .select_from(
                delivery.join(message, message.c.id == delivery.c.message_id).join(first, first.c.id == root)
            )
            .where(and_(*conditions))
            .order_by(delivery.c.seq)
            .limit(limit)
        )

    async def _state(self, actor: Actor, delivery_id: UUID) -> str:
        """Return the state of a delivery the actor may see; raises `Refused` (`delivery-not-found`)."""
        sql, args = compiled(
            select(delivery.c.state)
            .select_from(delivery.join(message, message.c.id == delivery.c.message_id))
            .where(
                delivery.c.id == delivery_id,
                *message_conditions(MessageFilter(), actor.partner, self._blind),
                *delivery_conditions(MessageFilter(), actor.visible),
            )
        )
        async with database_errors("finding a delivery"), self._pool.acquire(timeout=10) as connection:
            state = await connection.fetchval(sql, *args)
        if state is None:
            raise Refused(
                f"There is no delivery {delivery_id} you may see. Nothing was changed.",
                code="delivery-not-found",
                remedy="Take the id from the list of dead letters or from the trace of the message.",
            )
        return str(state)

    async def _message(self, actor: Actor, message_id: UUID) -> None:
        sql, args = compiled(
            select(message.c.id).where(
                message.c.id == message_id,
                *message_conditions(MessageFilter(), actor.partner, self._blind),
                exists().where(
                    delivery.c.message_id == message_id, *delivery_conditions(MessageFilter(), actor.visible)
                ),
            )
        )
        async with database_errors("finding a message"), self._pool.acquire(timeout=10) as connection:
            found = await connection.fetchval(sql, *args)
        if found is None:
            raise Refused(
                f"There is no message {message_id} with a delivery you may see. Nothing was changed.",
                code="message-not-found",
                remedy="Search for the message; its id is in the answer the hub gave when it accepted it.",
            )
