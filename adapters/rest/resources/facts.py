"""What is known of registrants beside their record: facts of a day from surveys and systems, and documents."""

from __future__ import annotations

import base64
import binascii
from datetime import date, datetime
from typing import Annotated, Any, Final, cast
from uuid import UUID

import asyncpg
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import (
    Connection,
    Deed,
    Doing,
    Filter,
    Reply,
    Resource,
    Sort,
    Viewer,
    Visible,
)
from adapters.rest.resources.stores import DeclaredTypes, Unchanging
from adapters.rest.resources.ties import must_see
from canonical_model.localized import LocalizedText
from registry.objects import ObjectStore
from registry.people.documents import Documents
from registry.people.events import Events
from registry.storage.held import held
from registry.vault import Vault

_Purpose = Annotated[str, Field(min_length=1, max_length=200)]


class FactEntry(BaseModel):
    """A fact of a day, as it is recorded; it is never changed."""

    model_config = ConfigDict(extra="forbid")

    registrant: UUID
    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$")]
    collected_on: date
    expires_on: date | None = Field(None, description="Until when it is held true; else what its type says.")
    data: dict[str, Any] = Field(description="As the schema of its type says; nothing of who the person is.")


class FactReply(BaseModel):
    """A fact of a day about a registrant."""

    id: UUID
    registrant: UUID
    type: str
    collected_on: date
    expires_on: date | None
    data: dict[str, Any]
    source: str
    recorded_at: datetime


class FactTypeEntry(BaseModel):
    """A type of facts."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_.-]{0,99}$", description="Its name; cannot be changed.")
    names: LocalizedText
    data_schema: dict[str, Any] = Field(description="JSON Schema of the data, whole.")
    lasts_days: int | None = Field(None, gt=0, le=36500, description="How long a fact is held true.")
    active: bool = True


class FactTypeReply(BaseModel):
    """A type of facts."""

    id: str
    names: dict[str, str]
    data_schema: dict[str, Any]
    lasts_days: int | None
    active: bool


class DocumentEntry(BaseModel):
    """A document with its content."""

    model_config = ConfigDict(extra="forbid")

    registrant: UUID
    kind: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="Such as birth_certificate.")]
    media_type: Annotated[str, Field(min_length=3, max_length=255)]
    content: Annotated[str, Field(min_length=4, description="Base64 (RFC 4648).")]


class DocumentReply(BaseModel):
    """A document without its content."""

    id: UUID
    registrant: UUID
    kind: str
    media_type: str
    size: int = Field(description="Bytes.")
    source: str
    created_at: datetime
    removed_at: datetime | None


class DocumentOpen(BaseModel):
    """What a document is opened for."""

    model_config = ConfigDict(extra="forbid")

    purpose: _Purpose


class DocumentContent(BaseModel):
    """A document's content."""

    id: UUID
    media_type: str
    content: str = Field(description="Base64 (RFC 4648).")


class _Facts(Unchanging):
    def __init__(self, places: Visible) -> None:
        super().__init__("A fact is never changed; record a later one.")
        self._places = places

    async def create(self, connection: Connection, viewer: Viewer, entry: FactEntry) -> UUID:
        await must_see(connection, self._places, viewer, {"/registrant": entry.registrant})
        return await Events(held(connection)).record_event_fact(
            entry.registrant, entry.type, entry.collected_on, entry.data,
            source=viewer.name, expires_on=entry.expires_on,
        )  # fmt: skip


async def _put_type(connection: Connection, entry: FactTypeEntry) -> None:
    said = entry.model_dump(mode="json", exclude={"id", "data_schema"})
    await Events(held(connection)).put_type({**said, "type": entry.id, "schema": entry.data_schema})


class _Documents(Unchanging):
    def __init__(self, places: Visible, vault: Vault, objects: ObjectStore) -> None:
        super().__init__("A document is never changed; keep another.")
        self._places, self._vault, self._objects = places, vault, objects

    def within(self, connection: Connection) -> Documents:
        return Documents(held(connection), self._vault, self._objects)

    async def create(self, connection: Connection, viewer: Viewer, entry: DocumentEntry) -> UUID:
        await must_see(connection, self._places, viewer, {"/registrant": entry.registrant})
        try:
            body = base64.b64decode(entry.content, validate=True)
        except (binascii.Error, ValueError):
            raise RequestRefused(
                "The content is not written in base64. Nothing was kept.",
                code="request-invalid",
                pointer="/content",
            ) from None
        kept = await self.within(connection).put(
            entry.registrant, body, kind=entry.kind, media_type=entry.media_type,
            source=viewer.name, actor=viewer.actor,
        )  # fmt: skip
        return kept.id

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        await self.within(connection).remove(key, actor=viewer.actor)

    async def open(self, doing: Doing) -> Reply:
        assert isinstance(doing.body, DocumentOpen)
        # Done apart: the pool stands for the connection, and the trail is committed before the answer leaves.
        opened = await Documents(cast("asyncpg.Pool", doing.connection), self._vault, self._objects).open(
            doing.row["id"], doing.body.purpose, doing.viewer.actor
        )
        if opened is None:
            raise RequestRefused("The content of this document was removed.", code="document-not-found")
        document, content = opened
        told = base64.b64encode(content).decode()
        return Reply(200, {"id": str(document.id), "media_type": document.media_type, "content": told})


def facts(visible: Visible, places: Visible) -> Resource:
    """Return the resource of facts about registrants a viewer sees; `places` says of whom they may record one."""
    return Resource(
        name="facts",
        one="fact",
        tag="registrants",
        model=FactReply,
        select="""SELECT f.id, f.registrant_id AS registrant, f.type, f.collected_on, f.expires_on, f.data, f.source, f.recorded_at
FROM registrant_event f JOIN registrant r ON r.id = f.registrant_id""",
        key="f.id",
        key_kind="uuid",
        not_found="fact-not-found",
        read=Scope.REGISTRANTS_READ,
        write=Scope.REGISTRANTS_WRITE,
        filters={
            "registrant": Filter("f.registrant_id = {}", UUID, "About this registrant."),
            "type": Filter("f.type = {}", str, "Of this type."),
            "collected_from": Filter("f.collected_on >= {}", date, "Of this day or later."),
            "collected_to": Filter("f.collected_on <= {}", date, "Of this day or earlier."),
        },
        sorts={"id": Sort("f.id", "uuid"), "collected_on": Sort("f.collected_on", "date")},
        visible=visible,
        stays=places,
        entry=FactEntry,
        store=_Facts(places),
        refusals=("registrant-not-found", "event-type-unknown", "event-data-invalid"),
        changeable=False,
        constant=True,
        purpose=True,
    )


def documents(visible: Visible, places: Visible, vault: Vault, objects: ObjectStore) -> Resource:
    """Return the resource of documents of registrants a viewer sees; each opening is in the audit trail with its purpose."""
    store = _Documents(places, vault, objects)
    return Resource(
        name="documents",
        one="document",
        tag="registrants",
        model=DocumentReply,
        select="""SELECT d.id, d.registrant_id AS registrant, d.kind, d.media_type, d.size, d.source, d.created_at, d.removed_at
FROM document d JOIN registrant r ON r.id = d.registrant_id""",
        key="d.id",
        key_kind="uuid",
        not_found="document-not-found",
        read=Scope.REGISTRANTS_READ,
        write=Scope.REGISTRANTS_WRITE,
        filters={
            "registrant": Filter("d.registrant_id = {}", UUID, "Of this registrant."),
            "kind": Filter("d.kind = {}", str, "Of this kind."),
            "removed": Filter("(d.removed_at IS NOT NULL) = {}", bool, "Whose content was removed, or is there."),
        },
        sorts={"id": Sort("d.id", "uuid")},
        visible=visible,
        stays=places,
        locks="d",
        entry=DocumentEntry,
        store=store,
        refusals=("registrant-not-found", "document-invalid"),
        changeable=False,
        deletable=True,
        deeds=(
            Deed(
                word="open", summary="Open a document.", do=store.open, answer=DocumentContent,
                scope=Scope.REGISTRANTS_REVEAL, body=DocumentOpen, example={"purpose": "appeal 2026-14"}, apart=True,
                problems=("purpose-missing",), description="The audit trail has it, with the purpose, before the answer leaves.",
            ),
        ),
        constant=True,
        purpose=True,
    )  # fmt: skip


FACT_TYPES: Final = Resource(
    name="fact-types",
    one="fact type",
    tag="vocabularies",
    model=FactTypeReply,
    select="SELECT t.type AS id, t.names, t.schema AS data_schema, t.lasts_days, t.active\nFROM event_type t",
    key="t.type",
    key_kind="text",
    not_found="fact-type-not-found",
    read=Scope.VOCABULARIES_READ,
    write=Scope.VOCABULARIES_WRITE,
    filters={"active": Filter("t.active = {}", bool, "In use, or switched off.")},
    sorts={"id": Sort("t.type", "text")},
    locks="t",
    entry=FactTypeEntry,
    store=DeclaredTypes("event_type", "type", _put_type),
    refusals=("event-type-invalid",),
)
"""Types of facts, which a country declares with the schema of their data."""
