"""A connection to one of several RabbitMQ nodes that is kept: made again elsewhere whenever it is lost."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pika
from pika.adapters.utils.connection_workflow import AMQPConnectorException
from pika.channel import Channel as PikaChannel
from pika.exceptions import (
    AMQPError,
    ChannelClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
)

from canonical_model.errors import ConfigError, HubError, Unavailable
from registry.logs import log
from routing.brokers.wire import WireConnection

_LOG = logging.getLogger(__name__)
# pika reports each failed attempt as a dozen errors with stack traces; the hub says it once, in its own words.
logging.getLogger("pika").setLevel(logging.CRITICAL)

CALL_SECONDS = 15.0
"""Longest wait for the broker's answer to one request."""
CONNECT_SECONDS = 15.0
HEARTBEAT_SECONDS = 20
BACKOFF_SECONDS = (0.2, 10.0)


def away(reason: str) -> Unavailable:
    """Return the error of a broker that cannot be reached."""
    return Unavailable(
        f"The broker cannot take parcels now ({reason}); they stay in the outbox.",
        code="broker-unavailable",
        remedy="Start RabbitMQ or correct HUB_BROKER_URL; the hub reconnects by itself.",
        retry_after=1.0,
    )


def parse_urls(urls: str, ca: Path | None) -> list[pika.ConnectionParameters]:
    """Return the parameters of each comma separated AMQP URL; raises `ConfigError` that never shows a URL."""
    nodes = []
    for place, text in enumerate((part.strip() for part in urls.split(",") if part.strip()), 1):
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in {"amqp", "amqps"}:
            raise ConfigError(
                f"Broker URL number {place} is not amqp://USER:PASSWORD@HOST:PORT/VHOST or amqps://. Nothing was started.",
                code="broker-url-invalid",
                remedy="Correct HUB_BROKER_URL; percent-encode special characters of the password.",
            )
        secure = parts.scheme == "amqps"
        vhost = unquote(parts.path[1:]) or "/"
        nodes.append(
            pika.ConnectionParameters(
                host=host,
                port=port or (5671 if secure else 5672),
                virtual_host=vhost,
                credentials=pika.PlainCredentials(
                    unquote(parts.username or "guest"), unquote(parts.password or "guest")
                ),
                heartbeat=HEARTBEAT_SECONDS,
                connection_attempts=1,
                socket_timeout=CONNECT_SECONDS / 2,
                stack_timeout=CONNECT_SECONDS,
                ssl_options=pika.SSLOptions(_tls(ca), host) if secure else None,
                client_properties={"connection_name": "openspp-hub"},
            )
        )
    if not nodes:
        raise ConfigError(
            "No broker URL is set. Nothing was started.",
            code="broker-url-invalid",
            remedy="Set HUB_BROKER_URL.",
        )
    return nodes


def _tls(ca: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=str(ca) if ca else None)
    except OSError as error:
        raise ConfigError(
            f"The CA file of the broker cannot be read ({type(error).__name__}). Nothing was started.",
            code="broker-tls-untrusted",
            remedy="Point HUB_BROKER_CA at a PEM file with the CA that signed the broker's certificate.",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Channel:
    """A pika channel whose requests can be awaited; every wait is bounded and ends when the channel closes."""

    def __init__(self, connection: WireConnection, channel: PikaChannel) -> None:
        self.connection = connection
        self.raw = channel
        self.number: int = channel.channel_number
        self.lost: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        channel.add_on_close_callback(self._on_close)

    def _on_close(self, _channel: Any, reason: BaseException) -> None:
        self.connection.deliveries.pop(self.number, None)
        self.connection.confirms.pop(self.number, None)
        if not self.lost.done():
            self.lost.set_result(reason)

    @property
    def usable(self) -> bool:
        """Whether frames can be sent on it."""
        return not self.lost.done() and bool(self.raw.is_open)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Make one request and return the answering frame; raises `Unavailable`, or `ConfigError` when it is refused."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(frame: Any = None) -> None:
            if not answer.done():
                answer.set_result(frame)

        try:
            getattr(self.raw, method)(*args, callback=take, **kwargs)
        except AMQPError as error:
            raise away(type(error).__name__) from error
        await asyncio.wait({answer, self.lost}, timeout=CALL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            return answer.result()
        if not self.lost.done():
            raise away(f"no answer to {method.replace('_', '.')} within {CALL_SECONDS:g} s")
        reason = self.lost.result()
        if isinstance(reason, ChannelClosedByBroker) and reason.reply_code in {403, 404, 405, 406}:
            raise ConfigError(
                f"The broker refused {method.replace('_', '.')} ({reason.reply_code}): {reason.reply_text[:200]}",
                code="broker-topology-differs",
                remedy="See docs/brokers.md: a queue with other arguments must be emptied and deleted, or rights granted.",
            ) from reason
        raise away(type(reason).__name__) from reason

    async def close(self) -> None:
        """Close the channel; parcels not settled on it go back to their queue."""
        if self.usable:
            with contextlib.suppress(AMQPError):
                self.raw.close()
            await asyncio.wait({self.lost}, timeout=CALL_SECONDS)


async def open_channel(connection: WireConnection) -> Channel:
    """Open a channel on a connection."""
    opened: asyncio.Future[PikaChannel] = asyncio.get_running_loop().create_future()

    def take(channel: PikaChannel) -> None:
        if not opened.done():
            opened.set_result(channel)

    try:
        connection.channel(on_open_callback=take)
        async with asyncio.timeout(CALL_SECONDS):
            await opened
        return Channel(connection, opened.result())
    except (AMQPError, TimeoutError) as error:
        raise away(type(error).__name__) from error


class Link:
    """One kept connection; `prepare` is run on each new one before it counts as usable."""

    def __init__(
        self,
        nodes: Sequence[pika.ConnectionParameters],
        prepare: Callable[[WireConnection], Awaitable[None]],
        name: str,
    ) -> None:
        self.name = name
        self.blocked = False
        self.usable = asyncio.Event()
        self._nodes = list(nodes)
        self._at = 0
        self._prepare = prepare
        self._connection: WireConnection | None = None
        self._lost: asyncio.Future[BaseException] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def connection(self) -> WireConnection | None:
        """The connection in use, None while there is none."""
        return self._connection

    async def open(self) -> None:
        """Connect to the first node that answers and keep it so; raises `Unavailable` or `ConfigError`."""
        if self._keeper is not None:
            if self.usable.is_set():
                return
            raise away("not connected")
        failure: HubError | None = None
        for _ in self._nodes:
            try:
                await self._connect()
            except HubError as error:
                failure = error
                self._at += 1
            else:
                self._keeper = asyncio.get_running_loop().create_task(
                    self._keep(), name=f"broker-link-{self.name}"
                )
                return
        assert failure is not None
        raise failure

    async def close(self) -> None:
        """Stop keeping the connection and close it."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
        await self.drop()

    async def drop(self) -> None:
        """Close the connection; a kept link then makes a new one."""
        connection, lost = self._connection, self._lost
        self.usable.clear()
        if connection is None or lost is None:
            return
        if connection.is_open:
            with contextlib.suppress(AMQPError):
                connection.close()
        done, _ = await asyncio.wait({lost}, timeout=5.0)
        if not done:
            connection.abort()
            if not lost.done():
                lost.set_result(TimeoutError("the broker did not answer the close"))

    async def _keep(self) -> None:
        low, high = BACKOFF_SECONDS
        pause = low
        while True:
            assert self._lost is not None
            reason = await asyncio.shield(self._lost)
            self._forget()
            log(
                _LOG,
                logging.WARNING,
                "broker-connection-lost",
                broker="rabbitmq",
                phase=self.name,
                code=_as_hub_error(reason).code,
                error_class=type(reason).__name__,
            )
            while True:
                await asyncio.sleep(random.uniform(pause / 2, pause))  # noqa: S311 - jitter needs no secrecy
                try:
                    await self._connect()
                except HubError as error:
                    self._at += 1
                    pause = min(high, pause * 2)
                    log(
                        _LOG,
                        logging.WARNING,
                        "broker-still-away",
                        broker="rabbitmq",
                        phase=self.name,
                        code=error.code,
                    )
                except Exception as error:
                    self._at += 1
                    pause = min(high, pause * 2)
                    log(
                        _LOG,
                        logging.ERROR,
                        "broker-connection-unprepared",
                        error=error,
                        broker="rabbitmq",
                        phase=self.name,
                    )
                else:
                    pause = low
                    break

    def _forget(self) -> None:
        self.usable.clear()
        self._connection = None

    async def _connect(self) -> None:
        parameters = self._nodes[self._at % len(self._nodes)]
        loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = loop.create_future()
        lost: asyncio.Future[BaseException] = loop.create_future()

        def on_open(_connection: Any) -> None:
            if not opened.done():
                opened.set_result(None)

        def on_error(_connection: Any, error: BaseException) -> None:
            if not opened.done():
                opened.set_exception(_as_hub_error(error))

        def on_close(_connection: Any, reason: BaseException) -> None:
            self.usable.clear()
            if not lost.done():
                lost.set_result(reason)

        connection = WireConnection(
            parameters, on_open_callback=on_open, on_open_error_callback=on_error, on_close_callback=on_close
        )
        try:
            async with asyncio.timeout(CONNECT_SECONDS + 5):
                await opened
        except (TimeoutError, asyncio.CancelledError) as error:
            with contextlib.suppress(AMQPError):
                connection.close()
            if isinstance(error, TimeoutError):
                raise away("no answer to the connection attempt") from error
            raise
        self.blocked = False
        connection.add_on_connection_blocked_callback(self._on_blocked)
        connection.add_on_connection_unblocked_callback(self._on_unblocked)
        self._connection, self._lost = connection, lost
        try:
            async with asyncio.timeout(4 * CALL_SECONDS):
                await self._prepare(connection)
        except BaseException as error:
            await self.drop()
            self._forget()
            if isinstance(error, TimeoutError):
                raise away("the topology could not be made in time") from error
            raise
        if not lost.done():
            self.usable.set()

    def _on_blocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = True
        self.usable.clear()
        # Short of memory or disk, it takes no parcels for now.
        log(_LOG, logging.WARNING, "broker-blocked", broker="rabbitmq", phase=self.name)

    def _on_unblocked(self, _connection: Any, _frame: Any) -> None:
        self.blocked = False
        self.usable.set()


def _as_hub_error(error: BaseException) -> HubError:
    """Tell a wrong configuration from a broker that is away."""
    seen: list[BaseException] = [error]
    for item in seen:
        inner = getattr(item, "exceptions", None) or [getattr(item, "exception", None)]
        seen += [found for found in inner if isinstance(found, BaseException) and found not in seen]
    for item in seen:
        if isinstance(item, ssl.SSLCertVerificationError):
            return ConfigError(
                f"The broker's certificate is not trusted: {item.verify_message}.",
                code="broker-tls-untrusted",
                remedy="Set HUB_BROKER_CA to the CA that signed it and use the host name the certificate carries.",
            )
        if isinstance(item, (ProbableAuthenticationError, ProbableAccessDeniedError)):
            return ConfigError(
                f"The broker refused the hub's user or virtual host ({type(item).__name__}).",
                code="broker-refused",
                remedy="Check user, password and virtual host in HUB_BROKER_URL and the user's permissions.",
            )
    last = next((item for item in reversed(seen) if not isinstance(item, AMQPConnectorException)), seen[-1])
    return away(type(last).__name__)
