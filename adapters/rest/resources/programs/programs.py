"""Programs: their terms, their state, who is eligible, enrolling, opening a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Connection, Deed, Doing, Filter, Reply, Resource, Sort, Viewer
from adapters.rest.resources.programs.parts import Counts, Office, Part, Registrants, counted, job
from adapters.rest.resources.rules import whole_registry
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.writing import there_already
from canonical_model.program import ProgramStatus, TargetType
from registry.programs import EXIT, PAUSE, RESUME, Move, ProgramTerms

RULES = ("rule-invalid", "rule-name-unknown", "rule-type-mismatch", "rule-not-compilable", "rule-too-large")
_TERMS = (*RULES, "fund-not-found", "currency-mixed", "program-target-fixed")


class ProgramReply(BaseModel):
    """A program as it stands."""

    id: str = Field(description="Its code.")
    code: str
    names: dict[str, str]
    target_type: TargetType
    state: ProgramStatus
    currency: str
    fund: str | None
    eligibility: str
    benefit: dict[str, Any]
    managers: dict[str, Any]
    schedule: dict[str, Any]
    version: int = Field(description="Of its terms; cycles keep those they were opened with.")


class Checked(BaseModel):
    """That the terms are as they must be; nothing was kept."""

    ok: bool


class PreviewReply(BaseModel):
    """Who would be enrolled now."""

    eligible: int
    enrolled: int
    new: int
    left_alone: int = Field(description="Whom a person paused or let go.")


class DayQuery(BaseModel):
    """The day a question is asked about."""

    model_config = ConfigDict(extra="forbid")

    on: date | None = Field(None, description="As of this day; today if left out.")


class Days(Part):
    """The days of a cycle; the schedule's next where they are left out."""

    start: date | None = None
    end: date | None = None


class _Programs:
    def __init__(self, office: Office) -> None:
        self._office = office

    async def create(self, connection: Connection, viewer: Viewer, entry: ProgramTerms) -> str:
        if await connection.fetchval("SELECT true FROM program WHERE code = $1", entry.code):
            raise there_already("program")
        await self._define(connection, viewer, entry)
        return entry.code

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: ProgramTerms, seen: Mapping[str, Any]
    ) -> None:
        if entry.code != key:
            raise RequestRefused(
                "The code of a program cannot be changed. Nothing was changed.",
                code="request-invalid",
                pointer="/code",
            )
        await self._define(connection, viewer, entry)

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        raise RequestRefused("A program is ended, never deleted.", code="method-not-allowed")

    async def _define(self, connection: Connection, viewer: Viewer, entry: ProgramTerms) -> None:
        await self._office.on(connection).define(
            entry.model_dump(mode="json", exclude_none=True), viewer.actor
        )


def resource(visibility: Visibility, office: Office, people: Resource) -> Resource:
    """Return the resource of programs a viewer may see."""

    async def check(doing: Doing) -> Reply:
        terms = doing.body.model_dump(mode="json", exclude_none=True)
        await office.at(doing).define(terms, doing.viewer.actor, dry=True)
        return Reply(200, {"ok": True})

    def state(word: str, to: ProgramStatus, summary: str) -> Deed:
        async def do(doing: Doing) -> Reply:
            await office.at(doing).set_state(doing.row["id"], to, doing.viewer.actor)
            row = await office.desk.reading.one(
                made, doing.viewer, doing.row["id"], connection=doing.connection
            )
            return Reply(200, row)

        return Deed(
            word=word, summary=summary, do=do, answer=ProgramReply, scope=Scope.PROGRAMS_WRITE,
            problems=("program-state",),
        )  # fmt: skip

    async def preview(doing: Doing) -> Reply:
        whole_registry(doing.viewer)
        return Reply(200, await office.at(doing).preview(doing.row["id"], getattr(doing.query, "on", None)))

    async def counts(doing: Doing) -> Reply:
        return Reply(200, await office.at(doing).enrollments(doing.row["id"]))

    async def enroll(doing: Doing) -> UUID:
        return await office.at(doing).enroll(doing.row["id"], doing.viewer.actor)

    async def by_list(doing: Doing) -> dict[str, int]:
        ids = await office.seen(people, doing, doing.body.registrants)
        return await office.at(doing).enroll_list(
            doing.row["id"], ids, doing.viewer.actor, reason=doing.body.reason
        )

    def moved(word: str, to: Move, summary: str) -> Deed:
        async def do(doing: Doing) -> dict[str, int]:
            ids = await office.seen(people, doing, doing.body.registrants)
            return await office.at(doing).move_enrollments(
                doing.row["id"], ids, to, doing.viewer.actor, reason=doing.body.reason
            )

        return counted(word, summary, Registrants, Scope.ENROLLMENTS_WRITE, do, item=True, problems=("program-state",))  # fmt: skip

    async def open_cycle(doing: Doing) -> UUID:
        _, id_, _ = await office.at(doing).open_cycle(
            doing.row["id"], doing.viewer.actor, start=doing.body.start, end=doing.body.end
        )
        return id_

    made = Resource(
        name="programs",
        one="program",
        tag="programs",
        model=ProgramReply,
        select="""SELECT p.code AS id, p.code, p.names, p.target_type, p.state, p.currency, f.code AS fund, p.eligibility, p.benefit,
    p.managers, p.schedule, p.version
FROM program p LEFT JOIN fund f ON f.id = p.fund_id""",
        key="p.code",
        key_kind="text",
        version="p.version",
        locks="p",
        not_found="program-not-found",
        read=Scope.PROGRAMS_READ,
        write=Scope.PROGRAMS_WRITE,
        filters={
            "state": Filter("p.state = {}", ProgramStatus, "In this state."),
            "fund": Filter("f.code = {}", str, "That pay from this fund."),
        },
        sorts={"id": Sort("p.code", "text")},
        visible=visibility.programs,
        entry=ProgramTerms,
        store=_Programs(office),
        refusals=_TERMS,
        deeds=(
            Deed(
                word="check", summary="Check the terms of a program, rules included; nothing is kept", do=check,
                body=ProgramTerms, answer=Checked, scope=Scope.PROGRAMS_READ, item=False, problems=_TERMS,
            ),
            state("activate", ProgramStatus.ACTIVE, "Start a program, or start it again"),
            state("pause", ProgramStatus.PAUSED, "Pause a program: nobody is enrolled, no cycle opened; open cycles go on"),
            state("end", ProgramStatus.ENDED, "End a program for good; open cycles go on"),
            Deed(
                word="preview", summary="Count who is eligible, without changing anything", do=preview, method="GET",
                answer=PreviewReply, query=DayQuery, scope=Scope.PROGRAMS_READ, problems=("rule-failed", "partner-confined"),
            ),
            Deed(
                word="enrollment-counts", summary="Count the enrollments by state", do=counts, method="GET",
                answer=Counts, scope=Scope.ENROLLMENTS_READ,
            ),
            job("enroll", "Enroll whoever the rule takes; whoever a person paused or exited stays so",
                Scope.ENROLLMENTS_WRITE, enroll, problems=("program-state",)),
            counted("enroll-list", "Enroll the registrants of a list", Registrants, Scope.ENROLLMENTS_WRITE, by_list,
                item=True, problems=("program-state",)),
            moved("pause-enrollments", PAUSE, "Pause registrants: no cycle takes them in"),
            moved("resume-enrollments", RESUME, "Take paused registrants in again"),
            moved("exit-enrollments", EXIT, "Let registrants leave; only a list enrolls them again"),
            job("open-cycle", "Open a cycle on a snapshot of now; the same days asked for twice are one cycle",
                Scope.CYCLES_WRITE, open_cycle, body=Days,
                problems=("program-state", "cycle-overlaps", "cycle-dates", "schedule-over")),
        ),
    )  # fmt: skip
    return made
