"""Every operation of the resources meets made-up requests without a fault of ours, and answers as it is described."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from adapters.http.security import Scope

ROOT = "http://hub.example"
EXAMPLES = 12
_WHOLE = {"If-Match": "*"}


async def _seeded(registry: Any) -> dict[str, list[str]]:
    """Make one entry of the kinds others hang on, so that made-up requests get beyond the first look."""
    await registry.area("N")
    person = await registry.person("1", "N")
    held = {"registrants": [person], "areas": ["N"]}
    for path, body in (
        ("funds", {"id": "budget", "currency": "KES"}),
        ("relationship-types", {"id": "guardian", "names": {"en": "g"}, "inverse_names": {"en": "w"}}),
        ("fact-types", {"id": "survey", "names": {"en": "s"}, "data_schema": {"type": "object"}}),
    ):
        status, made, _ = await registry.call("POST", f"/v1/{path}", body)
        if status == 201:
            held[path] = [str(made["id"])]
    return held


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_every_operation_answers_made_up_requests_as_described(registry: Any) -> None:
    held = await _seeded(registry)
    document = (await registry.call("GET", "/openapi.json"))[1]
    api = schemathesis.openapi.from_dict(document)
    loop = asyncio.get_running_loop()
    auth = registry.served.auth("civil-registry", *Scope)
    wrong: list[str] = []
    tried = 0

    async def send(path: str, method: str, case: Any, own: str | None) -> None:
        nonlocal tried
        wanted = case.as_transport_kwargs(base_url=ROOT)
        given_ = {str(name).lower(): str(value) for name, value in dict(wanted.get("headers") or {}).items()}
        headers = {**_WHOLE, **auth}
        if "content-type" in given_:
            headers["Content-Type"] = given_["content-type"]
        url = wanted["url"].removeprefix(ROOT)
        if own is not None:
            url = path.replace("{id}", own)
        body = wanted.get("data")
        answer = await registry.served.client.request(
            method, url, json=wanted.get("json"), data=body if isinstance(body, bytes | str) else None,
            params=wanted.get("params"), headers=headers,
        )  # fmt: skip
        raw = await answer.read()
        tried += 1
        described = document["paths"][path][method.lower()]["responses"]
        place = f"{method} {path} -> {answer.status}"
        if answer.status >= 500 or str(answer.status) not in described:
            wrong.append(f"{place}: {raw[:200]!r}")
        elif "json" in answer.content_type and "ndjson" not in answer.content_type and raw:
            content = described[str(answer.status)]["content"]
            schema = {
                **content[answer.content_type]["schema"],
                "components": document["components"],
            }
            for error in Draft202012Validator(schema).iter_errors(await answer.json()):
                wrong.append(f"{place}: {error.json_path} {error.message[:150]}")

    def fuzz(path: str, method: str) -> None:
        name = path.split("/")[2] if path.count("/") > 1 else ""
        own = st.sampled_from([None, *held.get(name, [])])

        @seed(20261128)
        @settings(
            max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=api[path][method].as_strategy(), id_=own)
        def one(case: Any, id_: str | None) -> None:
            asyncio.run_coroutine_threadsafe(
                send(path, method, case, id_ if "{id}" in path else None), loop
            ).result(30)

        one()

    for path, item in document["paths"].items():
        if not path.startswith("/v1/") or path.startswith("/v1/messages"):
            continue
        for method in item:
            if method.upper() in {"GET", "POST", "PUT", "PATCH", "DELETE"}:
                await asyncio.to_thread(fuzz, path, method.upper())
    assert tried > 1000
    assert not wrong, "\n".join(dict.fromkeys(wrong))
