"""The brokers that carry parcels from the outbox to the workers."""

from __future__ import annotations

from uuid import UUID

import asyncpg

from registry.settings import HubSettings
from routing.brokers.contract import Broker, Consumer, Handler, Parcel, Received
from routing.brokers.postgres import PostgresBroker
from routing.brokers.rabbitmq import RabbitMQBroker

__all__ = [
    "Broker",
    "Consumer",
    "Handler",
    "Parcel",
    "PostgresBroker",
    "RabbitMQBroker",
    "Received",
    "open_broker",
]


async def open_broker(settings: HubSettings, pool: asyncpg.Pool, worker_id: UUID) -> Broker:
    """Open the broker the settings name: RabbitMQ when `broker_url` is set, else the database itself.

    Raises `Unavailable` when it does not answer and `ConfigError` when it is wrongly set up.
    """
    broker: Broker
    if settings.broker_url is not None:
        broker = RabbitMQBroker(
            settings.broker_url.get_secret_value(), ca=settings.broker_ca, prefix=settings.broker_prefix
        )
    else:
        broker = PostgresBroker(pool, worker_id)
    await broker.open()
    return broker
