"""What the pipeline refuses before any work is done, and in which form."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from adapters.http.server import make_runner
from canonical_model.errors import ConfigError, Unavailable
from registry.settings import HubSettings

PATH = "/v1/messages"
JSON = {"Content-Type": "application/json"}


class Closed:
    """An intake that nothing may reach."""

    async def accept(self, message: Any, **rest: Any) -> Any:
        raise Unavailable("The database does not answer.", code="database-unavailable", retry_after=7)

    accept_many = accept_all = accept


@pytest.fixture
async def shut(serve_with: Any) -> Any:
    return await serve_with(Closed(), request_timeout=0.4, body_limit=20_000)


async def problem(answer: Any) -> tuple[int, str]:
    body = await answer.json()
    assert answer.content_type == "application/problem+json"
    assert set(body) >= {"type", "title", "status", "detail", "instance", "code"}
    assert body["status"] == answer.status
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Server"] == "openspp-hub"
    return answer.status, body["code"]


async def test_a_body_declared_too_large_is_refused_before_it_is_sent(shut: Any) -> None:
    host, port = shut.client.host, shut.client.port
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: hub\r\nAuthorization: Bearer {shut.token()}\r\n"
        "Content-Type: application/json\r\nContent-Length: 20971520\r\nExpect: 100-continue\r\n\r\n"
    )
    writer.write(head.encode())
    async with asyncio.timeout(45):
        answer = await reader.readuntil(b"}")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body-too-large" in answer
    writer.close()


async def test_a_body_that_grows_too_large_is_refused_while_it_is_read(shut: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield b" " * 1000
            await asyncio.sleep(0.001)

    answer = await shut.client.post(PATH, data=body(), headers={**shut.auth(), **JSON})
    assert await problem(answer) == (413, "body-too-large")


async def test_a_small_body_that_unpacks_to_a_large_one_is_refused(shut: Any) -> None:
    packed = zlib.compress(b" " * 20_000_000)
    headers = {**shut.auth(), **JSON, "Content-Encoding": "deflate"}
    answer = await shut.client.post(PATH, data=packed, headers=headers)
    assert await problem(answer) == (413, "body-too-large")


async def test_a_body_that_trickles_is_given_up(shut: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" "
            await asyncio.sleep(0.05)

    answer = await shut.client.post(PATH, data=body(), headers={**shut.auth(), **JSON})
    assert await problem(answer) == (408, "request-too-slow")
    assert answer.headers["Connection"] == "close"


async def test_a_head_that_trickles_is_given_up(shut: Any) -> None:
    settings = HubSettings(request_timeout=0.5, port=0)
    runner = make_runner(shut.client.app, settings)
    await runner.setup()
    from aiohttp import web

    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", runner.addresses[0][1])
    try:
        writer.write(b"GET /healthz/live HTTP/1.1\r\nHost: h")
        async with asyncio.timeout(45):
            assert await reader.read() == b""
    finally:
        writer.close()
        await runner.cleanup()


async def test_many_slow_heads_hold_up_nobody_and_are_all_given_up(shut: Any) -> None:
    runner = make_runner(shut.client.app, HubSettings(request_timeout=8.0, port=0))
    await runner.setup()
    from aiohttp import web

    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    slow = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", port) for _ in range(300)))

    async def trickle() -> None:
        while True:
            for _, writer in slow:
                writer.write(b"X-More: x\r\n")
            await asyncio.sleep(0.2)

    for _, writer in slow:
        writer.write(b"POST /v1/messages HTTP/1.1\r\nHost: h\r\n")
    trickling = asyncio.create_task(trickle())
    try:
        async with ClientSession() as http, http.get(f"http://127.0.0.1:{port}/healthz/live") as answer:
            assert answer.status == 200
        assert not any(reader.at_eof() for reader, _ in slow)
        async with asyncio.timeout(45):
            ends = await asyncio.gather(*(reader.read() for reader, _ in slow), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionError) for end in ends)
    finally:
        trickling.cancel()
        for _, writer in slow:
            writer.close()
        await runner.cleanup()


async def test_a_stalled_stream_ends_with_a_line_that_says_so(shut: Any) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b'{"specversion": '
        await asyncio.sleep(3)

    headers = {**shut.auth(), "Content-Type": "application/x-ndjson"}
    answer = await shut.client.post(PATH, data=body(), headers=headers)
    last = orjson.loads(await answer.content.readline())
    assert (last["status"], last["problem"]["code"]) == (408, "request-too-slow")


async def test_an_unavailable_store_asks_for_patience(shut: Any) -> None:
    event = {
        "specversion": "1.0", "id": "1", "source": "/x", "type": "org.openspp.civil_event.registered.v1",
        "data": {"event_type": "birth", "subject": {}},
    }  # fmt: skip
    answer = await shut.client.post(PATH, json=event, headers=shut.auth())
    assert await problem(answer) == (503, "database-unavailable")
    assert answer.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("method", "path", "headers", "expected"),
    [
        ("GET", "/nothing/here", {}, (404, "resource-not-found")),
        ("PUT", PATH, {}, (405, "method-not-allowed")),
        ("POST", PATH, {"Content-Type": "text/plain"}, (415, "media-type-unsupported")),
        ("POST", PATH, {**JSON, "Accept": "image/png"}, (406, "not-acceptable")),
        ("POST", PATH, {**JSON, "Content-Encoding": "compress"}, (415, "content-encoding-unsupported")),
        ("POST", f"{PATH}?dryrun=1", JSON, (400, "query-parameter-unknown")),
        ("GET", "/healthz/live?verbose", {}, (400, "query-parameter-unknown")),
        ("GET", "/errors/No%20Such", {}, (404, "resource-not-found")),
    ],
)
async def test_requests_outside_the_contract_are_problems(
    shut: Any, method: str, path: str, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    answer = await shut.client.request(
        method, path, headers={**shut.auth(), **headers}, data=b"{}" if method == "POST" else None
    )
    assert await problem(answer) == expected
    if expected[0] == 405:
        assert answer.headers["Allow"] == "POST"


async def test_head_answers_like_get_without_a_body(shut: Any) -> None:
    answer = await shut.client.head("/healthz/live")
    assert (answer.status, await answer.read()) == (200, b"")
    missing = await shut.client.head("/nothing")
    assert (missing.status, await missing.read()) == (404, b"")


@pytest.mark.parametrize(
    ("wanted", "language"),
    [("fr-CA, en;q=0.5", "fr"), ("de, es;q=0.3", "es"), ("ar", "ar"), ("xx", "en"), ("en;q=0", "en")],
)
async def test_titles_speak_the_language_asked_for(shut: Any, wanted: str, language: str) -> None:
    english = await (await shut.client.get("/nothing")).json()
    answer = await shut.client.get("/nothing", headers={"Accept-Language": wanted})
    assert answer.headers["Content-Language"] == language
    assert ((await answer.json())["title"] == english["title"]) == (language == "en")


async def test_an_unsafe_request_id_is_replaced(shut: Any) -> None:
    answer = await shut.client.get("/healthz/live", headers={"X-Request-ID": "a b<script>"})
    assert answer.headers["X-Request-ID"].isalnum()


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("0190a6c1-7d2e-7b4a-9c3f-5e8d1f2a4b6c", True),
        ("01ARZ3NDEKTSV4RRFFQ69G5FAV", True),
        ("4bf92f3577b34da6", True),
        ("4bf92f3577b34da6a3ce929d0e0e4736", True),
        ("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        ("3174012305900004", False),
        ("AB123456789012345", False),
        ("19900523123456789012345678901234", False),
        ("12345678901234567890123456", False),
        ("12345678-1234-1234-1234-123456789012", False),
        ("NID-4471-8820-1", False),
        ("Zephyrine.Oyelaran", False),
        ("Zephyrine-Oyelaran-Kettun", False),
        ("req-7", False),
        ("4bf92f35" * 9, False),
    ],
)
async def test_only_a_random_request_id_is_kept(shut: Any, given: str, kept: bool) -> None:
    answer = await shut.client.get("/healthz/live", headers={"X-Request-ID": given})
    assert (answer.headers["X-Request-ID"] == given) is kept


async def test_a_partner_above_its_rate_is_told_when_to_come_back(shut: Any) -> None:
    seen = []
    for _ in range(3):
        answer = await shut.client.post(PATH, data=b"{}", headers={**shut.auth("slow-lane"), **JSON})
        seen.append(answer.status)
    assert seen == [400, 400, 429]
    assert await problem(answer) == (429, "rate-limited")
    assert 1 <= int(answer.headers["Retry-After"]) <= 20
    assert answer.headers["RateLimit"].startswith('"partner";r=0')
    other = await shut.client.post(PATH, data=b"{}", headers={**shut.auth(), **JSON})
    assert other.status == 400


async def test_an_unexpected_failure_says_nothing_of_its_cause(serve_with: Any, caplog: Any) -> None:
    class Broken:
        async def accept(self, message: Any, **rest: Any) -> Any:
            raise RuntimeError("Amina Planted-Person")

    hub = await serve_with(Broken())
    event = {
        "specversion": "1.0", "id": "1", "source": "/x", "type": "org.openspp.civil_event.registered.v1",
        "data": {"event_type": "birth", "subject": {}},
    }  # fmt: skip
    answer = await hub.client.post(PATH, json=event, headers=hub.auth())
    assert await problem(answer) == (500, "internal-defect")
    assert "Planted" not in await answer.text()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "request-failed"
    ]


async def test_readiness_names_the_part_that_fails_and_nothing_else(serve_with: Any) -> None:
    from adapters.http.services import Check

    hub = await serve_with(Closed())

    async def well() -> Check:
        return Check(ok=True)

    async def ill() -> Check:
        raise RuntimeError("postgresql://user:secret@host")

    hub.services.checks = {"disk": well}
    assert (await hub.client.get("/healthz/ready")).status == 200
    hub.services.checks = {"disk": well, "database": ill}
    answer = await hub.client.get("/healthz/ready")
    body = await answer.json()
    assert (answer.status, body["checks"]["disk"]["ok"], body["checks"]["database"]["ok"]) == (
        503,
        True,
        False,
    )
    assert "secret" not in await answer.text()


async def test_metrics_need_a_scope_behind_a_proxy(serve_with: Any) -> None:
    near = await serve_with(Closed())
    assert (await near.client.get("/metrics")).status == 200
    behind = await serve_with(Closed(), behind_tls_proxy=True)
    assert (await behind.client.get("/metrics")).status == 401
    assert (await behind.client.get("/metrics", headers=behind.auth("reader"))).status == 403
    assert (await behind.client.get("/metrics", headers=behind.auth())).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example"])
def test_an_open_address_without_tls_is_refused(host: str) -> None:
    from aiohttp import web

    with pytest.raises(ConfigError) as refused:
        make_runner(web.Application(), HubSettings(host=host))
    assert refused.value.code == "tls-required"
    make_runner(web.Application(), HubSettings(host=host, behind_tls_proxy=True))


async def test_no_cookie_and_no_server_version_leave_the_hub(shut: Any) -> None:
    async with ClientSession() as session, session.get(shut.client.make_url("/docs")) as answer:
        assert answer.status == 200
        assert "aiohttp" not in str(answer.headers)
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
