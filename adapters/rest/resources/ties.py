"""What ties registrants to each other: memberships of groups, and relationships such as guardian and ward."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import (
    Args,
    Connection,
    Deed,
    Doing,
    Filter,
    Reply,
    Resource,
    Sort,
    Viewer,
    Visible,
)
from adapters.rest.resources.stores import DeclaredTypes, Unchanging
from canonical_model.household import MembershipRole
from canonical_model.localized import LocalizedText
from registry.people.relationships import Relationships
from registry.storage.held import held

_ON: Final = "{0}.start_date <= current_date AND ({0}.{1} IS NULL OR {0}.{1} > current_date)"


class MembershipReply(BaseModel):
    """Who belongs to which group, from when until when; it is changed through the group or a change request."""

    id: UUID
    group: UUID
    member: UUID
    roles: list[MembershipRole]
    start_date: date | None = Field(description="Null: always.")
    ended_date: date | None = Field(description="The first day it no longer holds.")
    source: str
    version: int


class RelationshipEntry(BaseModel):
    """A relationship as it is said: the source is to the destination what its type says."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
    source: UUID
    destination: UUID
    start_date: date | None = None
    end_date: date | None = Field(None, description="The first day it no longer holds.")


class RelationshipReply(BaseModel):
    """A relationship between two registrants."""

    id: UUID
    type: str
    source: UUID
    destination: UUID
    names: dict[str, str] = Field(description="What the source is to the destination.")
    inverse_names: dict[str, str] = Field(description="What the destination is to the source.")
    start_date: date | None = Field(description="Null: always.")
    end_date: date | None
    active: bool = Field(description="Whether it holds today.")
    said_by: str


class RelationshipEnd(BaseModel):
    """When a relationship ends."""

    model_config = ConfigDict(extra="forbid")

    on: date | None = Field(
        None, description="The first day it no longer holds; today, where it is left out."
    )


class RelationshipTypeEntry(BaseModel):
    """A type of relationship: what the source is to the destination, and what it is the other way round."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", description="Its code; cannot be changed.")
    names: LocalizedText = Field(description="What the source is to the destination.")
    inverse_names: LocalizedText = Field(description="What the destination is to the source.")
    bidirectional: bool = Field(False, description="Both are the same to each other.")
    source_kind: Literal["individual", "group"] | None = None
    destination_kind: Literal["individual", "group"] | None = None
    active: bool = True


class RelationshipTypeReply(BaseModel):
    """A type of relationship."""

    id: str
    names: dict[str, str]
    inverse_names: dict[str, str]
    bidirectional: bool
    source_kind: str | None
    destination_kind: str | None
    active: bool


def both(visible: Visible, one: str, other: str) -> Visible:
    """Return the condition under which both ends of a row are seen; they are columns with ids of registrants."""

    def condition(viewer: Viewer, args: Args) -> str | None:
        seen = visible(viewer, args)
        if seen is None:
            return None
        return " AND ".join(
            f"EXISTS (SELECT FROM registrant r WHERE r.id = {column} AND ({seen}))" for column in (one, other)
        )

    return condition


async def must_see(connection: Connection, visible: Visible, viewer: Viewer, ids: Mapping[str, UUID]) -> None:
    """Refuse ids of registrants a viewer does not see, by their place in the body, as if they were nobody's."""
    args = Args(list(ids.values()))
    condition = visible(viewer, args)
    query = "SELECT r.id FROM registrant r WHERE r.id = ANY ($1::uuid[])"
    rows = await connection.fetch(f"{query} AND ({condition})" if condition else query, *args.values)
    seen = {row["id"] for row in rows}
    for place, id_ in ids.items():
        if id_ not in seen:
            raise RequestRefused(
                "There is no such registrant that you may see. Nothing was changed.",
                code="registrant-not-found",
                pointer=place,
            )


class _Relationships(Unchanging):
    def __init__(self, visible: Visible) -> None:
        super().__init__("A relationship is ended, never changed.")
        self._visible = visible

    async def create(self, connection: Connection, viewer: Viewer, entry: RelationshipEntry) -> UUID:
        ids = {"/source": entry.source, "/destination": entry.destination}
        await must_see(connection, self._visible, viewer, ids)
        return await Relationships(held(connection)).relate(
            entry.type, entry.source, entry.destination,
            source=viewer.name, actor=viewer.actor, start=entry.start_date, end=entry.end_date,
        )  # fmt: skip


async def _put_type(connection: Connection, entry: RelationshipTypeEntry) -> None:
    said = entry.model_dump(mode="json", exclude={"id"})
    await Relationships(held(connection)).put_type({**said, "code": entry.id})


async def _end(doing: Doing) -> Reply:
    assert isinstance(doing.body, RelationshipEnd)
    await Relationships(held(doing.connection)).end(
        doing.row["id"], actor=doing.viewer.actor, on=doing.body.on
    )
    return Reply(200, {"id": str(doing.row["id"])})


class Ended(BaseModel):
    """Which relationship ended."""

    id: UUID


def memberships(visible: Visible) -> Resource:
    """Return the resource of memberships of which a viewer sees the group and the member."""
    return Resource(
        name="memberships",
        one="membership",
        tag="registrants",
        model=MembershipReply,
        select="""SELECT m.id, m.group_id AS "group", m.member_id AS member, m.roles, nullif(m.start_date, '-infinity') AS start_date,
    m.ended_date, m.source, m.version
FROM membership m""",
        key="m.id",
        key_kind="uuid",
        version="m.version",
        not_found="membership-not-found",
        read=Scope.REGISTRANTS_READ,
        filters={
            "group": Filter("m.group_id = {}", UUID, "Of this group."),
            "member": Filter("m.member_id = {}", UUID, "Of this registrant."),
            "role": Filter("{} = ANY (m.roles)", MembershipRole, "With this role."),
            "active": Filter(f"({_ON.format('m', 'ended_date')}) = {{}}", bool, "Those that hold today, or do not."),
            "updated_since": Filter("m.updated_at >= {}", AwareDatetime, "Changed at this instant or later."),
        },
        sorts={"id": Sort("m.id", "uuid")},
        visible=both(visible, "m.group_id", "m.member_id"),
        constant=True,
        purpose=True,
    )  # fmt: skip


def relationships(visible: Visible, places: Visible) -> Resource:
    """Return the resource of relationships of which a viewer sees both; `places` says whom they may name in a new one."""
    return Resource(
        name="relationships",
        one="relationship",
        tag="registrants",
        model=RelationshipReply,
        select=f"""SELECT l.id, l.type, l.source_id AS source, l.destination_id AS destination, t.names, t.inverse_names,
    nullif(l.start_date, '-infinity') AS start_date, l.end_date, {_ON.format("l", "end_date")} AS active, l.source AS said_by
FROM relationship l JOIN relationship_type t ON t.code = l.type""",
        key="l.id",
        key_kind="uuid",
        not_found="relationship-not-found",
        read=Scope.REGISTRANTS_READ,
        write=Scope.REGISTRANTS_WRITE,
        filters={
            "registrant": Filter("{} IN (l.source_id, l.destination_id)", UUID, "In which this registrant is."),
            "type": Filter("l.type = {}", str, "Of this type."),
            "active": Filter(f"({_ON.format('l', 'end_date')}) = {{}}", bool, "Those that hold today, or do not."),
        },
        sorts={"id": Sort("l.id", "uuid")},
        visible=both(visible, "l.source_id", "l.destination_id"),
        stays=both(places, "l.source_id", "l.destination_id"),
        entry=RelationshipEntry,
        store=_Relationships(places),
        refusals=("registrant-not-found", "relationship-invalid"),
        changeable=False,
        deeds=(
            Deed(
                word="end", summary="End a relationship.", do=_end, answer=Ended, scope=Scope.REGISTRANTS_WRITE,
                body=RelationshipEnd, example={"on": "2026-06-30"},
                description="From the day given on it no longer holds. One that ended before stays as it is.",
            ),
        ),
        constant=True,
        purpose=True,
    )  # fmt: skip


RELATIONSHIP_TYPES: Final = Resource(
    name="relationship-types",
    one="relationship type",
    tag="vocabularies",
    model=RelationshipTypeReply,
    select="""SELECT t.code AS id, t.names, t.inverse_names, t.bidirectional, t.source_kind, t.destination_kind, t.active
FROM relationship_type t""",
    key="t.code",
    key_kind="text",
    not_found="relationship-type-not-found",
    read=Scope.VOCABULARIES_READ,
    write=Scope.VOCABULARIES_WRITE,
    filters={"active": Filter("t.active = {}", bool, "In use, or switched off.")},
    sorts={"id": Sort("t.code", "text")},
    locks="t",
    entry=RelationshipTypeEntry,
    store=DeclaredTypes("relationship_type", "code", _put_type),
    refusals=("relationship-invalid",),
)
"""Types of relationships, which a country declares."""
