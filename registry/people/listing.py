"""Lists of registrants: filters that are refused when unknown, and pages by cursor."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from hashlib import blake2b
from typing import Any, Final
from uuid import UUID

import asyncpg
from sqlalchemy import ColumnElement, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY, INTEGER

from canonical_model.errors import Refused
from registry.people.reading import FIELDS, WAIT, Registrant
from registry.storage.database import database_errors
from registry.storage.tables import area, compiled, membership, registrant

LIMIT: Final = 200
"""Most entries of one page."""
_CHOICES: Final[Mapping[str, frozenset[str]]] = {
    "kind": frozenset({"individual", "group"}),
    "status": frozenset({"active", "deceased", "inactive", "merged"}),
    "group_kind": frozenset({"household", "family", "other"}),
    "sex": frozenset({"male", "female", "other", "unknown"}),
}
_TEXT_LIMIT: Final = 100
_PAGE: Final = f"""
SELECT {FIELDS} FROM unnest($1::uuid[]) WITH ORDINALITY AS t (id, place) JOIN registrant r ON r.id = t.id
LEFT JOIN area a ON a.id = r.area_id ORDER BY t.place
"""


@dataclass(frozen=True, slots=True)
class PeopleFilter:
    """Which registrants are meant; every part given must hold.

    `area` is a P-code and means everybody in it, `group` a group's id and means its members of today; `born_from` and
    `born_until` are days, both included. Without `status` all but merged ones are meant.
    """

    kind: str | None = None
    status: str | None = None
    group_kind: str | None = None
    sex: str | None = None
    area: str | None = None
    group: UUID | None = None
    source: str | None = None
    born_from: date | None = None
    born_until: date | None = None
    updated_since: datetime | None = None

    @classmethod
    def read(cls, given: Mapping[str, str]) -> PeopleFilter:
        """Build a filter from texts; raises `Refused` (`filter-unknown`, `filter-invalid`) and never repeats a value."""
        known = {item.name for item in fields(cls)}
        unknown = set(given) - known
        if unknown:
            raise Refused(
                f"{len(unknown)} of the filters given do not exist. Nothing was searched.",
                code="filter-unknown",
                remedy=f"Use only these filters: {', '.join(sorted(known))}.",
            )
        return cls(**{name: _value(name, text) for name, text in given.items()})


@dataclass(frozen=True, slots=True)
class PeoplePage:
    """One page of a list, newest first; `cursor` continues it and is None at its end."""

    items: Sequence[Registrant]
    cursor: str | None


async def list_people(
    pool: asyncpg.Pool, wanted: PeopleFilter, *, limit: int = 50, cursor: str | None = None
) -> PeoplePage:
    """Return registrants without identity data, newest first; raises `Refused` (`area-unknown`, `cursor-invalid`)."""
    limit = max(1, min(limit, LIMIT))
    conditions = _conditions(wanted)
    after = _after(wanted, cursor)
    if after is not None:
        conditions.append(registrant.c.id < after)
    statement = select(registrant.c.id).where(*conditions).order_by(registrant.c.id.desc()).limit(limit + 1)
    text, values = compiled(statement)
    async with database_errors("listing registrants"), asyncio.timeout(WAIT):
        if wanted.area is not None and not await pool.fetchval(
            "SELECT EXISTS (SELECT FROM area WHERE code = $1)", wanted.area
        ):
            raise Refused(
                "There is no area with the code given. Nothing was searched.",
                code="area-unknown",
                remedy="`hub areas list` shows the codes.",
            )
        ids = [row["id"] for row in await pool.fetch(text, *values)]
        rows = await pool.fetch(_PAGE, ids[:limit])
    more = len(ids) > limit
    return PeoplePage(
        [Registrant(**dict(row)) for row in rows], _cursor(wanted, ids[limit - 1]) if more else None
    )


def _conditions(wanted: PeopleFilter) -> list[ColumnElement[bool]]:
    column = registrant.c
    found: list[ColumnElement[bool]] = [
        column[name] == getattr(wanted, name)
        for name in ("kind", "status", "group_kind", "sex", "source")
        if getattr(wanted, name) is not None
    ]
    if wanted.status is None:
        found.append(column.status != "merged")
    if wanted.area is not None:
        root = select(area.c.id).where(area.c.code == wanted.area).scalar_subquery()
        inside = select(area.c.id).where(
            area.c.path.contains(cast(func.array_append(None, root), ARRAY(INTEGER)))
        )
        found.append(column.area_id.in_(inside))
    if wanted.group is not None:
        today = datetime.now(UTC).date()
        found.append(
            exists().where(
                membership.c.member_id == column.id,
                membership.c.group_id == wanted.group,
                membership.c.start_date <= today,
                or_(membership.c.ended_date.is_(None), membership.c.ended_date > today),
            )
        )
    if wanted.born_from is not None:
        found.append(column.birthdate >= wanted.born_from)
    if wanted.born_until is not None:
        found.append(column.birthdate <= wanted.born_until)
    if wanted.updated_since is not None:
        found.append(column.updated_at >= wanted.updated_since)
    return found


def _value(name: str, text: str) -> Any:
    if not isinstance(text, str) or not text or len(text) > _TEXT_LIMIT or "\x00" in text:
        raise _invalid(name, f"must be a text of 1 to {_TEXT_LIMIT} characters")
    if name in _CHOICES and text not in _CHOICES[name]:
        raise _invalid(name, f"is none of {', '.join(sorted(_CHOICES[name]))}")
    try:
        if name == "group":
            return UUID(text)
        if name in {"born_from", "born_until"}:
            return date.fromisoformat(text)
        if name == "updated_since":
            at = datetime.fromisoformat(text)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        raise _invalid(
            name, "must be an id of the hub" if name == "group" else "must be a date, YYYY-MM-DD"
        ) from None
    return text


def _invalid(name: str, why: str) -> Refused:
    return Refused(
        f"The filter {name} {why}. Nothing was searched.",
        code="filter-invalid",
        remedy="Correct the filter; docs/people.md lists them all.",
        pointer=f"/{name}",
    )


def _mark(wanted: PeopleFilter) -> bytes:
    text = "\x1f".join(f"{item.name}={getattr(wanted, item.name)}" for item in fields(wanted))
    return blake2b(f"people\x1f{text}".encode(), digest_size=8).digest()


def _cursor(wanted: PeopleFilter, last: UUID) -> str:
    return base64.urlsafe_b64encode(_mark(wanted) + last.bytes).decode().rstrip("=")


def _after(wanted: PeopleFilter, cursor: str | None) -> UUID | None:
    if cursor is None:
        return None
    raw = b""
    if len(cursor) < 100:
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
    if len(raw) != 24 or raw[:8] != _mark(wanted):
        raise Refused(
            "The cursor does not belong to this search. Nothing was searched.",
            code="cursor-invalid",
            remedy="Start again without a cursor, and keep the same filters from page to page.",
        )
    return UUID(bytes=raw[8:])
