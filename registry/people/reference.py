"""A country's reference data as one document: types of identifiers, relationships and facts, and code lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import asyncpg
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from canonical_model.errors import Refused
from canonical_model.identifiers import Namespace
from canonical_model.localized import Code, LocalizedText
from canonical_model.types import pointer_of
from registry.people.events import Events, EventType
from registry.people.idtypes import IdentifierType, IdentifierTypes
from registry.people.relationships import Relationships, RelationshipType
from registry.people.vocabularies import CODES_LIMIT, Vocabularies

_LIMIT: Final = 1000


class CodeList(BaseModel):
    """A code list of the country's own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    namespace: Namespace
    names: LocalizedText
    codes: dict[Code, LocalizedText] = Field(max_length=CODES_LIMIT)


class Reference(BaseModel):
    """The document; a part that is not there leaves what the hub has, and so does an entry that is not there."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    identifier_types: tuple[IdentifierType, ...] = Field((), max_length=_LIMIT)
    relationship_types: tuple[RelationshipType, ...] = Field((), max_length=_LIMIT)
    event_types: tuple[EventType, ...] = Field((), max_length=_LIMIT)
    vocabularies: tuple[CodeList, ...] = Field((), max_length=_LIMIT)


def read_reference(document: Any) -> Reference:
    """Read a document as YAML or JSON gives it; raises `Refused` (`reference-invalid`) that names the first wrong place."""
    try:
        return Reference.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = pointer_of(first["loc"]) or "/"
        raise Refused(
            f"The reference data is not well-formed at {place}: {first['type']}. Nothing was changed.",
            code="reference-invalid",
            pointer=place,
            remedy="Correct the place named; docs/people.md shows every part.",
        ) from None


async def apply_reference(pool: asyncpg.Pool, reference: Reference) -> Mapping[str, int]:
    """Write all parts of a document, and return how many entries each has; safe to repeat.

    Raises `Refused` (`vocabulary-standard`) for a code list that comes with the hub, `Unavailable`.
    """
    identifiers, relationships, events = IdentifierTypes(pool), Relationships(pool), Events(pool)
    for code_list in reference.vocabularies:
        await Vocabularies(pool).put(code_list.namespace, code_list.names, code_list.codes)
    for identifier in reference.identifier_types:
        await identifiers.put(identifier.model_dump())
    for relationship in reference.relationship_types:
        await relationships.put_type(relationship.model_dump())
    for event in reference.event_types:
        await events.put_type(event.model_dump(by_alias=True))
    return {name: len(getattr(reference, name)) for name in Reference.model_fields}


async def stored_reference(pool: asyncpg.Pool) -> Mapping[str, Any]:
    """Return what the hub has, as a document; code lists that come with the hub only by how many codes they have."""
    lists = Vocabularies(pool)
    own = []
    standard = {}
    for each in await lists.list():
        if each.standard:
            standard[each.namespace] = each.codes
            continue
        codes = await lists.codes(each.namespace, limit=CODES_LIMIT)
        own.append(
            {
                "namespace": each.namespace,
                "names": each.names,
                "codes": {code.code: code.names for code in codes if code.active},
            }
        )
    return {
        "identifier_types": [
            each.model_dump(exclude_none=True) for each in await IdentifierTypes(pool).list()
        ],
        "relationship_types": [
            each.model_dump(exclude_none=True) for each in await Relationships(pool).types()
        ],
        "event_types": [
            each.model_dump(by_alias=True, exclude_none=True) for each in await Events(pool).types()
        ],
        "vocabularies": own,
        "standard_vocabularies": standard,
    }
