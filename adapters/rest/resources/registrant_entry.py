"""Registrants as they are written: one flat body for both kinds, each field as the canonical model has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, model_validator

from adapters.http.problems import RequestRefused
from canonical_model.errors import Refused
from canonical_model.household import Household
from canonical_model.person import Person
from registry.people.phones import internationally
from registry.people.record import Record

_OWN: Final = {"person_id", "household_id", "last_updated", "kind"}
"""Fields the hub itself keeps, and the one that has another name here."""
_NAMED: Final = {"kind": "group_kind"}
"""Fields of the canonical household that another name has in the API."""


class RegistrantBase(BaseModel):
    """What both kinds have in common; the fields come from the canonical model."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True, str_strip_whitespace=True)

    kind: Literal["individual", "group"] = Field(description="individual or group; it cannot be changed.")

    def canonical(self, registrant_id: UUID | None = None) -> Person | Household:
        """Return the registrant it describes.

        Raises `RequestRefused` (`request-invalid`) with a pointer to each field the other kind has, and for what the
        canonical model does not take as a whole.
        """
        group = self.kind == "group"
        model: type[Person] | type[Household] = Household if group else Person
        given = {
            name: value
            for name in self.model_fields_set - {"kind"}
            if (value := getattr(self, name)) is not None
        }
        if group and "group_kind" in given:
            given["kind"] = given.pop("group_kind")
        strange = sorted(name for name in given if name not in model.model_fields)
        if strange:
            raise RequestRefused(
                f"{len(strange)} fields do not belong to this kind of registrant. Nothing was changed.",
                code="request-invalid",
                remedy="The description of the API (/openapi.json) lists the members.",
                places=[{"pointer": f"/{name}", "detail": "other_kind"} for name in strange],
            )
        if registrant_id is not None:
            given["household_id" if group else "person_id"] = registrant_id
        try:
            return model.model_validate(given)
        except ValidationError as error:
            raise RequestRefused(
                "The body does not fit this operation as a whole. Nothing was changed.",
                code="request-invalid",
                places=[
                    {
                        "pointer": "".join(f"/{part}" for part in each["loc"])
                        or _WHOLE.get(each["type"], ""),
                        "detail": str(each["type"]),
                    }
                    for each in error.errors(include_input=False, include_url=False, include_context=False)
                ],
            ) from None


_WHOLE: Final = {"role_taken": "/memberships"}


def entry_model(region: str | None) -> type[RegistrantBase]:
    """Return the model of a registrant's body; `region` is where phone numbers without country code belong."""

    class Local(RegistrantBase):
        """A body whose phone numbers may lack the country code."""

        @model_validator(mode="before")
        @classmethod
        def _with_country_code(cls, value: Any) -> Any:
            points = value.get("contact_points") if isinstance(value, Mapping) else None
            if not isinstance(points, list):
                return value
            made = []
            for place, point in enumerate(points):
                try:
                    made += internationally({"contact_points": [point]}, region)["contact_points"]
                except Refused as refused:
                    raise RequestRefused(
                        refused.detail,
                        code=refused.code,
                        remedy=refused.remedy,
                        pointer=f"/contact_points/{place}/value",
                    ) from None
            return {**value, "contact_points": made}

    fields: dict[str, Any] = {
        name: (field.annotation, field)
        for model in (Household, Person)
        for name, field in model.model_fields.items()
        if name not in _OWN
    }
    kind = Household.model_fields["kind"]
    fields["group_kind"] = (kind.annotation, kind)
    return create_model(
        "RegistrantEntry",
        __base__=Local,
        __doc__="An individual or a group as it is written.",
        **fields,
    )


def entry_of(record: Record) -> dict[str, Any]:
    """Return a record as the body that would write it, those fields left out that have no value; members lie elsewhere."""
    told = record.canonical().model_dump(mode="json", exclude_none=True)
    shown = {
        _NAMED.get(name, name): value
        for name, value in told.items()
        if value not in ([], {}) and name not in _OWN - {"kind"}
    }
    return {**shown, "kind": record.kind}
