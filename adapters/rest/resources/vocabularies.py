"""Vocabularies: the terms that forms, rules and partners speak in."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Final

import asyncpg
from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.areas import Names
from adapters.rest.resources.declaration import Connection, Filter, Resource, Sort, Viewer
from adapters.rest.resources.writing import there_already

Namespace = Annotated[
    str, Field(max_length=200, pattern=r"^urn:[a-z0-9][a-z0-9-]*:[a-z0-9._-]+(?::[a-z0-9._-]+)*$")
]
TermCode = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\s/|#?%]+$")]


class TermEntry(BaseModel):
    """A term as it is written."""

    model_config = ConfigDict(extra="forbid")

    namespace: Namespace = Field(description="URN of the vocabulary; it cannot be changed.")
    code: TermCode = Field(description="Code within the vocabulary; it cannot be changed.")
    display: Names = Field(description="How it is shown, by language tag.")
    parent: TermCode | None = Field(None, description="Code of a wider term of the same vocabulary.")
    active: bool = True


class Term(BaseModel):
    """A term of a vocabulary."""

    id: str = Field(description="Namespace and code with # between them.")
    namespace: str
    code: str
    display: dict[str, str]
    parent: str | None
    active: bool
    version: int
    updated_at: datetime


class _Terms:
    async def create(self, connection: Connection, viewer: Viewer, entry: TermEntry) -> str:
        await _check_parent(connection, entry)
        # The first term makes its vocabulary known; its name can be given with `hub reference`.
        await connection.execute(
            "INSERT INTO vocabulary (namespace, names) VALUES ($1, jsonb_build_object('en', $1::text)) ON CONFLICT DO NOTHING",
            entry.namespace,
        )
        await _check_own(connection, entry.namespace)
        try:
            async with connection.transaction():
                await connection.execute(
                    "INSERT INTO vocabulary_code (namespace, code, names, parent, active) VALUES ($1, $2, $3, $4, $5)",
                    entry.namespace, entry.code, entry.display, entry.parent, entry.active,
                )  # fmt: skip
        except asyncpg.UniqueViolationError:
            raise there_already("term") from None
        return f"{entry.namespace}#{entry.code}"

    async def replace(self, connection: Connection, viewer: Viewer, key: Any, entry: TermEntry) -> None:
        if f"{entry.namespace}#{entry.code}" != key:
            raise RequestRefused(
                "Namespace and code of a term cannot be changed. Nothing was changed.",
                code="request-invalid",
                pointer="/code",
            )
        await _check_own(connection, entry.namespace)
        await _check_parent(connection, entry)
        await connection.execute(
            "UPDATE vocabulary_code SET names = $3, parent = $4, active = $5, version = version + 1, updated_at = now() "
            "WHERE namespace = $1 AND code = $2",
            entry.namespace, entry.code, entry.display, entry.parent, entry.active,
        )  # fmt: skip

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        await _check_own(connection, str(key).partition("#")[0])
        await connection.execute("DELETE FROM vocabulary_code WHERE namespace || '#' || code = $1", key)


async def _check_own(connection: Connection, namespace: str) -> None:
    if await connection.fetchval("SELECT standard FROM vocabulary WHERE namespace = $1", namespace):
        raise RequestRefused(
            "The vocabulary is a standard's and comes with the hub. Nothing was changed.",
            code="resource-in-use",
            remedy="Put the country's own terms into a vocabulary of its own.",
        )


async def _check_parent(connection: Connection, entry: TermEntry) -> None:
    if entry.parent is None:
        return
    found = await connection.fetchval(
        "SELECT true FROM vocabulary_code WHERE namespace = $1 AND code = $2", entry.namespace, entry.parent
    )
    if not found or entry.parent == entry.code:
        raise RequestRefused(
            "The vocabulary has no such wider term. Nothing was changed.",
            code="request-invalid",
            pointer="/parent",
        )


VOCABULARIES: Final = Resource(
    name="vocabularies",
    one="term",
    tag="vocabularies",
    model=Term,
    select="""SELECT v.namespace || '#' || v.code AS id, v.namespace, v.code, v.names AS display, v.parent, v.active, v.version, v.updated_at
FROM vocabulary_code v""",
    key="v.namespace || '#' || v.code",
    key_kind="text",
    version="v.version",
    locks="v",
    not_found="term-not-found",
    read=Scope.VOCABULARIES_READ,
    write=Scope.VOCABULARIES_WRITE,
    filters={
        "namespace": Filter("v.namespace = {}", str, "Terms of this vocabulary."),
        "code": Filter("v.code = {}", str, "Terms with this code."),
        "parent": Filter("v.parent = {}", str, "Terms directly below this one."),
        "active": Filter("v.active = {}", bool, "Whether they are in use."),
    },
    sorts={
        "id": Sort("v.namespace || '#' || v.code", "text"),
        "updated_at": Sort("v.updated_at", "timestamptz"),
    },
    entry=TermEntry,
    store=_Terms(),
    deletable=True,
)
