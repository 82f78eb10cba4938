"""Imports over HTTP: a file is handed in, its columns are understood, it is checked, run, and what was not taken mended."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final
from uuid import UUID

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.body import broken, check_length, too_slow
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import (
    Args,
    Connection,
    Deed,
    Doing,
    Filter,
    Reply,
    Resource,
    Sort,
    Viewer,
)
from adapters.rest.resources.jobs import JOBS, JobReply, begun
from adapters.rest.resources.operations import JSON, Desk, respond, viewer_of
from adapters.rest.resources.writing import there_already
from registry.attributes import load_catalog
from registry.imports.columns import ColumnMapping, Kind
from registry.imports.corrections import CorrectionFile
from registry.imports.files import Format
from registry.imports.job import CHECK, RUN
from registry.imports.run import propose
from registry.imports.store import ImportStore
from registry.imports.uploads import LIMIT, UploadStore
from registry.jobs import JobStore
from registry.storage.held import held
from registry.vault import Vault

CSV: Final = "text/csv"
_FORMATS: Final = {
    CSV: Format.CSV,
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": Format.XLSX,
    "application/x-ndjson": Format.NDJSON,
}
_FILE: Final = (
    "import-file-broken", "import-file-unreadable", "import-header-invalid", "import-header-missing", "import-encoding-wrong",
    "import-sheet-missing", "import-file-missing",
)  # fmt: skip


class ImportFileReply(BaseModel):
    """A file that was handed in; it is forgotten after 30 days."""

    id: UUID
    format: Format
    encoding: str | None
    sheet: str | None
    size: int
    actor: str
    created_at: datetime


class UploadQuery(BaseModel):
    """How the file is to be read."""

    model_config = ConfigDict(extra="forbid")

    encoding: str | None = Field(None, max_length=40, description="Of a CSV file; UTF-8 when none is named.")
    sheet: str | None = Field(
        None, max_length=100, description="Of an XLSX file; the first when none is named."
    )


class Rows(BaseModel):
    """What the rows are, and by which saved mapping; the columns are guessed by their names where none is named."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Kind.INDIVIDUAL
    mapping: str | None = Field(None, max_length=63)


class RowsOf(Rows):
    """Who vouches for the rows, as people's records will say."""

    source: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$")] = "import"


class Suggest(BaseModel):
    """What the rows are, and how the mapping is to be called."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind = Kind.INDIVIDUAL
    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "unnamed"


class MappingReply(BaseModel):
    """A saved mapping: what each column of a file means."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    kind: Kind
    columns: list[dict[str, Any]]
    actor: str
    updated_at: datetime


class ProblemsQuery(BaseModel):
    """Of which check or run of the file."""

    model_config = ConfigDict(extra="forbid")

    job: UUID


class _Mappings:
    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    async def create(self, connection: Connection, viewer: Viewer, entry: ColumnMapping) -> str:
        if await connection.fetchval("SELECT true FROM import_mapping WHERE name = $1", entry.name):
            raise there_already("mapping")
        await ImportStore(held(connection), self._vault).save(entry, viewer.actor)
        return entry.name

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: ColumnMapping, seen: Mapping[str, Any]
    ) -> None:
        if entry.name != key:
            raise RequestRefused(
                "The name of a mapping cannot be changed. Nothing was changed.",
                code="request-invalid",
                pointer="/name",
            )
        await ImportStore(held(connection), self._vault).save(entry, viewer.actor)

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        await ImportStore(held(connection), self._vault).remove(key)


def mappings(vault: Vault) -> Resource:
    """Return the resource of saved mappings."""
    return Resource(
        name="import-mappings",
        one="mapping",
        tag="imports",
        model=MappingReply,
        select="SELECT m.name AS id, m.mapping, m.actor, m.updated_at\nFROM import_mapping m",
        key="m.name",
        key_kind="text",
        locks="m",
        not_found="import-mapping-missing",
        read=Scope.IMPORTS_READ,
        write=Scope.IMPORTS_WRITE,
        filters={"kind": Filter("m.mapping ->> 'kind' = {}", str, "Whose rows are of this kind.")},
        sorts={"id": Sort("m.name", "text")},
        shape=lambda row: {**row.pop("mapping"), **row},
        entry=ColumnMapping,
        store=_Mappings(vault),
        refusals=("import-mapping-builtin",),
        deletable=True,
    )


def files(desk: Desk, vault: Vault, uploads: UploadStore) -> Resource:
    """Return the resource of a caller's own files."""

    def own(viewer: Viewer, args: Args) -> str | None:
        return f"f.actor = {args.add(viewer.actor)}"

    async def suggest(doing: Doing) -> Reply:
        body: Suggest = doing.body
        catalog = await load_catalog(desk.pool)
        async with uploads.opened(await uploads.get(doing.row["id"])) as source:
            found = await asyncio.to_thread(
                propose, source, body.kind, [*catalog.declared(body.kind.value)], body.name
            )
        return Reply(200, orjson.loads(found.model_dump_json(exclude_none=True)))

    def begin(word: str, kind: str, summary: str, body: type[Rows]) -> Deed:
        async def do(doing: Doing) -> Reply:
            viewer, asked = doing.viewer, doing.body
            partner = viewer.partner
            if kind == RUN and (partner.areas is not None or partner.programs is not None or partner.consent):
                raise RequestRefused(
                    "A partner that sees a part of the registry cannot import into the whole of it. Nothing was started.",
                    code="partner-confined",
                    remedy="Check the file, and let a partner import it that sees the whole registry.",
                )
            if asked.mapping is not None:
                await ImportStore(held(doing.connection), vault).get(asked.mapping)
            params = {"file": str(doing.row["id"]), **asked.model_dump(mode="json", exclude_none=True)}
            submitted = await JobStore(held(doing.connection)).submit(
                kind, actor=viewer.actor, params=params, connection=doing.connection, request_id=viewer.request_id
            )  # fmt: skip
            return await begun(doing.connection, submitted.job.id)

        return Deed(
            word=word, summary=summary, do=do, body=body, answer=JobReply, scope=Scope.IMPORTS_WRITE, job=True,
            problems=("import-mapping-missing", "partner-confined"),
        )  # fmt: skip

    return Resource(
        name="import-files",
        one="file",
        tag="imports",
        model=ImportFileReply,
        select="SELECT f.id, f.format, f.encoding, f.sheet, f.size, f.actor, f.created_at\nFROM import_file f",
        key="f.id",
        key_kind="uuid",
        not_found="import-file-missing",
        read=Scope.IMPORTS_READ,
        filters={"format": Filter("f.format = {}", Format, "Of this format.")},
        sorts={"-id": Sort("f.id", "uuid"), "id": Sort("f.id", "uuid")},
        visible=own,
        deeds=(
            Deed(
                word="suggest", summary="Say what the columns of a file probably mean", do=suggest, body=Suggest,
                answer=ColumnMapping, scope=Scope.IMPORTS_READ, problems=_FILE, apart=True,
            ),
            begin("check", CHECK, "Read a whole file and say which rows would not be taken; nothing is written", Rows),
            begin("run", RUN, "Write a file's people or groups to the registry; known ones are updated", RowsOf),
        ),
    )  # fmt: skip


def operations(resource: Resource, desk: Desk, vault: Vault, uploads: UploadStore) -> list[Operation]:
    """Return handing in a file, forgetting it, and the file of rows that were not taken."""
    text = {"type": "string"}
    one = f"{resource.path}/{{id}}"
    return [
        Operation(
            name="uploadImportFile", method="POST", path=resource.path, tag="imports", scope=Scope.IMPORTS_WRITE,
            summary="Hand in a CSV, XLSX or NDJSON file; it is kept sealed", handler=partial(_upload, resource, desk, uploads),
            body=Body.STREAM, requests=dict.fromkeys(_FORMATS, text), query=UploadQuery,
            answers={201: Answer("The file.", {JSON: ImportFileReply}, {"Location": "Where it is."})},
            problems=("import-file-too-large", "import-header-missing", "body-too-large", "media-type-unsupported",
                "request-too-slow", "request-body-broken", "content-encoding-unsupported", "query-parameter-invalid"),
        ),
        Operation(
            name="deleteImportFile", method="DELETE", path=one, tag="imports", scope=Scope.IMPORTS_WRITE,
            summary="Forget a file", handler=partial(_delete, resource, desk, uploads),
            answers={204: Answer("It is gone.")}, problems=("import-file-missing",),
        ),
        Operation(
            name="importProblems", method="GET", path=f"{one}/$problems", tag="imports", scope=Scope.IMPORTS_READ,
            summary="The rows that were not taken, with what is wrong, to be mended and handed in again",
            handler=partial(_problems, resource, desk, vault, uploads), query=ProblemsQuery, produces=(CSV,),
            answers={200: Answer("The file's own columns, with _row and _problems before them.", {CSV: text})},
            problems=(*_FILE, "job-not-found", "query-parameter-invalid"),
        ),
    ]  # fmt: skip


async def _pieces(request: web.Request, seconds: float) -> AsyncIterator[bytes]:
    while True:
        try:
            async with asyncio.timeout(seconds):
                piece = await request.content.readany()
        except TimeoutError:
            raise too_slow(seconds) from None
        except (web.RequestPayloadError, HttpProcessingError):
            raise broken() from None
        if not piece:
            return
        yield piece


async def _upload(
    resource: Resource, desk: Desk, uploads: UploadStore, request: web.Request, call: Call
) -> web.StreamResponse:
    check_length(request, LIMIT)
    query = call.query if isinstance(call.query, UploadQuery) else UploadQuery()
    viewer = viewer_of(call)
    id_ = await uploads.keep(
        _pieces(request, desk.settings.request_timeout), format=_FORMATS[request.content_type],
        actor=viewer.actor, encoding=query.encoding, sheet=query.sheet, request_id=viewer.request_id,
    )  # fmt: skip
    row = await desk.reading.one(resource, viewer, str(id_))
    return respond(Reply(201, row, {"Location": f"{resource.path}/{id_}"}))


async def _delete(
    resource: Resource, desk: Desk, uploads: UploadStore, request: web.Request, call: Call
) -> web.StreamResponse:
    row = await desk.reading.one(resource, viewer_of(call), request.match_info["id"])
    await uploads.delete(row["id"], (await uploads.get(row["id"])).parts)
    return respond(Reply(204))


async def _problems(
    resource: Resource, desk: Desk, vault: Vault, uploads: UploadStore, request: web.Request, call: Call
) -> web.StreamResponse:
    assert isinstance(call.query, ProblemsQuery)
    viewer = viewer_of(call)
    row = await desk.reading.one(resource, viewer, request.match_info["id"])
    job = await desk.reading.one(JOBS, viewer, str(call.query.job))
    if job["params"].get("file") != str(row["id"]):
        raise RequestRefused("There is no such job of this file.", code="job-not-found")
    async with uploads.opened(await uploads.get(row["id"])) as source:
        with source.open() as table:
            header = table.header
    out = io.StringIO()
    file = CorrectionFile(out, header)
    response = web.StreamResponse(headers={**call.headers, "Content-Type": f"{CSV}; charset=utf-8"})
    response.headers["X-Request-ID"] = call.request_id
    await response.prepare(request)
    async for each in ImportStore(desk.pool, vault).kept(job["id"]):
        file.write(each.number, each.cells, each.problems)
        await response.write(out.getvalue().encode())
        out.seek(0)
        out.truncate()
    await response.write(out.getvalue().encode())
    await response.write_eof()
    return response
