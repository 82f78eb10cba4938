"""People whose identity stays at an ID system: which they are, what of them the hub keeps, and what it asks for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import ValidationError

from canonical_model.errors import Defect, Refused
from canonical_model.identifiers import Identifier
from canonical_model.person import Person
from registry.people.identity import Known

Indexes = Literal["token", "identifiers", "names"]
KEPT: Final = (
    "person_id", "sex", "birthdate", "birthdate_not_exact", "area_code", "language", "status", "registration_date",
    "death_date", "marital_status", "last_updated",
)  # fmt: skip
"""What rules need of a person, which lies in clear anyway; everything else is the ID system's."""
_SAID: Final = ("names", "contact_points", "accounts")
_EVERYBODY: Final = "*"


@dataclass(frozen=True, slots=True)
class Referring:
    """Whose identity stays at which ID system, and what a country allows to be indexed of it."""

    system: str
    identifier: str
    """Namespace of the system's token, else its type: the identifier of this name is what the hub asks with."""
    sources: tuple[str, ...] = (_EVERYBODY,)
    """Sources of people who are kept so, as patterns (`urn:gov:xx:*`)."""
    indexes: Indexes = "token"
    """What is looked up by keyed hashes: the token alone, all identifiers, or names and contacts too."""

    @property
    def everybody(self) -> bool:
        """Whether nobody's identity is kept here."""
        return _EVERYBODY in self.sources

    def covers(self, source: str) -> bool:
        """Say whether people of a source are kept by reference."""
        return any(fnmatchcase(source, each) for each in self.sources)

    def token(self, identifiers: Mapping[str, tuple[Known, Identifier]]) -> tuple[Known, str] | None:
        """Return the token among the identifiers of a draft, None where there is none."""
        for known, identifier in identifiers.values():
            if known.type == self.identifier and known.live:
                return known, identifier.value
        return None

    def indexed(
        self, identifiers: Mapping[str, tuple[Known, Identifier]]
    ) -> dict[str, tuple[Known, Identifier]]:
        """Return the identifiers that may be looked up by."""
        if self.indexes != "token":
            return dict(identifiers)
        return {key: both for key, both in identifiers.items() if both[0].type == self.identifier}

    def missing(self, what: str) -> Refused:
        """Return the refusal of a person without a token."""
        return Refused(
            f"A person of {what} came without a token of the ID system {self.system} ({self.identifier}); nothing was kept.",
            code="reference-missing",
            remedy="Have the ID system give a token for the person first, and send it as an identifier.",
        )


def stripped(said: Person, declared: Collection[str]) -> Person:
    """Return what the hub keeps of what somebody says of a person whose identity stays at an ID system."""
    given = {
        name: getattr(said, name)
        for name in said.model_fields_set
        if name in KEPT or (name in declared and name != "attributes")
    }
    attributes = {name: value for name, value in said.attributes.items() if name in declared}
    return Person.model_validate(given | ({"attributes": attributes} if attributes else {}))


def speaks(said: Person) -> bool:
    """Say whether a draft has values by which people are searched."""
    return any(getattr(said, name) for name in _SAID)


def joined(registrant_id: UUID, here: Person, document: bytes, system: str) -> Person:
    """Return a person whole: the identity as the ID system told it, and what the hub knows itself, which goes first.

    Raises `Defect` (`identity-invalid`) for a document that is no canonical person.
    """
    try:
        told = Person.model_validate_json(document)
        own = {
            name: value
            for name, value in here.model_dump(mode="json", exclude_unset=True, exclude_none=True).items()
            if value not in ([], {})
        }
        whole: dict[str, Any] = told.model_dump(mode="json", exclude_unset=True, exclude_none=True) | own
        return Person.model_validate(whole)
    except ValidationError:
        pass
    # Outside of `except`, since the caught error holds the data and must not come along as the context.
    raise Defect(
        f"The ID system {system} told something of registrant {registrant_id} that is no canonical person; it was not shown.",
        code="identity-invalid",
        remedy="Correct the connector or mapping of the ID system.",
    )


def unknown(registrant_id: UUID, system: str) -> Refused:
    """Return the refusal to show somebody whom the ID system does not know any more."""
    return Refused(
        f"The ID system {system} does not know the token of registrant {registrant_id} any more; no identity was shown.",
        code="identity-unknown",
        remedy="Ask the ID system what became of the person, then send the new token from the source.",
    )


def unconfigured(registrant_id: UUID) -> Refused:
    """Return the refusal to show somebody kept by reference while no ID system is configured."""
    return Refused(
        f"Registrant {registrant_id} is kept by reference, and this process knows no ID system to ask; no identity was shown.",
        code="reference-unconfigured",
        remedy="Set HUB_REFERENCE_SYSTEM and HUB_REFERENCE_IDENTIFIER as they were when the person was written.",
    )
