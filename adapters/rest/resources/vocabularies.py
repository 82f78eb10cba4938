"""Vocabularies: the terms that forms, rules and partners speak in."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final

import asyncpg
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.areas import Names
from adapters.rest.resources.declaration import Connection, Filter, Resource, Sort, Viewer
from adapters.rest.resources.writing import there_already
from canonical_model.errors import Refused

Namespace = Annotated[
    str, Field(max_length=200, pattern=r"^urn:[a-z0-9][a-z0-9-]*:[a-z0-9._-]+(?::[a-z0-9._-]+)*$")
]
TermCode = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s/|#?%]+$")]


class TermEntry(BaseModel):
    """A term as it is written."""

    model_config = ConfigDict(extra="forbid")

    namespace: Namespace = Field(description="URN of the vocabulary; it cannot be changed.")
    code: TermCode = Field(description="Code within the vocabulary; it cannot be changed.")
    names: Names = Field(description="How it is shown, by language tag.")
    active: bool = Field(True, description="False for a code that old records have and new ones may not.")


class Term(BaseModel):
    """A term of a vocabulary."""

    id: str = Field(description="Namespace and code with # between them.")
    namespace: str
    code: str
    names: dict[str, str]
    active: bool
    version: int
    updated_at: datetime


class _Terms:
    async def create(self, connection: Connection, viewer: Viewer, entry: TermEntry) -> str:
        await connection.execute(
            "INSERT INTO vocabulary (namespace, names) VALUES ($1, $2) ON CONFLICT DO NOTHING",
            entry.namespace,
            {"en": entry.namespace},
        )
        await _check_own(connection, entry)
        try:
            async with connection.transaction():
                await connection.execute(
                    "INSERT INTO vocabulary_code (namespace, code, names, active) VALUES ($1, $2, $3, $4)",
                    entry.namespace, entry.code, entry.names, entry.active,
                )  # fmt: skip
        except asyncpg.UniqueViolationError:
            raise there_already("term") from None
        return f"{entry.namespace}#{entry.code}"

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: TermEntry, seen: Mapping[str, Any]
    ) -> None:
        if f"{entry.namespace}#{entry.code}" != key:
            raise RequestRefused(
                "Namespace and code of a term cannot be changed. Nothing was changed.",
                code="request-invalid",
                pointer="/code",
            )
        await _check_own(connection, entry)
        await connection.execute(
            "UPDATE vocabulary_code SET names = $3, active = $4 WHERE namespace = $1 AND code = $2",
            entry.namespace, entry.code, entry.names, entry.active,
        )  # fmt: skip

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        raise RequestRefused("A term is switched off, never deleted.", code="method-not-allowed")


async def _check_own(connection: Connection, entry: TermEntry) -> None:
    """Refuse to change a list that comes with the hub."""
    if await connection.fetchval("SELECT standard FROM vocabulary WHERE namespace = $1", entry.namespace):
        raise Refused(
            "This vocabulary comes with the hub and cannot be changed. Nothing was changed.",
            code="vocabulary-standard",
            remedy="Make a list of your own under a namespace of your country.",
        )


VOCABULARIES: Final = Resource(
    name="vocabularies",
    one="term",
    tag="vocabularies",
    model=Term,
    select="""SELECT v.namespace || '#' || v.code AS id, v.namespace, v.code, v.names, v.active, v.version, v.updated_at
FROM vocabulary_code v""",
    key="(v.namespace || '#' || v.code)",
    key_kind="text",
    version="v.version",
    locks="v",
    not_found="term-not-found",
    read=Scope.VOCABULARIES_READ,
    write=Scope.VOCABULARIES_WRITE,
    filters={
        "namespace": Filter("v.namespace = {}", str, "Terms of this vocabulary."),
        "code": Filter("v.code = {}", str, "Terms with this code."),
        "active": Filter("v.active = {}", bool, "Whether they are in use."),
    },
    sorts={
        "id": Sort("(v.namespace || '#' || v.code)", "text"),
        "updated_at": Sort("v.updated_at", "timestamptz"),
    },
    entry=TermEntry,
    store=_Terms(),
    refusals=("vocabulary-standard",),
)
