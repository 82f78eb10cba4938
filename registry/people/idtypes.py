"""Types of identifiers: their names, whom they identify, and the rule their values keep."""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, Literal

import asyncpg
from asyncpg.pool import PoolConnectionProxy
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from canonical_model.errors import Refused
from canonical_model.identifiers import Identifier
from canonical_model.localized import LocalizedText
from canonical_model.types import pointer_of
from registry.people.identity import Known
from registry.storage.database import database_errors

Connection = asyncpg.Connection | PoolConnectionProxy
CheckDigit = Literal[
    "luhn", "verhoeff", "damm", "mod_11_2", "mod_11_10", "mod_37_2", "mod_37_36", "mod_97_10"
]
"""Algorithms of check digits: Luhn (ISO/IEC 7812), Verhoeff, Damm, and those of ISO 7064."""
VALUE_LIMIT: Final = 64
"""Most characters of a value that has a rule; a longer one breaks it."""
_STALE: Final = 30.0
_WAIT: Final = 10.0
_LIST: Final = "SELECT type, names, kind, pattern, check_digit, active FROM identifier_type ORDER BY type"
_PUT: Final = """
INSERT INTO identifier_type (type, names, kind, pattern, check_digit, active) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (type) DO UPDATE SET names = excluded.names, kind = excluded.kind, pattern = excluded.pattern,
    check_digit = excluded.check_digit, active = excluded.active, updated_at = now()
"""


class IdentifierType(BaseModel):
    """A type of identifier, and what its values look like once spaces and case are taken out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:#/|+-]*$", max_length=200)
    """The namespace URN where there is one, else the id type."""
    names: LocalizedText
    kind: Literal["individual", "group"] | None = None
    """Whom it identifies; None for both."""
    pattern: str | None = Field(None, max_length=200)
    """Regular expression of the whole value."""
    check_digit: CheckDigit | None = None
    active: bool = True
    """False: people keep those they have, and get no new ones."""

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error:
                raise ValueError("no regular expression") from None
        return pattern

    def problem(self, value: str, kind: str) -> str | None:
        """Return what is wrong with a normalised value of this type for a registrant of a kind, None when nothing is."""
        if self.kind is not None and self.kind != kind:
            return "identifies an individual" if self.kind == "individual" else "identifies a group"
        if self.pattern is None and self.check_digit is None:
            return None
        if len(value) > VALUE_LIMIT or (
            self.pattern is not None and re.fullmatch(self.pattern, value) is None
        ):
            return "has another form"
        if self.check_digit is not None and not _check(self.check_digit)(value):
            return "has a check digit that does not fit"
        return None


@cache
def _check(name: str) -> Callable[[str], bool]:
    plain = name in {"luhn", "verhoeff", "damm"}
    module: Any = import_module(f"stdnum.{name}" if plain else f"stdnum.iso7064.{name}")
    return lambda value: bool(module.is_valid(value))


class IdentifierTypes:
    """The types of identifiers; the writer holds them in memory and looks again every half minute."""

    def __init__(self, pool: asyncpg.Pool | None = None) -> None:
        self._pool = pool
        self._held: Mapping[str, IdentifierType] = {}
        self._read_at = -_STALE

    @classmethod
    def held_elsewhere(cls, types: Mapping[str, IdentifierType]) -> IdentifierTypes:
        """Return types as another process read them, which are never looked at again."""
        made = cls()
        made._held, made._read_at = types, math.inf
        return made

    @property
    def held(self) -> Mapping[str, IdentifierType]:
        """The types as the last `look` found them."""
        return self._held

    async def list(self) -> Sequence[IdentifierType]:
        """Return every type."""
        async with database_errors("reading identifier types"), asyncio.timeout(_WAIT):
            return [IdentifierType(**dict(row)) for row in await self._database.fetch(_LIST)]

    async def put(self, given: Mapping[str, Any]) -> IdentifierType:
        """Make or change a type; raises `Refused` (`identifier-type-invalid`). Identifiers there are stay as they are."""
        try:
            made = IdentifierType.model_validate(dict(given))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            raise Refused(
                f"The identifier type is not well-formed at {pointer_of(first['loc'])}: {first['type']}. Nothing was changed.",
                code="identifier-type-invalid",
                pointer=pointer_of(first["loc"]),
                remedy="docs/people.md shows a type with every field.",
            ) from None
        async with database_errors("writing an identifier type"), asyncio.timeout(_WAIT):
            await self._database.execute(
                _PUT, made.type, made.names, made.kind, made.pattern, made.check_digit, made.active
            )
        self._read_at = -_STALE
        return made

    async def look(self, connection: Connection) -> None:
        """Read the types again when that was long ago."""
        if time.monotonic() - self._read_at >= _STALE:
            rows = await connection.fetch(_LIST)
            self._held = {row["type"]: IdentifierType(**dict(row)) for row in rows}
            self._read_at = time.monotonic()

    def problem(
        self, identifiers: Mapping[str, tuple[Known, Identifier]], kind: str
    ) -> tuple[str, str] | None:
        """Return type and problem of the first valid identifier that breaks its rule, None when all keep it."""
        if not self._held:
            return None
        for known, _ in identifiers.values():
            rule = self._held.get(known.type)
            if rule is None or not known.live:
                continue
            found = rule.problem(known.key.partition("\x00")[2], kind)
            if found is not None:
                return known.type, found
        return None

    def keeps(self, identifiers: Mapping[str, tuple[Known, Identifier]], kind: str) -> bool:
        """Say whether new identifiers may be taken as they are: they keep their rules, and their types are open."""
        return not self._held or (
            self.problem(identifiers, kind) is None
            and not any(self.is_closed(known.type) for known, _ in identifiers.values())
        )

    def is_closed(self, type_: str) -> bool:
        """Say whether no new identifiers of a type are taken."""
        held = self._held.get(type_)
        return held is not None and not held.active

    @property
    def _database(self) -> asyncpg.Pool:
        assert self._pool is not None  # only the writer does without
        return self._pool
