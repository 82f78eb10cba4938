"""From the cells of a row to a canonical person or household, with every problem at its column."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError

from canonical_model.household import Household
from canonical_model.person import Person
from registry.attributes import Attribute, ValueType
from registry.imports import values
from registry.imports.columns import Column, ColumnMapping, Kind
from registry.imports.corrections import unquoted
from registry.imports.files import Problem, Row

_is_clean: Final = re.compile(r"[!-&(-~]+(?: [!-~]+)*\Z").match
"""Text of ASCII words with one blank between them and no quote before: cleaning leaves it as it is."""
_TEXTS: Final = {"family_name", "given_name", "addl_name", "full_name"}
_NONE: Final[frozenset[str | None]] = frozenset()
_NUMBERS_AS_TEXT: Final = frozenset({"identifier", "phone", "account", "household"})
_PEOPLE_OF_MODEL: Final = {
    "names": ("full_name", "family_name", "given_name", "addl_name"),
    "identifiers": ("identifier",),
    "contact_points": ("phone", "email"),
    "addresses": ("address",),
    "accounts": ("account",),
    "birth_place": ("birth_place",),
    "area_code": ("area",),
}
"""Which fields of a row a part of the canonical model was filled from."""


@dataclass(slots=True)
class Belonging:
    """The household a row places its person in, by identifier, and the role there."""

    id_type: str
    value: str
    role: str | None = None


@dataclass(slots=True)
class RowRead:
    """One row made ready: the canonical value, or what is wrong."""

    number: int
    value: Person | Household | None
    belongs: Belonging | None = None
    problems: list[Problem] = field(default_factory=list)


Setter = Callable[[dict[str, Any], str], None]


class RowReader:
    """Reads rows of one file by its mapping; built once, used for every row.

    `attributes` are the declared ones; `areas` says whether an area code is known, where that is checked; `region` is the
    country of phone numbers without country code.
    """

    def __init__(
        self,
        mapping: ColumnMapping,
        meaning: Sequence[Column | None],
        *,
        attributes: Mapping[str, Attribute] | None = None,
        areas: Callable[[str], bool] | None = None,
        region: str | None = None,
    ) -> None:
        self.kind = mapping.kind
        self._mapping = mapping
        self._attributes = attributes or {}
        self._areas = areas
        self._region = region
        self._columns: list[tuple[int, Column, Setter]] = [
            (place, column, self._setter(column))
            for place, column in enumerate(meaning)
            if column is not None and (column.field is not None or column.attribute is not None)
        ]
        self._named: dict[str, str] = {}
        for _, column, _ in self._columns:
            self._named.setdefault(column.field or f"attribute.{column.attribute}", column.column)

    def read(self, row: Row) -> RowRead:
        """Return what a row says; with a problem in it there is no value."""
        problems = list(row.problems)
        broken = {problem.column for problem in problems} if problems else _NONE
        said: dict[str, Any] = {}
        for place, column, put in self._columns:
            cell = row.cells[place]
            if cell is None or cell == "" or column.column in broken:
                continue
            plain = isinstance(cell, str) and _is_clean(cell)
            text = cell if plain else self._text(cell, column, problems)
            if not text:
                continue
            try:
                if not column.separator:
                    put(said, text)
                    continue
                for piece in text.split(column.separator):
                    if piece.strip():
                        put(said, piece.strip())
            except ValueError as error:
                problems.append(Problem("cell-invalid", str(error), column.column))
        if problems:
            return RowRead(row.number, None, None, problems)
        return self._finish(row.number, said)

    def _text(self, cell: Any, column: Column, problems: list[Problem]) -> str:
        if isinstance(cell, str):
            return values.clean(unquoted(cell))
        if isinstance(cell, bool):
            return "true" if cell else "false"
        if isinstance(cell, int | float):
            if column.field in _NUMBERS_AS_TEXT:
                problems.append(
                    Problem(
                        "cell-is-number",
                        "The cell is a number, which loses leading zeros and long digits; format the column as text.",
                        column.column,
                    )
                )
                return ""
            return str(int(cell)) if float(cell).is_integer() else repr(cell)
        if isinstance(cell, list) and all(isinstance(one, str) for one in cell) and column.separator:
            return column.separator.join(values.clean(one) for one in cell)
        problems.append(Problem("cell-invalid", "The cell holds neither text nor a number.", column.column))
        return ""

    def _finish(self, number: int, said: dict[str, Any]) -> RowRead:
        belongs = said.pop("household", None)
        role = said.pop("role", None)
        found = RowRead(number, None)
        if belongs is not None:
            belongs.role = role or None
            found.belongs = belongs
        elif role:
            found.problems.append(
                Problem(
                    "role-without-household", "The row has a role and no household.", self._named.get("role")
                )
            )
        name = said.pop("name", None)
        if self.kind is Kind.INDIVIDUAL:
            if name is not None:
                said["names"] = [name]
            else:
                found.problems.append(
                    Problem("name-missing", "The row names nobody.", self._named.get("full_name"))
                )
        elif name is not None:
            said["name"] = name["full_name"]
        if found.problems:
            return found
        model: type[Person | Household] = Person if self.kind is Kind.INDIVIDUAL else Household
        try:
            found.value = model.model_validate(said)
        except ValidationError as error:
            found.problems = [
                self._problem(one) for one in error.errors(include_input=False, include_url=False)
            ]
        return found

    def _problem(self, error: Any) -> Problem:
        place = [str(step) for step in error["loc"]]
        fields = _PEOPLE_OF_MODEL.get(place[0], (place[0],)) if place else ()
        if place and place[0] == "attributes" and len(place) > 1:
            fields = (f"attribute.{place[1]}",)
        last = place[-1] if place else ""
        column = self._named.get(last) or next(
            (self._named[one] for one in fields if one in self._named), None
        )
        return Problem("cell-invalid", f"The value breaks the canonical model: {error['msg']}.", column)

    def _setter(self, column: Column) -> Setter:
        if column.attribute is not None:
            return self._attribute(column)
        kind = column.field
        assert kind is not None
        if kind in _TEXTS:
            return lambda said, text: said.setdefault("name", {}).__setitem__(kind, text)
        order = column.dates or self._mapping.dates
        simple: dict[str, tuple[str, values.Reader]] = {
            "birthdate": ("birthdate", values.day(order)),
            "birthdate_not_exact": ("birthdate_not_exact", values.boolean),
            "registration_date": ("registration_date", values.day(order)),
            "sex": ("sex", values.code(values.SEX, column.codes)),
            "marital_status": ("marital_status", values.code(values.MARITAL, column.codes)),
            "occupation": ("occupation", str),
            "language": ("language", str),
            "disabled_reason": ("disabled_reason", str),
            "birth_place": ("birth_place", lambda text: {"name": text}),
            "role": ("role", values.code(values.ROLES, column.codes)),
            "group_kind": ("kind", values.code(values.GROUPS, column.codes)),
            "group_size": ("group_size", values.whole),
        }
        if kind in simple:
            name, read = simple[kind]
            return lambda said, text: said.__setitem__(name, read(text))
        return self._composed(kind, column, order)

    def _composed(self, kind: str, column: Column, order: Any) -> Setter:
        if kind == "identifier":
            id_type = column.id_type or "ID"
            urn = {"namespace": id_type} if id_type.startswith("urn:") else {}
            short = id_type.rpartition(":")[2] if urn else id_type
            return lambda said, text: said.setdefault("identifiers", []).append(
                {"id_type": short, "value": text, **urn}
            )
        if kind == "phone":
            phone = values.phone(self._region)
            return lambda said, text: said.setdefault("contact_points", []).append(
                {"kind": "phone", "value": phone(text)}
            )
        if kind == "email":
            return lambda said, text: said.setdefault("contact_points", []).append(
                {"kind": "email", "value": text.lower()}
            )
        if kind == "address":
            return lambda said, text: said.setdefault("addresses", []).append({"text": text})
        if kind == "account":
            provider = {"provider": column.provider} if column.provider else {}
            return lambda said, text: said.setdefault("accounts", []).append(
                {"kind": "bank", "account_number": text, **provider}
            )
        if kind == "area":
            return self._area
        if kind == "income":
            if column.currency is None:

                def nameless(said: dict[str, Any], text: str) -> None:
                    raise ValueError(
                        "The currency of the column is not known; name it in the mapping (currency)."
                    )

                return nameless
            money = values.money(column.currency)
            return lambda said, text: said.__setitem__("income", money(text))
        if kind == "household":
            return lambda said, text: said.__setitem__("household", Belonging(column.id_type or "HH", text))
        day = values.day(order)

        def disabled(said: dict[str, Any], text: str) -> None:
            day(text)
            said["status"] = "inactive"

        return disabled

    def _area(self, said: dict[str, Any], text: str) -> None:
        if self._areas is not None and not self._areas(text):
            raise ValueError("The area is not known to the hub; import areas first, or correct the code.")
        said["area_code"] = text

    def _attribute(self, column: Column) -> Setter:
        name = column.attribute
        assert name is not None
        declared = self._attributes.get(name)
        readers: dict[ValueType, values.Reader] = {
            ValueType.INTEGER: values.whole,
            ValueType.NUMBER: values.number,
            ValueType.BOOLEAN: values.boolean,
            ValueType.DATE: values.day(column.dates or self._mapping.dates),
        }
        read = readers.get(declared.type, str) if declared is not None else str
        codes = {values.word(key): value for key, value in column.codes.items()}
        allowed = declared.codes if declared is not None else None
        by_word = {values.word(one): one for one in allowed} if allowed is not None else None

        def put(said: dict[str, Any], text: str) -> None:
            value = read(codes.get(values.word(text), text) if codes else text)
            if by_word is not None:
                try:
                    value = by_word[values.word(str(value))]
                except KeyError:
                    raise ValueError("The word is not on the attribute's code list.") from None
            place = said.setdefault("attributes", {})
            if column.separator:
                place.setdefault(name, []).append(value)
            else:
                place[name] = value

        return put
