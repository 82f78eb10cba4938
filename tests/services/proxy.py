"""A TCP proxy that can be cut: makes a server go away for one client and come back, without touching the server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

Dial = Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def dial_tcp(host: str, port: int) -> Dial:
    """Return how to reach a TCP server."""
    return lambda: asyncio.open_connection(host, port)


def dial_unix(path: str) -> Dial:
    """Return how to reach a server on a unix socket."""
    return lambda: asyncio.open_unix_connection(path)


class Proxy:
    """Listens on a loopback port and passes bytes on, until it is cut."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._silent = asyncio.Event()
        self._silent.set()
        self.away = False
        self.port = 0

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Break every connection at once; new ones are still accepted unless the server is away."""
        for writer in self._writers:
            writer.transport.abort()

    def leave(self) -> None:
        """Be away: break every connection and every new one."""
        self.away = True
        self.cut()

    def come_back(self) -> None:
        """Accept connections again."""
        self.away = False

    async def stop(self) -> None:
        """End everything."""
        self.leave()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if not self.away:
                await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            return
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await self._dial()
        self._writers |= {writer, onward}
        try:
            ways = {
                asyncio.ensure_future(self._copy(reader, onward)),
                asyncio.ensure_future(self._copy(there, writer)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        finally:
            self._writers -= {writer, onward}
            onward.transport.abort()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
