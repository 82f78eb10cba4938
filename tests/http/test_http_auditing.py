"""A token issued stands in the audit trail; acceptance waits for nothing of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any


async def test_a_token_issued_is_written_with_partner_and_client(hub: Any) -> None:
    form = {
        "grant_type": "client_credentials",
        "client_id": "civil-registry",
        "client_secret": "correct horse battery staple",
    }
    async with hub.client.post("/oauth2/token", data=form) as answer:
        assert answer.status == 200
        request_id = answer.headers["X-Request-ID"]
    deadline = time.monotonic() + 45
    while (row := await hub.pool.fetchrow("SELECT * FROM audit_event WHERE action = 'auth.token'")) is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert (row["actor"], row["object_type"], row["object_id"], row["outcome"], row["request_id"]) == (
        "civil-registry",
        "client",
        "civil-registry",
        "ok",
        request_id,
    )
    assert "battery" not in str(dict(row))
