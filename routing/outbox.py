"""The registry's outbox: its messages join the hub's own in the registry's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from canonical_model.message import Message, uuid7
from routing.exclusion import ORDERS
from routing.intake import HUB, Entry, Intake
from routing.statements import WITHDRAW

_MESSAGES: Final = "SELECT origin_hash, message_id FROM accepted_origin WHERE origin_hash = ANY ($1::bytea[])"


class HubOutbox:
    """Writes messages through the intake, so that they are matched, sealed, recorded and delivered like any other."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    async def write(
        self,
        connection: asyncpg.Connection | PoolConnectionProxy,
        messages: Sequence[Message],
        *,
        route: str | None = None,
        needed: bool = False,
    ) -> None:
        """Write messages in the caller's transaction; with `needed` each must have a route, with `route` that one.

        Raises `Refused` (`no-route`) for a message that would go nowhere, and what `Intake.write` says of single messages.
        """
        if not messages:
            return
        entries = []
        for message in messages:
            entry = await self._intake.prepare(message, partner=HUB, raw=message.to_json())
            if needed or route is not None:
                _check(entry, route)
            entries.append(entry)
        for answer in await self._intake.write(connection, entries):
            if isinstance(answer, Exception):
                raise answer

    async def withdraw(
        self,
        connection: asyncpg.Connection | PoolConnectionProxy,
        originids: Sequence[str],
        reason: str,
        *,
        actor: str,
    ) -> set[str]:
        """Take back messages of the hub that were surely not sent yet, atomically against workers; return their `originid`s."""
        by_hash = {self._intake.origin_hash(HUB, each): each for each in originids}
        known = await connection.fetch(_MESSAGES, list(by_hash))
        if not known:
            return set()
        by_message = {row["message_id"]: by_hash[row["origin_hash"]] for row in known}
        copying = [route.name for route in self._intake.routes if route.copies]
        audit_ids = [uuid7() for _ in by_message]
        rows = await connection.fetch(WITHDRAW, list(by_message), copying, actor, reason, audit_ids)
        return {by_message[row["message_id"]] for row in rows}


def _check(entry: Entry, route: str | None) -> None:
    order = entry.message.type in ORDERS
    taking = {
        delivery.route.name
        for delivery in entry.deliveries
        # A route that only copies pays nobody.
        if delivery.state == "queued" and not (order and delivery.route.copies)
    }
    if taking and (route is None or route in taking):
        return
    what = f"The route {route} does not take" if route is not None else "No route takes"
    raise Refused(
        f"{what} messages of type {entry.message.type} like this one. Nothing was changed.",
        code="no-route",
        remedy="Add or correct the route (`hub routes explain` says why it does not fit), then do this again.",
    )
