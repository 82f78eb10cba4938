"""The short way to name a registered person or household in messages about them."""

from __future__ import annotations

from typing import Self
from uuid import UUID

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from canonical_model.base import CanonicalModel, Privacy, private
from canonical_model.identifiers import Identifier
from canonical_model.program import TargetType


class RegistrantRef(CanonicalModel):
    """A person or household, named by the hub's id, by identifiers of other systems, or both."""

    target_type: TargetType = private(Privacy.PUBLIC, default=TargetType.INDIVIDUAL)
    registrant_id: UUID | None = private(
        Privacy.PUBLIC, default=None, description="The hub's id: person or household."
    )
    identifiers: tuple[Identifier, ...] = private(Privacy.IDENTIFIER, default=(), max_length=20)

    @model_validator(mode="after")
    def _names_someone(self) -> Self:
        if self.registrant_id is None and not self.identifiers:
            raise PydanticCustomError(
                "registrant_unnamed", "A registrant needs registrant_id or an identifier"
            )
        return self
