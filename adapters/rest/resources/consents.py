"""Consents: what a person allowed which partner to do for which purpose, in the states of ISO/IEC TS 27560."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Args, Connection, Filter, Resource, Sort, Viewer
from adapters.rest.resources.visibility import Visibility
from canonical_model.consent import ConsentStatus
from canonical_model.message import uuid7

_Code = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:#/-]*$")]


class ConsentEntry(BaseModel):
    """A consent as it is written."""

    model_config = ConfigDict(extra="forbid")

    registrant: UUID = Field(description="Whose consent it is; cannot be changed.")
    recipient: _Code = Field(description="The partner it covers; cannot be changed.")
    purpose: _Code = Field(description="What for; cannot be changed.")
    status: ConsentStatus
    status_at: AwareDatetime | None = Field(None, description="Since when; now, where it is left out.")
    valid_from: AwareDatetime | None = None
    valid_until: AwareDatetime | None = None
    legal_basis: _Code | None = None

    @model_validator(mode="after")
    def _ends_after_its_start(self) -> Self:
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise ValueError("a consent cannot end before it starts")
        return self


class ConsentReply(BaseModel):
    """A consent."""

    id: UUID
    registrant: UUID
    recipient: str
    purpose: str
    status: ConsentStatus
    status_at: datetime
    valid_from: datetime | None
    valid_until: datetime | None
    legal_basis: str | None
    source: str
    version: int


class _Consents:
    def __init__(self, visibility: Visibility) -> None:
        self._visibility = visibility

    async def create(self, connection: Connection, viewer: Viewer, entry: ConsentEntry) -> UUID:
        args = Args(entry.registrant)
        condition = self._visibility.places(viewer, args)
        known = await connection.fetchval(
            f"SELECT true FROM registrant r WHERE r.id = $1{f' AND ({condition})' if condition else ''}",
            *args.values,
        )
        if not known:
            raise RequestRefused(
                "There is no such registrant that you may see. Nothing was changed.",
                code="registrant-not-found",
                pointer="/registrant",
            )
        id_ = uuid7()
        await connection.execute(
            "INSERT INTO consent (id, registrant_id, recipient, purpose, status, status_at, valid_from, valid_until, "
            "legal_basis, source) VALUES ($1, $2, $3, $4, $5, coalesce($6, now()), $7, $8, $9, $10)",
            id_, entry.registrant, entry.recipient, entry.purpose, entry.status.value, entry.status_at,
            entry.valid_from, entry.valid_until, entry.legal_basis, viewer.name,
        )  # fmt: skip
        return id_

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: ConsentEntry, seen: Mapping[str, Any]
    ) -> None:
        same = await connection.fetchval(
            "UPDATE consent SET status_at = CASE WHEN status = $5 THEN coalesce($6, status_at) ELSE coalesce($6, now()) END, "
            "status = $5, valid_from = $7, valid_until = $8, legal_basis = $9, source = $10, version = version + 1 "
            "WHERE id = $1 AND registrant_id = $2 AND recipient = $3 AND purpose = $4 RETURNING true",
            key, entry.registrant, entry.recipient, entry.purpose, entry.status.value, entry.status_at,
            entry.valid_from, entry.valid_until, entry.legal_basis, viewer.name,
        )  # fmt: skip
        if not same:
            raise RequestRefused(
                "Registrant, recipient and purpose of a consent cannot be changed. Nothing was changed.",
                code="request-invalid",
                pointer="",
                remedy="Withdraw this consent and record another.",
            )

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        raise RequestRefused("A consent is withdrawn, never deleted.", code="method-not-allowed")


def resource(visibility: Visibility) -> Resource:
    """Return the resource of consents of registrants in the viewer's areas and programs."""
    return Resource(
        name="consents",
        one="consent",
        tag="consents",
        model=ConsentReply,
        select="""SELECT k.id, k.registrant_id AS registrant, k.recipient, k.purpose, k.status, k.status_at, k.valid_from,
    k.valid_until, k.legal_basis, k.source, k.version
FROM consent k JOIN registrant r ON r.id = k.registrant_id""",
        key="k.id",
        key_kind="uuid",
        version="k.version",
        locks="k",
        not_found="consent-not-found",
        read=Scope.CONSENTS_READ,
        write=Scope.CONSENTS_WRITE,
        filters={
            "registrant": Filter("k.registrant_id = {}", UUID, "Of this registrant."),
            "recipient": Filter("k.recipient = {}", str, "For this partner."),
            "purpose_code": Filter("k.purpose = {}", str, "For this purpose."),
            "status": Filter("k.status = {}", ConsentStatus, "In this state."),
        },
        sorts={"id": Sort("k.id", "uuid"), "status_at": Sort("k.status_at", "timestamptz")},
        visible=visibility.places,
        entry=ConsentEntry,
        store=_Consents(visibility),
        refusals=("registrant-not-found",),
        constant=True,
    )
