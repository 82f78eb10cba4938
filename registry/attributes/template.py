"""The header of an import file: who it is about, then every declared attribute."""

from __future__ import annotations

from typing import Final

from registry.attributes.catalog import Catalog, Kind

_FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "individual": (
        "identifier",
        "family_name",
        "given_name",
        "addl_name",
        "birthdate",
        "sex",
        "marital_status",
        "phone",
        "area",
        "registration_date",
        "household",
        "role",
    ),
    "group": ("identifier", "full_name", "group_kind", "phone", "area", "registration_date"),
}


def template(catalog: Catalog, kind: Kind, program: str | None = None) -> tuple[str, ...]:
    """Return the columns of an import file of a kind of registrant, with the attributes of one programme where it is named."""
    if program is not None:
        catalog.subject(f"program:{program}")
    return (*_FIELDS[kind], *catalog.declared(kind, program))
