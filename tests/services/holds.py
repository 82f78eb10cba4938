"""Proxies that hold a process at one step from outside: they read the protocol, and stop at the message that is the step."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit, urlunsplit

from services.proxy import Dial, Proxy, dial_tcp, dial_unix

Speech = Callable[[bytes], Iterator[tuple[bytes, str]]]
"""Takes what a client sent; gives it back cut into whole messages, each with what it asks the server to do ("" for nothing)."""


@dataclass
class Hold:
    """One step to be held: the first message that asks for `wanted`, or with `reply` the answer to it."""

    wanted: str
    reply: bool
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    answers: asyncio.Event | None = None

    def let_go(self) -> None:
        """Let the answer that was kept back pass, so that the process goes on to its next step."""
        assert self.answers is not None
        self.answers.set()

    async def wait(self, seconds: float = 45.0) -> None:
        """Wait until a process is held at this step."""
        try:
            await asyncio.wait_for(self.reached.wait(), seconds)
        except TimeoutError:
            raise AssertionError(f"no process came to {self.wanted!r} within {seconds} s") from None


class HoldingProxy(Proxy):
    """Passes on what a client sends, until it asks for the step to be held: then nothing more passes on that connection."""

    def __init__(self, dial: Dial, speech: Callable[[], Speech]) -> None:
        super().__init__(dial)
        self._speech = speech
        self._hold: Hold | None = None

    def hold(self, wanted: str, *, reply: bool = False) -> Hold:
        """Hold whoever asks for this next; with `reply` the server gets it, and its answer is kept back."""
        self._hold = Hold(wanted, reply)
        return self._hold

    def release(self) -> None:
        """Break the held connection and all others, as the death of the client would have done; hold nothing any more."""
        self._hold = None
        self.cut()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, onward = await self._dial()
        self._writers |= {writer, onward}
        answers = asyncio.Event()
        answers.set()
        try:
            ways = {
                asyncio.ensure_future(self._ask(reader, onward, answers)),
                asyncio.ensure_future(self._answer(there, writer, answers)),
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

    async def _ask(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, answers: asyncio.Event
    ) -> None:
        speech = self._speech()
        with contextlib.suppress(OSError):
            while data := await client.read(65536):
                passed: Hold | None = None
                for message, said in speech(data):
                    hold = self._hold
                    if hold is not None and hold.wanted in said:
                        self._hold = None
                        if not hold.reply:
                            hold.reached.set()
                            # Not even its end passes: the server must not see that the client died before it is released.
                            await asyncio.Event().wait()
                        answers.clear()
                        hold.answers = answers
                        passed = hold
                    server.write(message)
                await server.drain()
                if passed is not None:
                    passed.reached.set()
            if not answers.is_set():
                await asyncio.Event().wait()

    async def _answer(
        self, server: asyncio.StreamReader, client: asyncio.StreamWriter, answers: asyncio.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(65536):
                await answers.wait()
                client.write(data)
                await client.drain()


class Sql:
    """The PostgreSQL protocol, version 3: what is asked for is the text of each statement that is executed."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = False
        self._texts: dict[bytes, str] = {}

    def __call__(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """Cut at the length each message states; the first ones have no type."""
        self._rest += data
        while True:
            head = 1 if self._begun else 0
            size = head + int.from_bytes(self._rest[head : head + 4])
            if len(self._rest) < head + 4 or len(self._rest) < size:
                return
            message = bytes(self._rest[:size])
            del self._rest[:size]
            if not self._begun:
                self._begun = (
                    message[4:6] == b"\x00\x03"
                )  # else a request for TLS, after which it begins anew
                yield message, ""
            else:
                yield message, self._said(message[:1], message[5:])

    def _said(self, kind: bytes, body: bytes) -> str:
        if kind == b"Q":
            return body[:-1].decode()
        if kind == b"P":
            name, text, _ = body.split(b"\0", 2)
            self._texts[name] = text.decode()
        elif kind == b"B":
            return self._texts.get(body.split(b"\0", 2)[1], "")
        return ""


class Amqp:
    """AMQP 0-9-1: what is asked for is `basic.publish` or `basic.ack`."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._begun = False

    def __call__(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """Cut into frames; before the first comes the protocol's name, eight bytes long."""
        self._rest += data
        while len(self._rest) >= 8:
            size = int.from_bytes(self._rest[3:7]) + 8 if self._begun else 8
            if len(self._rest) < size:
                return
            frame = bytes(self._rest[:size])
            del self._rest[:size]
            method = frame[7:11] if self._begun and frame[0] == 1 else b""
            self._begun = True
            yield frame, {b"\0\x3c\0\x28": "basic.publish", b"\0\x3c\0\x50": "basic.ack"}.get(method, "")


class Plain:
    """Whatever is sent, as it comes."""

    def __call__(self, data: bytes) -> Iterator[tuple[bytes, str]]:
        """Give back the bytes and their text."""
        yield data, data.decode("latin-1")


def database_proxy(url: str) -> HoldingProxy:
    """Return a proxy before the database of a URL."""
    parts = urlsplit(url)
    folder = parse_qs(parts.query).get("host", [""])[0]
    port = parts.port or 5432
    dial = dial_unix(f"{folder}/.s.PGSQL.{port}") if folder else dial_tcp(parts.hostname or "127.0.0.1", port)
    return HoldingProxy(dial, Sql)


def broker_proxy(url: str) -> HoldingProxy:
    """Return a proxy before the RabbitMQ of a URL."""
    parts = urlsplit(url)
    return HoldingProxy(dial_tcp(parts.hostname or "127.0.0.1", parts.port or 5672), Amqp)


def through(url: str, proxy: Proxy) -> str:
    """Return a URL of a database or a broker that leads through a started proxy, without TLS so that it can read along."""
    parts = urlsplit(url)
    user = parts.netloc.rpartition("@")[0]
    query = "sslmode=disable" if parts.scheme.startswith("postgres") else ""
    return urlunsplit(
        (parts.scheme, f"{user}@127.0.0.1:{proxy.port}".removeprefix("@"), parts.path, query, "")
    )
