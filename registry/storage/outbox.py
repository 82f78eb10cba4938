"""The seam through which what the registry holds becomes messages: written in the registry's own transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from canonical_model.message import Message

HUB_SOURCE = "hub"
"""The source of messages the hub itself produces."""


class Outbox(Protocol):
    """Takes messages within the caller's transaction: they go out if that is committed, and only then."""

    async def write(
        self,
        connection: asyncpg.Connection | PoolConnectionProxy,
        messages: Sequence[Message],
        *,
        route: str | None = None,
        needed: bool = False,
    ) -> None:
        """Write messages; with `needed` each must have a route, with `route` that one.

        Raises `Refused` (`no-route`) for a message that would go nowhere; the caller's transaction is then rolled back.
        """
        ...

    async def withdraw(
        self,
        connection: asyncpg.Connection | PoolConnectionProxy,
        originids: Sequence[str],
        reason: str,
        *,
        actor: str,
    ) -> set[str]:
        """Take back messages the hub wrote, by their `originid`, in the caller's transaction; return those that are back.

        One is taken back only where it is sure that nobody outside was sent it, apart from copies; it never goes out then.
        """
        ...
