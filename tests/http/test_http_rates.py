"""A partner's rate counts messages, whatever number of them a request carries."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from adapters.http.problems import RequestRefused
from adapters.http.rates import RateLimits
from adapters.http.security import Partner, Scope, hash_secret

PATH = "/v1/messages"


def partner(name: str, burst: int, per_second: float = 0.1) -> Partner:
    return Partner.model_validate(
        {
            "name": name,
            "clients": [{"id": name, "secret": hash_secret("x" * 20, cost=1024)}],
            "scopes": list(Scope),
            "rate": {"per_second": per_second, "burst": burst},
        }
    )


def events(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "specversion": "1.0",
            "id": f"ev-{number}",
            "source": "/x",
            "type": "org.openspp.civil_event.registered.v1",
            "data": {"event_type": "birth", "subject": {"sex": "female"}},
        }
        for number in range(start, start + count)
    ]


@pytest.fixture
async def ten(serve: Any) -> Any:
    """A server that knows a partner who may send ten messages at once."""
    return await serve(more=(partner("ten", 10),))


async def batch(hub: Any, sent: list[dict[str, Any]]) -> Any:
    headers = {**hub.auth("ten"), "Content-Type": "application/cloudevents-batch+json"}
    return await hub.client.post(PATH, data=orjson.dumps(sent), headers=headers)


async def test_a_batch_costs_as_many_messages_as_it_carries(ten: Any) -> None:
    first = await batch(ten, events(8))
    assert first.status == 202
    assert first.headers["RateLimit"] == '"partner";r=2'
    second = await batch(ten, events(8, 8))
    assert second.status == 429
    assert (await second.json())["code"] == "rate-limited"
    # After the request itself one is left of the eight it costs, and one comes in ten seconds.
    assert 65 <= int(second.headers["Retry-After"]) <= 70
    assert second.headers["RateLimit"].startswith('"partner";r=0')
    assert await ten.stored() == 8


async def test_a_stream_ends_where_the_rate_is_used_up_and_says_when_to_go_on(ten: Any) -> None:
    more = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"".join(orjson.dumps(one) + b"\n" for one in events(9))
        await more.wait()
        yield b"".join(orjson.dumps(one) + b"\n" for one in events(9, 9))

    headers = {**ten.auth("ten"), "Content-Type": "application/x-ndjson"}
    answer = await ten.client.post(PATH, data=body(), headers=headers)
    async with asyncio.timeout(45):
        results = [orjson.loads(await answer.content.readline()) for _ in range(9)]
        more.set()
        results += [orjson.loads(line) for line in (await answer.read()).splitlines()]
    last = results.pop()
    assert (last["status"], last["problem"]["code"]) == (429, "rate-limited")
    assert last["index"] == len(results) == 9 == await ten.stored()
    assert last["retry_after"] >= 10


def test_a_request_larger_than_the_bucket_is_taken_when_it_is_full_and_paid_for_afterwards() -> None:
    now = [0.0]
    limits, caller = RateLimits(1, 1, clock=lambda: now[0]), partner("p", 10, 1.0)
    limits.take(caller)
    assert limits.take_more(caller, 29)["RateLimit"] == '"partner";r=0'
    with pytest.raises(RequestRefused) as caught:
        limits.take(caller)
    assert caught.value.retry_after == 21
    now[0] = 21.0
    limits.take(caller)
    with pytest.raises(RequestRefused) as caught:
        limits.take_more(caller, 29)
    # After the wait it said, the same request is taken.
    now[0] += caught.value.retry_after or 0
    limits.take(caller)
    limits.take_more(caller, 29)


def test_a_refused_request_takes_nothing_of_what_it_asked_for() -> None:
    limits, caller = RateLimits(1, 1, clock=lambda: 0.0), partner("p", 10, 1.0)
    limits.take_more(caller, 5)
    with pytest.raises(RequestRefused):
        limits.take_more(caller, 6)
    limits.take_more(caller, 5)
