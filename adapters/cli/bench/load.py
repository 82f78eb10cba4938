"""A load generator and a receiver on bare sockets, so that most of the machine is left to what is measured."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\n\r\n{}"
_LENGTH: Final = b"content-length:"


def _length(head: bytes) -> int:
    place = head.lower().find(_LENGTH)
    return int(head[place + len(_LENGTH) :].split(b"\r\n", 1)[0]) if place >= 0 else 0


class Receiver(asyncio.Protocol):
    """Answers every POST with 200 and hands its body on."""

    def __init__(self, arrived: Callable[[bytes], None]) -> None:
        self._arrived = arrived
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Cut requests out of the stream."""
        buffer = self._buffer + data
        while True:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                break
            whole = end + 4 + _length(buffer[:end])
            if len(buffer) < whole:
                break
            self._arrived(buffer[end + 4 : whole])
            buffer = buffer[whole:]
            self._transport.write(_ANSWER)
        self._buffer = buffer


class _Client(asyncio.Protocol):
    """One connection that has one request under way."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Wait for one whole answer."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end >= 0 and len(self._buffer) >= end + 4 + _length(self._buffer[:end]):
            answer, self._buffer = self._buffer, b""
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail the request under way."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(exc or ConnectionError("closed"))

    def ask(self, request: bytes) -> asyncio.Future[bytes]:
        """Send one request."""
        self._waiter = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return self._waiter


class Load:
    """Sends numbered requests over a fixed set of connections, as fast as answered or at a steady rate."""

    def __init__(self, host: str, port: int, make: Callable[[int], bytes], *, connections: int = 64) -> None:
        self._host = host
        self._port = port
        self._make = make
        self._connections = connections
        self.sent_at: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        """Seconds from sending to answer, by number."""
        self.failed = 0

    async def run(self, first: int, count: int, *, rate: float | None = None) -> float:
        """Send `count` requests numbered from `first`; return the seconds it took."""
        loop = asyncio.get_running_loop()
        numbers = iter(range(first, first + count))
        started = time.perf_counter()

        async def one() -> None:
            _, client = await loop.create_connection(_Client, self._host, self._port)
            for number in numbers:
                request = self._make(number)
                if rate is not None:
                    ahead = started + (number - first) / rate - time.perf_counter()
                    if ahead > 0:
                        await asyncio.sleep(ahead)
                begun = time.perf_counter()
                self.sent_at[number] = begun
                async with asyncio.timeout(60):
                    answer = await client.ask(request)
                self.answered[number] = time.perf_counter() - begun
                if not answer.startswith((b"HTTP/1.1 2", b"HTTP/1.0 2")):
                    self.failed += 1
            client.transport.close()

        await asyncio.gather(*(one() for _ in range(self._connections)))
        return time.perf_counter() - started


def http_request(path: str, body: bytes, headers: dict[str, str]) -> bytes:
    """Return the bytes of one POST."""
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\nHost: hub\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def percentile(values: list[float], share: float) -> float:
    """Return the value below which `share` of the sorted values lie; 0 for none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0
