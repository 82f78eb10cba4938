"""Rules over HTTP: is one right, whom does it take, and why is somebody in or out."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Args, Connection, Deed, Doing, Reply, Resource, Viewer
from adapters.rest.resources.operations import Desk
from adapters.rest.resources.visibility import Visibility
from canonical_model.errors import Refused
from registry.attributes import load_catalog
from registry.programs.definition import get as get_program
from registry.rules import Rule, check_areas, compile_rule, load_facts, record_look
from registry.rules import preview as count

_BAD = ("rule-invalid", "rule-name-unknown", "rule-type-mismatch", "rule-not-compilable", "rule-too-large", "program-not-found")  # fmt: skip
_SECONDS = 20.0
Text = Annotated[str, Field(min_length=1, max_length=4000, description="The rule, in CEL.")]
Result = Literal["condition", "amount", "integer"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)


class RuleBody(_Body):
    """A rule and whom it is about."""

    rule: Text
    target: Literal["individual", "group"] = "individual"
    result: Result = "condition"
    program: str | None = Field(None, max_length=63, description="Whose own attributes it may read.")
    as_of: date | None = Field(None, description="The day it is asked about; today if left out.")


class ExplainBody(_Body):
    """Whom a rule is explained for; the program's own where none is given."""

    registrant: UUID
    rule: Text | None = None
    result: Result = "condition"
    program: str | None = Field(None, max_length=63)
    as_of: date | None = None


class RuleReply(BaseModel):
    """That a rule is right, and what it reads."""

    ok: bool
    target: str
    result: str
    reads: list[str]


class CountReply(BaseModel):
    """Whom a rule would take."""

    registrants: int = Field(description="Active registrants of the target's kind.")
    matched: int
    unknown: int = Field(description="Those left out because something of them is not known.")
    total: int | None = Field(description="The sum of all amounts in minor units.")
    seconds: float


class ExplanationReply(BaseModel):
    """Why a registrant is in or out, in the language of Accept-Language."""

    model_config = ConfigDict(extra="allow")

    registrant: UUID
    sentence: str


def whole_registry(viewer: Viewer) -> None:
    """Refuse a count over people of whom a viewer sees some only: two counts that differ by one tell of one."""
    if viewer.partner.areas is None and viewer.partner.consent is None:
        return
    raise RequestRefused(
        "A partner that sees the people of some areas, or by consent, cannot count over all. Nothing was counted.",
        code="partner-confined",
        remedy="Ask a partner that sees the whole registry.",
    )


def resource(visibility: Visibility, desk: Desk, registrants: Resource) -> Resource:
    """Return what the deeds of rules hang on; rules themselves are kept in programs."""

    async def program(doing: Doing, code: str | None) -> None:
        args = Args(code)
        condition = visibility.programs(doing.viewer, args)
        if code is not None and not await doing.connection.fetchval(
            f"SELECT true FROM program p WHERE p.code = $1{f' AND {condition}' if condition else ''}",
            *args.values,
        ):
            raise Refused(
                "There is no such program that you may see. Nothing was read.",
                code="program-not-found",
                remedy="Leave it out, or name one of yours.",
            )

    async def compiled(doing: Doing) -> Rule:
        body: RuleBody = doing.body
        await program(doing, body.program)
        return await _compile(
            doing.connection, body.rule, body.target, body.result, body.as_of or _today(), body.program
        )

    async def check(doing: Doing) -> Reply:
        found = await compiled(doing)
        reads = sorted(f"{kind}.{name}" for kind, name in found.used)
        return Reply(
            200, {"ok": True, "target": doing.body.target, "result": doing.body.result, "reads": reads}
        )

    async def preview(doing: Doing) -> Reply:
        whole_registry(doing.viewer)
        if doing.viewer.partner.programs is not None:
            raise _of_programs()
        found = await count(doing.connection, await compiled(doing), seconds=_SECONDS)
        names = ("registrants", "matched", "unknown", "total", "seconds")
        return Reply(200, {name: getattr(found, name) for name in names})

    async def explain(doing: Doing) -> Reply:
        body: ExplainBody = doing.body
        connection = doing.connection
        await desk.reading.one(registrants, doing.viewer, str(body.registrant), connection=connection)
        await program(doing, body.program)
        day = body.as_of or _today()
        facts = await load_facts(connection, body.registrant, day)
        text = body.rule
        if text is None:
            if body.program is None:
                raise RequestRefused(
                    "There is neither a rule nor a program. Nothing was read.",
                    code="request-invalid",
                    pointer="/rule",
                )
            found = await get_program(connection, body.program)
            if found.target_type.value != facts.kind:
                raise RequestRefused(
                    f"Program {found.code} is about {found.target_type.value}s, and the registrant is none. Nothing was read.",
                    code="request-invalid",
                    pointer="/registrant",
                    remedy="Name the household of the person, or a member of the household.",
                )
            text = found.eligibility
        rule = await _compile(connection, text, facts.kind, body.result, day, body.program)
        # The trail has the look in the transaction that answers.
        await record_look(connection, facts, doing.viewer.actor, body.program)
        said = rule.explain(facts, [doing.language]).as_dict()
        return Reply(200, {"registrant": body.registrant, **said})

    return Resource(
        name="rules",
        one="rule",
        tag="rules",
        model=RuleReply,
        select="",
        key="",
        key_kind="text",
        not_found="resource-not-found",
        read=Scope.RULES_READ,
        constant=True,
        deeds=(
            Deed(
                word="check", summary="Say whether a rule is right, with the place where it is not", do=check, body=RuleBody,
                answer=RuleReply, scope=Scope.RULES_READ, item=False, problems=_BAD,
                example={"rule": "age_years(r.birthdate) >= 60", "target": "individual"},
            ),
            Deed(
                word="preview", summary="Count whom a rule would take; nothing is changed", do=preview, body=RuleBody,
                answer=CountReply, scope=Scope.RULES_READ, item=False,
                problems=(*_BAD, "partner-confined", "rule-too-slow", "rule-failed"),
            ),
            Deed(
                word="explain", summary="Say why one registrant is in or out, in the language of Accept-Language", do=explain,
                body=ExplainBody, answer=ExplanationReply, scope=Scope.RULES_EXPLAIN, item=False,
                problems=(*_BAD, "registrant-not-found"),
            ),
        ),
    )  # fmt: skip


async def _compile(
    connection: Connection, text: str, target: Any, result: Any, day: date, program: str | None
) -> Rule:
    found = compile_rule(
        text, await load_catalog(connection), target=target, result=result, as_of=day, program=program
    )
    await check_areas(connection, found)
    return found


def _today() -> date:
    return datetime.now(UTC).date()


def _of_programs() -> RequestRefused:
    return RequestRefused(
        "A partner of some programs cannot count over the whole registry. Nothing was counted.",
        code="partner-confined",
        remedy="Count with the program's own preview.",
    )
