"""Every attribute there is: the built-in ones and those a country declares, by kind of registrant, programme and event."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Literal, NamedTuple

from canonical_model.errors import Refused
from registry.attributes.attribute import Attribute, ValueType
from registry.attributes.builtin import BUILT_IN, ROLES
from registry.attributes.schema import Subject

Kind = Literal["individual", "group"]
KINDS: Final[tuple[Kind, ...]] = ("individual", "group")
_SHOWN: Final = 20


class Problem(NamedTuple):
    """What is wrong with one value: where, and the rule it breaks; never the value."""

    pointer: str
    rule: str


@dataclass(frozen=True)
class Catalog:
    """The attributes in force; a value of its own, so that a rule compiled against it never changes its meaning."""

    subjects: Mapping[str, Subject] = field(default_factory=dict)

    @classmethod
    def of(cls, subjects: Iterable[Subject]) -> Catalog:
        """Return a catalog of these subjects, each of which stands in it by its name."""
        return cls({one.name: one for one in subjects})

    def declared(self, kind: Kind, program: str | None = None) -> dict[str, Attribute]:
        """Return the attributes that lie in `registrant.attributes`: the kind's own, then those of one programme."""
        found: dict[str, Attribute] = {}
        for subject in self._subjects(kind, program):
            found |= subject.attributes
        return found

    def attributes(self, kind: Kind, program: str | None = None) -> dict[str, Attribute]:
        """Return all attributes of a kind of registrant, the built-in ones first."""
        return dict(BUILT_IN[kind]) | self.declared(kind, program)

    def member_attributes(self, program: str | None = None) -> dict[str, Attribute]:
        """Return the attributes of a member of a group: those of an individual, and the roles."""
        return self.attributes("individual", program) | {ROLES.name: ROLES}

    def events(self) -> dict[str, Mapping[str, Attribute]]:
        """Return the declared event types with the attributes of each."""
        prefix = "event:"
        return {
            name.removeprefix(prefix): one.attributes
            for name, one in self.subjects.items()
            if name.startswith(prefix)
        }

    def subject(self, name: str) -> Subject:
        """Return one subject; raises `Refused` `attribute-subject-unknown`."""
        found = self.subjects.get(name)
        if found is None:
            near = get_close_matches(name, self.subjects, 1)
            raise Refused(
                f"No attributes are declared for `{name[:80]}`.",
                code="attribute-subject-unknown",
                remedy=f"Did you mean `{near[0]}`?" if near else "`hub attributes list` shows what there is.",
            )
        return found

    def split(
        self, kind: Kind, attributes: Mapping[str, Any], program: str | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the declared attributes, which lie in clear, and the others, which stay sealed; absent values drop out."""
        names = {
            name
            for subject in self._subjects(kind, program, all_programs=program is None)
            for name in subject.attributes
        }
        clear = {name: value for name, value in attributes.items() if name in names and value is not None}
        sealed = {name: value for name, value in attributes.items() if name not in names}
        return clear, sealed

    def problems(
        self, kind: Kind, attributes: Mapping[str, Any], program: str | None = None
    ) -> list[Problem]:
        """Return what the declared schemas say against the clear attributes of one record, at most 20 places."""
        found: list[Problem] = []
        for subject in self._subjects(kind, program, all_programs=program is None):
            own = {
                name: value
                for name, value in attributes.items()
                if name in subject.attributes and value is not None
            }
            if subject.name.startswith("program:") and not own:
                continue
            for error in subject.validator.iter_errors(own):
                found.append(_problem(error))
                if len(found) == _SHOWN:
                    return found
        return found

    def check(self, kind: Kind, attributes: Mapping[str, Any], program: str | None = None) -> None:
        """Hold the clear attributes of one record to the schemas; raises `Refused` `attributes-invalid`, without values."""
        found = self.problems(kind, attributes, program)
        if found:
            raise Refused(
                f"The attributes break their schema at {'; '.join(f'{p}: {rule}' for p, rule in found)}. Nothing was stored.",
                code="attributes-invalid",
                pointer=found[0].pointer,
                remedy=f"Correct the places named; `hub attributes show {kind}` shows what is declared.",
            )

    def _subjects(self, kind: Kind, program: str | None, *, all_programs: bool = False) -> list[Subject]:
        own = [self.subjects[kind]] if kind in self.subjects else []
        return own + [
            one
            for name, one in sorted(self.subjects.items())
            if name.startswith("program:")
            and one.registrant == kind
            and (all_programs or name == f"program:{program}")
        ]


def _problem(error: Any) -> Problem:
    """Say a validation error without the value: the library's own sentence repeats it."""
    kind = error.kind.name
    path = list(error.instance_path)
    if kind == "required":
        return Problem(f"/attributes/{error.kind.property}", "required")
    pointer = "/attributes" + "".join(f"/{part}" for part in path)
    limits = {
        "maximum": "limit",
        "minimum": "limit",
        "maxLength": "limit",
        "format": "format",
        "enum": "options",
    }
    limit = getattr(error.kind, limits[kind], None) if kind in limits else None
    if kind == "type":
        limit = ", ".join(sorted(map(str, error.kind.types)))
    if isinstance(limit, list):
        limit = ", ".join(map(str, limit[:20])) + (" …" if len(limit) > 20 else "")
    return Problem(pointer, f"{kind} {limit}" if limit is not None else kind)


def sql_of(attribute: Attribute, alias: str) -> str:
    """Return the SQL that reads an attribute of the registrant `alias`; the name comes from a catalog, never from a user."""
    if attribute.column is not None:
        column = f'{alias}."{attribute.column}"'
        if attribute.type is ValueType.DATE:
            # Days without end, and beyond four digits of the year, are no dates anywhere else.
            return f"CASE WHEN {column} BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN {column} END"
        return f"{column}::numeric" if attribute.type is ValueType.INTEGER else column
    return json_sql(attribute, f"{alias}.attributes")


def json_sql(attribute: Attribute, document: str) -> str:
    """Return the SQL that reads an attribute out of a jsonb document, null where it has not the declared form."""
    if not attribute.name.replace("_", "a").isalnum() or not attribute.name.isascii():
        raise ValueError("an attribute's name is small letters, digits and underscores")
    return f"attribute_{attribute.type.value}({document}->'{attribute.name}')"
