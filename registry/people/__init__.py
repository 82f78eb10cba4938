"""The people store: individuals and groups by identifier, their memberships, history and events."""

from registry.people.drafts import Draft, Written
from registry.people.reading import Member, Registrant
from registry.people.store import EventResult, PeopleStore, PersonResult
from registry.people.writing import Writer

__all__ = ["Draft", "EventResult", "Member", "PeopleStore", "PersonResult", "Registrant", "Writer", "Written"]
