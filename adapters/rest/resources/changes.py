"""Change requests over HTTP: asked for by one, seen before it is done, agreed to by others, carried out, taken back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
)
from adapters.rest.resources.operations import Desk
from adapters.rest.resources.visibility import Visibility
from canonical_model.message import uuid7
from registry.changes import ChangeStore
from registry.changes.kinds import CHANGE, Change, dumped
from registry.changes.planning import unreadable
from registry.changes.request import FIELDS, Request

_States = Literal["draft", "pending", "validated", "applied", "rejected", "cancelled"]
_DECIDING = ("change-state-wrong", "change-maker-checks", "change-decided-twice", "change-role-missing", "change-conflict", "change-impossible")  # fmt: skip


class ChangeEntry(BaseModel):
    """A change as it is asked for."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    change: dict[str, Any] = Field(description="What is asked for; docs/changes.md shows each kind.")
    bases: dict[UUID, Annotated[int, Field(ge=0, le=2**31 - 1)]] | None = Field(
        None, description="The versions you saw, by registrant; those of now where they are left out."
    )
    draft: bool = Field(False, description="Keep it for yourself until it is handed in.")


class ChangeReply(BaseModel):
    """A change request without what it asks for, which lies sealed."""

    id: UUID
    type: str
    state: _States
    maker: str
    policy: str
    steps: list[dict[str, Any]]
    step: int = Field(description="How many steps are done.")
    waits_for: str | None = Field(description="The role that has to decide next.")
    bases: dict[str, int]
    results: dict[str, int] | None
    undoes: UUID | None
    undone_by: UUID | None
    undoable: bool
    reason: str | None
    conflicts: list[str] | None
    subjects: list[UUID]
    decisions: list[dict[str, Any]]
    created_at: datetime
    decided_at: datetime | None
    applied_at: datetime | None


class DifferenceReply(BaseModel):
    """One field of one registrant, before and after."""

    registrant: UUID
    name: str
    before: Any = None
    after: Any = None


class ProblemReply(BaseModel):
    """Why a change cannot be made now."""

    code: str
    detail: str
    remedy: str | None = None


class PreviewOfChange(BaseModel):
    """What a change would do, found by doing it and taking it back."""

    change: UUID
    differences: list[DifferenceReply]
    problem: ProblemReply | None


class AskedReply(BaseModel):
    """What was asked for, opened."""

    id: UUID
    change: dict[str, Any]


class Why(BaseModel):
    """What the data is needed for."""

    model_config = ConfigDict(extra="forbid")

    purpose: str = Field(
        min_length=1, max_length=200, description="Kept in the audit trail; names no person."
    )


class Agreed(BaseModel):
    """An agreement says nothing more: who agrees and in which role comes from the token."""

    model_config = ConfigDict(extra="forbid")


class RefusedChange(BaseModel):
    """Why a change is refused."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(
        "refused", pattern=r"^[a-z][a-z0-9-]{0,62}$", description="A short code; nobody's data."
    )


class _Changes:
    def __init__(self, changes: ChangeStore, desk: Desk, people: Resource) -> None:
        self._changes, self._desk, self._people = changes, desk, people

    async def create(self, connection: Connection, viewer: Viewer, entry: ChangeEntry) -> UUID:
        change = _change(entry.change)
        await self._named(connection, viewer, change)
        made = await self._changes.on(connection).submit(
            change, viewer.actor, bases=entry.bases, draft=entry.draft, id_=uuid7()
        )
        return made.id

    async def _named(self, connection: Connection, viewer: Viewer, change: Change) -> None:
        """Refuse a change of whom the viewer may not see like one of whom there is not."""
        asked = list(dict.fromkeys(change.touches))
        seen = await self._desk.reading.seen(self._people, viewer, asked, connection)
        known = await connection.fetchval("SELECT count(*) FROM registrant WHERE id = ANY ($1)", seen)
        if known < len(asked):
            raise RequestRefused(
                "The change is about a registrant that you do not see. Nothing was kept.",
                code="registrant-not-found",
                pointer="/change",
            )

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: ChangeEntry, seen: Mapping[str, Any]
    ) -> None:
        raise RequestRefused("A change is decided over, never edited.", code="method-not-allowed")

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        raise RequestRefused("A change is cancelled, never deleted.", code="method-not-allowed")


def _change(given: Mapping[str, Any]) -> Change:
    try:
        return CHANGE.validate_json(orjson.dumps(dict(given)))
    except ValidationError as error:
        raise unreadable(error) from None


def _shape(row: dict[str, Any]) -> dict[str, Any]:
    pending = row["state"] == "pending"
    return {**row, "waits_for": row["steps"][row["step"]]["role"] if pending else None}


def resource(visibility: Visibility, desk: Desk, changes: ChangeStore, people: Resource) -> Resource:
    """Return the resource of changes whose registrants a viewer sees, every one of them."""

    def visible(viewer: Viewer, args: Args) -> str | None:
        inner = visibility(viewer, args)
        if inner is None:
            return None
        mine = args.add(viewer.actor)
        subjects = "SELECT FROM change_subject s JOIN registrant r ON r.id = s.registrant_id WHERE s.request_id = c.id"
        return f"(c.maker = {mine} OR EXISTS ({subjects})) AND NOT EXISTS ({subjects} AND NOT coalesce(({inner}), false))"

    async def told(doing: Doing, id_: UUID) -> Reply:
        return Reply(200, await desk.reading.one(made, doing.viewer, str(id_)))

    def deed(
        word: str,
        summary: str,
        do: Callable[[Doing], Awaitable[Request]],
        scope: Scope,
        *problems: str,
        body: type[BaseModel] | None = None,
    ) -> Deed:
        async def work(doing: Doing) -> Reply:
            return await told(doing, (await do(doing)).id)

        return Deed(
            word=word, summary=summary, do=work, body=body, answer=ChangeReply, scope=scope, problems=problems, apart=True
        )  # fmt: skip

    async def agree(doing: Doing) -> Request:
        viewer = doing.viewer
        return await changes.decide(doing.row["id"], viewer.actor, viewer.roles, agrees=True)

    async def refuse(doing: Doing) -> Request:
        viewer = doing.viewer
        return await changes.decide(
            doing.row["id"], viewer.actor, viewer.roles, agrees=False, reason=doing.body.reason
        )

    async def preview(doing: Doing) -> Reply:
        viewer = doing.viewer
        found = await changes.preview(
            doing.row["id"], doing.query.purpose, viewer.actor, trace_id=viewer.request_id
        )
        problem = found.problem
        said = (
            None
            if problem is None
            else {"code": problem.code, "detail": problem.detail, "remedy": problem.remedy}
        )
        differences = [asdict(each) for each in found.differences]
        return Reply(200, {"change": found.request.id, "differences": differences, "problem": said})

    async def asked(doing: Doing) -> Reply:
        change = await changes.asked(doing.row["id"], doing.query.purpose, doing.viewer.actor)
        return Reply(200, {"id": doing.row["id"], "change": orjson.loads(dumped(change))})

    write = Scope.CHANGES_WRITE
    made = Resource(
        name="changes",
        one="change request",
        tag="changes",
        model=ChangeReply,
        select=f"""SELECT {" ".join(FIELDS.split())},
    coalesce((SELECT jsonb_agg(jsonb_build_object('step', n.step, 'role', n.role, 'actor', n.actor, 'agreed', n.agreed, 'at', n.at)
        ORDER BY n.at, n.actor) FROM change_decision n WHERE n.request_id = c.id), '[]') AS decisions
FROM change_request c""",
        key="c.id",
        key_kind="uuid",
        not_found="change-not-found",
        read=Scope.CHANGES_READ,
        write=write,
        filters={
            "state": Filter("c.state = {}", _States, "In this state."),
            "type": Filter("c.type = {}", str, "Of this kind."),
            "maker": Filter("c.maker = {}", str, "Asked for by this actor."),
            "registrant": Filter(
                "EXISTS (SELECT FROM change_subject s WHERE s.request_id = c.id AND s.registrant_id = {})", UUID,
                "That concern this registrant.",
            ),
        },
        sorts={"-id": Sort("c.id", "uuid"), "id": Sort("c.id", "uuid")},
        visible=visible,
        shape=_shape,
        entry=ChangeEntry,
        store=_Changes(changes, desk, people),
        refusals=("change-invalid", "change-conflict", "change-impossible", "registrant-not-found"),
        changeable=False,
        constant=True,
        deeds=(
            deed("hand-in", "Hand a draft of yours in, so that others decide over it",
                lambda doing: changes.hand_in(doing.row["id"], doing.viewer.actor), write,
                "change-state-wrong", "change-not-maker", "change-conflict", "change-impossible"),
            Deed(
                word="preview", summary="What a change would do, field by field; audited with its purpose", do=preview,
                method="GET", query=Why, answer=PreviewOfChange, scope=Scope.CHANGES_REVEAL, problems=("purpose-missing",), apart=True,
            ),
            Deed(
                word="asked", summary="What was asked for, opened; audited with its purpose", do=asked, method="GET",
                query=Why, answer=AskedReply, scope=Scope.CHANGES_REVEAL, problems=("purpose-missing",), apart=True,
            ),
            deed("agree", "Agree to a change in a role of yours; the last agreement carries it out", agree,
                Scope.CHANGES_APPROVE, *_DECIDING, body=Agreed),
            deed("refuse", "Refuse a change in a role of yours", refuse, Scope.CHANGES_APPROVE, *_DECIDING, body=RefusedChange),
            deed("apply", "Carry out what was agreed to and not carried out yet",
                lambda doing: changes.apply(doing.row["id"], doing.viewer.actor), Scope.CHANGES_APPROVE,
                "change-state-wrong", "change-conflict", "change-impossible"),
            deed("cancel", "Cancel a change you asked for, while it is not carried out",
                lambda doing: changes.cancel(doing.row["id"], doing.viewer.actor), write,
                "change-state-wrong", "change-not-maker"),
            deed("undo", "Ask for a change that takes this one back; the same people have to agree to it",
                lambda doing: changes.undo(doing.row["id"], doing.viewer.actor), write,
                "change-state-wrong", "change-undone", "change-conflict", "change-impossible"),
        ),
    )  # fmt: skip
    return made
