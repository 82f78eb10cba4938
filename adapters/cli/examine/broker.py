"""The broker: one parcel through a quorum queue of its own and back out of the world."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from typing import Final

from pika.exceptions import AMQPError

from adapters.cli.examine.findings import Finding, fail, of_error, ok
from canonical_model.errors import HubError
from registry.settings import HubSettings
from routing.brokers.link import Link, open_channel, parse_urls
from routing.brokers.wire import WireConnection

PART: Final = "broker"
_CONFIRM_SECONDS: Final = 5.0
_OVERALL_SECONDS: Final = 45.0
_EXPIRES_MS: Final = 60_000
"""A probe's queue that could not be deleted goes away by itself after this time."""


async def broker(settings: HubSettings) -> Finding:
    """Publish one empty parcel to a fresh quorum queue and wait for its confirm; leaves nothing behind."""
    if settings.broker_url is None:
        return ok(PART, "The database carries parcels (postgres broker); no other broker is needed.")
    answers: list[tuple[bool, float, str]] = []

    async def prepare(connection: WireConnection) -> None:
        answers.append(await _through(connection))

    try:
        link = Link(parse_urls(settings.broker_url.get_secret_value(), settings.broker_ca), prepare, "doctor")
        try:
            async with asyncio.timeout(_OVERALL_SECONDS):
                await link.open()
            blocked = link.blocked
        finally:
            await link.close()
    except HubError as error:
        return of_error(PART, error)
    except TimeoutError:
        return fail(
            PART,
            f"The broker did not answer within {_OVERALL_SECONDS:g} seconds.",
            "Start RabbitMQ.",
            "broker-unavailable",
        )
    confirmed, seconds, version = answers[-1]
    if not confirmed or blocked:
        return fail(
            PART,
            f"RabbitMQ {version} answers and confirms nothing: an alarm of memory or disk, or no majority of nodes.",
            "See `rabbitmq-diagnostics alarms` and `rabbitmq-diagnostics check_if_node_is_quorum_critical`.",
            "broker-unconfirmed",
        )
    return ok(
        PART, f"RabbitMQ {version} confirmed a parcel in a quorum queue in {seconds * 1000:.0f} ms; no alarm."
    )


async def _through(connection: WireConnection) -> tuple[bool, float, str]:
    properties = connection.server_properties or {}
    version = str(properties.get("version", ""))
    channel = await open_channel(connection)
    queue = f"hub.doctor.{secrets.token_hex(6)}"
    arguments = {"x-queue-type": "quorum", "x-expires": _EXPIRES_MS}
    await channel.call("queue_declare", queue, durable=True, arguments=arguments)
    confirmed = asyncio.Event()
    await channel.call("confirm_delivery", ack_nack_callback=lambda _frame: None)
    connection.confirms[channel.number] = lambda _tag, _multiple: confirmed.set()
    started = time.perf_counter()
    channel.raw.basic_publish("", queue, b"")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CONFIRM_SECONDS):
            await confirmed.wait()
    seconds = time.perf_counter() - started
    if confirmed.is_set():
        await channel.call("queue_delete", queue)
    with contextlib.suppress(AMQPError):
        channel.raw.close()
    return confirmed.is_set(), seconds, version
