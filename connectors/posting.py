"""POST to one address over aiohttp's own connections, with all that stays the same from message to message made once.

A `ClientSession` builds a request, a response, two timers and a header table for every call; for small bodies to one
address that is most of what a delivery costs. Pool, name look-up, TLS and the parser of answers stay aiohttp's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDictProxy
from yarl import URL

from connectors.errors import ConfigError
from connectors.http import Reply, map_http_failure, read_reply

_SMALL: Final = 64 * 1024
"""Bodies up to this many bytes go out in one piece with their head."""


class Posting:
    """Posts bodies to one address through the connections of a session; call it with a running loop.

    `fixed` are the headers of every request; `varying` names those that each brings itself and aiohttp would add. Redirects are not followed, nothing is sent a second time, and proxies, cookies
    and logins of the environment play no part, since the session's connector alone is used.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: URL,
        fixed: Mapping[str, str],
        *,
        connect_timeout: float,
        varying: Collection[str] = (),
    ) -> None:
        connector = session.connector
        if connector is None:
            raise ValueError("the session is closed")
        self._connector = connector
        self._host = url.host or ""
        self._connect_timeout = connect_timeout
        self._limit = aiohttp.ClientTimeout(total=None, connect=connect_timeout)
        # Names the connection (host, port, TLS) and gives the headers aiohttp itself would send; it is never sent.
        self._request = aiohttp.ClientRequest(
            "POST",
            url,
            headers={**session.headers, **fixed},
            skip_auto_headers={"Content-Length", "Content-Type", *varying},
            loop=asyncio.get_running_loop(),
        )
        headers = {
            name: value for name, value in self._request.headers.items() if name.lower() != "content-length"
        }
        self._fixed = _lines(headers)
        self._head = f"POST {url.raw_path_qs} HTTP/1.1\r\n{self._fixed}"

    async def post(self, headers: Mapping[str, str], body: bytes, deadline: float) -> Reply:
        """Make one request; raises `Unavailable` when nothing was sent and `Unknown` when something was and no answer came.

        `headers` are those of this request alone. `deadline` is in seconds of the loop's clock; it bounds the whole call.
        """
        return await self._send(self._head, headers, body, deadline)

    async def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, deadline: float
    ) -> Reply:
        """Make one request of another method or to another path of the same host; `target` is path and query, encoded.

        Raises as `post` does, and `ConfigError` for a target that cannot stand in a request line.
        """
        if not target.isascii() or not target.startswith("/") or any(c <= " " for c in target):
            raise ConfigError(
                "A request's path holds a character that may not stand there; nothing was sent."
            )
        return await self._send(f"{method} {target} HTTP/1.1\r\n{self._fixed}", headers, body, deadline)

    async def _send(self, start: str, headers: Mapping[str, str], body: bytes, deadline: float) -> Reply:
        started = time.perf_counter()
        remaining = deadline - asyncio.get_running_loop().time()
        # Connecting ends before the deadline does, so that "nothing was sent" is still known.
        limit = self._limit
        if remaining * 0.9 < self._connect_timeout:
            limit = aiohttp.ClientTimeout(total=None, connect=max(remaining * 0.9, 0.001))
        head = f"{start}{_lines(headers)}Content-Length: {len(body)}\r\n\r\n".encode()
        try:
            connection = await self._connect(limit)
            try:
                async with asyncio.timeout_at(deadline):
                    status, answered, text, cut = await self._exchange(connection, head, body)
            except BaseException:
                connection.close()
                raise
            connection.release()
        except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as error:
            raise map_http_failure(error, self._host) from None
        return Reply(status, answered, text, cut, time.perf_counter() - started)

    async def _connect(self, limit: aiohttp.ClientTimeout) -> aiohttp.connector.Connection:
        try:
            return await self._connector.connect(self._request, traces=[], timeout=limit)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    @staticmethod
    async def _exchange(
        connection: aiohttp.connector.Connection, head: bytes, body: bytes
    ) -> tuple[int, CIMultiDictProxy[str], bytes, bool]:
        protocol, transport = connection.protocol, connection.transport
        if protocol is None or transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(read_until_eof=True, auto_decompress=False)
        if len(body) <= _SMALL:
            transport.write(head + body)
        else:
            transport.write(head)
            transport.write(body)
        while True:
            message, payload = await protocol.read()
            if message.code >= 200 or message.code == 101:
                break
        text, cut = await read_reply(payload)
        return message.code, message.headers, text, cut


def _lines(headers: Mapping[str, str]) -> str:
    """Return header lines; raises `ConfigError` when one of the values would begin another line."""
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if text.count("\r") != len(headers) or text.count("\n") != len(headers) or "\0" in text:
        raise ConfigError(
            "A header for the target holds a line break; nothing was sent.",
            remedy="Take line breaks out of bearer_token and secret_headers in the target's settings.",
        )
    return text
