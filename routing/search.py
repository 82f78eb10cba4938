"""What may be asked of the message store: filters, the cursor, and the statements they become."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Text, and_, cast, exists, func, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from canonical_model.errors import Refused
from canonical_model.message import uuid7_floor
from registry.storage.tables import delivery, message

__all__ = [
    "LIMIT",
    "PRIVATE_FILTERS",
    "STATES",
    "Blind",
    "MessageFilter",
    "Page",
    "dead_statement",
    "decode_cursor",
    "delivery_conditions",
    "encode_cursor",
    "message_conditions",
    "newest_condition",
    "search_statement",
    "visible_condition",
]

LIMIT: Final = 200
"""Most entries of one page."""
LIVE: Final = ("queued", "sending", "waiting")
STATES: Final = (*LIVE, "delivered", "refused", "dead", "cancelled")
PRIVATE_FILTERS: Final = frozenset({"subject", "correlationid", "originid"})
"""Filters whose value may name a person: looked up through the blind index, never put into a URL."""

# Deliveries are made just after their message; a clock set back between the two must not hide one.
_CLOCK_MARGIN: Final = timedelta(minutes=5)
_TEXT_LIMIT: Final = 500


class Blind(Protocol):
    """The keyed hash under which the store keeps what may name a person (`registry.vault.BlindIndex`)."""

    def index(self, label: str, value: str) -> bytes:
        """Return the hash of a value; `label` keeps uses apart."""


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages or deliveries are meant; every part given must hold.

    `since` and `until` bound the instant of acceptance. `subject`, `correlationid` and `originid` are compared by keyed
    hash; `originid` needs `partner`, whose id it is.
    """

    partner: str | None = None
    type: str | None = None
    route: str | None = None
    target: str | None = None
    state: str | None = None
    code: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    subject: str | None = None
    correlationid: str | None = None
    originid: str | None = None

    def __post_init__(self) -> None:
        if self.state is not None and self.state not in STATES:
            raise _invalid("state", f"is none of {', '.join(STATES)}")
        if self.originid is not None and self.partner is None:
            raise _invalid("originid", "needs the filter partner, whose id it is")

    def __repr__(self) -> str:
        named = [item.name for item in fields(self) if getattr(self, item.name) is not None]
        return f"MessageFilter({', '.join(named)})"

    @property
    def empty(self) -> bool:
        """Say whether nothing is filtered."""
        return all(getattr(self, item.name) is None for item in fields(self))

    @classmethod
    def read(cls, given: Mapping[str, Any]) -> MessageFilter:
        """Build a filter from texts; raises `Refused` (`filter-unknown`, `filter-invalid`) and never repeats a value."""
        known = {item.name for item in fields(cls)}
        unknown = sorted(set(given) - known)
        if unknown:
            raise Refused(
                f"{len(unknown)} of the filters given do not exist. Nothing was searched.",
                code="filter-unknown",
                remedy=f"Use only these filters: {', '.join(sorted(known))}.",
            )
        values: dict[str, Any] = {}
        for name, value in given.items():
            if not isinstance(value, str) or not value or len(value) > _TEXT_LIMIT or "\x00" in value:
                raise _invalid(name, f"must be a text of 1 to {_TEXT_LIMIT} characters")
            values[name] = _instant(name, value) if name in {"since", "until"} else value
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list; `cursor` continues it and is None at its end."""

    items: Sequence[Any]
    cursor: str | None


def _invalid(name: str, why: str) -> Refused:
    return Refused(
        f"The filter {name} {why}. Nothing was searched.",
        code="filter-invalid",
        remedy="Correct the filter; docs/operate.md lists them all.",
        pointer=f"/{name}",
    )


def _instant(name: str, value: str) -> datetime:
    try:
        # In a query string a plus sign arrives as a blank.
        at = datetime.fromisoformat(
            value.replace(" 0", "+0") if value.count(" ") == 1 and "T" in value else value
        )
    except ValueError:
        raise _invalid(name, "must be a date or an RFC 3339 instant") from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    if not 1971 <= at.year <= 9000:
        raise _invalid(name, "must lie between the years 1971 and 9000")
    return at


def _mark(filter_: MessageFilter, kind: str) -> bytes:
    text = "\x1f".join(f"{item.name}={getattr(filter_, item.name)}" for item in fields(filter_))
    return hashlib.blake2b(f"{kind}\x1f{text}".encode(), digest_size=8).digest()


def encode_cursor(kind: str, filter_: MessageFilter, last: UUID) -> str:
    """Return an opaque cursor that continues after `last`, good for this kind of list and this filter only."""
    return base64.urlsafe_b64encode(_mark(filter_, kind) + last.bytes).decode().rstrip("=")


def decode_cursor(kind: str, filter_: MessageFilter, cursor: str | None) -> UUID | None:
    """Return the id a cursor continues after; raises `Refused` (`cursor-invalid`) for any other text.

    A cursor grants nothing: what may be seen is decided again for every page, so it is checked, not signed.
    """
    if cursor is None:
        return None
    try:
        raw = (
            base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
            if len(cursor) < 100
            else b""
        )
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 24 or raw[:8] != _mark(filter_, kind):
        raise Refused(
            "The cursor does not belong to this search. Nothing was searched.",
            code="cursor-invalid",
            remedy="Start again without a cursor, and keep the same filters from page to page.",
        )
    return UUID(bytes=raw[8:])


def visible_condition(visible: frozenset[str] | None) -> ColumnElement[bool] | None:
    """Return the condition that a delivery may be seen by a holder of these scopes; None when everything may."""
    if visible is None:
        return None
    held = cast(sorted(visible), ARRAY(Text))
    return or_(delivery.c.visible.is_(None), delivery.c.visible.overlap(held))


def delivery_conditions(filter_: MessageFilter, visible: frozenset[str] | None) -> list[ColumnElement[bool]]:
    """Return the conditions a filter puts on a delivery itself."""
    found: list[ColumnElement[bool]] = []
    for name in ("route", "target", "state", "code"):
        value = getattr(filter_, name)
        if value is not None:
            found.append(delivery.c[name] == value)
    if filter_.since is not None:
        found.append(delivery.c.id >= uuid7_floor(filter_.since - _CLOCK_MARGIN))
    seen = visible_condition(visible)
    return found if seen is None else [*found, seen]


def newest_condition() -> ColumnElement[bool]:
    """Return the condition that a delivery was not replayed since: a replay stands for what it repeats."""
    later = delivery.alias("later")
    return ~exists().where(
        later.c.message_id == delivery.c.message_id,
        later.c.replay_of == func.coalesce(delivery.c.replay_of, delivery.c.id),
        later.c.id > delivery.c.id,
    )


def message_conditions(
    filter_: MessageFilter, partner: str | None, blind: Blind
) -> list[ColumnElement[bool]]:
    """Return the conditions a filter puts on a message; `partner` confines it to that partner's own."""
    found: list[ColumnElement[bool]] = []
    if partner is not None:
        found.append(message.c.partner == partner)
    if filter_.partner is not None:
        found.append(message.c.partner == filter_.partner)
    if filter_.type is not None:
        found.append(message.c.type == filter_.type)
    if filter_.since is not None:
        found.append(message.c.id >= uuid7_floor(filter_.since))
    if filter_.until is not None:
        found.append(message.c.id < uuid7_floor(filter_.until))
    if filter_.subject is not None:
        found.append(message.c.subject_hash == blind.index("subject", filter_.subject))
    if filter_.correlationid is not None:
        found.append(message.c.correlation_hash == blind.index("correlation", filter_.correlationid))
    if filter_.originid is not None:
        found.append(
            message.c.origin_hash == blind.index("origin", f"{filter_.partner}\x00{filter_.originid}")
        )
    return found


_SEARCHED: Final = ("id", "partner", "type", "time", "accepted_at", "size", "routes")


def search_statement(
    filter_: MessageFilter,
    blind: Blind,
    *,
    visible: frozenset[str] | None,
    partner: str | None,
    after: UUID | None,
    limit: int,
) -> Select[Any]:
    """Return the statement that lists messages, newest first, `limit` at most."""
    conditions = message_conditions(filter_, partner, blind)
    if after is not None:
        conditions.append(message.c.id < after)
    own = delivery.c.message_id == message.c.id
    on_delivery = delivery_conditions(filter_, visible)
    asked = any(getattr(filter_, name) is not None for name in ("route", "target", "state", "code"))
    if asked:
        conditions.append(exists().where(own, *on_delivery))
    elif visible is not None:
        # A message that went nowhere has nothing to hide; one that went only where the caller may not look does not exist.
        # The offset keeps the question at each message: without it the planner may read every delivery there is first.
        seen = select(delivery.c.id).where(own, *on_delivery).offset(0).exists()
        conditions.append(or_(message.c.routes == 0, seen))
    return (
        select(*(message.c[name] for name in _SEARCHED))
        .where(*conditions)
        .order_by(message.c.id.desc())
        .limit(limit)
    )


_DEAD: Final = (
    "id", "message_id", "route", "route_version", "target", "mapping", "state", "attempts", "code", "reason", "replay_of",
    "replays", "created_at", "ended_at",
)  # fmt: skip


def dead_statement(
    filter_: MessageFilter,
    blind: Blind,
    *,
    visible: frozenset[str] | None,
    partner: str | None,
    after: UUID | None,
    limit: int,
) -> Select[Any]:
    """Return the statement that lists deliveries that need a person, newest first, `limit` at most."""
    conditions = [*message_conditions(filter_, partner, blind), *delivery_conditions(filter_, visible)]
    conditions.append(newest_condition())
    if filter_.state is None:
        conditions.append(delivery.c.state == "dead")
    elif filter_.state not in {"dead", "refused"}:
        raise _invalid("state", "must be dead or refused in a list of dead letters")
    if after is not None:
        conditions.append(delivery.c.id < after)
    return (
        select(
            *(delivery.c[name] for name in _DEAD), message.c.partner, message.c.type, message.c.accepted_at
        )
        .select_from(delivery.join(message, message.c.id == delivery.c.message_id))
        .where(and_(*conditions))
        .order_by(delivery.c.id.desc())
        .limit(limit)
    )
