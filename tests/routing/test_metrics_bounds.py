"""Metrics stay bounded and say what the store holds."""

from __future__ import annotations

import asyncpg
from services.messages import Planter

from registry.settings import load_settings
from registry.storage.database import open_pool
from routing import metrics


def _value(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


def test_label_combinations_beyond_the_bound_are_counted_under_other() -> None:
    for number in range(metrics.CHILD_LIMIT + 50):
        metrics.refused(f"code-{number}")
    children = metrics.render().decode().count("hub_messages_refused_total{")
    assert children <= metrics.CHILD_LIMIT + 1
    assert (_value("hub_messages_refused_total", code="other") or 0) >= 50


def test_an_ended_delivery_is_counted_with_its_time() -> None:
    metrics.ended("r", "t", "delivered", 0.2)
    metrics.ended("r", "t", "dead", 9.0)
    metrics.accepted("p", "org.openspp.x.v1")
    metrics.accept_seconds(0.01)
    metrics.attempted("t", 0.1)
    metrics.breaker_state("t", 2)
    metrics.in_flight("t", 1)
    assert _value("hub_deliveries_total", route="r", target="t", outcome="delivered") == 1
    assert _value("hub_delivery_seconds_count", route="r") == 1
    assert _value("hub_breaker_state", target="t") == 2


async def test_the_sampler_shows_the_backlog_and_forgets_a_route_that_ran_empty(database_url: str) -> None:
    pool: asyncpg.Pool = await open_pool(load_settings(), size=2, url=database_url)
    try:
        plant = Planter(pool)
        message = await plant.message()
        delivery = await plant.delivery(message, route="slow", state="waiting")
        await plant.outbox(delivery, message, "slow")
        await metrics.sample_once(pool)
        assert _value("hub_backlog", route="slow", state="waiting") == 1
        assert (_value("hub_backlog_age_seconds", route="slow") or -1) >= 0
        assert _value("hub_outbox_depth", route="slow") == 1
        await pool.execute("UPDATE delivery SET state = 'delivered', ended_at = now()")
        await pool.execute("DELETE FROM outbox")
        await metrics.sample_once(pool)
        assert _value("hub_backlog", route="slow", state="waiting") is None
        assert _value("hub_outbox_depth", route="slow") is None
    finally:
        await pool.close()
