"""A POST over a kept connection: what the other side may answer, and what is never sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from yarl import URL

from connectors.errors import ConfigError, Unknown
from connectors.network import AddressGuard, GuardedResolver, open_session
from connectors.posting import Posting


class Peer:
    """An HTTP server on a bare socket that answers as told and keeps what it got."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0

    @asynccontextmanager
    async def serve(self, *answers: bytes) -> AsyncIterator[str]:
        """Answer each request with the next of `answers` (the last one again and again); b"" closes instead."""
        left = list(answers)

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                while True:
                    head = await reader.readuntil(b"\r\n\r\n")
                    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                    self.heads.append(head)
                    self.bodies.append(await reader.readexactly(length))
                    answer = left.pop(0) if len(left) > 1 else left[0]
                    if not answer:
                        break
                    writer.write(answer)
                    if b"close" in answer:
                        break
            except asyncio.IncompleteReadError:
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        async with server:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/events?kept=1"


@asynccontextmanager
async def posting(url: str, **fixed: str) -> AsyncIterator[Posting]:
    """Return the way to one address."""
    async with open_session(
        limit=1, limit_per_host=0, resolver=GuardedResolver(AddressGuard(["127.0.0.0/8"]))
    ) as session:
        yield Posting(session, URL(url), fixed, connect_timeout=2.0)


def soon(seconds: float = 5.0) -> float:
    """Return a deadline."""
    return asyncio.get_running_loop().time() + seconds


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def test_one_connection_serves_one_message_after_the_other() -> None:
    peer = Peer()
    async with peer.serve(OK) as url, posting(url, Authorization="Bearer x") as way:
        for number in range(3):
            reply = await way.post({"webhook-id": str(number)}, b"{}", soon())
            assert (reply.status, reply.body, reply.cut) == (200, b"{}", False)
    assert peer.connections == 1
    head = peer.heads[2].decode()
    assert head.startswith("POST /events?kept=1 HTTP/1.1\r\nHost: 127.0.0.1:")
    assert head.lower().count("content-length:") == 1
    assert "\r\nwebhook-id: 2\r\n" in head
    assert "\r\nAuthorization: Bearer x\r\n" in head
    assert "\r\nUser-Agent: openspp-hub\r\n" in head
    assert "\r\nAccept-Encoding: identity\r\n" in head


async def test_an_informational_answer_is_not_taken_for_the_final_one() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with Peer().serve(early + OK) as url, posting(url) as way:
        assert (await way.post({}, b"{}", soon())).status == 200


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", b"until the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", b"abc"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", b""),
    ],
    ids=["until-closed", "chunked", "empty", "redirect"],
)
async def test_every_way_to_end_an_answer_is_understood(answer: bytes, body: bytes) -> None:
    async with Peer().serve(answer) as url, posting(url) as way:
        reply = await way.post({}, b"{}", soon())
        assert reply.body == body
        assert reply.status == int(answer[9:12])


async def test_what_is_no_http_leaves_the_outcome_unknown_and_its_connection_is_not_used_again() -> None:
    peer = Peer()
    async with peer.serve(b"220 smtp.example ESMTP\r\n\r\n", OK) as url, posting(url) as way:
        with pytest.raises(Unknown):
            await way.post({}, b"1", soon())
        assert (await way.post({}, b"2", soon())).status == 200
    assert peer.bodies == [b"1", b"2"]
    assert peer.connections == 2


async def test_a_connection_that_ends_without_an_answer_sends_nothing_a_second_time() -> None:
    peer = Peer()
    async with peer.serve(OK, b"") as url, posting(url) as way:
        await way.post({}, b"1", soon())
        with pytest.raises(Unknown):
            await way.post({}, b"2", soon())
    assert peer.bodies == [b"1", b"2"]


@pytest.mark.parametrize("head", [b"Content-Length: 5\r\n", b""], ids=["counted", "until-closed"])
async def test_an_answer_past_the_deadline_is_unknown_and_never_taken_for_that_of_the_next(
    head: bytes,
) -> None:
    peer = Peer()
    half = b"HTTP/1.1 200 OK\r\n" + head + b"\r\nab"
    async with peer.serve(half, OK) as url, posting(url) as way:
        with pytest.raises(Unknown):
            await way.post({}, b"1", soon(0.3))
        assert (await way.post({}, b"2", soon())).body == b"{}"
    assert peer.connections == 2


async def test_a_large_body_arrives_whole() -> None:
    peer = Peer()
    body = b"0123456789" * 300_000
    async with peer.serve(OK) as url, posting(url) as way:
        await way.post({}, body, soon(20))
    assert peer.bodies == [body]


async def test_a_header_that_would_begin_another_line_is_never_sent() -> None:
    peer = Peer()
    async with peer.serve(OK) as url, posting(url) as way:
        with pytest.raises(ConfigError):
            await way.post({"webhook-id": "1\r\nx-other: 2"}, b"{}", soon())
        with pytest.raises(ConfigError):
            async with posting(url, Authorization="Bearer x\n"):
                pass
    assert not peer.bodies
