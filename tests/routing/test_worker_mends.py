"""Faults that once sent twice or stuck: a forced replay, a full disk, a breaker that stays open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from services.path import MessagePath, message, route

from canonical_model.message import Message
from connectors.contract import Receipt, Repeat
from connectors.errors import Unknown
from routing.breaker import BreakerState, Gate
from routing.replay import Actor, Replayer

Open = Callable[..., Any]


@pytest.fixture
async def opened(database_url: str, tmp_path: Path) -> AsyncIterator[Open]:
    paths: list[MessagePath] = []

    async def build(**options: Any) -> MessagePath:
        path = await MessagePath(
            database_url, tmp_path, [route(retry={"attempts": 1})], **options
        ).__aenter__()
        paths.append(path)
        await path.start()
        return path

    yield build
    for path in paths:
        await path.__aexit__(None, None, None)


async def no_answer(_one: Message, _number: int) -> Receipt | None:
    raise Unknown("No answer.")


async def has_it(_one: Message, _number: int) -> Receipt | None:
    return Receipt(reference="theirs-1")


@pytest.mark.parametrize(("repeat", "sends"), [(Repeat.ASK, 1), (Repeat.NEVER, 2)])
async def test_a_forced_replay_asks_where_it_can_and_sends_where_it_cannot(
    opened: Open, repeat: Repeat, sends: int
) -> None:
    path = await opened(repeat=repeat)
    path.bank.on_send = no_answer
    await path.accept(message("p-1"))
    (dead,) = await path.ended(1)
    assert (dead["state"], dead["code"]) == ("dead", "outcome-unknown")
    path.bank.on_send, path.bank.on_ask = None, has_it
    replayer = Replayer(path.pool, path.vault.blind, path.routes)
    await replayer.replay(Actor("operator"), delivery_id=dead["id"], force=True, reason="checked by phone")
    rows = await path.ended(2)
    assert sorted(row["state"] for row in rows) == ["dead", "delivered"]
    assert len(path.bank.sent) == sends


async def test_an_outcome_waits_for_a_full_disk_and_nothing_is_sent_again(opened: Open) -> None:
    path = await opened(repeat=Repeat.NEVER)
    await path.pool.execute(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = 'disk_full'; END $$"
    )
    await path.pool.execute(
        "CREATE TRIGGER full_disk BEFORE INSERT ON attempt FOR EACH ROW EXECUTE FUNCTION full_disk()"
    )

    async def taken_and_disk_freed_later(_one: Message, _number: int) -> Receipt | None:
        return Receipt(reference="theirs-1")

    path.bank.on_send = taken_and_disk_freed_later
    await path.accept(message("p-1"))
    while not path.bank.sent:
        await path.pool.fetchval("SELECT pg_sleep(0.05)")
    await path.pool.fetchval("SELECT pg_sleep(0.5)")
    assert await path.pool.fetchval("SELECT state FROM delivery") == "sending"
    await path.pool.execute("DROP TRIGGER full_disk ON attempt")
    (row,) = await path.ended(1)
    assert (row["state"], row["reference"]) == ("delivered", "theirs-1")
    assert len(path.bank.sent) == 1


async def test_who_waits_too_long_at_an_open_breaker_leaves_its_place_to_others() -> None:
    gate = Gate("bank", 1)
    for _ in range(5):
        gate.breaker.bad()
    assert gate.breaker.state is BreakerState.OPEN
    assert not await gate.enter(0.05)
    gate.breaker.good()
    assert await gate.enter(0.05)
    assert not await gate.enter(0.05)
    async with gate.entered():
        pass
    assert await gate.enter(0.05)
