"""Entitlements: what each beneficiary of a cycle gets; holding, resuming, cancelling, giving more."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Deed, Doing, Filter, Reply, Resource, Sort
from adapters.rest.resources.programs.parts import Ids, Office, Part, Reason, counted
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.witness import witness_of

_STATES = Literal[
    "draft", "pending_validation", "approved", "sent_to_provider", "redeemed", "rejected", "cancelled", "expired"
]  # fmt: skip


class EntitlementReply(BaseModel):
    """What somebody gets in a cycle; amounts in minor units."""

    id: UUID
    cycle: UUID
    program: str
    registrant: UUID
    recipient: UUID | None
    number: int
    kind: Literal["cash", "in_kind", "voucher"]
    state: _STATES
    currency: str
    amount: int | None
    topped: int = Field(description="Added to the amount later.")
    paid: int = Field(description="Less what came back.")
    items: Any = None
    tries: int = Field(description="Payments made of it.")
    held: str | None = Field(description="Why it is not to be paid now.")
    held_until: date | None
    valid_from: date
    valid_until: date


class TopUpReply(BaseModel):
    """More money for one entitlement, asked for by one and decided by another."""

    id: UUID
    entitlement: UUID
    cycle: UUID
    amount: int
    reason: str
    maker: str
    agreed: bool | None
    checker: str | None
    created_at: datetime
    decided_at: datetime | None


class Listed(Part):
    """Entitlements by their ids; those the caller may not see count like those that are not there."""

    ids: Ids


class Held(Listed):
    """What is held, why and until when."""

    reason: Reason
    until: date | None = Field(None, description="Until somebody resumes it, where it is left out.")


class Cancelled(Listed):
    """What is cancelled, and why."""

    reason: Reason


class TopUp(Part):
    """What is added, in minor units, and why."""

    amount: Annotated[int, Field(ge=1, le=10**15)]
    reason: Reason


def resources(visibility: Visibility, office: Office) -> tuple[Resource, ...]:
    """Return entitlements and top-ups of people in the viewer's areas and programs."""

    async def hold(doing: Doing) -> dict[str, int]:
        body: Held = doing.body
        ids = await office.seen(entitlements, doing, body.ids)
        return await office.at(doing).hold(ids, body.reason, doing.viewer.actor, until=body.until)

    async def resume(doing: Doing) -> dict[str, int]:
        ids = await office.seen(entitlements, doing, doing.body.ids)
        return await office.at(doing).resume(ids, doing.viewer.actor)

    async def cancel(doing: Doing) -> dict[str, int]:
        ids = await office.seen(entitlements, doing, doing.body.ids)
        return await office.at(doing).cancel_entitlements(ids, doing.body.reason, doing.viewer.actor)

    async def ask(doing: Doing) -> Reply:
        id_ = await office.at(doing).ask_top_up(
            doing.row["id"], doing.body.amount, doing.body.reason, doing.viewer.actor
        )
        return await told(doing, id_, 201)

    def decide(agreed: bool) -> Deed:
        async def do(doing: Doing) -> Reply:
            await office.at(doing).decide_top_up(doing.row["id"], agreed, doing.viewer.actor)
            return await told(doing, doing.row["id"], 200)

        return Deed(
            word="agree" if agreed else "refuse", do=do, answer=TopUpReply, scope=Scope.ENTITLEMENTS_APPROVE,
            summary="Agree to a top-up, which reserves its money" if agreed else "Refuse a top-up",
            description="Who asked for it cannot.",
            problems=("approval-own", "top-up-decided", "entitlement-state", "cycle-state", "fund-overdrawn"),
        )  # fmt: skip

    async def told(doing: Doing, id_: UUID, status: int) -> Reply:
        row = await office.desk.reading.one(top_ups, doing.viewer, str(id_), connection=doing.connection)
        return Reply(status, row, {"Location": f"{top_ups.path}/{id_}"} if status == 201 else {})

    many = Scope.ENTITLEMENTS_WRITE
    entitlements = Resource(
        name="entitlements",
        one="entitlement",
        tag="entitlements",
        model=EntitlementReply,
        select="""SELECT e.id, e.cycle_id AS cycle, p.code AS program, e.registrant_id AS registrant, e.recipient_id AS recipient,
    e.number, e.kind, e.state, c.currency, e.amount, e.topped, e.paid, e.items, e.tries, e.held, e.held_until, e.valid_from,
    e.valid_until
FROM entitlement e JOIN cycle c ON c.id = e.cycle_id JOIN program p ON p.id = c.program_id
    JOIN registrant r ON r.id = e.registrant_id""",
        key="e.id",
        key_kind="uuid",
        not_found="entitlement-not-found",
        read=Scope.ENTITLEMENTS_READ,
        filters={
            "cycle": Filter("e.cycle_id = {}", UUID, "Of this cycle.", needed=True),
            "state": Filter("e.state = {}", _STATES, "In this state."),
            "held": Filter("e.held = {}", str, "Held for this reason."),
            "registrant": Filter("e.registrant_id = {}", UUID, "Of this registrant."),
        },
        sorts={"registrant": Sort("e.registrant_id", "uuid"), "id": Sort("e.id", "uuid")},
        visible=visibility.people_of_programs,
        witness=witness_of("entitlement"),
        person="registrant",
        purpose=True,
        constant=True,
        deeds=(
            counted("hold", "Hold entitlements; what has not gone out is taken out of its batch", Held, many, hold,
                problems=("no-route",)),
            counted("resume", "Let held entitlements go with the next distribution", Listed, many, resume),
            counted("cancel", "Cancel entitlements for good; what was reserved for them is free", Cancelled, many, cancel),
            Deed(
                word="top-up", summary="Ask for more money for one entitlement; somebody else has to agree", do=ask,
                body=TopUp, answer=TopUpReply, scope=many, made=True, problems=("amount-negative",),
                example={"amount": 70000, "reason": "flood"},
            ),
        ),
    )  # fmt: skip
    top_ups = Resource(
        name="top-ups",
        one="top-up",
        tag="entitlements",
        model=TopUpReply,
        select="""SELECT t.id, t.entitlement_id AS entitlement, e.cycle_id AS cycle, t.amount, t.reason, t.maker, t.agreed, t.checker,
    t.created_at, t.decided_at
FROM top_up t JOIN entitlement e ON e.id = t.entitlement_id JOIN cycle c ON c.id = e.cycle_id
    JOIN program p ON p.id = c.program_id JOIN registrant r ON r.id = e.registrant_id""",
        key="t.id",
        key_kind="uuid",
        not_found="top-up-not-found",
        read=Scope.ENTITLEMENTS_READ,
        filters={
            "entitlement": Filter("t.entitlement_id = {}", UUID, "Of this entitlement."),
            "cycle": Filter("e.cycle_id = {}", UUID, "Of this cycle."),
            "open": Filter("(t.agreed IS NULL) = {}", bool, "Whether they wait for a decision."),
        },
        sorts={"-id": Sort("t.id", "uuid"), "id": Sort("t.id", "uuid")},
        visible=visibility.people_of_programs,
        constant=True,
        deeds=(decide(True), decide(False)),
    )
    return entitlements, top_ups
