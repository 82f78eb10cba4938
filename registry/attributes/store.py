"""Schemas of attributes in the database: every version, the newest of each subject in force."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from canonical_model.errors import Refused
from registry.attributes.attribute import Vocabulary
from registry.attributes.catalog import Catalog
from registry.attributes.compatibility import Break, breaks, changes, clashes
from registry.attributes.schema import Document, Subject, parse, vocabularies_of
from registry.audit import AuditEvent, insert_many

Connection = asyncpg.Connection | PoolConnectionProxy
CHANNEL: Final = "hub_attributes"
_LOCK: Final = 0x6174_7472  # one change of attributes at a time
_NEWEST: Final = """
SELECT DISTINCT ON (subject) subject, version, document::text AS document FROM attribute_schema ORDER BY subject, version DESC
"""
_CODES: Final = """
SELECT namespace, code, names::text AS names, active FROM vocabulary_code WHERE namespace = ANY ($1::text[]) ORDER BY code
"""


@dataclass(frozen=True, slots=True)
class Applied:
    """What applying a schema did, or would do."""

    subject: str
    version: int
    """The version in force afterwards."""
    changed: bool
    changes: tuple[str, ...]
    breaks: tuple[Break, ...]


async def load_catalog(connection: Connection | asyncpg.Pool) -> Catalog:
    """Read the schemas in force."""
    found = [(_read(row["document"]), row["version"]) for row in await connection.fetch(_NEWEST)]
    lists = await _vocabularies(
        connection, {one for document, _ in found for one in vocabularies_of(document)}
    )
    return Catalog.of(parse(document, version, lists) for document, version in found)


async def _vocabularies(connection: Connection | asyncpg.Pool, names: set[str]) -> dict[str, Vocabulary]:
    """Read code lists; one that is not there has no codes."""
    if not names:
        return {}
    rows = await connection.fetch(_CODES, sorted(names))
    return {
        name: Vocabulary(
            {row["code"]: orjson.loads(row["names"]) for row in rows if row["namespace"] == name},
            frozenset(row["code"] for row in rows if row["namespace"] == name and row["active"]),
        )
        for name in names
    }


async def versions(connection: Connection | asyncpg.Pool) -> list[dict[str, Any]]:
    """List every version of every subject, the newest first."""
    rows = await connection.fetch(
        "SELECT subject, version, actor, applied_at, (SELECT count(*) FROM json_object_keys(document->'properties')) AS attributes "
        "FROM attribute_schema ORDER BY subject, version DESC"
    )
    return [dict(row) for row in rows]


async def load_version(connection: Connection | asyncpg.Pool, subject: str, version: int) -> Subject:
    """Read one version of a subject; raises `Refused` `attribute-subject-unknown`."""
    document = await connection.fetchval(
        "SELECT document::text FROM attribute_schema WHERE subject = $1 AND version = $2", subject, version
    )
    if document is None:
        raise Refused(
            f"There is no version {version} of the attributes of `{subject[:80]}`.",
            code="attribute-subject-unknown",
            remedy="`hub attributes list` shows every version.",
        )
    read = _read(document)
    return parse(read, version, await _vocabularies(connection, vocabularies_of(read)))


async def apply(
    connection: asyncpg.Connection | PoolConnectionProxy,
    document: Document,
    actor: str,
    *,
    force: bool = False,
    dry_run: bool = False,
) -> Applied:
    """Hold a schema to the stored records and make it the version in force; the same schema again changes nothing.

    Raises `ConfigError` `attribute-schema-invalid`, and `Refused` `attributes-incompatible` when records break the schema
    and `force` is not given, or when values would become unreadable, which `force` does not pass. A dry run stores nothing
    and raises neither of the two.
    """
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        catalog = await load_catalog(connection)
        new = parse(document)
        lists = await _vocabularies(connection, vocabularies_of(document))
        missing = sorted(name for name, one in lists.items() if not one.labels)
        if missing:
            raise Refused(
                f"There is no vocabulary {', '.join(missing)}. Nothing was stored.",
                code="attributes-incompatible",
                remedy="Load the vocabulary first, or list the codes under `enum`.",
            )
        new = parse(document, 0, lists)
        clashing = clashes(new, catalog)
        if clashing:
            raise Refused(
                f"{'; '.join(clashing)}: one name means one thing. Nothing was stored.",
                code="attributes-incompatible",
                remedy="Choose another name; registrants keep all attributes side by side.",
            )
        old = catalog.subjects.get(new.name)
        if old is not None and old.document == document:
            return Applied(new.name, old.version, False, (), ())
        if old is not None and old.registrant != new.registrant:
            raise Refused(
                f"`{new.name}` is about the kind {old.registrant}; that cannot change. Nothing was stored.",
                code="attributes-incompatible",
                remedy="Declare the attributes for another programme.",
            )
        found = tuple(await breaks(connection, old, new))
        version = 1 if old is None else old.version + 1
        said = tuple(changes(old.attributes if old else {}, new.attributes))
        if dry_run:
            return Applied(new.name, version, True, said, found)
        _refuse(found, force)
        await connection.execute(
            "INSERT INTO attribute_schema (subject, version, document, actor) VALUES ($1, $2, $3::text::json, $4)",
            new.name, version, orjson.dumps(document).decode(), actor,
        )  # fmt: skip
        counted = {"version": version, "changes": len(said), "forced": len(found)}
        await insert_many(
            connection, [AuditEvent(actor, "attributes.apply", "attribute_schema", new.name, details=counted)]
        )
        # Heard of by running processes once this is committed.
        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, new.name)
        return Applied(new.name, version, True, said, found)


def _refuse(found: tuple[Break, ...], force: bool) -> None:
    standing = [one for one in found if not (force and one.safe)]
    if not standing:
        return
    told = "; ".join(f"{one.attribute}: {one.records:,} records break {one.rule}" for one in standing[:10])
    unsafe = any(not one.safe for one in standing)
    raise Refused(
        f"Stored records do not fit: {told}. Nothing was stored.",
        code="attributes-incompatible",
        remedy="Rules could no longer read these values: correct the records, or use a new name."
        if unsafe
        else "Correct the records, or store it with --force: they stay as they are until they are next written.",
    )


def _read(text: str) -> Document:
    return cast("Document", orjson.loads(text))
