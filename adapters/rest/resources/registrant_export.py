"""The export of registrants: canonical objects with their identity, one on each line, as far as the caller may see them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from aiohttp import web
from pydantic import ConfigDict, Field, create_model

from adapters.http.operations import Answer, Call, Operation
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Resource, Viewer
from adapters.rest.resources.lines import stream_lines
from adapters.rest.resources.operations import Desk, viewer_of
from adapters.rest.resources.reading import Wanted, wanted
from adapters.rest.resources.visibility import consent_headers, consent_purpose
from adapters.rest.stream import LINES
from registry.audit import check_purpose
from registry.people import PeopleStore
from registry.people.reading import MANY


def operation(registrants: Resource, desk: Desk, people: PeopleStore) -> Operation:
    """Return the operation that streams everybody who fits the filters of the list and whom the caller may see."""
    fields: dict[str, Any] = {
        name: (one.annotation | None, Field(None, description=one.description))
        for name, one in registrants.filters.items()
    }
    fields["purpose"] = (
        str | None,
        Field(None, min_length=1, max_length=200, description="What it is needed for; audited."),
    )
    return Operation(
        name="exportRegistrants", method="GET", path="/v1/registrants/$export", tag="registrants",
        scope=Scope.REGISTRANTS_REVEAL, summary="Export registrants with their identity, one on each line",
        description="Each line has id, kind, version and data, a canonical Person or Household. The filters are those of the "
        "list. A failure on the way ends the connection, so that half is never taken for all.",
        handler=partial(_export, registrants, desk, people), produces=(LINES,),
        query=create_model("RegistrantExportQuery", __config__=ConfigDict(extra="forbid"), **fields),
        answers={200: Answer("Everybody who fits.", {LINES: {"type": "string"}},
            {"X-Consent-Status": "given or not-required."})},
        problems=("query-parameter-invalid", "purpose-missing", "consent-purpose-invalid", "identity-unknown",
            "identity-unavailable"),
    )  # fmt: skip


async def _export(
    registrants: Resource, desk: Desk, people: PeopleStore, request: web.Request, call: Call
) -> web.StreamResponse:
    purpose = getattr(call.query, "purpose", None)
    viewer = viewer_of(call, purpose)
    why = consent_purpose(viewer) if viewer.partner.consent is not None else check_purpose(purpose)
    call.headers.update(consent_headers(viewer))
    chunks = _chunks(registrants, desk, people, viewer, wanted(registrants, call.query), why)
    return await stream_lines(chunks, request, call, desk.settings.request_timeout)


async def _chunks(
    registrants: Resource, desk: Desk, people: PeopleStore, viewer: Viewer, asked: Wanted, why: str
) -> AsyncIterator[list[dict[str, Any]]]:
    async for rows in desk.reading.stream(registrants, viewer, asked):
        for place in range(0, len(rows), MANY):
            part = rows[place : place + MANY]
            whole = await people.reveal_many(
                [row["id"] for row in part], why, viewer.actor, request_id=viewer.request_id
            )
            yield [
                {
                    "id": row["id"],
                    "kind": row["kind"],
                    "version": row["version"],
                    "data": whole[row["id"]].model_dump(mode="json", exclude_none=True),
                }
                for row in part
                if row["id"] in whole
            ]
