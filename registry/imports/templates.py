"""Mappings for the files that OpenSPP and OpenG2P write, and the hub's own templates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from registry.imports.columns import FIELDS, OF_GROUPS, Column, ColumnMapping, DateOrder, Kind


def _mapping(
    name: str, kind: Kind, columns: Iterable[Column], dates: DateOrder = DateOrder.YMD
) -> ColumnMapping:
    return ColumnMapping(name=name, kind=kind, columns=tuple(columns), dates=dates)


_OPENSPP: Final = (
    Column(column="Name", field="full_name"),
    Column(column="Address", field="address"),
    Column(column="Phone", field="phone", separator=","),
    Column(column="Registration Date", field="registration_date"),
    Column(column="Date Disabled", field="disabled"),
    Column(column="Tags", attribute="tags", separator=","),
)

TEMPLATES: Final[dict[str, ColumnMapping]] = {
    one.name: one
    for one in (
        _mapping(
            "openspp-individual",
            Kind.INDIVIDUAL,
            (*_OPENSPP[:3], Column(column="Date of Birth", field="birthdate"), *_OPENSPP[3:]),
        ),
        _mapping("openspp-group", Kind.GROUP, _OPENSPP),
        _mapping(
            "openg2p-individual",
            Kind.INDIVIDUAL,
            (
                Column(column="Registrant ID", field="identifier", id_type="OPENG2P_REGISTRANT_ID"),
                Column(column="ID", field="identifier", id_type="NATIONAL_ID"),
                Column(column="Token ID", field="identifier", id_type="TOKEN"),
                Column(column="Full Name", field="full_name"),
                Column(column="Date of Birth", field="birthdate", dates=DateOrder.DMY),
                Column(column="Email ID", field="email"),
                Column(column="Address", field="address"),
                Column(column="Region", attribute="region"),
                Column(column="Phone Number", field="phone"),
                Column(column="Gender", field="sex"),
                Column(column="Home Owned", attribute="home_owned"),
                # Spelt so in their file.
                Column(column="Employement Status", attribute="employment_status"),
                Column(column="Annual Household Income (USD)", attribute="annual_household_income_usd"),
                Column(column="Vehicles Owned", attribute="vehicles_owned"),
                Column(column="Account Number", field="account"),
                Column(column="Disability Status", attribute="disability_status"),
                Column(column="Immigration Status", attribute="immigration_status"),
            ),
            DateOrder.DMY,
        ),
    )
}
"""The mappings that come with the hub, by name; columns as the files of OpenSPP 17 and OpenG2P have them."""


def own_template(kind: Kind, attributes: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the header of the hub's own template: every field by its name, then the declared attributes."""
    fields = FIELDS if kind is Kind.INDIVIDUAL else [name for name in FIELDS if name in OF_GROUPS]
    return (*fields, *attributes)


def matching(header: Iterable[str]) -> ColumnMapping | None:
    """Return the mapping that comes with the hub whose columns a header has, all of them, in any order."""
    present = {name.casefold() for name in header}
    fitting = [
        one for one in TEMPLATES.values() if {each.column.casefold() for each in one.columns} == present
    ]
    return fitting[0] if fitting else None
