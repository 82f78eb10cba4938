"""Payments and their batches: where each is, what a person decides, and results that contradict what is known."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.declaration import Args, Deed, Doing, Filter, Reply, Resource, Sort, Viewer
from adapters.rest.resources.programs.parts import Counts, Ids, Note, Office, Part, Reason, counted
from adapters.rest.resources.visibility import Visibility
from adapters.rest.resources.witness import witness_of
from canonical_model.money import CurrencyCode, Money
from canonical_model.payment import PaymentStatus
from routing.search import MessageFilter
from routing.trace import Trace

_STATES = Literal["issued", "sent", "paid", "failed", "unknown", "cancelled"]


class PaymentReply(BaseModel):
    """A payment in minor units: paid + failed + unknown + cancelled is its amount."""

    id: UUID
    batch: UUID
    cycle: UUID
    program: str
    entitlement: UUID
    attempt: int
    registrant: UUID
    recipient: UUID
    state: _STATES
    currency: str
    amount: int
    paid: int
    failed: int
    unknown: int
    cancelled: int
    returned: int
    fee: int
    rail_reference: str | None
    reason_code: str | None
    sent_at: datetime | None
    completed_at: datetime | None


class PaymentBatchReply(BaseModel):
    """An order to pay many; sums in minor units."""

    id: UUID
    cycle: UUID
    program: str
    number: int
    form: Literal["batch", "single"]
    route: str | None
    currency: str
    payments: int
    ordered: int
    paid: int
    failed: int
    unknown: int
    cancelled: int
    returned: int
    fees: int
    balanced: bool
    message: UUID | None = Field(description="The message that orders it; none where each payment is one.")
    fetched_at: datetime | None = Field(
        description="When its rows first went out; nothing is taken out after."
    )
    actor: str
    created_at: datetime
    version: int


class Whereabouts(BaseModel):
    """Where a payment is: the payment, its batch, and every hop of the message that ordered it."""

    payment: PaymentReply
    batch: PaymentBatchReply
    message: dict[str, Any] | None = Field(
        description="Deliveries and attempts of routes the caller may see; null where there is none."
    )


class DisputeReply(BaseModel):
    """A result that contradicts what is known; a person decides what is true."""

    id: UUID
    payment: UUID | None
    message: UUID
    kind: str
    status: str
    amount_paid: int | None
    currency: str | None
    fee: int | None
    rail_reference: str | None
    reason_code: str | None
    received_at: datetime
    decision: Literal["accepted", "dismissed"] | None
    decided_by: str | None
    decided_at: datetime | None
    note: str | None


class Recall(Part):
    """Why a batch is taken back."""

    reason: Reason


class Settlement(Part):
    """What became of payments the rail never answered for, by a person's word."""

    ids: Ids
    status: Literal["paid", "failed", "cancelled"]
    note: Note


class Return(Part):
    """Money that came back: all of it where no amount is given."""

    note: Note
    amount: Annotated[str, Field(max_length=30, description="A decimal, such as 1250.50.")] | None = None
    currency: CurrencyCode | None = None


class Returned(BaseModel):
    """What of a payment has come back, in minor units."""

    payment: UUID
    returned: int
    paid: int


class Ruling(Part):
    """Where the truth is known from."""

    note: Note


class VerifiedAccounts(Part):
    """Registrants who have an account that was proved to be theirs."""

    registrants: Ids
    source: Reason = Field(description="Who verified them, such as bank-a.")
    until: date | None = Field(None, description="Until when that holds.")


_BATCH = """SELECT b.id, b.cycle_id AS cycle, p.code AS program, b.number, b.form, b.route, c.currency, v.payments, v.ordered, v.paid,
    v.failed, v.unknown, v.cancelled, v.returned, v.fees, v.balanced, b.message_id AS message, b.fetched_at, b.actor,
    b.created_at, b.version
FROM payment_batch b JOIN cycle c ON c.id = b.cycle_id JOIN program p ON p.id = c.program_id
    CROSS JOIN LATERAL (SELECT count(*) AS payments, sum(y.amount)::bigint AS ordered, sum(y.paid)::bigint AS paid,
        sum(y.failed)::bigint AS failed, sum(y.unknown)::bigint AS unknown, sum(y.cancelled)::bigint AS cancelled,
        sum(y.returned)::bigint AS returned, sum(y.fee)::bigint AS fees,
        count(*) = b.count AND sum(y.amount) = b.ordered
            AND sum(y.paid + y.failed + y.unknown + y.cancelled) = b.ordered AS balanced
        FROM payment y WHERE y.batch_id = b.id) v"""
_PAYMENT = """SELECT y.id, y.batch_id AS batch, b.cycle_id AS cycle, p.code AS program, y.entitlement_id AS entitlement,
    y.try AS attempt, e.registrant_id AS registrant, y.recipient_id AS recipient, y.state, c.currency, y.amount, y.paid, y.failed,
    y.unknown, y.cancelled, y.returned, y.fee, y.rail_reference, y.reason_code, y.sent_at, y.completed_at
FROM payment y JOIN payment_batch b ON b.id = y.batch_id JOIN cycle c ON c.id = b.cycle_id
    JOIN program p ON p.id = c.program_id JOIN entitlement e ON e.id = y.entitlement_id
    JOIN registrant r ON r.id = e.registrant_id"""
_DISPUTE = """SELECT d.id, d.payment_id AS payment, d.message_id AS message, d.kind, d.status, d.amount_paid, d.currency, d.fee,
    d.rail_reference, d.reason_code, d.received_at, d.decision, d.decided_by, d.decided_at, d.note
FROM payment_dispute d LEFT JOIN payment y ON y.id = d.payment_id LEFT JOIN payment_batch b ON b.id = y.batch_id
    LEFT JOIN cycle c ON c.id = b.cycle_id LEFT JOIN program p ON p.id = c.program_id
    LEFT JOIN entitlement e ON e.id = y.entitlement_id LEFT JOIN registrant r ON r.id = e.registrant_id"""


def resources(visibility: Visibility, office: Office, people: Resource, trace: Trace) -> tuple[Resource, ...]:
    """Return batches, payments and disputes of the viewer's programs and areas."""

    def whole(viewer: Viewer, args: Args) -> str | None:
        """Batches concern people of all areas: who is confined to some sees those with somebody there."""
        parts = [visibility.programs(viewer, args)]
        inner = visibility.people(viewer, args)
        if inner is not None:
            parts.append(
                "EXISTS (SELECT FROM payment y JOIN entitlement e ON e.id = y.entitlement_id "
                f"JOIN registrant r ON r.id = e.registrant_id WHERE y.batch_id = b.id AND {inner})"
            )
        return " AND ".join(part for part in parts if part) or None

    async def recall(doing: Doing) -> Reply:
        return Reply(
            200, await office.at(doing).recall(doing.row["id"], doing.body.reason, doing.viewer.actor)
        )

    async def settle(doing: Doing) -> dict[str, int]:
        body: Settlement = doing.body
        ids = await office.seen(payments, doing, body.ids)
        return await office.at(doing).settle(ids, PaymentStatus(body.status), doing.viewer.actor, body.note)

    async def give_back(doing: Doing) -> Reply:
        body: Return = doing.body
        money = None
        if body.amount is not None:
            try:
                money = Money.parse(body.amount, body.currency or doing.row["currency"])
            except ValueError:
                raise RequestRefused(
                    "The amount is no decimal of this currency. Nothing was changed.",
                    code="amount-invalid",
                    pointer="/amount",
                ) from None
        return Reply(
            200, await office.at(doing).give_back(doing.row["id"], money, doing.viewer.actor, body.note)
        )

    async def accounts(doing: Doing) -> dict[str, int]:
        body: VerifiedAccounts = doing.body
        asked = set(body.registrants)
        ids = [id_ for id_ in await office.seen(people, doing, list(asked)) if id_ in asked]
        known = await doing.connection.fetch("SELECT id FROM registrant WHERE id = ANY ($1)", ids)
        done = await office.at(doing).verify_accounts(
            [row["id"] for row in known], body.source, expires_on=body.until
        )
        return {"verified": done, "unknown": len(asked) - len(known)}

    async def where(doing: Doing) -> Reply:
        reading, viewer = office.desk.reading, doing.viewer
        batch = await reading.one(batches, viewer, str(doing.row["batch"]), connection=doing.connection)
        message = batch["message"]
        if batch["form"] == "single":
            # Each payment is a message of its own, whose subject it is.
            subject = MessageFilter(subject=f"payment/{doing.row['id'].hex}")
            page = await trace.search(subject, None, 1, visible=viewer.scopes)
            message = page.items[0].id if page.items else None
        found = None if message is None else await trace.message(message, viewer.scopes)
        return Reply(
            200,
            {"payment": doing.row, "batch": batch, "message": None if found is None else found.as_dict()},
        )

    def ruling(word: str, decision: str, summary: str) -> Deed:
        async def do(doing: Doing) -> Reply:
            await office.at(doing).decide(doing.row["id"], decision, doing.viewer.actor, doing.body.note)
            row = await office.desk.reading.one(
                disputes, doing.viewer, str(doing.row["id"]), connection=doing.connection
            )
            return Reply(200, row)

        return Deed(
            word=word, summary=summary, do=do, body=Ruling, answer=DisputeReply, scope=Scope.PAYMENTS_WRITE,
            problems=("dispute-decided", "dispute-not-ours", "fund-overdrawn"),
        )  # fmt: skip

    batches = Resource(
        name="payment-batches",
        one="batch",
        tag="payments",
        model=PaymentBatchReply,
        select=_BATCH,
        key="b.id",
        key_kind="uuid",
        not_found="batch-not-found",
        read=Scope.PAYMENTS_READ,
        filters={
            "cycle": Filter("b.cycle_id = {}", UUID, "Of this cycle."),
            "program": Filter("p.code = {}", str, "Of this program."),
        },
        sorts={"-id": Sort("b.id", "uuid"), "id": Sort("b.id", "uuid")},
        visible=whole,
        deeds=(
            Deed(
                word="recall", summary="Take back a batch that has not gone out; its entitlements are held", do=recall,
                body=Recall, answer=Counts, scope=Scope.PAYMENTS_WRITE, problems=("batch-fetched",),
            ),
        ),
    )  # fmt: skip
    payments = Resource(
        name="payments",
        one="payment",
        tag="payments",
        model=PaymentReply,
        select=_PAYMENT,
        key="y.id",
        key_kind="uuid",
        not_found="payment-not-found",
        read=Scope.PAYMENTS_READ,
        filters={
            "batch": Filter("y.batch_id = {}", UUID, "Of this batch."),
            "entitlement": Filter("y.entitlement_id = {}", UUID, "Of this entitlement."),
            "cycle": Filter("b.cycle_id = {}", UUID, "Of this cycle."),
            "state": Filter("y.state = {}", _STATES, "In this state."),
        },
        sorts={"id": Sort("y.id", "uuid"), "-id": Sort("y.id", "uuid")},
        visible=visibility.people_of_programs,
        witness=witness_of("payment"),
        person="registrant",
        purpose=True,
        constant=True,
        deeds=(
            Deed(
                word="where", summary="Where a payment is: its batch, its order's deliveries and attempts", do=where,
                method="GET", answer=Whereabouts, scope=Scope.PAYMENTS_READ,
            ),
            counted("settle", "Say what became of payments the rail never answered for", Settlement,
                Scope.PAYMENTS_WRITE, settle, problems=("settle-status",)),
            Deed(
                word="return", summary="Note that money of a payment came back", do=give_back, body=Return,
                answer=Returned, scope=Scope.PAYMENTS_WRITE, problems=("payment-state", "amount-invalid"),
            ),
            counted("verify-accounts", "Note that people have an account which was proved to be theirs",
                VerifiedAccounts, Scope.PAYMENTS_WRITE, accounts),
        ),
    )  # fmt: skip
    disputes = Resource(
        name="disputes",
        one="dispute",
        tag="payments",
        model=DisputeReply,
        select=_DISPUTE,
        key="d.id",
        key_kind="uuid",
        not_found="dispute-not-found",
        read=Scope.PAYMENTS_READ,
        filters={
            "open": Filter("(d.decision IS NULL) = {}", bool, "Whether they wait for a decision."),
            "payment": Filter("d.payment_id = {}", UUID, "About this payment."),
            "cycle": Filter("b.cycle_id = {}", UUID, "Of this cycle."),
        },
        sorts={"-id": Sort("d.id", "uuid"), "id": Sort("d.id", "uuid")},
        visible=visibility.people_of_programs,
        deeds=(
            ruling("accept", "accepted", "Accept a disputed result: the books then say what it says"),
            ruling("dismiss", "dismissed", "Dismiss a disputed result: the books stay as they are"),
        ),
    )
    return batches, payments, disputes
