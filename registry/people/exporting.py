"""Exports: registrants with their identity, a page at a time, as canonical objects or as rows that can be imported again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from canonical_model.household import Household
from canonical_model.person import Person
from registry.people.listing import LIMIT, PeopleFilter, list_people
from registry.people.reading import Reader, Registrant
from registry.storage.database import database_errors

SEPARATOR: Final = "; "
"""What stands between several phone numbers, addresses of mail or accounts in one cell."""
_PEOPLE: Final = (
    "family_name", "given_name", "addl_name", "full_name", "birthdate", "birthdate_not_exact", "sex", "marital_status",
    "phone", "email", "address", "area", "account", "occupation", "language", "registration_date", "household", "role",
)  # fmt: skip
_GROUPS: Final = (
    "full_name", "group_kind", "group_size", "phone", "email", "address", "area", "registration_date",
)  # fmt: skip
_REACHED: Final = {"phone": ("phone", "mobile"), "email": ("email",)}
_TYPES: Final = """
SELECT DISTINCT i.type FROM registrant_identifier i JOIN registrant r ON r.id = i.registrant_id
WHERE i.live AND r.kind = $1 ORDER BY i.type LIMIT 50
"""
_BELONGS: Final = """
SELECT DISTINCT ON (member_id) member_id, group_id, roles FROM membership
WHERE member_id = ANY ($1::uuid[]) AND start_date <= $2 AND (ended_date IS NULL OR ended_date > $2)
ORDER BY member_id, start_date DESC, id DESC
"""


@dataclass(frozen=True, slots=True)
class Shown:
    """One registrant of an export."""

    registrant: Registrant
    value: Person | Household


async def exported(
    pool: asyncpg.Pool,
    reader: Reader,
    wanted: PeopleFilter,
    *,
    purpose: str,
    actor: str,
) -> AsyncIterator[list[Shown]]:
    """Yield everybody who fits, newest first, some hundred at a time; the trail names them before they are given.

    Raises `Refused` (`purpose-missing`, `area-unknown`, `identity-unknown`) and `Unavailable`.
    """
    cursor: str | None = None
    while True:
        page = await list_people(pool, wanted, limit=LIMIT, cursor=cursor)
        values = await reader.reveal_many([one.id for one in page.items], purpose, actor)
        yield [Shown(one, values[one.id]) for one in page.items if one.id in values]
        cursor = page.cursor
        if cursor is None:
            return


class Table:
    """Registrants of one kind as rows of a table whose columns the importer knows."""

    def __init__(
        self,
        pool: asyncpg.Pool,
        reader: Reader,
        kind: str,
        types: Sequence[str],
        attributes: Iterable[str],
        *,
        purpose: str,
        actor: str,
    ) -> None:
        self._pool, self._reader, self._purpose, self._actor = pool, reader, purpose, actor
        self.kind = kind
        self.types = tuple(types)
        self.attributes = tuple(attributes)
        self.fields = _PEOPLE if kind == "individual" else _GROUPS

    @classmethod
    async def of(
        cls,
        pool: asyncpg.Pool,
        reader: Reader,
        kind: str,
        attributes: Iterable[str],
        *,
        purpose: str,
        actor: str,
    ) -> Table:
        """Return the table of a kind of registrant, with a column for each type of identifier there is, 50 at most."""
        async with database_errors("looking for types of identifiers"):
            types = [row["type"] for row in await pool.fetch(_TYPES, kind)]
        return cls(pool, reader, kind, types, attributes, purpose=purpose, actor=actor)

    @property
    def header(self) -> list[str]:
        """The names of the columns: identifiers by their type, the fields of an import, the declared attributes."""
        return [*(f"identifier {one}" for one in self.types), *self.fields, *self.attributes]

    async def rows(self, page: Sequence[Shown]) -> list[list[str]]:
        """Return the cells of some registrants, in the order of the header."""
        homes = await self._homes(page) if self.kind == "individual" else {}
        return [self._row(one, homes.get(one.registrant.id, ("", ""))) for one in page]

    def _row(self, shown: Shown, home: tuple[str, str]) -> list[str]:
        said = shown.value.model_dump(mode="json", exclude_none=True)
        held = {
            _type(one): one["value"] for one in said.get("identifiers", ()) if one.get("status") != "invalid"
        }
        name = (said.get("names") or [{}])[0]
        contacts = said.get("contact_points", ())
        cells: dict[str, Any] = {
            **{part: name.get(part) for part in ("family_name", "given_name", "addl_name", "full_name")},
            **{
                field: SEPARATOR.join(one["value"] for one in contacts if one["kind"] in kinds)
                for field, kinds in _REACHED.items()
            },
            **{field: said.get(field) for field in self.fields if field in said},
            "address": next((one["text"] for one in said.get("addresses", ()) if one.get("text")), None),
            "area": shown.registrant.area_code,
            "account": SEPARATOR.join(one["account_number"] for one in said.get("accounts", ())),
            "household": home[0],
            "role": home[1],
        }  # fmt: skip
        if self.kind == "group":
            cells |= {"full_name": said.get("name"), "group_kind": said.get("kind")}
        attributes: Mapping[str, Any] = shown.registrant.attributes
        return [
            *(_cell(held.get(one)) for one in self.types),
            *(_cell(cells.get(field)) for field in self.fields),
            *(_cell(attributes.get(one)) for one in self.attributes),
        ]

    async def _homes(self, page: Sequence[Shown]) -> dict[UUID, tuple[str, str]]:
        """Return the household number and role of people who belong to a group today."""
        today = datetime.now(UTC).date()
        async with database_errors("looking for households"):
            rows = await self._pool.fetch(_BELONGS, [one.registrant.id for one in page], today)
        groups = list({row["group_id"] for row in rows})
        held = await self._reader.reveal_many(groups, self._purpose, self._actor)
        found = {}
        for row in rows:
            group = held.get(row["group_id"])
            number = next((one.value for one in group.identifiers), "") if group is not None else ""
            found[row["member_id"]] = (number, next(iter(row["roles"]), "") if number else "")
        return found


def _type(identifier: Mapping[str, Any]) -> str:
    return str(identifier.get("namespace") or identifier["id_type"])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
