"""The OpenAPI description is valid and says what the server really answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from adapters.http.catalog import CATALOG
from adapters.rest.models import EXAMPLE
from canonical_model.errors import Unavailable
from canonical_model.types import check_data

ERRORS = Path(__file__).resolve().parents[2] / "docs" / "errors"


class Away:
    async def accept(self, message: Any, **rest: Any) -> Any:
        raise Unavailable("The database does not answer.", code="hub-unavailable")

    accept_many = accept_all = accept


@pytest.fixture
async def away(serve_with: Any) -> Any:
    return await serve_with(Away())


async def description(hub: Any) -> dict[str, Any]:
    found: dict[str, Any] = await (await hub.client.get("/openapi.json")).json()
    return found


async def matches(hub: Any, answer: Any, path: str, method: str) -> None:
    document = await description(hub)
    described = document["paths"][path][method]["responses"][str(answer.status)]
    schema = described["content"][answer.content_type]["schema"]
    body = await answer.json()
    errors = Draft202012Validator({**schema, "components": document["components"]}).iter_errors(body)
    assert [error.message for error in errors] == []


async def test_the_description_is_valid_openapi(away: Any) -> None:
    document = await description(away)
    OpenAPIV31SpecValidator(document).validate()
    operations = [one for item in document["paths"].values() for one in item.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)


async def test_every_operation_has_a_route_and_every_route_an_operation(away: Any) -> None:
    document = await description(away)
    described = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    routed = {
        (route.method, route.resource.canonical)
        for route in away.client.app.router.routes()
        if route.method != "HEAD" and route.resource is not None
    }
    assert described == routed


async def test_answers_and_problems_have_the_described_form(hub: Any) -> None:
    send = hub.client.post
    await matches(hub, await send("/v1/messages", json=EXAMPLE, headers=hub.auth()), "/v1/messages", "post")
    await matches(hub, await send("/v1/messages", json={}, headers=hub.auth()), "/v1/messages", "post")
    await matches(hub, await send("/v1/messages", json=EXAMPLE), "/v1/messages", "post")
    batch = {**hub.auth(), "Content-Type": "application/cloudevents-batch+json"}
    await matches(hub, await send("/v1/messages", json=[EXAMPLE, {}], headers=batch), "/v1/messages", "post")
    form = {"grant_type": "client_credentials", "client_id": "x", "client_secret": "y"}
    await matches(hub, await send("/oauth2/token", data=form), "/oauth2/token", "post")
    path = "/dci/crvs/v1.0.0/registry/notify"
    document = await description(hub)
    example = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["example"]
    await matches(hub, await send(path, json=example, headers=hub.auth()), path, "post")


async def test_an_unavailable_store_is_described(away: Any) -> None:
    await matches(
        away,
        await away.client.post("/v1/messages", json=EXAMPLE, headers=away.auth()),
        "/v1/messages",
        "post",
    )


def test_the_example_is_a_canonical_message() -> None:
    check_data(EXAMPLE["type"], EXAMPLE["data"])


async def test_every_code_of_the_catalog_has_a_page(away: Any) -> None:
    for code in CATALOG:
        answer = await away.client.get(f"/errors/{code}")
        assert (answer.status, answer.content_type) == (200, "text/markdown")
    if ERRORS.is_dir():
        ours = [code for code in CATALOG if not (ERRORS / f"{code}.md").is_file()]
        assert ours == []


async def test_an_error_page_cannot_lead_out_of_its_folder(away: Any) -> None:
    for code in ("..%2f..%2fpyproject", "%2e%2e", "no-such-code", "a" * 200):
        assert (await away.client.get(f"/errors/{code}")).status == 404
