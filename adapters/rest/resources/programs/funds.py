"""Funds: what they hold, deposits and withdrawals, every entry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from adapters.http.problems import RequestRefused
from adapters.http.security.partners import Scope
from adapters.rest.resources.areas import Names
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
from adapters.rest.resources.programs.parts import Office, Part, Reason
from adapters.rest.resources.writing import there_already
from canonical_model.money import CurrencyCode, Money

_Code = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]


class FundEntry(Part):
    """A fund as it is made."""

    code: _Code
    names: Names
    currency: CurrencyCode
    fees_by: Literal["program", "payee"] = Field(
        "program", description="Who bears the fees of rails: the program, from the fund, or the payee."
    )


class FundReply(BaseModel):
    """A fund: what it holds in minor units, and what became of what was ordered from it."""

    id: str = Field(description="Its code.")
    names: dict[str, str]
    currency: str
    deposited: int
    reserved: int
    spent: int
    available: int
    fees_by: Literal["program", "payee"] = Field(description="Who bears the fees of rails.")
    fees: int = Field(description="What was taken for fees.")
    fees_due: int = Field(description="Fees that the fund did not hold beside what is reserved.")
    ordered: int
    paid: int
    failed: int
    unknown: int
    cancelled: int
    returned: int
    balanced: bool = Field(description="Whether its accounts agree to the minor unit.")


class FundEntryReply(BaseModel):
    """One move of money; none is ever changed."""

    id: UUID
    fund: str
    kind: Literal["deposit", "withdraw", "reserve", "release", "spend", "return", "refund", "charge", "fee"]
    amount: int
    cycle: UUID | None
    batch: UUID | None
    actor: str
    reason: str | None
    at: datetime


class MoneyMove(Part):
    """Money put in or taken out."""

    amount: Annotated[str, Field(max_length=30, description="A decimal, such as 1250.50.")]
    currency: CurrencyCode
    reason: Reason | None = None
    once: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        None, description="A key of yours: the same key moves money once, for good."
    )


class _Funds:
    def __init__(self, office: Office) -> None:
        self._office = office

    async def create(self, connection: Connection, viewer: Viewer, entry: FundEntry) -> str:
        if await connection.fetchval("SELECT true FROM fund WHERE code = $1", entry.code):
            raise there_already("fund")
        await self._office.on(connection).make_fund(
            entry.code, entry.names, entry.currency, viewer.actor, fees_by=entry.fees_by
        )
        return entry.code

    async def replace(
        self, connection: Connection, viewer: Viewer, key: Any, entry: FundEntry, seen: Mapping[str, Any]
    ) -> None:
        raise RequestRefused("A fund moves by its entries only.", code="method-not-allowed")

    async def delete(self, connection: Connection, viewer: Viewer, key: Any) -> None:
        raise RequestRefused("A fund is never deleted.", code="method-not-allowed")


def _of_programs(viewer: Viewer, args: Args) -> str | None:
    """Who is confined to programs sees the funds they pay from."""
    if viewer.partner.programs is None:
        return None
    codes = args.add(list(viewer.partner.programs))
    return f"EXISTS (SELECT FROM program p WHERE p.fund_id = f.id AND p.code = ANY ({codes}::text[]))"


def resources(office: Office) -> tuple[Resource, ...]:
    """Return funds and their entries."""

    def move(kind: str, summary: str) -> Deed:
        async def do(doing: Doing) -> Reply:
            body: MoneyMove = doing.body
            try:
                money = Money.parse(body.amount, body.currency)
            except ValueError:
                raise RequestRefused(
                    "The amount is no decimal of this currency. Nothing was moved.",
                    code="amount-invalid",
                    pointer="/amount",
                    remedy="Write it with at most the currency's decimals, such as 1250.50.",
                ) from None
            await office.at(doing).move_money(
                doing.row["id"], kind, money, doing.viewer.actor, reason=body.reason, once=body.once
            )
            row = await office.desk.reading.one(
                funds, doing.viewer, doing.row["id"], connection=doing.connection
            )
            return Reply(200, row)

        return Deed(
            word=kind, summary=summary, do=do, body=MoneyMove, answer=FundReply, scope=Scope.FUNDS_WRITE,
            problems=("amount-invalid", "amount-negative", "currency-mixed", "fund-overdrawn", "fund-once-reused"),
            example={"amount": "2500000.00", "currency": "KES", "once": "slip-2026-01"},
        )  # fmt: skip

    funds = Resource(
        name="funds",
        one="fund",
        tag="funds",
        model=FundReply,
        select="""SELECT f.code AS id, f.names, f.currency, v.deposited, v.reserved, v.spent, v.available, v.fees_by, v.fees, v.fees_due, v.ordered, v.paid, v.failed,
    v.unknown, v.cancelled, v.returned, v.balanced
FROM fund f JOIN fund_reconciliation v ON v.fund_id = f.id""",
        key="f.code",
        key_kind="text",
        locks="f",
        not_found="fund-not-found",
        read=Scope.FUNDS_READ,
        write=Scope.FUNDS_WRITE,
        filters={"currency": Filter("f.currency = {}", str, "Kept in this currency.")},
        sorts={"id": Sort("f.code", "text")},
        visible=_of_programs,
        entry=FundEntry,
        store=_Funds(office),
        refusals=("currency-mixed",),
        changeable=False,
        deeds=(
            move("deposit", "Put money into a fund"),
            move("withdraw", "Take money out that is neither reserved nor spent"),
        ),
    )
    entries = Resource(
        name="fund-entries",
        one="entry of a fund",
        tag="funds",
        model=FundEntryReply,
        select="""SELECT n.id, f.code AS fund, n.kind, n.amount, n.cycle_id AS cycle, n.batch_id AS batch, n.actor, n.reason, n.at
FROM fund_entry n JOIN fund f ON f.id = n.fund_id""",
        key="n.id",
        key_kind="uuid",
        not_found="fund-not-found",
        read=Scope.FUNDS_READ,
        filters={
            "fund": Filter("n.fund_id = (SELECT x.id FROM fund x WHERE x.code = {})", str, "Of this fund."),
            "kind": Filter("n.kind = {}", str, "Of this kind."),
            "cycle": Filter("n.cycle_id = {}", UUID, "Of this cycle."),
        },
        sorts={"-id": Sort("n.id", "uuid"), "id": Sort("n.id", "uuid")},
        visible=_of_programs,
        single=False,
    )
    return funds, entries
