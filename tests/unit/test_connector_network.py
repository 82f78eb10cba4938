from __future__ import annotations

import socket
from datetime import UTC, datetime
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from pydantic import ValidationError

from connectors.errors import Unavailable
from connectors.http import Reply, http_request, map_http_failure, retry_after
from connectors.network import AddressGuard, AddressRefused, GuardedResolver, open_session
from connectors.webhook import WebhookSettings
from connectors.webhook.client import problem_code

FORBIDDEN = [
    "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200",
    "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "168.63.129.16", "192.0.0.192", "198.18.0.1",
    "::1", "::", "fe80::1", "fe80::1%eth0", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
    "2002:7f00:1::", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "not an address",
]  # fmt: skip


@pytest.mark.parametrize("address", FORBIDDEN)
def test_addresses_inside_are_not_reached(address: str) -> None:
    assert not AddressGuard().permits(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"])
def test_public_addresses_are_reached(address: str) -> None:
    assert AddressGuard().permits(address)


def test_only_the_listed_private_network_is_opened() -> None:
    guard = AddressGuard(["10.20.0.0/16"])
    assert guard.permits("10.20.3.4")
    assert not guard.permits("10.21.0.1")
    assert not AddressGuard(["10.20.0.0/16"], only_allowed=True).permits("8.8.8.8")


class Rebinding(AbstractResolver):
    """A name that leads outside when it is checked and inside when it is used."""

    def __init__(self) -> None:
        self.calls = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.calls += 1
        address = "93.184.216.34" if self.calls == 1 else "127.0.0.1"
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
        ]

    async def close(self) -> None:
        return None


async def test_a_name_that_changes_its_address_is_caught_at_the_connection() -> None:
    resolver = GuardedResolver(AddressGuard(), Rebinding())
    assert await resolver.resolve("evil.example", 80)
    with pytest.raises(AddressRefused):
        await resolver.resolve("evil.example", 80)


async def test_a_connection_to_a_refused_address_is_never_made(unused_tcp_port: int) -> None:
    import asyncio

    inner = Rebinding()
    inner.calls = 1
    session = open_session(resolver=GuardedResolver(AddressGuard(), inner))
    with pytest.raises(Unavailable) as caught:
        await http_request(
            session,
            "GET",
            f"http://evil.example:{unused_tcp_port}/",
            deadline=asyncio.get_running_loop().time() + 3,
        )
    assert caught.value.code == "address-not-allowed"
    await session.close()


async def test_the_session_keeps_no_cookies_and_ignores_the_environment() -> None:
    session = open_session()
    assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
    assert not session.trust_env
    await session.close()


BASE = {"url": "https://x.example/", "secrets": ["s" * 24]}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"url": "ftp://x.example/"}, "http or https"),
        ({"url": "http://x.example/"}, "plain http"),
        ({"url": "https://u:p@x.example/"}, "login"),
        ({"url": "https://127.0.0.1/"}, "may not reach"),
        ({"url": "https://[::1]/"}, "may not reach"),
        ({"url": "http://8.8.8.8/", "allow_private_networks": ["10.0.0.0/8"]}, "may not reach"),
        ({"secrets": []}, "at least one"),
        ({"secrets": ["short"]}, "24 characters"),
        ({"signing": "es256"}, "private_key"),
        ({"client_cert_file": "/x"}, "go together"),
        ({"secret_headers": {"Webhook-Id": "x"}}, "set by the hub"),
        ({"secret_headers": {"A\r\nB": "x"}}, "letters"),
        ({"unknown": 1}, "Extra inputs"),
    ],
)
def test_wrong_webhook_settings_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        WebhookSettings.model_validate(BASE | change)


NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("5", 5.0), ("99999", 600.0), ("Thu, 01 Jan 2026 00:01:00 GMT", 60.0), ("Thu, 01 Jan 2026 09:00:00 GMT", 600.0),
        ("Wed, 31 Dec 2025 00:00:00 GMT", 0.0), ("", None), ("soon", None), ("-5", None), ("9" * 400, None),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_a_date_and_capped(value: str, found: float | None) -> None:
    assert retry_after({"Retry-After": value}, 600, NOW) == found


@given(st.text(max_size=60))
def test_any_retry_after_is_none_or_within_bounds(value: str) -> None:
    found = retry_after({"Retry-After": value}, 600, NOW)
    assert found is None or 0 <= found <= 600


def reply(body: Any, kind: str = "application/problem+json") -> Reply:
    headers = CIMultiDictProxy(CIMultiDict({"Content-Type": kind}))
    return Reply(400, headers, body if isinstance(body, bytes) else orjson.dumps(body), False, 0.0)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": "type-not-expected"}, "type-not-expected"),
        ({"type": "https://x.example/errors/rate-limited"}, "rate-limited"),
        ({"title": "schema-invalid"}, None),
        ({"title": "Amina Yusuf is unknown"}, None),
        ({"code": "person-19840312"}, None),
        ({"code": "amina"}, None),
        ({"code": 5}, None),
        ([1], None),
        (b"{", None),
    ],
)
def test_only_what_looks_like_a_code_is_taken_from_a_problem(body: Any, code: str | None) -> None:
    assert problem_code(reply(body)) == code
    assert problem_code(reply(body, "text/plain")) is None


def test_a_failure_never_repeats_the_librarys_text() -> None:
    for error in (aiohttp.ClientPayloadError("Amina"), OSError("Amina"), ValueError("Amina")):
        assert "Amina" not in str(map_http_failure(error, "x.example"))
