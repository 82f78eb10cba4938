"""`hub messages` on a real database: what it prints and what it does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import orjson
import pytest
from services.messages import Planter
from typer.testing import CliRunner

from adapters.cli.messages import app
from canonical_model.errors import Refused
from registry.settings import load_settings
from registry.storage import periods
from registry.storage.database import open_pool

T = TypeVar("T")
ROUTE = 'route: crvs-to-registry\nversion: 7\nwhen: {type: "org.openspp.*"}\nto: registry\n'


@pytest.fixture
def on_database(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    (tmp_path / "config" / "routes").mkdir(parents=True)
    (tmp_path / "config" / "routes" / "one.yaml").write_text(ROUTE)
    monkeypatch.setenv("HUB_DATABASE_URL", database_url)
    monkeypatch.setenv("HUB_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "300")

    def run(work: Callable[[Planter], Awaitable[T]]) -> T:
        async def whole() -> T:
            pool = await open_pool(load_settings(), size=2)
            try:
                await periods.ensure(pool, "month")
                return await work(Planter(pool))
            finally:
                await pool.close()

        return asyncio.run(whole())

    return run


def _hub(*words: str) -> str:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def _json(*words: str) -> Any:
    return orjson.loads(_hub(*words, "--json"))


async def _plant(plant: Planter) -> tuple[UUID, UUID]:
    message = await plant.message()
    delivery = await plant.delivery(message, state="dead", code="target-unavailable", reason="No answer.")
    await plant.attempt(delivery, message, 1, outcome="retry", code="target-unavailable")
    return message, delivery


def test_a_dead_letter_is_found_shown_counted_and_resent_once(on_database: Callable[..., Any]) -> None:
    message, delivery = on_database(_plant)
    assert [item["id"] for item in _json("list", "--state", "dead")["items"]] == [str(message)]
    assert str(message) in _hub("list")
    assert "attempt 1" in _hub("show", str(message))
    assert [hop["kind"] for hop in _json("show", str(message))["hops"]][-1] == "ended"
    assert [item["id"] for item in _json("dead", "list")["items"]] == [str(delivery)]
    assert "target-unavailable" in _hub("dead", "list")
    dry = _json("replay", "--route", "crvs-to-registry", "--dry-run")
    assert (dry["done"], dry["dry_run"]) == (1, True)
    assert "1 of 1 deliveries sent again." in _hub("replay", str(message))
    assert _json("dead", "resend", str(delivery))["done"] == 0
    assert "1 of 1 deliveries cancelled." in _hub("cancel", str(message), "--reason", "a test")


def test_a_dismissed_dead_letter_is_gone_from_the_list(on_database: Callable[..., Any]) -> None:
    _, delivery = on_database(_plant)
    assert _json("dead", "dismiss", str(delivery), "--reason", "sent by hand")["done"] == 1
    assert _json("dead", "list")["items"] == []


def test_a_wrong_id_and_a_missing_filter_are_refused_with_a_code(on_database: Callable[..., Any]) -> None:
    for words, code in (
        (("show", "nonsense"), "message-not-found"),
        (("show", "0197c0de-0000-7000-8000-000000000000"), "message-not-found"),
        (("dead", "resend", "0197c0de-0000-7000-8000-000000000000"), "delivery-not-found"),
        (("replay",), "filter-empty"),
        (("list", "--state", "lost"), "filter-invalid"),
    ):
        with pytest.raises(Refused) as caught:
            _hub(*words)
        assert caught.value.code == code
