"""Registrants: individuals and groups, what rules need of them in clear, the identity only to whom it may be revealed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import partial
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import asyncpg
from aiohttp import web
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from adapters.http.body import parse_json
from adapters.http.operations import Answer, Body, Call, Operation
from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.absence import evenly
from adapters.rest.resources.declaration import Args, Filter, Resource, Sort, Viewer
from adapters.rest.resources.operations import JSON, Desk, respond, viewer_of
from adapters.rest.resources.reading import not_found
from adapters.rest.resources.registrant_entry import entry_model
from adapters.rest.resources.registrant_store import Registrants
from adapters.rest.resources.visibility import Visibility, consent_headers, consent_purpose
from adapters.rest.resources.writing import Reply, checked
from canonical_model.errors import Refused
from registry.audit import AuditEvent, check_purpose, record
from registry.people import PeopleStore
from registry.people.identity import identifier_hash
from registry.people.search import Search
from registry.storage.database import database_errors

_SELECT: Final = """SELECT r.id, r.kind, r.status, r.group_kind, r.is_partial_group, r.group_size, r.sex, r.birthdate,
    r.birthdate_not_exact, r.deathdate AS death_date, r.marital_status, ra.code AS area_code, r.registration_date, r.language,
    r.attributes, r.merged_into, r.source, r.version, r.created_at, r.updated_at
FROM registrant r LEFT JOIN area ra ON ra.id = r.area_id"""
_IDENTIFIED: Final = """
SELECT DISTINCT r.id FROM registrant_identifier i JOIN registrant r ON r.id = i.registrant_id
WHERE i.hash = ANY ($1::bytea[]) AND i.live
"""
_MOST: Final = 100


class RegistrantReply(BaseModel):
    """An individual or a group, without identity data."""

    id: UUID
    kind: Literal["individual", "group"]
    status: Literal["active", "deceased", "inactive", "merged"]
    group_kind: str | None
    is_partial_group: bool | None
    group_size: int | None = Field(description="As declared; members are counted from memberships.")
    sex: str | None
    birthdate: date | None
    birthdate_not_exact: bool
    death_date: date | None
    marital_status: str | None
    area_code: str | None
    registration_date: date | None
    language: str | None
    attributes: dict[str, Any]
    merged_into: UUID | None
    source: str
    version: int
    created_at: datetime
    updated_at: datetime


class IdentityReply(BaseModel):
    """A canonical Person or Household, whole."""

    model_config = ConfigDict(extra="allow")


class RegistrantSearch(BaseModel):
    """Who is meant: by identifiers that all belong to one registrant, or by a name."""

    model_config = ConfigDict(extra="forbid")

    identifiers: list[Annotated[str, Field(min_length=3, max_length=500, pattern=r"^[^|]+\|.+$")]] | None = (
        Field(None, min_length=1, max_length=20, description="Namespace URN or type, |, value.")
    )
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    purpose: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="Needed for a name; kept in the audit trail."
    )
    kind: Literal["individual", "group"] | None = None
    area: Annotated[str, Field(max_length=100)] | None = None
    born: date | None = Field(None, description="Ranks, leaves nobody out.")
    limit: int = Field(20, ge=1, le=_MOST)

    @model_validator(mode="after")
    def _one_way(self) -> RegistrantSearch:
        if (self.identifiers is None) == (self.name is None):
            raise ValueError("either identifiers or a name")
        return self


class FoundRegistrant(BaseModel):
    """Somebody who may be meant."""

    registrant: RegistrantReply
    score: float = Field(description="0 to 100: how well they fit.")
    names: list[dict[str, str]] | None = Field(None, description="Of a search by name.")


class FoundReply(BaseModel):
    """Who was found, best first."""

    items: list[FoundRegistrant]
    complete: bool = Field(description="False when more people fit than were looked at.")


async def _witness(pool: asyncpg.Pool, viewer: Viewer, keys: Sequence[Any], shown: bool) -> None:
    """Leave the trace of a read before it is answered: of one registrant by its id, of several with all they showed."""
    details: dict[str, Any] = {} if viewer.purpose is None else {"purpose": viewer.purpose}
    if len(keys) == 1:
        event = AuditEvent(
            viewer.actor, "registrant.read", "registrant", str(keys[0]), "ok" if shown else "absent",
            viewer.request_id, details or None,
        )  # fmt: skip
    else:
        event = AuditEvent(
            viewer.actor, "registrant.search", "registrant", "*", "ok", viewer.request_id,
            {**details, "shown": [str(key) for key in keys]},
        )  # fmt: skip
    await record(pool, event)


def resource(visibility: Visibility, store: Registrants, region: str | None) -> Resource:
    """Return the resource of registrants as `visibility` shows them; `region` is where local phone numbers belong."""
    text = partial(Filter, annotation=str)
    made = Resource(
        name="registrants",
        one="registrant",
        tag="registrants",
        model=RegistrantReply,
        select=_SELECT,
        key="r.id",
        key_kind="uuid",
        version="r.version",
        not_found="registrant-not-found",
        read=Scope.REGISTRANTS_READ,
        write=Scope.REGISTRANTS_WRITE,
        filters={
            "kind": Filter("r.kind = {}", Literal["individual", "group"], "individual or group."),
            "status": Filter("r.status = {}", Literal["active", "deceased", "inactive", "merged"], "Their status."),
            "group_kind": text("r.group_kind = {}", description="Groups of this kind."),
            "sex": text("r.sex = {}", description="Their sex."),
            "area": text(
                "r.area_id IN (SELECT w.id FROM area w JOIN area top ON w.path @> ARRAY[top.id] WHERE top.code = {})",
                description="Code of an area, with all within it.",
            ),
            "group": Filter(
                "EXISTS (SELECT FROM membership m WHERE m.group_id = {} AND m.member_id = r.id "
                "AND m.start_date <= current_date AND (m.ended_date IS NULL OR m.ended_date > current_date))",
                UUID, "Members of this group today.",
            ),
            "birthdate_from": Filter("r.birthdate >= {}", date, "Born on this day or later."),
            "birthdate_to": Filter("r.birthdate <= {}", date, "Born on this day or earlier."),
            "updated_since": Filter("r.updated_at >= {}", AwareDatetime, "Changed at this instant or later."),
            "source": text("r.source = {}", description="Where they come from."),
        },
        sorts={
            "id": Sort("r.id", "uuid"),
            "updated_at": Sort("r.updated_at", "timestamptz"),
        },
        visible=visibility,
        stays=visibility.places,
        witness=_witness,
        headers=consent_headers,
        constant=True,
        purpose=True,
        entry=entry_model(region),
        store=store,
        current=store.current,
        gather=store.gather,
        refusals=("identifier-taken", "identifier-invalid", "identifiers-too-many", "out-of-sight", "registrant-merged",
            "attributes-invalid", "phone-invalid", "member-unknown", "group-head-taken", "group-recipient-taken",
            "group-nested", "group-too-large", "membership-overlaps", "membership-dates-reversed",
            "person-data-refused", "people-busy", "overloaded", "consent-purpose-invalid"),
    )  # fmt: skip
    store.resource = made
    return made


def operations(
    registrants: Resource, visibility: Visibility, desk: Desk, people: PeopleStore
) -> list[Operation]:
    """Return what registrants have besides their list: searching, and revealing an identity."""
    found = Answer("Who was found.", {JSON: FoundReply}, {"X-Consent-Status": "given or not-required."})
    return [
        Operation(
            name="searchRegistrants", method="POST", path="/v1/registrants/$search", tag="registrants",
            scope=Scope.REGISTRANTS_READ, summary="Find a registrant by identifiers or by name",
            description="Identifiers and names travel in the body, never in an address. A name needs the scope "
            "registrants:reveal and a purpose.",
            handler=partial(_search, registrants, visibility, desk, people), body=Body.WHOLE,
            body_limit=64 * 1024, requests={JSON: RegistrantSearch}, answers={200: found},
            problems=("request-json-invalid", "request-invalid", "body-too-large", "media-type-unsupported",
                "request-too-slow", "request-body-broken", "registrant-not-found", "identifier-ambiguous",
                "purpose-missing", "search-invalid", "name-search-unavailable", "identity-unavailable",
                "consent-purpose-invalid"),
            example={"identifiers": ["urn:gov:ph:psa:national-id|PH-123456789"]},
        ),
        Operation(
            name="revealRegistrant", method="GET", path="/v1/registrants/{id}/identity", tag="registrants",
            scope=Scope.REGISTRANTS_REVEAL, summary="Reveal the identity of a registrant; audited with its purpose",
            handler=partial(_reveal, registrants, desk, people), query=_Purpose,
            answers={200: Answer("A canonical Person or Household.", {JSON: IdentityReply},
                {"X-Consent-Status": "given or not-required."})},
            problems=("registrant-not-found", "query-parameter-invalid", "purpose-missing", "consent-purpose-invalid",
                "identity-unknown", "identity-unavailable"),
        ),
    ]  # fmt: skip


class _Purpose(BaseModel):
    model_config = ConfigDict(extra="forbid")

    purpose: str | None = Field(
        None, min_length=1, max_length=200, description="What it is needed for; audited."
    )


async def _reveal(
    registrants: Resource, desk: Desk, people: PeopleStore, request: web.Request, call: Call
) -> web.StreamResponse:
    given = call.query.purpose if isinstance(call.query, _Purpose) else None
    viewer = viewer_of(call, given)
    why = consent_purpose(viewer) if viewer.partner.consent is not None else check_purpose(given)
    async with evenly(True):
        row = await desk.reading.one(registrants, viewer, request.match_info["id"])
        whole = await people.reveal(row["id"], why, viewer.actor, request_id=viewer.request_id)
        if whole is None:
            raise not_found(registrants)
    body = whole.model_dump(mode="json", exclude_none=True)
    return respond(Reply(200, body, {"ETag": f'"{row["version"]}"', **consent_headers(viewer)}))


async def _search(
    registrants: Resource,
    visibility: Visibility,
    desk: Desk,
    people: PeopleStore,
    request: web.Request,
    call: Call,
) -> web.StreamResponse:
    body = checked(RegistrantSearch, parse_json(call.body))
    assert isinstance(body, RegistrantSearch)
    viewer = viewer_of(call, body.purpose)
    async with evenly(True):
        if body.identifiers is not None:
            items: list[Mapping[str, Any]] = [
                {"registrant": await _identified(registrants, visibility, desk, viewer, body), "score": 100.0}
            ]
            complete = True
        else:
            items, complete = await _named(registrants, visibility, desk, people.search, viewer, body)
    headers = consent_headers(viewer) if items else {}
    return respond(Reply(200, {"items": items, "complete": complete}, headers))


async def _identified(
    registrants: Resource, visibility: Visibility, desk: Desk, viewer: Viewer, body: RegistrantSearch
) -> dict[str, Any]:
    """Return the one registrant all identifiers belong to; what a viewer may not see counts for nothing."""
    pairs = [one.split("|", 1) for one in body.identifiers or ()]
    args = Args([identifier_hash(desk.blind, type_, value) for type_, value in pairs])
    statement = _IDENTIFIED
    if (condition := visibility(viewer, args)) is not None:
        statement += f" AND ({condition})"
    async with database_errors("looking a registrant up"):
        found = await desk.pool.fetch(f"{statement} LIMIT 2", *args.values)
    if len(found) > 1:
        raise Refused(
            "The identifiers belong to several registrants. Nothing was shown.",
            code="identifier-ambiguous",
            remedy="Ask for each identifier alone, and find out which one is wrong.",
        )
    # Nobody has the nil UUID: whoever is not found costs the same second statement as whoever is.
    key = found[0]["id"] if found else UUID(int=0)
    return await desk.reading.one(registrants, viewer, str(key))


async def _named(
    registrants: Resource,
    visibility: Visibility,
    desk: Desk,
    search: Search,
    viewer: Viewer,
    body: RegistrantSearch,
) -> tuple[list[Mapping[str, Any]], bool]:
    if Scope.REGISTRANTS_REVEAL not in viewer.scopes:
        raise RequestRefused(
            f"A search by name needs the scope {Scope.REGISTRANTS_REVEAL}. Nothing was searched.",
            code="scope-missing",
            remedy="Ask for the scope with the token; if it is not granted, ask the operator of the hub.",
        )

    def sight(given: list[Any]) -> str | None:
        args = Args()
        args.values = given
        return visibility(viewer, args)

    found = await search.by_name(
        body.name or "", purpose=check_purpose(body.purpose), actor=viewer.actor, kind=body.kind, area=body.area,
        born=body.born, limit=body.limit, request_id=viewer.request_id, visible=sight,
    )  # fmt: skip
    args = Args([one.id for one in found.candidates])
    condition = visibility(viewer, args)
    statement = f"{registrants.select} WHERE r.id = ANY ($1::uuid[])" + (
        f" AND ({condition})" if condition else ""
    )
    async with database_errors("searching by name"):
        rows = {row["id"]: dict(row) for row in await desk.pool.fetch(statement, *args.values)}
    items: list[Mapping[str, Any]] = [
        {"registrant": rows[one.id], "score": one.score, "names": [dict(name) for name in one.names]}
        for one in found.candidates
        if one.id in rows
    ]
    return items, found.complete and len(items) == len(found.candidates)
