"""Requests made up from our own description never meet a fault of ours, and every answer is described."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator

ROOT = "http://hub.example"
EXAMPLES = 25
OPERATIONS = (
    ("/v1/messages", "POST"),
    ("/oauth2/client/token", "POST"),
    ("/dci/crvs/v1.0.0/registry/notify", "POST"),
    ("/errors/{code}", "GET"),
)


class Accepting:
    """An intake that takes everything, since what reaches it is not the question here."""

    class _Accepted:
        def __init__(self) -> None:
            self.message_id, self.accepted_at, self.duplicate, self.routes = (
                uuid4(),
                datetime.now(UTC),
                False,
                1,
            )

    async def accept(self, message: Any, **rest: Any) -> Any:
        return self._Accepted()

    async def accept_many(self, items: Any, **rest: Any) -> Any:
        return [self._Accepted() for _ in items]

    accept_all = accept_many


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
async def test_made_up_requests_get_described_answers(serve_with: Any, path: str, method: str) -> None:
    hub = await serve_with(Accepting())
    document = await (await hub.client.get("/openapi.json")).json()
    operation = schemathesis.openapi.from_dict(document)[path][method]
    described = document["paths"][path][method.lower()]["responses"]
    loop = asyncio.get_running_loop()
    auth = hub.auth()

    async def send(case: Any) -> tuple[int, str, Any]:
        wanted = case.as_transport_kwargs(base_url=ROOT)
        given = {str(name).lower(): str(value) for name, value in dict(wanted.get("headers") or {}).items()}
        media = given.get("content-type")
        form = wanted.get("data")
        headers = {} if media is None else {"Content-Type": media}
        answer = await hub.client.request(
            method,
            wanted["url"].removeprefix(ROOT),
            json=wanted.get("json"),
            data=urlencode(form) if isinstance(form, dict) else form,
            headers={**headers, **auth},
        )
        return (
            answer.status,
            answer.content_type,
            await (
                answer.json()
                if "json" in answer.content_type and "ndjson" not in answer.content_type
                else answer.text()
            ),
        )

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def fuzz(case: Any) -> None:
        status, media, body = asyncio.run_coroutine_threadsafe(send(case), loop).result(30)
        assert status < 500
        assert str(status) in described, (status, body)
        content = described[str(status)]["content"]
        assert media in content
        if "ndjson" not in media and "json" in media:
            schema = {**content[media]["schema"], "components": document["components"]}
            assert [error.message for error in Draft202012Validator(schema).iter_errors(body)] == []

    await asyncio.to_thread(fuzz)
