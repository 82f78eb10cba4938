"""The short way of the busiest operation: from the connection to its endpoint and back without tables in between.

aiohttp finds a route, walks the middlewares and fills a table of headers for every answer. That costs more than the hub's
own work for one message, so an operation that needs none of it is found by method and path alone, and its answer leaves as
ready bytes. Everything else, and every request that is unusual in its form, goes the way of aiohttp.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from email.utils import formatdate
from functools import lru_cache
from typing import Any, Final

from aiohttp import HttpVersion11, web

Endpoint = Callable[[Any], Awaitable[web.StreamResponse]]
SHORT: Final = web.AppKey("short", dict[tuple[str, str], Endpoint])
"""The endpoints that need neither the application nor the parts of the path, by method and path."""


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    """Return the Date line of a second since 1970."""
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Return headers as they stand on the wire; the values are the hub's own and hold no line ends."""
    return "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")


class Ready(web.StreamResponse):
    """A small answer that leaves in one write on a connection that stays open.

    Only for requests that `takes_ready`; `dress` must be called once with the lines of the headers common to all answers.
    """

    def __init__(self, status: str, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(status=int(status[:3]))
        self._start_lines = f"HTTP/1.1 {status}\r\n".encode() + lines_of(headers)
        self._content = body
        self._sent = False

    def dress(self, headers: Mapping[str, str], common: bytes) -> None:
        """Add the headers of this answer and the lines of those all answers share."""
        self._start_lines += lines_of(headers) + common

    @property
    def prepared(self) -> bool:
        """Whether the answer has left."""
        return self._sent

    @property
    def keep_alive(self) -> bool:
        """The connection stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> None:
        """Write the answer; raises `ConnectionResetError` when the caller is gone."""
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the caller is gone")
        body = self._content
        date = _date(int(time.time()))
        transport.write(b"%bContent-Length: %d\r\n%b\r\n%b" % (self._start_lines, len(body), date, body))
        self._sent = True
        # A caller who sends on and on and reads nothing waits here.
        await request.writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """Everything has left already."""


def takes_ready(request: web.BaseRequest) -> bool:
    """Say whether a request may be answered with `Ready`: HTTP/1.1, on a connection that stays open."""
    return request.version == HttpVersion11 and request.keep_alive


class Runner(web.AppRunner):
    """Serves an application whose short ways go before its router."""

    async def setup(self) -> None:
        """Get ready to listen."""
        await super().setup()
        server, short = self.server, self.app.get(SHORT)
        if server is None or not short:
            return
        usual = server.request_handler

        def handle(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            endpoint = short.get((request.method, request.rel_url.raw_path))
            # A caller who waits for the go-ahead is answered by the route.
            if endpoint is None or "Expect" in request.headers:
                return usual(request)
            return endpoint(request)

        server.request_handler = handle
