"""Names of people, in parts or unsplit."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.localized import LanguageTag, Text


class NameUse(StrEnum):
    """What a name is used for."""

    OFFICIAL = "official"
    USUAL = "usual"
    BIRTH = "birth"
    FORMER = "former"
    ALIAS = "alias"


class PersonName(CanonicalModel):
    """One name of a person; `full_name` alone for people with one name or whose name was recorded unsplit."""

    use: NameUse | None = private(Privacy.PUBLIC, default=None)
    language: LanguageTag | None = private(
        Privacy.PUBLIC, default=None, description="Language and script the name is written in."
    )
    family_name: Text | None = private(Privacy.PERSONAL, default=None)
    given_name: Text | None = private(Privacy.PERSONAL, default=None)
    addl_name: Text | None = private(Privacy.PERSONAL, default=None, description="Second or middle names.")
    prefix: Text | None = private(Privacy.PERSONAL, default=None)
    suffix: Text | None = private(Privacy.PERSONAL, default=None)
    maiden_name: Text | None = private(Privacy.PERSONAL, default=None)
    full_name: Text | None = private(
        Privacy.PERSONAL, default=None, description="The whole name where it is not split, or a mononym."
    )

    @model_validator(mode="after")
    def _says_a_name(self) -> Self:
        if not (self.family_name or self.given_name or self.full_name):
            raise PydanticCustomError("name_empty", "A name needs a family, given or full name")
        return self

    @property
    def display(self) -> str:
        """The name as one text: the full name when given, else given, additional and family name."""
        if self.full_name:
            return self.full_name
        return " ".join(part for part in (self.given_name, self.addl_name, self.family_name) if part)
