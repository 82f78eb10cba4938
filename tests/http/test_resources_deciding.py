"""Changes, duplicates, rules and attributes over HTTP: asked for by one, decided by another, seen by whom they concern."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from openapi_spec_validator import OpenAPIV31SpecValidator
from services.programs import World

from adapters.http.app import build_app
from adapters.http.security import Partner, Scope
from adapters.jobs import kinds
from adapters.rest.resources import extension
from canonical_model.message import uuid7
from registry.changes import ChangeStore
from registry.jobs import JobRunner

SECRET = "scrypt$1024$8$1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
SCHEMA = {
    "x-subject": "individual",
    "type": "object",
    "properties": {"income": {"type": "integer", "x-privacy": "financial", "x-rule": True, "minimum": 0}},
}


def partner(name: str, **rest: Any) -> Partner:
    return Partner.model_validate(
        {"name": name, "clients": [{"id": name, "secret": SECRET}], "scopes": list(Scope), **rest}
    )


MORE = (
    partner("desk"),
    partner("head-office", roles=["approver"]),
    partner("clerk"),
    partner("north-office", areas=["N"], roles=["approver"]),
)


class Api:
    """A world of people and a served hub over it."""

    def __init__(self, world: World, served: Any) -> None:
        self.world, self.served = world, served

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str = "desk", **headers: str
    ) -> tuple[int, Any, Any]:
        sent = {**self.served.auth(by), **{name.replace("_", "-"): value for name, value in headers.items()}}
        data = None
        if body is not None:
            data = orjson.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        answer = await self.served.client.request(method, path, data=data, headers=sent)
        raw = await answer.read()
        return answer.status, orjson.loads(raw) if raw else None, answer.headers

    async def done(self, answer: tuple[int, Any, Any]) -> Any:
        status, body, headers = answer
        assert status == 202, body
        assert headers["Location"] == f"/v1/jobs/{body['id']}"
        runner = JobRunner(self.world.pool, uuid7(), kinds(self.world.vault, self.world.programs))
        job = await runner.run(UUID(body["id"]))
        assert job.error is None, job.error
        return job


@pytest.fixture
async def api(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with World(database_url, tmp_path) as world:
        served = await serve_with(world.intake, pool=world.pool, more=MORE)
        changes = ChangeStore(world.pool, world.vault, world.people)
        settings = served.services.settings
        served.services.extra = [
            extension(world.pool, world.vault, settings, world.people, world.programs, changes)
        ]
        await served.client.close()
        served.client = TestClient(TestServer(build_app(served.services)))
        await served.client.start_server()
        yield Api(world, served)
        await served.client.close()


async def test_a_change_is_asked_for_by_one_seen_and_agreed_to_by_another_and_undone(api: Api) -> None:
    person = str(await api.world.person("1"))
    edit = {"change": {"type": "edit", "registrant": person, "set": {"sex": "female"}}, "draft": True}
    status, made, headers = await api.call("POST", "/v1/changes", edit, Idempotency_Key="k")
    assert (status, made["state"], made["maker"]) == (201, "draft", "desk"), made
    assert headers["Location"] == f"/v1/changes/{made['id']}"
    assert (await api.call("POST", "/v1/changes", edit, Idempotency_Key="k"))[1]["id"] == made["id"]
    path = f"/v1/changes/{made['id']}"
    assert (await api.call("POST", f"{path}/$hand-in"))[1]["waits_for"] == "approver"
    _, seen, _ = await api.call("GET", f"{path}/$preview?purpose=check")
    assert [(one["name"], one["after"]) for one in seen["differences"]] == [("sex", "female")]
    assert (await api.call("GET", f"{path}/$preview"))[0] == 400
    status, body, _ = await api.call("POST", f"{path}/$agree", {})
    assert (status, body["code"]) == (403, "change-maker-checks")
    status, body, _ = await api.call("POST", f"{path}/$agree", {}, by="clerk")
    assert (status, body["code"]) == (403, "change-role-missing")
    status, body, _ = await api.call("POST", f"{path}/$agree", {"roles": ["approver"]}, by="clerk")
    assert (status, body["code"]) == (400, "request-invalid")
    _, agreed, _ = await api.call("POST", f"{path}/$agree", {}, by="head-office")
    assert (agreed["state"], agreed["decisions"][0]["actor"]) == ("applied", "head-office")
    sex = "SELECT sex FROM registrant WHERE id = $1"
    assert await api.world.pool.fetchval(sex, UUID(person)) == "female"
    _, undo, _ = await api.call("POST", f"{path}/$undo")
    assert undo["undoes"] == made["id"]
    assert (await api.call("POST", f"/v1/changes/{undo['id']}/$agree", {}, by="head-office"))[1][
        "state"
    ] == "applied"
    assert await api.world.pool.fetchval(sex, UUID(person)) is None
    _, other, _ = await api.call("POST", "/v1/changes", {**edit, "draft": False})
    refused = {"reason": "evidence-missing"}
    _, told, _ = await api.call("POST", f"/v1/changes/{other['id']}/$refuse", refused, by="head-office")
    assert (told["state"], told["reason"]) == ("rejected", "evidence-missing")


async def test_a_change_of_somebody_unseen_is_answered_like_one_of_nobody(api: Api) -> None:
    person = str(await api.world.person("1"))
    answers = []
    for each in (person, str(uuid7())):
        change = {"change": {"type": "edit", "registrant": each, "set": {"sex": "female"}}}
        status, body, _ = await api.call("POST", "/v1/changes", change, by="north-office")
        assert status == 404
        answers.append({name: value for name, value in body.items() if name != "instance"})
    assert answers[0] == answers[1]
    change = {"change": {"type": "edit", "registrant": person, "set": {"sex": "female"}}}
    _, made, _ = await api.call("POST", "/v1/changes", change)
    status, body, _ = await api.call("POST", f"/v1/changes/{made['id']}/$agree", {}, by="north-office")
    assert (status, body["code"]) == (404, "change-not-found")
    assert (await api.call("GET", "/v1/changes", by="north-office"))[1]["items"] == []
    status, body, _ = await api.call("POST", "/v1/changes", {"change": {"type": "conjure"}})
    assert (status, body["code"]) == (422, "change-invalid")


async def test_duplicates_are_looked_for_and_decided_over(api: Api) -> None:
    first, second = sorted([await api.world.person("1"), await api.world.person("2")])
    await api.done(await api.call("POST", "/v1/duplicates/$find", {}))
    await api.world.pool.execute(
        "INSERT INTO duplicate_pair (first_id, second_id, score, reasons) VALUES ($1, $2, 93.5, '{name}')",
        first, second,
    )  # fmt: skip
    (pair,) = (await api.call("GET", "/v1/duplicates?state=open"))[1]["items"]
    assert (pair["first"], pair["score"]) == (str(first), 93.5)
    assert (await api.call("GET", "/v1/duplicates", by="north-office"))[1]["items"] == []
    body = {"first": str(second), "second": str(first), "decision": "duplicate"}
    status, told, _ = await api.call("POST", "/v1/duplicates/$decide", body, by="north-office")
    assert (status, told["code"]) == (404, "duplicate-not-found")
    status, told, _ = await api.call("POST", "/v1/duplicates/$decide", body)
    assert (status, told["state"], told["change_state"]) == (200, "duplicate", "pending"), told
    assert (await api.call("GET", f"/v1/changes/{told['change']}"))[1]["type"] == "merge"
    _, merged, _ = await api.call("POST", f"/v1/changes/{told['change']}/$agree", {}, by="head-office")
    assert merged["state"] == "applied"
    status, told, _ = await api.call("POST", "/v1/duplicates/$decide", body)
    assert (status, told["code"]) == (409, "duplicate-decided")


async def test_a_rule_is_checked_counted_and_explained(api: Api) -> None:
    (person,) = await api.world.persons(1, sex="female")
    wrong = {"rule": "r.sexx == 'female'"}
    status, body, _ = await api.call("POST", "/v1/rules/$check", wrong)
    assert (status, body["code"]) == (422, "rule-name-unknown")
    assert (body["errors"][0]["line"], body["errors"][0]["marked"].splitlines()[0]) == (1, wrong["rule"])
    right = {"rule": "r.sex == 'female'"}
    assert (await api.call("POST", "/v1/rules/$check", right))[1]["ok"] is True
    _, found, _ = await api.call("POST", "/v1/rules/$preview", right)
    assert (found["registrants"], found["matched"]) == (1, 1)
    status, body, _ = await api.call("POST", "/v1/rules/$preview", right, by="north-office")
    assert (status, body["code"]) == (403, "partner-confined")
    ask = {"registrant": str(person), **right}
    sentences = {
        language: (await api.call("POST", "/v1/rules/$explain", ask, Accept_Language=language))[1]["sentence"]
        for language in ("en", "fr")
    }
    assert sentences["en"] != sentences["fr"]
    answers = [
        (await api.call("POST", "/v1/rules/$explain", {**ask, "registrant": each}, by="north-office"))[1]
        for each in (str(person), str(uuid7()))
    ]
    for each in answers:
        assert each.pop("instance")
    assert answers[0] == answers[1]


async def test_a_schema_of_attributes_is_checked_then_applied_by_a_job(api: Api) -> None:
    status, body, _ = await api.call("POST", "/v1/attribute-schemas/$check", {"document": {"title": "camel"}})
    assert (status, body["code"]) == (422, "attribute-schema-invalid"), body
    status, body, _ = await api.call("POST", "/v1/attribute-schemas/$check", {"document": SCHEMA})
    assert (status, body["version"], body["changed"]) == (200, 1, True), body
    assert (await api.call("GET", "/v1/attribute-schemas"))[1]["items"] == []
    job = await api.done(await api.call("POST", "/v1/attribute-schemas/$apply", {"document": SCHEMA}))
    assert (job.result["version"], len(job.result["indexes_made"])) == (1, 1)
    _, kept, _ = await api.call("GET", "/v1/attribute-schemas/individual@1")
    assert (kept["document"], kept["actor"]) == (SCHEMA, "desk")


async def test_the_description_of_all_resources_is_valid(api: Api) -> None:
    _, document, _ = await api.call("GET", "/openapi.json")
    OpenAPIV31SpecValidator(document).validate()
    names = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert len(set(names)) == len(names)
    assert "/v1/cycles/{id}/$approve" in document["paths"]
