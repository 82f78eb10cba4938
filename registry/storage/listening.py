"""Listening for what other processes tell through PostgreSQL: a wake-up only, since a notice can get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NoReturn

import asyncpg

from registry.storage.database import GONE

_PROBE: Final = 5.0
"""Seconds between two proofs that the connection is alive, which also fetch what came in."""
_AGAIN: Final = 1.0


async def listen(pool: asyncpg.Pool, channel: str, heard: Callable[[str], None]) -> NoReturn:
    """Call `heard` with the payload of each notice on a channel until cancelled; holds one connection of the pool.

    A lost connection is replaced after a second; notices of that time are lost, so whoever listens also polls.
    """

    def woken(_connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        heard(str(payload))

    while True:
        try:
            async with pool.acquire() as connection:
                await connection.add_listener(channel, woken)
                try:
                    while not connection.is_closed():
                        await connection.execute("SELECT 1")
                        await asyncio.sleep(_PROBE)
                finally:
                    if not connection.is_closed():
                        await connection.remove_listener(channel, woken)
        except (*GONE, asyncpg.PostgresError):
            await asyncio.sleep(_AGAIN)
