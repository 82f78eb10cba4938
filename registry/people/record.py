"""One registrant's record as it lies sealed: values, each with the time of the fact it came from.

Facts may arrive in any order and more than once. Each value is replaced only by a fact of a later time, and vital
events are kept side by side with status and marital status derived from them, so that every order of arrival ends in
the same record. A group's record is one too; who belongs to it lies in clear (`registry.people.members`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import lru_cache
from threading import Lock
from time import time_ns
from typing import Any, Final, Literal, NamedTuple
from uuid import UUID

import orjson

from canonical_model.civil_event import CivilEvent, CivilEventStatus, CivilEventType
from canonical_model.dates import PartialDate, Precision
from canonical_model.household import Household
from canonical_model.identifiers import Identifier
from canonical_model.person import Person
from registry.people.identity import Known

Kind = Literal["individual", "group"]
IDENTIFIER_LIMIT: Final = 200
_FACT_LIMIT: Final = 100
APART: Final = {
    "individual": {
        "person_id", "identifiers", "attributes", "death_date", "marital_status", "last_updated",
    },
    "group": {"household_id", "identifiers", "attributes", "memberships", "last_updated"},
}  # fmt: skip
_PROMOTED: Final = ("occupation", "poverty_score", "poverty_score_type")
"""Fields of the canonical model that a country may declare as attributes by their name."""
_MARITAL: Final = {CivilEventType.MARRIAGE: "married", CivilEventType.DIVORCE: "divorced"}
_SEARCHED: Final = {"names", "name", "contact_points", "accounts"}
_NARROWING: Final = {"birthdate", "area_code"}
"""Fields in clear that a search is narrowed by."""

_OWN: Final = {"status", "disabled_reason", "registration_date"}
"""Values that tell of the record and not of who is registered; a merge leaves them alone."""
_LISTS: Final = ("names", "contact_points", "accounts", "addresses")
_LIST_LIMIT: Final = 20
_DAYS: Final = 40_000
"""Days remembered: those of a life, and of the lives of people's parents."""

Clock = list[Any]
"""Milliseconds since which the fact holds, milliseconds at which it was said, which of one millisecond: later is greater."""


class Columns(NamedTuple):
    """What rules need in clear; `area_code` stands for the area of that code."""

    status: str = "active"
    group_kind: str | None = None
    is_partial_group: bool | None = None
    group_size: int | None = None
    sex: str | None = None
    birthdate: date | None = None
    birthdate_not_exact: bool = False
    deathdate: date | None = None
    marital_status: str | None = None
    area_code: str | None = None
    registration_date: date | None = None
    language: str | None = None


_CLEAR: Final = {*Columns._fields, "kind"}
_EMPTY: Final[Mapping[str, Any]] = {}


def clock_of(at: datetime, turn: str, holds_from: PartialDate | None = None) -> Clock:
    """Return the clock of a fact; `turn` (the message's id) tells facts of one millisecond apart.

    `holds_from` orders facts of one life by when they happened, not when they were told.
    """
    said = int(at.timestamp() * 1000)
    holds = said
    if holds_from is not None:
        day = holds_from.first
        holds = min(said, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000))
    return [holds, said, turn]


class Record:
    """A registrant's values, identifiers and vital facts; `touched` says that merging took something over."""

    __slots__ = (
        "_declared", "_document", "attributes", "before", "changed", "columns", "created", "id", "kind", "source",
        "touched", "version",
    )  # fmt: skip

    def __init__(
        self,
        registrant_id: UUID,
        source: str,
        document: dict[str, Any] | None = None,
        version: int = 0,
        *,
        kind: Kind = "individual",
        declared: Collection[str] = (),
    ) -> None:
        self.id = registrant_id
        self.kind: Kind = kind
        self.source = source
        self.version = version
        self._declared = declared
        self._document: dict[str, Any] = document or {"values": {}, "identifiers": {}, "facts": {}}
        self.created = document is None
        self.touched = False
        self.before: dict[str, Any] = {}
        """What the sealed fields changed since `begin` were before; None for what was not there."""
        self.changed: set[str] = set()
        """The fields changed since `begin` that lie in clear."""
        self.columns = Columns()
        self.attributes: Mapping[str, Any] = _EMPTY
        if document is not None:
            self._derive()

    @classmethod
    def from_bytes(
        cls,
        registrant_id: UUID,
        source: str,
        version: int,
        raw: bytes,
        *,
        kind: Kind = "individual",
        declared: Collection[str] = (),
    ) -> Record:
        """Rebuild a record from its opened bytes."""
        document = orjson.loads(raw)
        clocks = document.pop("clocks", None)
        if clocks is not None:
            for part in document.values():
                for held in part.values():
                    held[1] = clocks[held[1]]
        return cls(registrant_id, source, document, version, kind=kind, declared=declared)

    def to_bytes(self) -> bytes:
        """Return the record as JSON, to be sealed; clocks stand once, since most values come from one fact."""
        clocks: dict[tuple[Any, ...], int] = {}
        written: dict[str, Any] = {}
        for part, entries in self._document.items():
            written[part] = {
                name: [held[0], clocks.setdefault(tuple(held[1]), len(clocks))]
                for name, held in entries.items()
            }
        written["clocks"] = list(clocks)
        return orjson.dumps(written)

    def begin(self) -> None:
        """Forget what was noted of changes: the next draft is another one."""
        self.before = {}
        self.changed = set()
        self.touched = False

    def forget_identity(self) -> None:
        """Drop what is not needed by rules: it stays at an ID system, and its history is not told either."""
        kept = _CLEAR | {f"attributes.{name}" for name in self._declared} | set(self._declared)
        values = self._document["values"]
        for name in [name for name in values if name not in kept]:
            del values[name]
            self.touched = True
        if self._document["identifiers"]:
            self._document["identifiers"] = {}
            self.touched = True

    def room_for(self, identifiers: Mapping[str, tuple[Known, Identifier]]) -> bool:
        """Say whether the record can hold these identifiers too."""
        return len(self._document["identifiers"].keys() | identifiers.keys()) <= IDENTIFIER_LIMIT

    def is_live(self, key: str) -> bool:
        """Say whether the record holds this identifier as one that may be relied on."""
        held = self._document["identifiers"].get(key)
        return held is not None and held[0].get("status") != "invalid"

    def searched_differently(self) -> bool:
        """Say whether a value changed since `begin` by which people are searched, or a search is narrowed."""
        return not _SEARCHED.isdisjoint(self.before) or not _NARROWING.isdisjoint(self.changed)

    def after(self) -> dict[str, Any]:
        """Return what the fields named in `before` are now."""
        return {name: self._value(name) for name in self.before}

    def merge(
        self,
        said: Person | Household,
        identifiers: Mapping[str, tuple[Known, Identifier]],
        clock: Clock,
        cleared: Iterable[str] = (),
    ) -> bool:
        """Take over what a draft says of the registrant where it is newer; return whether any value changed.

        `cleared` names fields, and attributes as `attributes.NAME`, that have no value any more.
        """
        values = self._document["values"]
        dumped = said.model_dump(mode="json", exclude=APART[self.kind], exclude_none=True)
        if self.kind == "group" and "kind" not in said.model_fields_set:
            del dumped["kind"]
        changed = False
        for name, value in dumped.items():
            if value not in ([], {}):
                changed |= self._set(values, name, value, clock)
        for name, value in said.attributes.items():
            changed |= self._set(values, f"attributes.{name}", value, clock)
        for name in cleared:
            if name == "death_date":
                changed |= self._fact("death", {"cancelled": True}, clock)
            elif name == "marital_status":
                changed |= self._fact("person", {"marital": None}, clock)
            else:
                changed |= self._set(values, name, None, clock)
        for key, (_, identifier) in identifiers.items():
            entry = identifier.model_dump(mode="json", exclude_none=True)
            changed |= self._set(self._document["identifiers"], key, entry, clock)
        if isinstance(said, Person):
            if said.death_date is not None:
                changed |= self._fact("death", {"date": str(said.death_date)}, clock)
            if said.marital_status is not None:
                changed |= self._fact("person", {"marital": said.marital_status.value}, clock)
        self._derive()
        return changed

    def merge_event(self, event: CivilEvent, at: datetime, turn: str) -> bool:
        """Take over what a vital event means for its subject; return whether any value changed."""
        kind = event.event_type
        fact: dict[str, Any] = {"cancelled": event.status is CivilEventStatus.CANCELLED}
        clock = clock_of(at, turn)
        name = kind.value
        changed = False
        if kind in (CivilEventType.DEATH, CivilEventType.FETAL_DEATH):
            when = event.event_date or event.subject.death_date
            fact["date"] = None if when is None else str(when)
        elif kind is CivilEventType.BIRTH:
            if event.event_date is not None and not fact["cancelled"] and event.subject.birthdate is None:
                changed = self._set(self._document["values"], "birthdate", str(event.event_date), clock)
        else:
            number = event.registration_number
            # A person marries and adopts more than once: the registry's number, else the day, tells one from another.
            name = f"{name}:{number.qualified if number else event.event_date}"
            if kind in _MARITAL:
                fact["marital"] = _MARITAL[kind]
                fact["holds"] = clock_of(at, turn, event.event_date)
        changed |= self._fact(name, fact, clock)
        self._derive()
        return changed

    def absorb(self, other: Record) -> dict[str, Any]:
        """Take over what another record of the same registrant has and this one lacks.

        Return for each part and name what was held before and what since, as `part_from` needs it.
        """
        taken: dict[str, Any] = {}
        for part, entries in other._document.items():
            mine, noted = self._document[part], taken.setdefault(part, {})
            for name, held in entries.items():
                before = mine.get(name)
                after = _joined(name, before, held) if part == "values" else _later(before, held)
                if after is not None:
                    self._note(mine, name, None if before is None else before[0])
                    mine[name] = after
                    noted[name] = [before, after]
        self._derive()
        return taken

    def part_from(self, taken: Mapping[str, Any]) -> set[str]:
        """Give back what `absorb` took, where nobody said anything else since; return the keys of identifiers given back."""
        parted = set()
        for part, entries in taken.items():
            mine = self._document[part]
            for name, (before, after) in entries.items():
                now = mine.get(name)
                if now == after:
                    left = before
                elif now is not None and name in _LISTS and part == "values":
                    had = before[0] if before else []
                    left = [[each for each in now[0] or [] if each in had or each not in after[0]], now[1]]
                else:
                    continue
                self._note(mine, name, None if now is None else now[0])
                if left is None:
                    del mine[name]
                else:
                    mine[name] = left
                if part == "identifiers":
                    parted.add(name)
        self._derive()
        return parted

    def identifiers(self) -> list[Identifier]:
        """Return the identifiers it holds, those no longer valid included."""
        return [Identifier.model_validate(held[0]) for held in self._document["identifiers"].values()]

    def person(self) -> Person:
        """Return the record as a canonical person, death and marital status as derived."""
        death = self._death()
        return Person.model_validate(
            self._shown()
            | {
                "person_id": self.id,
                "death_date": death.get("date") if death else None,
                "marital_status": self.columns.marital_status,
            }
        )

    def household(self, memberships: Sequence[Mapping[str, Any]] = ()) -> Household:
        """Return the record as a canonical household; its memberships do not lie in the record."""
        return Household.model_validate(self._shown() | {"household_id": self.id, "memberships": memberships})

    def canonical(self) -> Person | Household:
        """Return the record as what it is."""
        return self.person() if self.kind == "individual" else self.household()

    def _shown(self) -> dict[str, Any]:
        values = {name: held[0] for name, held in self._document["values"].items() if held[0] is not None}
        attributes = {name[11:]: values.pop(name) for name in list(values) if name.startswith("attributes.")}
        identifiers = [held[0] for held in self._document["identifiers"].values()]
        return values | {"attributes": attributes, "identifiers": identifiers}

    def _value(self, name: str) -> Any:
        place, _, key = name.partition("\x00")
        held = self._document[place].get(key) if key else self._document["values"].get(name)
        return None if held is None else held[0]

    def _set(self, place: dict[str, Any], name: str, value: Any, clock: Clock) -> bool:
        held = place.get(name)
        if held is not None and held[1] >= clock:
            return False
        place[name] = [value, clock]
        self.touched = True
        if value == (None if held is None else held[0]):
            return False
        if not self.created:
            self._note(place, name, None if held is None else held[0])
        return True

    def _note(self, place: dict[str, Any], name: str, old: Any) -> None:
        if place is self._document["values"]:
            if name in _CLEAR or name.removeprefix("attributes.") in self._declared:
                self.changed.add(name)
            else:
                self.before.setdefault(name, old)
        else:
            part = "identifiers" if place is self._document["identifiers"] else "facts"
            self.before.setdefault(f"{part}\x00{name}", old)

    def _fact(self, name: str, fact: dict[str, Any], clock: Clock) -> bool:
        facts = self._document["facts"]
        changed = self._set(facts, name, fact, clock)
        if len(facts) > _FACT_LIMIT:
            del facts[min(facts, key=lambda each: facts[each][1])]
        return changed

    def _death(self) -> dict[str, Any] | None:
        held = self._document["facts"].get("death")
        return held[0] if held is not None and not held[0].get("cancelled") else None

    def _derive(self) -> None:
        values, facts = self._document["values"], self._document["facts"]

        def value(name: str) -> Any:
            held = values.get(name)
            return None if held is None else held[0]

        if self._declared:
            self.attributes = promoted(((name, held[0]) for name, held in values.items()), self._declared)
        if not facts or self.kind == "group":
            self.columns = columns_of(self.kind, value)
            return
        lost, death = facts.get("fetal_death"), self._death()
        marital = max(
            (
                (fact.get("holds", clock), fact["marital"])
                for fact, clock in facts.values()
                if "marital" in fact and not fact.get("cancelled")
            ),
            default=(None, None),
        )[1]
        found = columns_of(self.kind, value, marital=marital)
        if death is not None:
            died = _date(death.get("date"))
            known = died is not None and died.precision is Precision.DAY
            found = found._replace(
                status="deceased", deathdate=died.first if died is not None and known else None
            )
        elif lost is not None and not lost[0]["cancelled"]:
            found = found._replace(status="inactive")
        self.columns = found


def columns_of(kind: Kind, value: Callable[[str], Any], *, marital: str | None = None) -> Columns:
    """Return what rules need in clear of the values of a registrant, whom no event concerns."""
    status = "inactive" if value("status") == "inactive" else "active"
    registered = _date(value("registration_date"))
    since = registered.first if registered else None
    if kind == "group":
        return Columns(
            status, value("kind") or "household", value("is_partial_group"), value("group_size"),
            area_code=value("area_code"), registration_date=since,
        )  # fmt: skip
    birth, rough = _birth(value("birthdate"))
    return Columns(
        status, None, None, None, value("sex"), birth, rough or bool(value("birthdate_not_exact")), None, marital,
        value("area_code"), since, value("language"),
    )  # fmt: skip


def promoted(values: Iterable[tuple[str, Any]], declared: Collection[str]) -> dict[str, Any]:
    """Return the declared attributes among values, which lie in clear; the canonical model's own fields go first."""
    found: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for name, value in values:
        if value is None:
            continue
        if name.startswith("attributes."):
            if name[11:] in declared:
                found[name[11:]] = value
        elif name in _PROMOTED and name in declared:
            own[name] = value
    return found | own


class _Turns:
    """Ever greater numbers, from any thread."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = Lock()

    def next(self) -> int:
        with self._lock:
            self._last = max(self._last + 1, time_ns())
            return self._last


_TURNS: Final = _Turns()


def turn_of() -> str:
    """Return what puts drafts without a message behind each other, and behind every message of their millisecond.

    It follows the clock, so that a process that goes on with another's work comes behind it.
    """
    return f"~{_TURNS.next():031x}"


@lru_cache(maxsize=4096)
def _date(text: str | None) -> PartialDate | None:
    return None if text is None else PartialDate.parse(text)


@lru_cache(maxsize=_DAYS)
def _birth(text: str | None) -> tuple[date | None, bool]:
    """Return the first day a birth date can be, and whether it is not known to the day."""
    if text is None:
        return None, False
    born = PartialDate.parse(text)
    return born.first, born.precision is not Precision.DAY


def _joined(name: str, before: list[Any] | None, held: list[Any]) -> list[Any] | None:
    """Return what a value is once another record's is taken over, None where it stays."""
    if held[0] is None or name in _OWN:
        return None
    if name in _LISTS and before is not None and before[0]:
        known = [_bare(each) for each in before[0]]
        new = [
            {**each, "use": "alias"} if name == "names" else each
            for each in held[0]
            if _bare(each) not in known
        ]
        whole = (before[0] + new)[:_LIST_LIMIT]
        return None if len(whole) == len(before[0]) else [whole, max(before[1], held[1])]
    # What somebody took away after the other value was said stays away.
    return held if before is None or (before[0] is None and before[1] < held[1]) else None


def _later(before: list[Any] | None, held: list[Any]) -> list[Any] | None:
    return held if before is None or before[1] < held[1] else None


def _bare(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in {"use", "preferred"}}
