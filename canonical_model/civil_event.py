"""Vital events as a civil registry records and announces them."""

from __future__ import annotations

from enum import StrEnum

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.contact import Place
from canonical_model.dates import PartialDate
from canonical_model.identifiers import Identifier
from canonical_model.localized import Code, Text
from canonical_model.names import PersonName
from canonical_model.person import Person


class CivilEventType(StrEnum):
    """The vital events of the DCI civil registry standard."""

    BIRTH = "birth"
    DEATH = "death"
    FETAL_DEATH = "fetal_death"
    MARRIAGE = "marriage"
    DIVORCE = "divorce"
    ADOPTION = "adoption"


class CivilEventStatus(StrEnum):
    """What the registry did with its record of the event."""

    REGISTERED = "registered"
    CORRECTED = "corrected"
    CANCELLED = "cancelled"


class CivilEventRole(StrEnum):
    """What a related person is to the subject or the event; the subject's parents have fields of their own."""

    SPOUSE = "spouse"
    ADOPTIVE_PARENT = "adoptive_parent"
    CHILD = "child"
    INFORMANT = "informant"
    WITNESS = "witness"
    OTHER = "other"


class RelatedPerson(CanonicalModel):
    """A person who has a part in an event, known by identifier, by name or both."""

    role: CivilEventRole = private(Privacy.PUBLIC)
    identifiers: tuple[Identifier, ...] = private(Privacy.IDENTIFIER, default=(), max_length=20)
    name: PersonName | None = private(Privacy.PERSONAL, default=None)


class CivilEvent(CanonicalModel):
    """A registry's record of one vital event: whose, what, when, where, with whom.

    The subject is the child, the deceased, one spouse or the adopted person, with the state of their record after the
    event. The subject's parents stand in `parent1_identifier` and `parent2_identifier`, in the order of the registry.
    """

    event_type: CivilEventType = private(Privacy.PUBLIC)
    status: CivilEventStatus = private(Privacy.PUBLIC, default=CivilEventStatus.REGISTERED)
    subject: Person = private(Privacy.PERSONAL)
    parent1_identifier: Identifier | None = private(Privacy.IDENTIFIER, default=None)
    parent2_identifier: Identifier | None = private(Privacy.IDENTIFIER, default=None)
    related_persons: tuple[RelatedPerson, ...] = private(Privacy.PERSONAL, default=(), max_length=50)
    event_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    event_place: Place | None = private(Privacy.PERSONAL, default=None)
    registration_number: Identifier | None = private(
        Privacy.IDENTIFIER, default=None, description="The registry's number of the record (BRN, DRN, MRN)."
    )
    registration_date: PartialDate | None = private(Privacy.PERSONAL, default=None)
    registration_office: Text | None = private(Privacy.PERSONAL, default=None)
    registry: Code | None = private(Privacy.PUBLIC, default=None, description="Code of the civil registry.")
    cause: Text | None = private(
        Privacy.SENSITIVE, default=None, description="Cause of a death, when the registry says it."
    )
