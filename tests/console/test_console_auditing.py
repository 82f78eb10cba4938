"""The trail of callers: who was refused, who got a token, who read what; bounded, and without naming anybody."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from services.path import everything_as_text

from adapters.http.auditing import REFUSALS_A_MINUTE, Auditor, Quota


async def trail(desk: Any, count: int, action: str = "%") -> list[asyncpg.Record]:
    deadline = time.monotonic() + 45
    while True:
        rows: list[asyncpg.Record] = await desk.pool.fetch(
            "SELECT * FROM audit_event WHERE (action LIKE 'read.%' OR action LIKE 'auth.%') AND action LIKE $1 ORDER BY id",
            action,
        )
        if len(rows) >= count:
            return rows
        assert time.monotonic() < deadline, f"{len(rows)} of {count} entries"
        await asyncio.sleep(0.05)


def auth(desk: Any, client: str, *scopes: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {desk.token(client, *scopes)}"}


async def test_what_partners_read_is_written_with_who_and_what(desk: Any) -> None:
    mine = await desk.plant.message()
    theirs = await desk.plant.message(partner="health")
    async with desk.session() as session:
        for path in (f"/v1/messages/{mine}", f"/v1/messages/{theirs}", "/v1/messages", "/v1/dead-letters"):
            await (await session.get(path, headers=auth(desk, "civil"))).read()
        body = {"filter": {"subject": "NID-4471-8820-1"}}
        answer = await session.post("/v1/messages/search", headers=auth(desk, "civil"), json=body)
        assert answer.status == 200
    rows = await trail(desk, 5)
    assert {row["actor"] for row in rows} == {"civil"}
    assert sorted((row["action"], row["object_id"], row["outcome"]) for row in rows) == sorted(
        [
            ("read.trace", str(mine), "ok"),
            ("read.trace", str(theirs), "message-not-found"),
            ("read.search", "-", "ok"),
            ("read.search", "-", "ok"),
            ("read.dead-letters", "-", "ok"),
        ]
    )
    assert "NID-4471" not in await everything_as_text(desk.pool)


async def test_what_the_console_shows_is_written_once_a_minute(desk: Any) -> None:
    mine = await desk.plant.message()
    async with desk.session() as session:
        await desk.signed_in(session)
        for path in ("/console", "/console", "/console/dead", f"/console/messages/{mine}", "/console"):
            assert (await session.get(path)).status == 200
    rows = await trail(desk, 3, "read.%")
    assert {row["actor"] for row in rows} == {"console:operator"}
    assert sorted(row["action"] for row in rows) == ["read.dead-letters", "read.search", "read.trace"]


async def test_a_look_is_no_change_that_renews_the_pages(desk: Any) -> None:
    from adapters.console.live import _MARK

    before = tuple(await desk.pool.fetchrow(_MARK))
    async with desk.session() as session:
        await (await session.get("/v1/messages", headers=auth(desk, "civil"))).read()
    await trail(desk, 1)
    assert tuple(await desk.pool.fetchrow(_MARK)) == before


async def test_who_is_not_let_in_is_written_so_often_and_no_more(desk: Any) -> None:
    async with desk.session() as session:
        for _ in range(REFUSALS_A_MINUTE + 15):
            headers = {"Authorization": "Bearer Zephyrine.Oyelaran.x"}
            assert (await session.get("/v1/messages", headers=headers)).status == 401
        lacking = await session.get("/v1/dead-letters", headers=auth(desk, "civil", "messages:read"))
        assert lacking.status == 403
    rows = await trail(desk, REFUSALS_A_MINUTE + 1)
    refused = [row for row in rows if row["action"] == "auth.refused"]
    assert len(refused) == REFUSALS_A_MINUTE
    assert {(row["actor"], row["object_id"], row["outcome"]) for row in refused} == {
        ("unknown", "searchMessages", "token-invalid")
    }
    (scope,) = [row for row in rows if row["action"] == "auth.scope"]
    assert (scope["actor"], scope["object_id"], scope["outcome"]) == (
        "civil",
        "listDeadLetters",
        "scope-missing",
    )
    text = await everything_as_text(desk.pool)
    assert "Zephyrine" not in text
    assert "127.0.0.1" not in text


async def test_tokens_denied_are_written_without_the_name_that_was_claimed(desk: Any) -> None:
    async with desk.session() as session:
        for client in ("Zephyrine Oyelaran", "civil"):
            form = {"grant_type": "client_credentials", "client_id": client, "client_secret": "wrong"}
            assert (await session.post("/oauth2/token", data=form)).status == 401
    rows = await trail(desk, 2)
    assert [(row["actor"], row["object_id"], row["outcome"]) for row in rows] == [
        ("unknown", "unknown", "invalid_client"),
        ("civil", "civil", "invalid_client"),
    ]


async def test_without_a_database_nobody_waits_and_the_loss_is_logged(
    desk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await asyncpg.create_pool(desk.pool._connect_args[0], min_size=0, max_size=1)
    auditor = Auditor(pool, desk.console._partners)
    await pool.close()
    started = time.monotonic()
    for _ in range(6000):
        auditor.read("civil", "read.search")
    assert time.monotonic() - started < 10
    await auditor.close()
    assert "audit-not-written" in caplog.text


def test_what_goes_over_a_minute_is_counted_in_the_next() -> None:
    now = 0.0
    quota = Quota(2, lambda: now)
    assert [quota.take("a") for _ in range(5)] == [0, 0, None, None, None]
    assert quota.take("b") == 0
    now = 61.0
    assert [quota.take("a") for _ in range(3)] == [3, 0, None]
