"""One person's record as it lies sealed: values, each with the time of the fact it came from.

Facts may arrive in any order and more than once. Each value is replaced only by a fact of a later time, and vital
events are kept side by side with status and marital status derived from them, so that every order of arrival ends in
the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from canonical_model.civil_event import CivilEvent, CivilEventStatus, CivilEventType
from canonical_model.dates import PartialDate, Precision
from canonical_model.identifiers import Identifier
from canonical_model.person import Person
from registry.people.identity import Known

IDENTIFIER_LIMIT: Final = 200
_FACT_LIMIT: Final = 100
_APART: Final = {"person_id", "identifiers", "attributes", "death_date", "marital_status", "last_updated"}
_MARITAL: Final = {CivilEventType.MARRIAGE: "married", CivilEventType.DIVORCE: "divorced"}
_IN_ORDER: Final = orjson.OPT_SORT_KEYS

Clock = list[Any]
"""Milliseconds since which the fact holds, milliseconds at which it was said, the message's id: later is greater."""


class Columns(NamedTuple):
    """What rules need in clear."""

    status: str = "active"
    sex: str | None = None
    birthdate: date | None = None
    birthdate_not_exact: bool = False
    deathdate: date | None = None
    marital_status: str | None = None


def clock_of(at: datetime, message_id: UUID, holds_from: PartialDate | None = None) -> Clock:
    """Return the clock of a fact; `holds_from` orders facts of one life by when they happened, not when they were told."""
    said = int(at.timestamp() * 1000)
    holds = said
    if holds_from is not None:
        day = holds_from.first
        holds = min(said, int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000))
    return [holds, said, message_id.hex]


class Record:
    """A person's values, identifiers and vital facts; `touched` says that merging took something over."""

    def __init__(
        self, person_id: UUID, source: str, document: dict[str, Any] | None = None, version: int = 0
    ) -> None:
        self.id = person_id
        self.source = source
        self.version = version
        self._document: dict[str, Any] = document or {"values": {}, "identifiers": {}, "facts": {}}
        self.columns = self._derive()
        self.created = document is None
        self.touched = False

    @classmethod
    def from_bytes(cls, person_id: UUID, source: str, version: int, raw: bytes) -> Record:
        """Rebuild a record from its opened bytes."""
        return cls(person_id, source, orjson.loads(raw), version)

    def to_bytes(self) -> bytes:
        """Return the record as JSON, to be sealed."""
        return orjson.dumps(self._document, option=_IN_ORDER)

    def room_for(self, identifiers: Mapping[str, tuple[Known, Identifier]]) -> bool:
        """Say whether the record can hold these identifiers too."""
        return len(self._document["identifiers"].keys() | identifiers.keys()) <= IDENTIFIER_LIMIT

    def is_live(self, key: str) -> bool:
        """Say whether the record holds this identifier as one that may be relied on."""
        held = self._document["identifiers"].get(key)
        return held is not None and held[0].get("status") != "invalid"

    def merge_person(
        self, person: Person, identifiers: Mapping[str, tuple[Known, Identifier]], clock: Clock
    ) -> bool:
        """Take over what a message says of the person where it is newer; return whether any value changed."""
        values = self._document["values"]
        said = person.model_dump(mode="json", exclude=_APART, exclude_none=True)
        changed = False
        for name, value in said.items():
            if value not in ([], {}):
                changed |= self._set(values, name, value, clock)
        for name, value in person.attributes.items():
            changed |= self._set(values, f"attributes.{name}", value, clock)
        for key, (_, identifier) in identifiers.items():
            entry = identifier.model_dump(mode="json", exclude_none=True)
            changed |= self._set(self._document["identifiers"], key, entry, clock)
        if person.death_date is not None:
            changed |= self._fact("death", {"date": str(person.death_date)}, clock)
        if person.marital_status is not None:
            changed |= self._fact("person", {"marital": person.marital_status.value}, clock)
        return self._settle(changed)

    def merge_event(self, event: CivilEvent, at: datetime, message_id: UUID) -> bool:
        """Take over what a vital event means for its subject; return whether any value changed."""
        kind = event.event_type
        fact: dict[str, Any] = {"cancelled": event.status is CivilEventStatus.CANCELLED}
        clock = clock_of(at, message_id)
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
                fact["holds"] = clock_of(at, message_id, event.event_date)
        changed |= self._fact(name, fact, clock)
        return self._settle(changed)

    def person(self) -> Person:
        """Return the record as a canonical person, death and marital status as derived."""
        values = {name: held[0] for name, held in self._document["values"].items()}
        attributes = {name[11:]: values.pop(name) for name in list(values) if name.startswith("attributes.")}
        death = self._death()
        return Person.model_validate(
            values
            | {
                "person_id": self.id,
                "attributes": attributes,
                "identifiers": [held[0] for held in self._document["identifiers"].values()],
                "death_date": death.get("date") if death else None,
                "marital_status": self.columns.marital_status,
            }
        )

    def _set(self, place: dict[str, Any], name: str, value: Any, clock: Clock) -> bool:
        held = place.get(name)
        if held is not None and held[1] >= clock:
            return False
        place[name] = [value, clock]
        self.touched = True
        return held is None or held[0] != value

    def _fact(self, name: str, fact: dict[str, Any], clock: Clock) -> bool:
        facts = self._document["facts"]
        changed = self._set(facts, name, fact, clock)
        if len(facts) > _FACT_LIMIT:
            del facts[min(facts, key=lambda each: facts[each][1])]
        return changed

    def _settle(self, changed: bool) -> bool:
        self.columns = self._derive()
        return changed

    def _death(self) -> dict[str, Any] | None:
        held = self._document["facts"].get("death")
        return held[0] if held is not None and not held[0].get("cancelled") else None

    def _derive(self) -> Columns:
        values, facts = self._document["values"], self._document["facts"]

        def value(name: str) -> Any:
            held = values.get(name)
            return None if held is None else held[0]

        status = "inactive" if value("status") == "inactive" else "active"
        lost = facts.get("fetal_death")
        if lost is not None and not lost[0]["cancelled"]:
            status = "inactive"
        death = self._death()
        birth = None if value("birthdate") is None else PartialDate.parse(value("birthdate"))
        died = PartialDate.parse(death["date"]) if death and death.get("date") else None
        marital = max(
            (
                (fact.get("holds", clock), fact["marital"])
                for fact, clock in facts.values()
                if "marital" in fact and not fact.get("cancelled")
            ),
            default=(None, None),
        )[1]
        return Columns(
            status="deceased" if death is not None else status,
            sex=value("sex"),
            birthdate=birth.first if birth else None,
            birthdate_not_exact=bool(value("birthdate_not_exact"))
            or (birth is not None and birth.precision is not Precision.DAY),
            deathdate=died.first if died is not None and died.precision is Precision.DAY else None,
            marital_status=marital,
        )
