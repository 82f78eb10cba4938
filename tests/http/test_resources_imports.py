"""Imports over HTTP: a file handed in is kept sealed, checked and run by jobs, and what was not taken is mended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp.test_utils import TestClient, TestServer
from services.programs import World

from adapters.http.app import build_app
from adapters.http.security import Partner, Scope
from adapters.jobs import kinds
from adapters.rest.resources import extension
from canonical_model.message import uuid7
from registry.imports.job import ImportJobs
from registry.imports.store import ImportStore
from registry.imports.uploads import UploadStore
from registry.jobs import JobRunner
from registry.objects import open_object_store

SECRET = "scrypt$1024$8$1$AAAAAAAAAAAAAAAAAAAAAA$" + "A" * 43
PEOPLE = (
    b"National ID,Family Name,Given Name,Date of Birth\n"
    b"XX-1,Planted,Amina,1950-02-03\nXX-2,Planted,Peter,soon\nXX-3,Planted,Grace,1961-07-08\n"
)


def partner(name: str, **rest: Any) -> Partner:
    return Partner.model_validate(
        {"name": name, "clients": [{"id": name, "secret": SECRET}], "scopes": list(Scope), **rest}
    )


class Api:
    """A served hub that takes files, and a runner of its jobs."""

    def __init__(self, world: World, served: Any, jobs: ImportJobs, folder: Path) -> None:
        self.world, self.served, self.jobs, self.folder = world, served, jobs, folder

    async def call(
        self, method: str, path: str, body: Any = None, *, by: str = "office", media: str = "application/json"
    ) -> tuple[int, Any]:
        data = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        headers = self.served.auth(by) | ({} if data is None else {"Content-Type": media})
        answer = await self.served.client.request(method, path, data=data, headers=headers)
        raw = await answer.read()
        return answer.status, orjson.loads(raw) if raw and "json" in answer.content_type else raw

    async def upload(self, body: bytes = PEOPLE, media: str = "text/csv") -> str:
        status, made = await self.call("POST", "/v1/import-files", body, media=media)
        assert status == 201, made
        return str(made["id"])

    async def done(self, answer: tuple[int, Any]) -> Any:
        assert answer[0] == 202, answer[1]
        runner = JobRunner(self.world.pool, uuid7(), kinds(self.world.vault, self.world.programs, self.jobs))
        return await runner.run(UUID(answer[1]["id"]))


@pytest.fixture
async def api(serve_with: Any, database_url: str, tmp_path: Path) -> AsyncIterator[Api]:
    async with World(database_url, tmp_path) as world:
        more = (partner("office"), partner("other"), partner("north-office", areas=["N"]))
        served = await serve_with(world.intake, pool=world.pool, more=more)
        settings = served.services.settings
        objects = open_object_store(settings)
        uploads = UploadStore(world.pool, world.vault, objects)
        served.services.extra = [
            extension(world.pool, world.vault, settings, world.people, world.programs, uploads=uploads)
        ]
        await served.client.close()
        served.client = TestClient(TestServer(build_app(served.services)))
        await served.client.start_server()
        store = ImportStore(world.pool, world.vault)
        yield Api(world, served, ImportJobs(uploads, store, world.people.writer, None), tmp_path)
        await served.client.close()
        await objects.close()


async def test_a_file_is_checked_run_and_its_problems_are_mended(api: Api) -> None:
    path = f"/v1/import-files/{await api.upload()}"
    _, mapping = await api.call("POST", f"{path}/$suggest", {"name": "survey"})
    assert [one["field"] for one in mapping["columns"]] == [
        "identifier", "family_name", "given_name", "birthdate",
    ]  # fmt: skip
    status, kept = await api.call("POST", "/v1/import-mappings", mapping)
    assert (status, kept["id"]) == (201, "survey")
    assert (await api.call("POST", "/v1/import-mappings", mapping))[1]["code"] == "resource-exists"
    checked = await api.done(await api.call("POST", f"{path}/$check", {"mapping": "survey"}))
    assert (checked.result["rows"], checked.result["untaken"]) == (3, 1)
    assert await api.world.pool.fetchval("SELECT count(*) FROM registrant") == 0
    ran = await api.done(await api.call("POST", f"{path}/$run", {"mapping": "survey", "source": "survey"}))
    assert (ran.state, ran.result["created"], ran.result["untaken"]) == ("done", 2, 1)
    for job in (checked, ran):
        status, text = await api.call("GET", f"{path}/$problems?job={job.id}")
        lines = text.decode("utf-8-sig").splitlines()
        assert lines[0] == "_row,_problems,National ID,Family Name,Given Name,Date of Birth"
        assert len(lines) == 2
        assert lines[1].endswith("XX-2,Planted,Peter,soon")
    again = await api.done(await api.call("POST", f"{path}/$run", {"mapping": "survey"}))
    assert (again.result["created"], again.result["updated"]) == (0, 2)
    status, body = await api.call("POST", f"{path}/$run", {"mapping": "none"})
    assert (status, body["code"]) == (404, "import-mapping-missing")


async def test_a_file_is_kept_sealed_seen_by_its_owner_only_and_forgotten(api: Api) -> None:
    id_ = await api.upload()
    stored = [each.read_bytes() for each in api.folder.rglob("*") if each.is_file()]
    assert len(stored) > 0
    assert not any(b"Planted" in each for each in stored)
    path = f"/v1/import-files/{id_}"
    assert (await api.call("GET", path, by="other"))[0] == 404
    assert (await api.call("GET", "/v1/import-files", by="other"))[1]["items"] == []
    assert (await api.call("DELETE", path, by="other"))[0] == 404
    assert (await api.call("DELETE", path))[0] == 204
    status, body = await api.call("GET", path)
    assert (status, body["code"]) == (404, "import-file-missing")
    left = [each.read_bytes() for each in (api.folder / "objects").rglob("*") if each.is_file()]
    assert left == []


async def test_what_is_no_file_of_rows_is_refused(api: Api) -> None:
    status, body = await api.call("POST", "/v1/import-files", b"", media="text/csv")
    assert (status, body["code"]) == (422, "import-header-missing")
    status, body = await api.call("POST", "/v1/import-files", b"{}", media="application/pdf")
    assert (status, body["code"]) == (415, "media-type-unsupported")
    wrong = await api.upload(b"no zip", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
    status, body = await api.call("POST", f"/v1/import-files/{wrong}/$suggest", {})
    assert status == 422, body
    job = await api.done(await api.call("POST", f"/v1/import-files/{wrong}/$check", {}))
    assert (job.state, job.error["code"]) == ("failed", body["code"])
    _, own = await api.call("POST", "/v1/import-files", PEOPLE, media="text/csv", by="north-office")
    status, body = await api.call("POST", f"/v1/import-files/{own['id']}/$run", {}, by="north-office")
    assert (status, body["code"]) == (403, "partner-confined")
