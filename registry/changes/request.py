"""A change request as it stands: what it is about without anybody's data, who decided, and what the hub refuses of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from registry.changes.applying import Difference

STATES: Final = ("draft", "pending", "validated", "applied", "rejected", "cancelled")
OPEN: Final = ("draft", "pending", "validated")
FIELDS: Final = """
c.id, c.type, c.state, c.maker, c.policy, c.steps, c.step, c.bases, c.results, c.undoes, c.reason, c.conflicts, c.created_at,
c.decided_at, c.applied_at, c.undo IS NOT NULL AS undoable,
ARRAY(SELECT s.registrant_id FROM change_subject s WHERE s.request_id = c.id ORDER BY s.registrant_id) AS subjects,
(SELECT u.id FROM change_request u WHERE u.undoes = c.id AND u.state NOT IN ('rejected', 'cancelled')) AS undone_by
"""


@dataclass(frozen=True, slots=True)
class Decision:
    """Who agreed or refused, at which step, in which role."""

    step: int
    role: str
    actor: str
    agreed: bool
    at: datetime


@dataclass(frozen=True, slots=True)
class Request:
    """A change request without what it asks for, which lies sealed."""

    id: UUID
    type: str
    state: str
    maker: str
    policy: str
    steps: Sequence[Mapping[str, Any]]
    step: int
    """How many steps are done."""
    bases: Mapping[str, int]
    results: Mapping[str, int] | None
    undoes: UUID | None
    reason: str | None
    conflicts: Sequence[str] | None
    created_at: datetime
    decided_at: datetime | None
    applied_at: datetime | None
    undoable: bool
    subjects: Sequence[UUID]
    undone_by: UUID | None
    decisions: Sequence[Decision] = ()

    @property
    def waits_for(self) -> str | None:
        """The role that has to decide next, None when nobody has to."""
        return str(self.steps[self.step]["role"]) if self.state == "pending" else None


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do, field by field; `problem` says why it cannot be done now."""

    request: Request
    differences: Sequence[Difference] = field(repr=False)
    problem: Refused | None = None


def absent() -> Refused:
    """Return the refusal for a request that is not there."""
    return Refused(
        "There is no change request with this id.",
        code="change-not-found",
        remedy="`hub changes list` shows those that are open.",
    )


def wrong_state(request: Request, wanted: str) -> Refused:
    """Return the refusal of what a request in this state does not take."""
    return Refused(
        f"Change {request.id} is {request.state}; only one that is {wanted} can be treated so. Nothing was changed.",
        code="change-state-wrong",
        remedy="See what became of it with `hub changes show`.",
    )


def own(id_: UUID) -> Refused:
    """Return the refusal of a maker who would decide over the own change."""
    return Refused(
        f"Change {id_} has to be decided by somebody other than its maker; nothing was decided.",
        code="change-maker-checks",
        remedy="Ask somebody else who has the role; a maker can cancel the change.",
    )


def decided_twice(id_: UUID) -> Refused:
    """Return the refusal of somebody who decided before."""
    return Refused(
        f"You decided over change {id_} before; nobody decides twice, in whatever role. Nothing was decided.",
        code="change-decided-twice",
        remedy="Ask somebody else who has the role.",
    )


def role_missing(request: Request) -> Refused:
    """Return the refusal of somebody without the role that is next."""
    return Refused(
        f"Change {request.id} waits for the role {request.waits_for}, which you do not have; nothing was decided.",
        code="change-role-missing",
        remedy="Ask somebody who has the role, or have it given to you.",
    )
