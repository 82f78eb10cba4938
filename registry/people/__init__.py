"""The thin people store: persons by identifier and the vital events recorded of them."""

from registry.people.store import EventResult, PeopleStore, PersonResult, PersonSummary

__all__ = ["EventResult", "PeopleStore", "PersonResult", "PersonSummary"]
