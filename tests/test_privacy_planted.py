"""Planted people and secrets go through everything the hub does, faults included, and are found nowhere they must not be."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pika
import pytest
from services.fleet import HUB, PARTNER, Fleet, birth
from services.path import everything_as_text

from connectors.testing.sandbox import Mode
from connectors.webhook.sandbox import WebhookSandbox
from routing.brokers.topology import TIERS, Topology

PEOPLE = (
    "Zephyrine",
    "Oyelaran-Kettunen",
    "+254700999888",
    "254700999888",
    "zephyrine@planted.example",
    "NID-4471-8820",
    "subject-of-zephyrine",
    "origin-of-zephyrine",
    "correlation-of-zephyrine",
)
PASSWORD = "planted-password-of-the-partner"


@pytest.fixture
async def sandbox() -> AsyncIterator[WebhookSandbox]:
    found = WebhookSandbox()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def fleet(tmp_path: Path, database_url: str, broker_url: str) -> AsyncIterator[Fleet]:
    found = Fleet(tmp_path, database_url, broker_url)
    yield found
    await found.stop()


def planted(number: int) -> dict[str, Any]:
    """Return the birth of the planted person."""
    event = birth(f"origin-of-zephyrine-{number}", f"subject-of-zephyrine-{number}")
    event["correlationid"] = f"correlation-of-zephyrine-{number}"
    event["data"]["subject"] |= {
        "names": [{"given_name": "Zephyrine", "family_name": "Oyelaran-Kettunen"}],
        "identifiers": [{"id_type": "NID", "value": "NID-4471-8820"}],
        "contact_points": [
            {"kind": "mobile", "value": "+254700999888"},
            {"kind": "email", "value": "zephyrine@planted.example"},
        ],
    }
    return event


class Copies:
    """A queue that gets a copy of every parcel the hub publishes, to whichever exchange."""

    def __init__(self, url: str, route: str) -> None:
        names = Topology("hub")
        parameters = pika.URLParameters(url)
        parameters.heartbeat = 0  # this connection lies still while the hub works
        self._connection = pika.BlockingConnection(parameters)
        self._channel = self._connection.channel()
        self._channel.queue_declare("copies", durable=True)
        self._channel.queue_bind("copies", names.routes, routing_key=route)
        for exchange in (names.dead, *(names.delay(tier) for tier in TIERS)):
            self._channel.queue_bind("copies", exchange, routing_key=route)

    def taken(self) -> list[str]:
        """Return everything of every copy as text: envelope, properties, headers, body."""
        found: list[str] = []
        while True:
            method, properties, body = self._channel.basic_get("copies", auto_ack=True)
            if method is None:
                return found
            found.append(f"{method!r} {properties!r} {properties.headers!r} {body!r} {body.hex()}")

    def close(self) -> None:
        self._connection.close()


async def post(http: aiohttp.ClientSession, fleet: Fleet, token: str, **options: Any) -> tuple[int, str]:
    """Post once and return status and answer."""
    headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
    async with http.post(options.pop("url", fleet.url), headers=headers, **options) as reply:
        return reply.status, await reply.text()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.rabbitmq
async def test_nothing_planted_is_in_logs_metrics_queues_tables_or_listings(
    fleet: Fleet, sandbox: WebhookSandbox
) -> None:
    fleet.configure(sandbox, timeout="1s", retry={"attempts": 2, "first": "100ms", "longest": "200ms"})
    fleet.env["HUB_LOG_LEVEL"] = "DEBUG"
    fleet.env["HUB_CLAIM_CHECK_BYTES"] = "4096"
    await fleet.start("api", "relay", "worker")
    token = await asyncio.to_thread(fleet.token)
    copies = await asyncio.to_thread(Copies, fleet.broker_url, "births")
    number = 0
    ids: list[str] = []
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as http:
        for mode, options in (
            (Mode.OK, {}),
            (Mode.STATUS, {"status": 500}),
            (Mode.STATUS, {"status": 418}),
            (Mode.REFUSE, {}),
            (Mode.GARBAGE, {}),
            (Mode.CLOSE_AFTER_BODY, {}),
            (Mode.HANG, {}),
        ):
            sandbox.switch(mode, **options)
            # Fewer than open the breaker, then one that arrives.
            for last in (False, False, True):
                if last:
                    await fleet.settled(60)
                    sandbox.switch(Mode.OK)
                number += 1
                event = planted(number)
                if number % 4 == 0:
                    event["data"]["subject"]["attributes"] = {"note": "Zephyrine " * 600}
                status, answer = await post(http, fleet, token, json=event)
                assert status == 202, answer
                ids.append(json.loads(answer)["id"])
            await fleet.settled(60)
        sandbox.switch(Mode.OK)

        # What is refused at the door, with the person in every place of the request.
        wrong = planted(1)
        wrong["data"]["subject"]["sex"] = "Zephyrine Oyelaran-Kettunen"
        again = planted(1)
        again["data"]["subject"]["birthdate"] = "1999-01-01"
        for options in (
            {"json": wrong},
            {"json": again},
            {"json": {**planted(99), "type": "Zephyrine"}},
            {"data": b'{"Zephyrine": "+254700999888"', "headers": {"Content-Type": "application/json"}},
            {
                "json": planted(98),
                "headers": {"Authorization": "Bearer Zephyrine.Oyelaran-Kettunen.NID-4471-8820"},
            },
            {"json": planted(97), "url": f"{fleet.url}?name=Zephyrine&phone=%2B254700999888"},
            {"json": {}, "url": f"{fleet.url}/Zephyrine/NID-4471-8820"},
            {"json": {}, "headers": {"X-Request-ID": "Zephyrine Oyelaran-Kettunen"}},
            {"json": {}, "headers": {"traceparent": "Zephyrine"}},
        ):
            await post(http, fleet, token, **options)
        async with http.post(
            f"http://127.0.0.1:{fleet.port}/oauth2/token",
            data={"grant_type": "client_credentials", "client_id": PARTNER, "client_secret": PASSWORD},
        ) as reply:
            await reply.text()
        metrics = ""
        async with http.get(
            f"http://127.0.0.1:{fleet.port}/metrics", headers={"Authorization": f"Bearer {token}"}
        ) as reply:
            assert reply.status == 200
            metrics = await reply.text()

        # What a partner and an operator are shown of it.
        base = f"http://127.0.0.1:{fleet.port}"
        shown: list[str] = []
        for url in (
            f"{base}/v1/dead-letters", f"{base}/v1/messages", *(f"{base}/v1/messages/{id_}" for id_ in ids),
        ):  # fmt: skip
            async with http.get(url, headers={"Authorization": f"Bearer {token}"}) as reply:
                assert reply.status == 200, url
                shown.append(f"{dict(reply.headers)} {await reply.text()}")
        dead = await asyncio.to_thread(command, fleet, "messages", "dead", "list", "--json")
        shown += [
            dead,
            await asyncio.to_thread(command, fleet, "messages", "dead", "list"),
            await asyncio.to_thread(command, fleet, "messages", "list"),
            await asyncio.to_thread(
                command, fleet, "messages", "show", json.loads(dead)["items"][0]["message_id"]
            ),
        ]

    # A worker is killed in the middle and its deliveries given back.
    sandbox.switch(Mode.SLOW, seconds=3)
    (worker,) = [one for one in fleet.processes if one.role == "worker"]
    worker.signal(signal.SIGTERM)
    await asyncio.to_thread(worker.running.wait, 60)
    states = await fleet.settled(60) if await fleet.states() else {}
    assert {"dead", "refused", "delivered"} <= {state for state, _ in states}

    logs = fleet.logs()
    await fleet.stop()
    parcels = await asyncio.to_thread(copies.taken)
    await asyncio.to_thread(copies.close)
    connection = await asyncpg.connect(fleet.database_url, timeout=10)
    try:
        tables = await everything_as_text(connection)  # type: ignore[arg-type]
    finally:
        await connection.close(timeout=5)

    # The places are really looked into.
    assert "delivery-ended" in logs
    assert len(parcels) > len(ids)
    assert all(id_ in tables for id_ in ids)
    assert "births" in metrics or "messages" in metrics
    assert json.loads(dead)["items"]
    assert all(id_ in "".join(shown) for id_ in ids)
    assert any("Zephyrine" in seen.body.decode() for seen in sandbox.received), "the receiver got the person"

    token_parts = [part for part in token.split(".") if len(part) > 20]
    secrets = (*sandbox.secrets(), PASSWORD, token_parts[-1])
    places = {
        "logs": logs,
        "metrics": metrics,
        "queues": "\n".join(parcels),
        "listings": "\n".join(shown),
        "tables": tables,
    }
    for place, text in places.items():
        for value in (*PEOPLE, *secrets):
            assert value not in text, f"{value!r} is in the {place}: {around(text, value)}"
            assert value.encode().hex() not in text, f"{value!r} is in the {place} in hexadecimal"


def command(fleet: Fleet, *words: str) -> str:
    """Run `hub WORDS` on the fleet's database; return what it printed, errors too."""
    done = subprocess.run(
        [HUB, *words], env=fleet.environment(), cwd=fleet.folder, capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    return (done.stdout + done.stderr).decode() if "--json" not in words else done.stdout.decode()


def around(text: str, value: str) -> str:
    """Return the text around the first place of a value."""
    at = re.search(re.escape(value), text)
    return "" if at is None else text[max(0, at.start() - 300) : at.end() + 300]
