"""Memberships and enrollments of two registrants that become one: which row goes where, and how each goes back."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from registry.people.members import EVER, SINGLE_ROLES
from registry.people.rows import Connection

_COLUMNS: Final = (
    'id, group_id AS "group", member_id AS member, roles, start_date AS start, ended_date AS "end"'
)
_READ: Final = f"""
SELECT {_COLUMNS} FROM membership WHERE member_id = ANY($1::uuid[]) OR group_id = ANY($1::uuid[]) ORDER BY start_date, id
"""
_AGAIN: Final = f"SELECT {_COLUMNS} FROM membership WHERE id = ANY($1::uuid[]) ORDER BY start_date, id"
_MOVE: Final = """
UPDATE membership m SET group_id = t.group_id, member_id = t.member_id, roles = t.roles::text[], start_date = t.start_date,
    ended_date = t.ended_date, version = m.version + 1, updated_at = now()
FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::text[], $5::date[], $6::date[])
     AS t (id, group_id, member_id, roles, start_date, ended_date)
WHERE m.id = t.id
"""
_EMPTY: Final = """
UPDATE membership SET ended_date = start_date WHERE id = ANY($1::uuid[])
"""
_HAS_ENROLLMENT: Final = "SELECT to_regclass('enrollment') IS NOT NULL"
_TAKING_PART: Final = "('draft', 'enrolled', 'paused')"
_HAND_OVER: Final = f"""
WITH theirs AS MATERIALIZED (
    SELECT program_id, state, enrollment_date FROM enrollment
    WHERE registrant_id = $2 AND state IN {_TAKING_PART} FOR NO KEY UPDATE
), mine AS MATERIALIZED (
    SELECT program_id, state FROM enrollment WHERE registrant_id = $1 FOR NO KEY UPDATE
), taken AS (
    INSERT INTO enrollment AS e (program_id, registrant_id, state, enrollment_date, cause, reason, actor)
    SELECT program_id, $1, state, enrollment_date, 'person', 'merged', $3 FROM theirs
    ON CONFLICT (program_id, registrant_id) DO UPDATE SET state = excluded.state, cause = 'person', reason = 'merged',
        enrollment_date = coalesce(excluded.enrollment_date, e.enrollment_date), actor = $3, since = now()
    WHERE e.state = 'not_eligible' AND e.cause = 'rule'
    RETURNING e.program_id
)
UPDATE enrollment e SET state = 'duplicated', cause = 'person', reason = 'merged', actor = $3, since = now()
FROM theirs LEFT JOIN mine USING (program_id) WHERE e.program_id = theirs.program_id AND e.registrant_id = $2
RETURNING e.program_id, theirs.state, mine.state AS before,
    e.program_id IN (SELECT program_id FROM taken) AS taken
"""
_ENROLLED_AGAIN: Final = """
UPDATE enrollment e SET state = t.state, cause = 'person', reason = 'split', actor = $2, since = now()
FROM unnest($3::uuid[], $4::text[]) AS t (program_id, state)
WHERE e.registrant_id = $1 AND e.program_id = t.program_id AND e.state = 'duplicated' AND e.reason = 'merged'
"""
# What the merge gave the survivor goes, where nobody changed it since; the row stays, as every state somebody has had does.
_LEFT_AGAIN: Final = """
UPDATE enrollment e SET state = coalesce(t.before, 'exited'), exit_date = CASE WHEN t.before IS NULL THEN current_date END,
    cause = CASE WHEN t.before IS NULL THEN 'person' ELSE 'rule' END, reason = 'split', actor = $2, since = now()
FROM unnest($3::uuid[], $4::text[]) AS t (program_id, before)
WHERE e.registrant_id = $1 AND e.program_id = t.program_id AND e.reason = 'merged' AND e.state <> 'duplicated'
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One membership as it lies in the table; it holds on every day from start up to, not including, end."""

    id: UUID
    group: UUID
    member: UUID
    roles: tuple[str, ...]
    start: date
    end: date | None

    def overlaps(self, other: Row) -> bool:
        """Say whether there is a day on which both hold."""
        if self.end == self.start or other.end == other.start:
            return False
        return (other.end is None or self.start < other.end) and (self.end is None or other.start < self.end)

    def emptied(self) -> Row:
        """Return it holding on no day."""
        return replace(self, end=self.start)

    def shown(self) -> list[Any]:
        """Return it as the history of its group keeps it."""
        start = None if self.start == EVER else self.start.isoformat()
        return [str(self.member), list(self.roles), start, self.end.isoformat() if self.end else None]

    def as_json(self) -> list[Any]:
        """Return it to be kept; `of` reads it."""
        end = None if self.end is None else self.end.isoformat()
        return [
            str(self.id),
            str(self.group),
            str(self.member),
            list(self.roles),
            self.start.isoformat(),
            end,
        ]

    @classmethod
    def of(cls, kept: Sequence[Any]) -> Row:
        """Read what `as_json` wrote."""
        id_, group, member, roles, start, end = kept
        return cls(
            UUID(id_), UUID(group), UUID(member), tuple(roles), date.fromisoformat(start),
            None if end is None else date.fromisoformat(end),
        )  # fmt: skip

    @classmethod
    def read(cls, row: Mapping[str, Any]) -> Row:
        """Take a row of the table."""
        return cls(**{**row, "roles": tuple(row["roles"])})


async def read(connection: Connection, ids: Collection[UUID]) -> list[Row]:
    """Read every membership in which any of these is group or member, by start."""
    return [Row.read(dict(row)) for row in await connection.fetch(_READ, list(ids))]


def merged(memberships: Sequence[Row], survivor: UUID, absorbed: UUID) -> list[tuple[Row, Row]]:
    """Return each membership that a merge changes, before and after.

    Rows of the absorbed become the survivor's. Where both belonged to one group at one time the survivor's row covers
    both times and has both's roles, and the absorbed's holds on no day; a group keeps its own head and recipient.
    """
    before = {row.id: row for row in memberships}
    after = dict(before)
    for row in memberships:
        if absorbed not in (row.group, row.member):
            continue
        moved = replace(
            row,
            group=survivor if row.group == absorbed else row.group,
            member=survivor if row.member == absorbed else row.member,
        )
        if moved.group == moved.member:
            raise Refused(
                f"Group {survivor} and its member {absorbed} cannot be one; nothing was changed.",
                code="group-cycle",
                remedy="End the membership between them first.",
            )
        others = [
            one for one in after.values()
            if one.id != row.id and one.group == moved.group and one.overlaps(moved)
        ]  # fmt: skip
        taken = {role for one in others if one.member != moved.member for role in one.roles}
        roles = tuple(role for role in moved.roles if role not in taken or role not in SINGLE_ROLES)
        same = [one for one in others if one.member == moved.member]
        if not same:
            after[row.id] = replace(moved, roles=roles)
            continue
        spans = [moved, *same]
        after[row.id] = row.emptied()
        for one in same[1:]:
            after[one.id] = one.emptied()
        after[same[0].id] = replace(
            same[0],
            roles=tuple(dict.fromkeys((*(role for one in same for role in one.roles), *roles))),
            start=min(one.start for one in spans),
            end=None if any(one.end is None for one in spans) else max(one.end for one in spans if one.end),
        )
    return [(row, after[row.id]) for row in memberships if after[row.id] != row]


async def parted(connection: Connection, kept: Sequence[Sequence[Any]]) -> list[tuple[Row, Row]]:
    """Return each membership that goes back as it was, now and then; one that was changed since stays as it is."""
    then = {Row.of(after): Row.of(before) for before, after in kept}
    now = await connection.fetch(_AGAIN, [row.id for row in then])
    return [(row, then[row]) for row in (Row.read(dict(each)) for each in now) if row in then]


async def write(connection: Connection, memberships: Sequence[Row]) -> None:
    """Write memberships, first those that give up a time, so that another may take it."""
    await connection.execute(_EMPTY, [row.id for row in memberships])
    await connection.execute(
        _MOVE,
        [row.id for row in memberships],
        [row.group for row in memberships],
        [row.member for row in memberships],
        ["{" + ",".join(f'"{role}"' for role in row.roles) + "}" for row in memberships],
        [row.start for row in memberships],
        [row.end for row in memberships],
    )


async def handed_over(connection: Connection, survivor: UUID, absorbed: UUID, actor: str) -> list[list[Any]]:
    """Let the survivor take part in the absorbed's programs, once in each; return what was changed, as it was before.

    Enrollments of the absorbed become `duplicated`. Where the survivor takes part, or a person decided that it does not,
    that stands.
    """
    if not await connection.fetchval(_HAS_ENROLLMENT):
        return []
    found = await connection.fetch(_HAND_OVER, survivor, absorbed, actor)
    return [[str(row["program_id"]), row["state"], row["taken"], row["before"]] for row in found]


async def enrolled_again(
    connection: Connection, survivor: UUID, absorbed: UUID, kept: Sequence[Sequence[Any]], actor: str
) -> None:
    """Give back enrollments that a merge changed, where they are still as it left them."""
    if not kept or not await connection.fetchval(_HAS_ENROLLMENT):
        return
    await connection.execute(
        _ENROLLED_AGAIN, absorbed, actor, [UUID(one[0]) for one in kept], [one[1] for one in kept]
    )
    # Merges of before kept program and state only, and gave the survivor nothing.
    given = [one for one in kept if len(one) > 2 and one[2]]
    await connection.execute(
        _LEFT_AGAIN, survivor, actor, [UUID(one[0]) for one in given], [one[3] for one in given]
    )
