"""Who belongs to a group and when: the rows of one group, what a draft changes of them, and the rules they keep.

A membership holds on every day from its start up to, not including, its end; whether it is active is asked of a day and
stored nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

from canonical_model.errors import Refused
from canonical_model.household import Membership
from canonical_model.message import uuid7

EVER: Final = date.min
"""The start of a membership whose start nobody knows; `-infinity` in the database."""
SINGLE_ROLES: Final = ("head", "principal_recipient")
MEMBERS_LIMIT: Final = 2000
"""Most rows of one group, past ones included."""
_NAMES: Final = {"head": "head", "principal_recipient": "principal recipient"}


class Said(NamedTuple):
    """When each part of a membership was said; None for what nobody said."""

    start: datetime | None = None
    end: datetime | None = None
    roles: datetime | None = None


UNSAID: Final = Said()


@dataclass(slots=True)
class Row:
    """One membership as it lies in the table."""

    id: UUID
    member_id: UUID
    roles: list[str]
    start: date
    end: date | None
    said: Said = UNSAID
    held: Row | None = None
    """The row as it was read; None for a new one."""

    def is_active(self, on: date) -> bool:
        """Say whether it holds on a day."""
        return self.start <= on and (self.end is None or on < self.end)

    def overlaps(self, other: Row) -> bool:
        """Say whether there is a day on which both hold."""
        if self.end == self.start or other.end == other.start:
            return False
        return (other.end is None or self.start < other.end) and (self.end is None or other.start < self.end)

    @property
    def state(self) -> tuple[list[str], date, date | None]:
        """What others see of it."""
        return self.roles, self.start, self.end

    @property
    def changed(self) -> bool:
        """Whether it differs from what was read."""
        return self.held is None or self.held.state != self.state or self.held.said != self.said

    @property
    def gains(self) -> bool:
        """Whether it takes a role or a time that another row may have to give up first."""
        old = self.held
        if old is None:
            return True
        longer = (self.end is None) > (old.end is None) or (
            self.end is not None and old.end is not None and self.end > old.end
        )
        return (
            longer
            or self.start < old.start
            or any(r in self.roles and r not in old.roles for r in SINGLE_ROLES)
        )

    def shown(self) -> list[Any]:
        """Return it as history keeps it: member, roles, start, end."""
        start = None if self.start == EVER else self.start.isoformat()
        return [str(self.member_id), self.roles, start, self.end.isoformat() if self.end else None]


@dataclass(slots=True)
class Members:
    """All rows of one group; drafts change them here, and `check` says whether the group may be written so."""

    group_id: UUID
    rows: list[Row] = field(default_factory=list)

    def take(self, row: Mapping[str, Any]) -> None:
        """Add a row that was read."""
        said = Said(row["start_said_at"], row["end_said_at"], row["roles_said_at"])
        held = Row(row["id"], row["member_id"], row["roles"], row["start_date"], row["ended_date"], said)
        self.rows.append(replace(held, held=held))

    def copy(self) -> Members:
        """Return a copy that a draft may change and be refused with."""
        return Members(self.group_id, [replace(row, roles=list(row.roles)) for row in self.rows])

    def merge(self, member_id: UUID, said: Membership, at: datetime) -> None:
        """Take over what a draft says of one member; a part of which something was said later already stays."""
        start = said.start_date.first if said.start_date else None
        end = said.ended_date.first if said.ended_date else None
        day = at.astimezone(UTC).date()
        row = self._row(member_id, start)
        back = row is not None and start is None and end is None and _is_over(row, day, at)
        if row is None or back:
            # Who left, and is said to belong again without a word since when, belongs since the day that was said.
            since = day if back else start or EVER
            row = Row(uuid7(), member_id, [], since, None)
            self.rows.append(row)
        if start is not None and _is_newer(at, row.said.start):
            row.start, row.said = start, row.said._replace(start=at)
        if (end is not None or "ended_date" in said.model_fields_set) and _is_newer(at, row.said.end):
            row.end, row.said = end, row.said._replace(end=at)
        if "roles" in said.model_fields_set and _is_newer(at, row.said.roles):
            taken = self._taken(row, at)
            row.roles = [role.value for role in said.roles if role.value not in taken]
            row.said = row.said._replace(roles=at)

    def _taken(self, row: Row, at: datetime) -> set[str]:
        """Return the single roles that somebody else was said to have, for the same days, after `at`."""
        return {
            role
            for other in self.rows
            for role in SINGLE_ROLES
            if other.member_id != row.member_id
            and role in other.roles
            and other.said.roles is not None
            and other.said.roles > at
            and other.overlaps(row)
        }

    def leave_others(self, stay: Iterable[UUID], at: datetime) -> None:
        """End on the day of `at` every membership that holds then and belongs to nobody named: the list given is whole."""
        day, named = at.astimezone(UTC).date(), set(stay)
        for row in self.rows:
            if (
                row.member_id not in named
                and row.end is None
                and row.start <= day
                and _is_newer(at, row.said.end)
            ):
                row.end, row.said = day, row.said._replace(end=at)

    def check(self) -> None:
        """Refuse a group with two heads or recipients on one day, or with one member twice; raises `Refused`."""
        by_member: dict[UUID, list[Row]] = {}
        for row in self.rows:
            by_member.setdefault(row.member_id, []).append(row)
            if row.end is not None and row.end < row.start:
                raise _refused(self.group_id, row, "would end before it begins", "membership-dates-reversed")
        for rows in by_member.values():
            if len(rows) > 1 and (clash := _clash(rows)):
                raise _refused(
                    self.group_id, clash, "would overlap another of the same member", "membership-overlaps"
                )
        for role in SINGLE_ROLES:
            clash = _clash([row for row in self.rows if role in row.roles])
            if clash is not None:
                raise Refused(
                    f"Group {self.group_id} has a {_NAMES[role]} already in the time member {clash.member_id} would be it; "
                    "nothing was changed.",
                    code="group-head-taken" if role == "head" else "group-recipient-taken",
                    remedy="End the other's role, or take it away, in the same request.",
                )
        if len(self.rows) > MEMBERS_LIMIT:
            raise Refused(
                f"Group {self.group_id} would have more than {MEMBERS_LIMIT} memberships, past ones included; "
                "nothing was changed.",
                code="group-too-large",
                remedy="Check whether the source puts everybody into one group.",
            )

    def _row(self, member_id: UUID, start: date | None) -> Row | None:
        rows = sorted((row for row in self.rows if row.member_id == member_id), key=lambda row: row.start)
        if start is None or not rows:
            return rows[-1] if rows else None
        for row in rows:
            if row.start == start:
                return row
        # A start that becomes known belongs to the time whose start was not known.
        first = rows[0]
        return first if first.start == EVER and (first.end is None or start < first.end) else None


def _is_newer(at: datetime, than: datetime | None) -> bool:
    return than is None or at >= than


def _is_over(row: Row, day: date, at: datetime) -> bool:
    """Say whether a membership had ended on a day, as was known then."""
    return row.end is not None and row.end <= day and _is_newer(at, row.said.end)


def _clash(rows: list[Row]) -> Row | None:
    ordered = sorted(rows, key=lambda row: row.start)
    for place, row in enumerate(ordered):
        for other in ordered[place + 1 :]:
            if row.overlaps(other):
                return row if row.changed and not other.changed else other
    return None


def _refused(group_id: UUID, row: Row, what: str, code: str) -> Refused:
    return Refused(
        f"A membership of member {row.member_id} in group {group_id} {what}; nothing was changed.",
        code=code,
        remedy="Correct its start and end date, then send it again.",
    )
