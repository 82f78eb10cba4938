"""A command's work on the hub's database, opened for it and closed after it."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

from adapters.hub import Hub
from canonical_model.errors import Refused
from registry.settings import load_settings

T = TypeVar("T")


def on_hub(work: Callable[[Hub], Awaitable[T]]) -> T:
    """Run work on a hub whose database side alone is open."""

    async def whole() -> T:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            return await work(hub)
        finally:
            await hub.close()

    return asyncio.run(whole())


def actor() -> str:
    """Return who runs the command, as history and audit trail name them."""
    return f"user:{getpass.getuser()}"


def registrant_id(text: str) -> UUID:
    """Return the hub's id of a person or group; raises `Refused` (`registrant-unknown`) for another text."""
    try:
        return UUID(text)
    except ValueError:
        raise Refused(
            "This is not an id of the hub.",
            code="registrant-unknown",
            remedy="Ids are UUIDs; `hub people find` looks one up by an identifier.",
        ) from None
