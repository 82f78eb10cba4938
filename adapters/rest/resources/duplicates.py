"""Duplicates over HTTP: pairs of people who may be one, looking for them, deciding over them."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Args, Deed, Doing, Filter, Reply, Resource, Sort, Viewer
from adapters.rest.resources.jobs import JobReply, begun
from adapters.rest.resources.visibility import Visibility
from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.changes import ChangeStore
from registry.duplicates import DuplicateStore
from registry.duplicates.job import KIND
from registry.jobs import JobStore
from registry.storage.held import held
from registry.vault import Vault

_States = Literal["open", "duplicate", "distinct"]


class PairReply(BaseModel):
    """Two registrants that may be one, why, and what was decided."""

    id: str
    first: UUID
    second: UUID
    score: float = Field(description="How alike they are, 0 to 100.")
    reasons: list[str]
    state: _States
    decided_by: str | None
    decided_at: datetime | None
    note: str | None
    change: UUID | None = Field(description="The change that merges them.")
    change_state: str | None
    found_at: datetime


class PairDecision(BaseModel):
    """What is decided of a pair: distinct is never shown again, duplicate asks for a merge others agree to."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    first: UUID
    second: UUID
    decision: Literal["duplicate", "distinct"]
    survivor: UUID | None = Field(None, description="Who stays; else who was registered first.")
    note: str | None = Field(None, max_length=500, description="Why, in words without anybody's data.")


class Search(BaseModel):
    """Among whom duplicates are looked for."""

    model_config = ConfigDict(extra="forbid")

    program: str | None = Field(
        None, max_length=63, description="Code of a program; everybody where it is left out."
    )


def resource(visibility: Visibility, vault: Vault, changes: ChangeStore) -> Resource:
    """Return the resource of pairs of which a viewer sees both."""

    def visible(viewer: Viewer, args: Args) -> str | None:
        inner = visibility(viewer, args)
        if inner is None:
            return None
        return (
            "NOT EXISTS (SELECT FROM registrant r WHERE r.id IN (d.first_id, d.second_id) "
            f"AND NOT coalesce(({inner}), false))"
        )

    async def pair(doing: Doing, first: UUID, second: UUID) -> dict[str, object]:
        args = Args(min(first, second), max(first, second))
        condition = visible(doing.viewer, args)
        row = await doing.connection.fetchrow(
            f"{made.select} WHERE d.first_id = $1 AND d.second_id = $2{f' AND ({condition})' if condition else ''}",
            *args.values,
        )
        if row is None:
            raise Refused(
                "These two are no pair of likely duplicates that you may see. Nothing was kept.",
                code="duplicate-not-found",
                remedy="List the open pairs, or look for new ones.",
            )
        return dict(row)

    async def decide(doing: Doing) -> Reply:
        body: PairDecision = doing.body
        await pair(doing, body.first, body.second)
        store = DuplicateStore(held(doing.connection), vault, changes.on(doing.connection))
        await store.decide(
            body.first, body.second, body.decision, doing.viewer.actor, survivor=body.survivor, note=body.note
        )
        return Reply(200, await pair(doing, body.first, body.second))

    async def find(doing: Doing) -> Reply:
        params = {}
        if doing.body.program is None and doing.viewer.partner.programs is not None:
            raise RequestRefused(
                "A partner of some programs looks for duplicates within one of them. Nothing was started.",
                code="request-invalid",
                pointer="/program",
            )
        if doing.body.program is not None:
            args = Args(doing.body.program)
            condition = visibility.programs(doing.viewer, args)
            id_ = await doing.connection.fetchval(
                f"SELECT p.id FROM program p WHERE p.code = $1{f' AND {condition}' if condition else ''}",
                *args.values,
            )
            if id_ is None:
                raise Refused("There is no such program that you may see.", code="program-not-found")
            params = {"program": str(id_)}
        jobs = JobStore(held(doing.connection))
        # Two searches at once for the same would only find the same.
        going = await doing.connection.fetchval(
            "SELECT id FROM job WHERE kind = $1 AND params = $2 AND actor = $3 AND ended_at IS NULL LIMIT 1",
            KIND, params, doing.viewer.actor,
        )  # fmt: skip
        if going is None:
            submitted = await jobs.submit(
                KIND, actor=doing.viewer.actor, params=params, once=f"{KIND}:{uuid7()}",
                connection=doing.connection, request_id=doing.viewer.request_id,
            )  # fmt: skip
            going = submitted.job.id
        return await begun(doing.connection, going)

    made = Resource(
        name="duplicates",
        one="pair",
        tag="duplicates",
        model=PairReply,
        select="""SELECT d.first_id::text || '_' || d.second_id::text AS id, d.first_id AS first, d.second_id AS second, d.score, d.reasons,
    d.state, d.decided_by, d.decided_at, d.note, d.request_id AS change, q.state AS change_state, d.found_at
FROM duplicate_pair d LEFT JOIN change_request q ON q.id = d.request_id""",
        key="(d.first_id::text || '_' || d.second_id::text)",
        key_kind="text",
        not_found="duplicate-not-found",
        read=Scope.DUPLICATES_READ,
        filters={
            "state": Filter("d.state = {}", _States, "In this state."),
            "registrant": Filter("{0} IN (d.first_id, d.second_id)", UUID, "Of which this registrant is one."),
        },
        sorts={"-score": Sort("d.score", "real"), "score": Sort("d.score", "real")},
        visible=visible,
        single=False,
        deeds=(
            Deed(
                word="decide", summary="Decide over a pair: distinct, or duplicate, which asks for a merge", do=decide,
                body=PairDecision, answer=PairReply, scope=Scope.DUPLICATES_WRITE, item=False,
                problems=("duplicate-not-found", "duplicate-decided", "decision-invalid", "change-conflict",
                    "change-impossible", "change-invalid"),
            ),
            Deed(
                word="find", summary="Look for people who may be registered twice", do=find, body=Search, answer=JobReply,
                scope=Scope.DUPLICATES_WRITE, item=False, job=True, problems=("program-not-found",),
            ),
        ),
    )  # fmt: skip
    return made
