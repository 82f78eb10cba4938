"""The people store: individuals and groups by identifier, their memberships, history and events."""

from registry.people.drafts import Draft, Written
from registry.people.reading import Registrant
from registry.people.store import EventResult, PeopleStore, PersonResult
from registry.people.writing import Writer

__all__ = ["Draft", "EventResult", "PeopleStore", "PersonResult", "Registrant", "Writer", "Written"]
