"""Attributes over HTTP: every version of every schema, checking one, applying one as a job."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Deed, Doing, Filter, Reply, Resource, Sort
from adapters.rest.resources.jobs import JobReply, begun
from canonical_model.errors import ConfigError, Refused
from registry.attributes import apply
from registry.attributes import parse as parse_schema
from registry.jobs import JobStore
from registry.programs.uses import APPLY
from registry.storage.held import held

T = TypeVar("T")
_BAD: Final = ("attribute-schema-invalid", "attributes-incompatible")


class SchemaReply(BaseModel):
    """One version of the attributes of a subject; the newest of each subject is in force."""

    id: str = Field(description="Subject and version with @ between them.")
    subject: str = Field(description="individual, group, program:CODE or event:TYPE.")
    version: int
    document: dict[str, Any] = Field(description="The JSON Schema.")
    actor: str
    applied_at: datetime


class SchemaEntry(BaseModel):
    """A schema of attributes."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    document: dict[str, Any] = Field(description="The JSON Schema, as docs/attributes.md shows.")
    force: bool = Field(
        False, description="Store it although records break it, where their values stay readable."
    )


class SchemaCheck(BaseModel):
    """What applying a schema would change and which stored records would break it."""

    subject: str
    version: int
    changed: bool
    changes: list[str]
    breaks: list[dict[str, Any]]


async def _told(work: Awaitable[T]) -> T:
    """Await work over a schema of the caller's: what is wrong in it is the caller's to correct, not the operator's."""
    try:
        return await work
    except ConfigError as error:
        raise Refused(error.detail, code=error.code, remedy=error.remedy) from None


async def _parsed(document: dict[str, Any]) -> None:
    parse_schema(document)


async def _check(doing: Doing) -> Reply:
    found = await _told(apply(doing.connection, doing.body.document, doing.viewer.actor, dry_run=True))
    return Reply(200, asdict(found))


async def _apply(doing: Doing) -> Reply:
    body: SchemaEntry = doing.body
    await _told(_parsed(body.document))
    viewer = doing.viewer
    submitted = await JobStore(held(doing.connection)).submit(
        APPLY, actor=viewer.actor, params={"document": body.document, "force": body.force},
        connection=doing.connection, request_id=viewer.request_id,
    )  # fmt: skip
    id_: UUID = submitted.job.id
    return await begun(doing.connection, id_)


def _shape(row: dict[str, Any]) -> dict[str, Any]:
    # Kept as text, so that forms keep the order of the schema.
    return {**row, "document": orjson.loads(row["document"])}


ATTRIBUTES: Final = Resource(
    name="attribute-schemas",
    one="schema of attributes",
    tag="attributes",
    model=SchemaReply,
    select="""SELECT s.subject || '@' || s.version AS id, s.subject, s.version, s.document::text AS document, s.actor, s.applied_at
FROM attribute_schema s""",
    key="(s.subject || '@' || s.version)",
    key_kind="text",
    not_found="attribute-subject-unknown",
    read=Scope.ATTRIBUTES_READ,
    filters={
        "subject": Filter("s.subject = {}", str, "Of this subject."),
        "in_force": Filter(
            "(s.version = (SELECT max(n.version) FROM attribute_schema n WHERE n.subject = s.subject)) = {}",
            bool,
            "Whether it is the newest of its subject.",
        ),
    },
    sorts={
        "id": Sort("(s.subject || '@' || s.version)", "text"),
        "-applied_at": Sort("s.applied_at", "timestamptz"),
        "applied_at": Sort("s.applied_at", "timestamptz"),
    },
    shape=_shape,
    deeds=(
        Deed(
            word="check", summary="Say what applying a schema would change and break; nothing is stored", do=_check,
            body=SchemaEntry, answer=SchemaCheck, scope=Scope.ATTRIBUTES_READ, item=False, problems=_BAD,
        ),
        Deed(
            word="apply", summary="Make a schema the one in force, and the indexes its rules need", do=_apply,
            body=SchemaEntry, answer=JobReply, scope=Scope.ATTRIBUTES_WRITE, item=False, job=True, problems=_BAD,
        ),
    ),
)  # fmt: skip
