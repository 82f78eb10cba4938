"""What a column of a file means: the fields there are, the mapping that is saved, and the suggestion for a new file."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from rapidfuzz import fuzz, process

from canonical_model.errors import Refused
from canonical_model.money import CurrencyCode

_ALIKE: Final = 88.0
"""From this likeness in percent a column's name is taken for a field's."""


class Kind(StrEnum):
    """What the rows of a file are."""

    INDIVIDUAL = "individual"
    GROUP = "group"


class DateOrder(StrEnum):
    """How dates are written; the separator may be a hyphen, slash, dot or blank."""

    YMD = "YYYY-MM-DD"
    DMY = "DD-MM-YYYY"
    MDY = "MM-DD-YYYY"


FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "identifier": ("id", "identifier", "registrant id", "national id", "nid", "uin", "identity number", "id number"),
    "family_name": ("family name", "surname", "last name", "nom", "nom de famille", "apellido", "apellidos"),
    "given_name": ("given name", "first name", "forename", "prenom", "nombre", "nombres"),
    "addl_name": ("additional name", "middle name", "other names", "second name"),
    "full_name": ("name", "full name", "nom complet", "nombre completo", "household name", "group name"),
    "birthdate": ("date of birth", "birth date", "dob", "birthday", "date de naissance", "fecha de nacimiento"),
    "birthdate_not_exact": ("birthdate not exact", "approximate", "estimated birth date"),
    "birth_place": ("place of birth", "birth place", "lieu de naissance"),
    "sex": ("gender", "sex", "sexe", "sexo"),
    "marital_status": ("civil status", "marital status", "etat civil", "estado civil"),
    "phone": ("phone", "phone number", "mobile", "mobile number", "telephone", "tel", "telefono", "msisdn"),
    "email": ("email", "e mail", "email id", "email address", "mail"),
    "address": ("address", "street address", "adresse", "direccion"),
    "area": ("area", "area code", "p code", "pcode", "region code", "district code", "village code"),
    "account": ("account number", "bank account", "iban", "account no", "wallet"),
    "occupation": ("occupation", "profession", "job"),
    "income": ("income", "monthly income"),
    "language": ("language", "preferred language", "langue"),
    "registration_date": ("registration date", "registered on", "date registered"),
    "disabled": ("date disabled", "disabled on"),
    "disabled_reason": ("disabled reason", "reason disabled"),
    "household": ("household", "household id", "household number", "group", "group id", "family id", "menage", "hogar"),
    "role": ("role", "membership role", "relationship to head", "relation to head", "household role"),
    "group_kind": ("kind", "group kind", "group type"),
    "group_size": ("group size", "household size", "number of members"),
}  # fmt: skip
"""The fields of a row and the names by which people call them (casefolded, without accents and punctuation)."""

OF_GROUPS: Final = frozenset(
    {
        "identifier", "full_name", "phone", "email", "address", "area", "registration_date", "disabled",
        "disabled_reason", "group_kind", "group_size",
    }
)  # fmt: skip
MANY: Final = frozenset({"identifier", "phone", "email", "account"})
"""Fields that several columns may fill."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Column(_Part):
    """What one column of a file means; exactly one of `field` and `attribute`, or neither for a column left out."""

    column: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    field: Literal[
        "identifier", "family_name", "given_name", "addl_name", "full_name", "birthdate", "birthdate_not_exact",
        "birth_place", "sex", "marital_status", "phone", "email", "address", "area", "account", "occupation", "income",
        "language", "registration_date", "disabled", "disabled_reason", "household", "role", "group_kind", "group_size",
    ] | None = None  # fmt: skip
    attribute: Annotated[str | None, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=64)] = None
    id_type: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:#/|+-]*$", max_length=100)] | None = None
    """Of an identifier or household: its type, or the URN of its namespace."""
    dates: DateOrder | None = None
    currency: CurrencyCode | None = None
    provider: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:#/|+-]*$", max_length=100)] | None = (
        None
    )
    codes: dict[str, str] = Field(default_factory=dict, max_length=500)
    """What the file's own words mean, beside those the hub knows: `{"Chef": "head"}`."""
    separator: Annotated[str, Field(min_length=1, max_length=3)] | None = None
    """What stands between several values in one cell."""

    @model_validator(mode="after")
    def _means_one_thing(self) -> Self:
        if self.field is not None and self.attribute is not None:
            raise ValueError("a column is a field or an attribute, not both")
        if self.id_type is not None and self.field not in {"identifier", "household"}:
            raise ValueError("id_type belongs to an identifier or household")
        if self.currency is not None and self.field != "income":
            raise ValueError("currency belongs to income")
        return self


class ColumnMapping(_Part):
    """What every column of a kind of file means; saved by name and used again for the next file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")] = "unnamed"
    kind: Kind = Kind.INDIVIDUAL
    dates: DateOrder = DateOrder.YMD
    columns: tuple[Column, ...] = Field(max_length=500)

    @model_validator(mode="after")
    def _fills_each_field_once(self) -> Self:
        seen: set[tuple[str, str | None]] = set()
        for one in self.columns:
            if one.field is None and one.attribute is None:
                continue
            key = (one.field or f"attribute {one.attribute}", one.id_type if one.field in MANY else None)
            if key in seen and one.field not in MANY:
                raise ValueError(f"two columns fill {key[0]}")
            seen.add(key)
            if self.kind is Kind.GROUP and one.field is not None and one.field not in OF_GROUPS:
                raise ValueError(f"a group has no {one.field}")
        return self

    def by_column(self) -> dict[str, Column]:
        """Return the columns by their names, casefolded."""
        return {one.column.casefold(): one for one in self.columns}


def plain(name: str) -> str:
    """Return a column's name as it is compared: casefolded, without accents, punctuation and units in brackets."""
    text = unicodedata.normalize("NFKD", name.casefold())
    text = "".join(sign for sign in text if not unicodedata.combining(sign))
    text = re.sub(r"\([^)]*\)", " ", text)
    return " ".join(re.sub(r"[^\w]+|_", " ", text).split())


_BY_NAME: Final = {alias: name for name, aliases in FIELDS.items() for alias in (plain(name), *aliases)}


def suggest(
    header: Sequence[str],
    samples: Mapping[str, Sequence[str]],
    *,
    kind: Kind,
    attributes: Collection[str] = (),
    name: str = "unnamed",
) -> ColumnMapping:
    """Return what the columns probably mean; a column that is like nothing known is left out, never guessed at.

    `samples` are some values of each column, for the order of dates; `attributes` are the names the country declares.
    """
    own = {plain(one): one for one in attributes}
    taken: set[str] = set()
    columns = []
    for column in header:
        if not column:
            continue
        word = plain(column)
        field = _field(word, kind, own)
        if field is not None and field not in MANY and field in taken:
            field = None
        if field is not None:
            taken.add(field)
            order = date_order(samples.get(column, ())) if field in _DATES else None
            id_type = _id_type(column) if field == "identifier" else "HH" if field == "household" else None
            columns.append(Column(column=column, field=field, id_type=id_type, dates=order))
        elif word in own and own[word] not in taken:
            taken.add(own[word])
            columns.append(Column(column=column, attribute=own[word]))
        else:
            columns.append(Column(column=column))
    return ColumnMapping(name=name, kind=kind, columns=tuple(columns))


_DATES: Final = frozenset({"birthdate", "registration_date", "disabled"})


def _field(word: str, kind: Kind, own: Mapping[str, str]) -> str | None:
    if word in own:
        return None
    known = (
        _BY_NAME
        if kind is Kind.INDIVIDUAL
        else {key: one for key, one in _BY_NAME.items() if one in OF_GROUPS}
    )
    if word in known:
        return known[word]
    near = process.extractOne(word, known.keys(), scorer=fuzz.ratio, score_cutoff=_ALIKE)
    return None if near is None or len(word) < 5 else known[near[0]]


def _id_type(column: str) -> str:
    """Return an identifier's type after its column's name: `National ID` becomes `NATIONAL_ID`."""
    return re.sub(r"[^A-Z0-9]+", "_", plain(column).upper()).strip("_") or "ID"


_THREE: Final = re.compile(r"^\s*(\d{1,4})[-/. ](\d{1,2})[-/. ](\d{1,4})\s*$")


def date_order(values: Iterable[str]) -> DateOrder | None:
    """Return the one order of day, month and year that all values fit, None where none does or more than one."""
    fits = set(DateOrder)
    seen = False
    for value in values:
        match = _THREE.match(str(value))
        if match is None:
            continue
        seen = True
        first, middle, last = match.groups()
        if len(first) == 4:
            fits &= {DateOrder.YMD}
        else:
            fits -= {DateOrder.YMD}
            if int(first) > 12:
                fits -= {DateOrder.MDY}
            if int(middle) > 12:
                fits -= {DateOrder.DMY}
            if len(last) != 4:
                return None
    return next(iter(fits)) if seen and len(fits) == 1 else None


def fit(mapping: ColumnMapping, header: Sequence[str]) -> list[Column | None]:
    """Return the meaning of each column of a header, in its order; None for one the mapping does not know.

    Raises `Refused` (`import-columns-missing`) when the file lacks a column that the mapping gives a meaning.
    """
    known = mapping.by_column()
    present = {name.casefold() for name in header}
    missing = [
        one.column
        for one in mapping.columns
        if (one.field or one.attribute) and one.column.casefold() not in present
    ]
    if missing:
        raise Refused(
            f"The file lacks {len(missing)} of the columns that the mapping {mapping.name} speaks of, the first of them "
            f"number {[one.column for one in mapping.columns].index(missing[0]) + 1} there. Nothing was read.",
            code="import-columns-missing",
            remedy="Compare the header with `hub import mapping show`, or let `hub import suggest` make a mapping for this file.",
        )
    return [known.get(name.casefold()) for name in header]
