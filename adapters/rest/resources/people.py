"""Which registrants a viewer may name in a list: those of its areas, and by consent where it needs one."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel

from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Resource
from adapters.rest.resources.visibility import Visibility


class Named(BaseModel):
    """A registrant by its id alone."""

    id: UUID


def registrants_of(visibility: Visibility) -> Resource:
    """Return what tells whom a viewer may name; it has no address of its own."""
    return Resource(
        name="registrants",
        one="registrant",
        tag="registrants",
        model=Named,
        select="SELECT r.id\nFROM registrant r",
        key="r.id",
        key_kind="uuid",
        not_found="registrant-not-found",
        read=Scope.REGISTRANTS_READ,
        visible=visibility.people,
        constant=True,
    )
