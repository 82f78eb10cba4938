"""Enrollments: who is in a program, since when and why, and the states somebody has had."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, Field

from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Filter, Resource, Sort
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.witness import witness_of

_STATES = Literal["draft", "enrolled", "paused", "exited", "not_eligible", "duplicated"]
_OF = "{table}.program_id = (SELECT x.id FROM program x WHERE x.code = {{}})"


class EnrollmentReply(BaseModel):
    """Somebody's place in a program."""

    id: UUID = Field(description="The registrant.")
    program: str
    state: _STATES
    enrollment_date: date | None
    exit_date: date | None
    since: datetime
    cause: Literal["rule", "person"]
    reason: str | None
    actor: str


class EnrollmentStateReply(BaseModel):
    """A state an enrollment has had."""

    id: datetime = Field(description="Since when.")
    registrant: UUID
    program: str
    state: _STATES
    until: datetime | None
    cause: Literal["rule", "person"]
    reason: str | None
    actor: str


def resources(visibility: Visibility) -> tuple[Resource, ...]:
    """Return the lists of enrollments and of the states one has had."""
    return (
        Resource(
            name="enrollments",
            one="enrollment",
            tag="enrollments",
            model=EnrollmentReply,
            select="""SELECT e.registrant_id AS id, p.code AS program, e.state, e.enrollment_date, e.exit_date, e.since, e.cause,
    e.reason, e.actor
FROM enrollment e JOIN program p ON p.id = e.program_id JOIN registrant r ON r.id = e.registrant_id""",
            key="e.registrant_id",
            key_kind="uuid",
            not_found="registrant-not-found",
            read=Scope.ENROLLMENTS_READ,
            filters={
                "program": Filter(_OF.format(table="e"), str, "In this program.", needed=True),
                "state": Filter("e.state = {}", _STATES, "In this state."),
                "registrant": Filter("e.registrant_id = {}", UUID, "Of this registrant."),
                "cause": Filter("e.cause = {}", Literal["rule", "person"], "Who decided."),
            },
            sorts={"id": Sort("e.registrant_id", "uuid")},
            visible=visibility.people_of_programs,
            witness=witness_of("enrollment"),
            purpose=True,
            single=False,
        ),
        Resource(
            name="enrollment-states",
            one="state of an enrollment",
            tag="enrollments",
            model=EnrollmentStateReply,
            select="""SELECT h.since AS id, h.registrant_id AS registrant, p.code AS program, h.state, h.until, h.cause, h.reason, h.actor
FROM (SELECT program_id, registrant_id, since, until, state, cause, reason, actor FROM enrollment_past
    UNION ALL SELECT program_id, registrant_id, since, NULL, state, cause, reason, actor FROM enrollment) h
    JOIN program p ON p.id = h.program_id JOIN registrant r ON r.id = h.registrant_id""",
            key="h.since",
            key_kind="timestamptz",
            not_found="registrant-not-found",
            read=Scope.ENROLLMENTS_READ,
            filters={
                "program": Filter(_OF.format(table="h"), str, "In this program.", needed=True),
                "registrant": Filter("h.registrant_id = {}", UUID, "Of this registrant.", needed=True),
            },
            sorts={"id": Sort("h.since", "timestamptz")},
            visible=visibility.people_of_programs,
            witness=witness_of("enrollment"),
            person="registrant",
            purpose=True,
            single=False,
        ),
    )
