"""Cycles: one round of a program, from its snapshot to its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Deed, Doing, Filter, Reply, Resource, Sort
from adapters.rest.resources.programs.parts import BUSY, Counts, Office, Part, Reason, job
from adapters.rest.resources.visibility import Visibility
from canonical_model.errors import Refused
from canonical_model.program import CycleStatus
from registry.audit import AuditEvent, insert_many
from registry.programs import Programs

_DECIDING = ("approval-own", "approval-role", "cycle-busy", "cycle-state")


class CycleReply(BaseModel):
    """A cycle; amounts in minor units."""

    id: UUID
    name: str = Field(description="Program and number, such as cash/1.")
    program: str
    sequence: int
    start_date: date
    end_date: date
    state: CycleStatus
    work: str | None = Field(description="What goes on in it now.")
    currency: str
    terms: dict[str, Any] = Field(description="Rules, benefit and managers as they were when it was opened.")
    makers: list[str] = Field(description="Who made it; none of them may approve it.")
    round: int
    steps: list[dict[str, Any]] = Field(description="The approvals this round needs.")
    approved_steps: int = Field(description="How many of them are given.")
    snapshot_at: datetime | None
    prepared_at: datetime | None
    beneficiaries: int
    entitlements: int
    total: int
    reserved: int
    spent: int
    version: int


class ApprovalReply(BaseModel):
    """One decision over a cycle."""

    round: int
    step: int
    role: str
    actor: str
    agreed: bool
    reason: str | None
    at: datetime


class Approvals(BaseModel):
    """Who decided over a cycle, oldest first."""

    items: list[ApprovalReply]


class ApprovedReply(BaseModel):
    """What came of an approval."""

    cycle: UUID
    state: CycleStatus
    done: int = Field(description="Steps done.")
    needed: int
    job: UUID | None = Field(description="The job that approves the entitlements, after the last step.")
    repeated: bool = Field(description="Whether the same caller had approved before.")


class Agreement(Part):
    """Which step is agreed to; the next one where it is left out."""

    step: int | None = Field(None, ge=1, le=10)


class Rejection(Part):
    """Why a cycle is sent back."""

    reason: Reason


class CycleAccount(BaseModel):
    """What became of what a cycle ordered, to the minor unit: paid + failed + unknown + cancelled = ordered."""

    model_config = ConfigDict(extra="allow")

    cycle_id: UUID
    currency: str
    payments: int
    ordered: int
    paid: int
    failed: int
    unknown: int
    cancelled: int
    returned: int
    fees: int
    reserved: int
    spent: int
    balanced: bool
    batches: list[dict[str, Any]]
    entitlements: list[dict[str, Any]]


class VoucherQuery(BaseModel):
    """Which vouchers are wanted."""

    model_config = ConfigDict(extra="forbid")

    after: int = Field(0, ge=0, le=2**31 - 1, description="Go on behind this number.")
    limit: int = Field(200, ge=1, le=1000)


class VoucherReply(BaseModel):
    """A voucher; whoever has its code can use it."""

    entitlement: UUID
    recipient: UUID
    number: int
    code: str
    amount: int
    valid_until: date


class Vouchers(BaseModel):
    """A page of vouchers; `next` is the number to go on behind."""

    items: list[VoucherReply]
    next: int | None


class Redemption(Part):
    """A voucher's code, or an entitlement of goods that was handed out."""

    code: str | None = Field(None, min_length=1, max_length=80)
    entitlement: UUID | None = None


class Redeemed(BaseModel):
    """What was taken; `redeemed` is false where it had been before."""

    entitlement: UUID
    redeemed: bool


def resource(visibility: Visibility, office: Office, entitlements: Resource) -> Resource:
    """Return the resource of cycles of the programs a viewer may see."""

    def begin(
        word: str,
        summary: str,
        do: Callable[[Programs, UUID, str], Awaitable[UUID]],
        *problems: str,
    ) -> Deed:
        async def work(doing: Doing) -> UUID:
            return await do(office.at(doing), doing.row["id"], doing.viewer.actor)

        return job(word, summary, Scope.CYCLES_WRITE, work, problems=(*BUSY, *problems))

    async def approve(doing: Doing) -> Reply:
        done = await office.at(doing).approve(
            doing.row["id"], doing.viewer.actor, doing.viewer.roles, step=doing.body.step
        )
        return Reply(200, done.as_dict(), {} if done.job is None else {"Location": f"/v1/jobs/{done.job}"})

    async def reject(doing: Doing) -> UUID:
        return await office.at(doing).reject(
            doing.row["id"], doing.viewer.actor, doing.viewer.roles, doing.body.reason
        )

    async def approvals(doing: Doing) -> Reply:
        return Reply(200, {"items": await office.at(doing).approvals(doing.row["id"])})

    async def reconcile(doing: Doing) -> Reply:
        return Reply(200, await office.at(doing).reconcile(doing.row["id"]))

    async def grace(doing: Doing) -> Reply:
        return Reply(200, await office.at(doing).grace(doing.row["id"], doing.viewer.actor))

    async def vouchers(doing: Doing) -> Reply:
        query = doing.query if isinstance(doing.query, VoucherQuery) else VoucherQuery()
        rows = await office.at(doing).vouchers(doing.row["id"], query.after, query.limit)
        seen = set(await office.seen(entitlements, doing, [row["entitlement"] for row in rows]))
        details = {"count": len(seen)}
        viewer = doing.viewer
        await insert_many(
            doing.connection,
            [AuditEvent(viewer.actor, "voucher.list", "cycle", str(doing.row["id"]), "ok", viewer.request_id, details)],
        )  # fmt: skip
        following = rows[-1]["number"] if len(rows) == query.limit else None
        return Reply(200, {"items": [row for row in rows if row["entitlement"] in seen], "next": following})

    async def redeem(doing: Doing) -> Reply:
        body: Redemption = doing.body
        programs, cycle, actor = office.at(doing), doing.row["id"], doing.viewer.actor
        if body.code is not None and body.entitlement is None:
            found, now = await programs.redeem_voucher(cycle, body.code, actor)
        elif body.entitlement is not None and body.code is None:
            found, now = body.entitlement, await programs.redeem(cycle, body.entitlement, actor)
        else:
            raise Refused(
                "Exactly one is redeemed: a voucher by its code, or an entitlement of goods. Nothing was changed.",
                code="voucher-invalid",
                remedy="Send code or entitlement, not both.",
            )
        # Of somebody the caller may not see it is undone here, and answered like one that is not there.
        await office.desk.reading.one(entitlements, doing.viewer, str(found), connection=doing.connection)
        return Reply(200, {"entitlement": found, "redeemed": now})

    return Resource(
        name="cycles",
        one="cycle",
        tag="cycles",
        model=CycleReply,
        select="""SELECT c.id, p.code || '/' || c.sequence AS name, p.code AS program, c.sequence, c.start_date, c.end_date, c.state,
    c.work, c.currency, c.terms, c.makers, c.round, c.steps,
    (SELECT count(*)::int FROM cycle_approval a WHERE a.cycle_id = c.id AND a.round = c.round AND a.agreed) AS approved_steps,
    c.snapshot_at, c.prepared_at, c.beneficiaries, c.entitlements, c.total, c.reserved, c.spent, c.version
FROM cycle c JOIN program p ON p.id = c.program_id""",
        key="c.id",
        key_kind="uuid",
        version="c.version",
        not_found="cycle-not-found",
        read=Scope.CYCLES_READ,
        filters={
            "program": Filter("p.code = {}", str, "Of this program."),
            "state": Filter("c.state = {}", CycleStatus, "In this state."),
            "sequence": Filter("c.sequence = {}", int, "With this number."),
        },
        sorts={"-id": Sort("c.id", "uuid"), "id": Sort("c.id", "uuid")},
        visible=visibility.programs,
        deeds=(
            begin("snapshot", "Go on with a snapshot that was stopped", lambda s, id_, who: s.snapshot(id_, who)),
            begin("prepare", "Make the entitlements of a cycle from its snapshot", lambda s, id_, who: s.prepare(id_, who)),
            begin("submit", "Submit a prepared cycle for approval", lambda s, id_, who: s.submit(id_, who), "cycle-empty"),
            Deed(
                word="approve", do=approve, body=Agreement, answer=ApprovedReply, scope=Scope.CYCLES_APPROVE, made=False,
                summary="Agree to the next step, in a role of yours; the last step reserves the money",
                description="Your roles come from your token and your partner's record. Who made the cycle cannot.",
                problems=(*_DECIDING, "approval-twice", "approval-taken", "fund-overdrawn", "fund-missing"),
            ),
            job("reject", "Send a cycle back to who made it", Scope.CYCLES_APPROVE, reject, body=Rejection,
                problems=(*_DECIDING, "approval-twice")),
            begin("distribute", "Order the payments of an approved cycle, again those that were released since",
                lambda s, id_, who: s.distribute(id_, who), "no-route"),
            begin("end", "End a cycle whose payments are all settled", lambda s, id_, who: s.end_cycle(id_, who),
                "cycle-payments-open"),
            begin("cancel", "Cancel a cycle of which nothing was paid", lambda s, id_, who: s.cancel_cycle(id_, who)),
            Deed(
                word="approvals", summary="Who agreed to a cycle or sent it back", do=approvals, method="GET",
                answer=Approvals, scope=Scope.CYCLES_READ,
            ),
            Deed(
                word="reconcile", summary="What became of what a cycle ordered, to the minor unit", do=reconcile, method="GET",
                answer=CycleAccount, scope=Scope.CYCLES_READ,
            ),
            Deed(
                word="grace", summary="Look again at who is held until a day", do=grace, answer=Counts,
                scope=Scope.CYCLES_WRITE,
            ),
            Deed(
                word="vouchers", summary="The vouchers of a distributed cycle, with their codes", do=vouchers, method="GET",
                query=VoucherQuery, answer=Vouchers, scope=Scope.VOUCHERS_READ,
            ),
            Deed(
                word="redeem", summary="Take a voucher, or note that goods were handed out; a second time changes nothing",
                do=redeem, body=Redemption, answer=Redeemed, scope=Scope.VOUCHERS_REDEEM,
                problems=("voucher-invalid", "entitlement-not-found", "entitlement-state", "entitlement-over"),
            ),
        ),
    )  # fmt: skip
