"""People: individuals and groups by identifier, their memberships and history, and what a country says about them all."""

from registry.people.areas import Areas
from registry.people.documents import Documents
from registry.people.drafts import Draft, Written
from registry.people.events import Events
from registry.people.history import Version
from registry.people.listing import PeopleFilter, PeoplePage
from registry.people.reading import Member, Registrant
from registry.people.relationships import Relationships
from registry.people.store import EventResult, PeopleStore, PersonResult
from registry.people.vocabularies import Vocabularies
from registry.people.writing import Writer

__all__ = [
    "Areas",
    "Documents",
    "Draft",
    "EventResult",
    "Events",
    "Member",
    "PeopleFilter",
    "PeoplePage",
    "PeopleStore",
    "PersonResult",
    "Registrant",
    "Relationships",
    "Version",
    "Vocabularies",
    "Writer",
    "Written",
]
