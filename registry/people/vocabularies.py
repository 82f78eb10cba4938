"""Vocabularies: code lists with their display in several languages, ISO's and a country's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import asyncpg
from pydantic import Field, TypeAdapter, ValidationError

from canonical_model.errors import Refused
from canonical_model.identifiers import Namespace
from canonical_model.localized import Code, LocalizedText, best_text
from canonical_model.types import pointer_of
from registry.people import standards
from registry.people.reading import WAIT
from registry.storage.database import database_errors

CODES_LIMIT: Final = 20_000
_LIST: Final = """
SELECT v.namespace, v.names, v.standard, (SELECT count(*) FROM vocabulary_code c WHERE c.namespace = v.namespace) AS codes
FROM vocabulary v ORDER BY v.namespace
"""
_CODES: Final = """
SELECT code, names, active FROM vocabulary_code WHERE namespace = $1 AND code > $2 ORDER BY code LIMIT $3
"""
_ONE: Final = "SELECT code, names, active FROM vocabulary_code WHERE namespace = $1 AND code = $2"
_PUT: Final = """
INSERT INTO vocabulary (namespace, names) VALUES ($1, $2)
ON CONFLICT (namespace) DO UPDATE SET names = excluded.names, updated_at = now() WHERE NOT vocabulary.standard RETURNING namespace
"""
_PUT_CODES: Final = """
INSERT INTO vocabulary_code (namespace, code, names) SELECT $1, code, names FROM unnest($2::text[], $3::jsonb[]) AS t (code, names)
ON CONFLICT (namespace, code) DO UPDATE SET names = excluded.names, active = true
"""
_RETIRE: Final = (
    "UPDATE vocabulary_code SET active = false WHERE namespace = $1 AND code <> ALL ($2::text[]) AND active"
)
_GIVEN: Final = TypeAdapter(
    tuple[Namespace, LocalizedText, Annotated[dict[Code, LocalizedText], Field(max_length=CODES_LIMIT)]]
)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """One code list; `standard` says that it comes with the hub."""

    namespace: str
    names: Mapping[str, str]
    standard: bool
    codes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One code and its display by language; an inactive one stands for old records only."""

    code: str
    names: Mapping[str, str]
    active: bool

    def display(self, *languages: str) -> str:
        """Return the name in the first of these languages there is, then in English, then in any."""
        return best_text(self.names, languages)


class Vocabularies:
    """The code lists of the hub; every method raises `Unavailable` when the database is away."""

    def __init__(self, pool: asyncpg.Pool) -> None:
        self._pool = pool

    async def list(self) -> Sequence[Vocabulary]:
        """Return every code list, without its codes."""
        async with database_errors("reading vocabularies"), asyncio.timeout(WAIT):
            return [Vocabulary(**dict(row)) for row in await self._pool.fetch(_LIST)]

    async def codes(self, namespace: str, *, after: str = "", limit: int = 1000) -> Sequence[Entry]:
        """Return codes of a list in order, at most `limit` behind the code `after`; none when there is no such list."""
        async with database_errors("reading a vocabulary"), asyncio.timeout(WAIT):
            return [Entry(**dict(row)) for row in await self._pool.fetch(_CODES, namespace, after, limit)]

    async def code(self, namespace: str, code: str) -> Entry | None:
        """Return one code, None when the list has none such."""
        async with database_errors("reading a vocabulary"), asyncio.timeout(WAIT):
            row = await self._pool.fetchrow(_ONE, namespace, code)
        return None if row is None else Entry(**dict(row))

    async def put(
        self, namespace: str, names: Mapping[str, str], codes: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Make or replace a country's own list; codes that are not given become inactive, since old records have them.

        Raises `Refused`: `vocabulary-invalid` for texts of another shape, `vocabulary-standard` for a list of the hub's.
        """
        try:
            given = _GIVEN.validate_python(
                (namespace, dict(names), {key: dict(each) for key, each in codes.items()})
            )
        except ValidationError as error:
            place = pointer_of(error.errors(include_input=False)[0]["loc"])
            raise Refused(
                f"The vocabulary is not well-formed at {place}. Nothing was changed.",
                code="vocabulary-invalid",
                pointer=place,
                remedy="Give a namespace URN, and for the list and each code a name by language tag.",
            ) from None
        async with (
            database_errors("writing a vocabulary"),
            asyncio.timeout(WAIT),
            self._pool.acquire() as connection,
            connection.transaction(),
        ):
            if await connection.fetchval(_PUT, given[0], given[1]) is None:
                raise Refused(
                    "This vocabulary comes with the hub and cannot be replaced. Nothing was changed.",
                    code="vocabulary-standard",
                    remedy="Make a list of your own under a namespace of your country.",
                )
            await connection.execute(_PUT_CODES, given[0], list(given[2]), list(given[2].values()))
            await connection.execute(_RETIRE, given[0], list(given[2]))

    async def refresh(self) -> int:
        """Load the lists that come with the hub anew, after an upgrade of what they are taken from; return how many codes."""
        async with (
            database_errors("loading vocabularies"),
            self._pool.acquire(timeout=WAIT) as connection,
            connection.transaction(),
        ):
            return await standards.load(connection)
