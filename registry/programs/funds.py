"""Funds: the money programs pay from, moved by entries that are never changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from canonical_model.errors import Refused
from canonical_model.message import uuid7
from canonical_model.money import MINOR_UNIT_DIGITS, Money
from registry.audit import AuditEvent, insert_many
from registry.programs.refusals import Connection, not_found

_FIELDS: Final = "id, code, names, currency, deposited, reserved, spent, fees_by, fees, fees_due"
_ENTRY: Final = """
INSERT INTO fund_entry (id, fund_id, kind, amount, cycle_id, batch_id, once, actor, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (once) DO NOTHING RETURNING id
"""

# The fund is held first, so that two results at one time never take the same money.
_HOLD: Final = (
    "SELECT id FROM fund WHERE id = ANY ($1::uuid[]) AND fees_due > 0 ORDER BY id FOR NO KEY UPDATE"
)
_TAKE_FEES: Final = """
INSERT INTO fund_entry (id, fund_id, kind, amount, actor)
SELECT i.id, f.id, 'fee', least(f.fees_due, f.deposited - f.reserved - f.spent - f.fees), $3
FROM unnest($1::uuid[], $2::uuid[]) AS i (id, fund_id) JOIN fund f ON f.id = i.fund_id
WHERE least(f.fees_due, f.deposited - f.reserved - f.spent - f.fees) > 0
"""
PROGRAM: Final = "program"
FEES_BY: Final = (PROGRAM, "payee")
"""Who bears the fees of rails: the program, from its fund, or the payee, of what is received."""


@dataclass(frozen=True, slots=True)
class Fund:
    """What a fund holds, in minor units."""

    id: UUID
    code: str
    names: Mapping[str, str]
    currency: str
    deposited: int
    reserved: int
    spent: int
    fees_by: str = PROGRAM
    fees: int = 0
    """What was taken for fees of rails."""
    fees_due: int = 0
    """What rails charged and the fund did not hold beside what is reserved; taken with the next deposit."""

    @property
    def available(self) -> int:
        """What may still be reserved."""
        return self.deposited - self.reserved - self.spent - self.fees

    def as_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "id": self.id, "code": self.code, "names": self.names, "currency": self.currency,
            "deposited": self.deposited, "reserved": self.reserved, "spent": self.spent, "available": self.available,
            "fees_by": self.fees_by, "fees": self.fees, "fees_due": self.fees_due,
        }  # fmt: skip


async def make(
    connection: Connection,
    code: str,
    names: Mapping[str, str],
    currency: str,
    actor: str,
    *,
    fees_by: str = PROGRAM,
) -> Fund:
    """Make a fund, or return the one of this code as it is.

    Raises `Refused`: `currency-mixed` for one of another currency, `fees-by-invalid`.
    """
    _check_fees_by(fees_by)
    if currency not in MINOR_UNIT_DIGITS:
        raise Refused(
            "A fund is kept in a currency of ISO 4217. Nothing was made.",
            code="currency-mixed",
            remedy="Write its three letters, such as KES.",
        )
    await connection.execute(
        "INSERT INTO fund (id, code, names, currency, fees_by) VALUES ($1, $2, $3, $4, $5) ON CONFLICT (code) DO NOTHING",
        uuid7(),
        code,
        dict(names),
        currency,
        fees_by,
    )
    fund = await get(connection, code)
    if fund.currency != currency:
        raise _mixed(fund, currency)
    await insert_many(connection, [AuditEvent(actor, "fund.make", "fund", str(fund.id))])
    return fund


async def bear_fees(connection: Connection, code: str, fees_by: str, actor: str) -> Fund:
    """Say who bears the fees of rails from now on; what was charged stays. Raises `Refused` (`fees-by-invalid`)."""
    _check_fees_by(fees_by)
    fund = await get(connection, code)
    await connection.execute("UPDATE fund SET fees_by = $2 WHERE id = $1", fund.id, fees_by)
    event = AuditEvent(actor, "fund.fees", "fund", str(fund.id), details={"fees_by": fees_by})
    await insert_many(connection, [event])
    return await get(connection, code)


async def take_fees(connection: Connection, fund_ids: Collection[UUID], actor: str) -> None:
    """Take fees that are due as far as funds hold what is neither reserved nor spent; the rest stays due."""
    rows = await connection.fetch(_HOLD, list(fund_ids))
    if rows:
        held = [row["id"] for row in rows]
        await connection.execute(_TAKE_FEES, [uuid7() for _ in held], held, actor)


async def get(connection: Connection, code: str) -> Fund:
    """Return a fund by its code; raises `Refused` (`fund-not-found`)."""
    row = await connection.fetchrow(f"SELECT {_FIELDS} FROM fund WHERE code = $1", code)
    if row is None:
        raise not_found("fund", "fund-not-found", "`hub program fund show` lists the funds.")
    return Fund(**dict(row))


async def listed(connection: Connection) -> list[Fund]:
    """Return every fund by code, at most 1000."""
    rows = await connection.fetch(f"SELECT {_FIELDS} FROM fund ORDER BY code LIMIT 1000")
    return [Fund(**dict(row)) for row in rows]


async def move(
    connection: Connection,
    code: str,
    kind: str,
    money: Money,
    actor: str,
    *,
    reason: str | None,
    once: str | None,
) -> tuple[Fund, bool]:
    """Deposit or withdraw; say whether it was done now or had been, told by `once`.

    Raises `Refused`: `currency-mixed`, `amount-negative`, `fund-overdrawn`, `fund-once-reused`.
    """
    fund = await get(connection, code)
    if money.currency != fund.currency:
        raise _mixed(fund, money.currency)
    if money.minor_units <= 0:
        raise Refused(
            "An amount to move is above zero. Nothing was moved.",
            code="amount-negative",
            remedy="To take money out, use `hub program fund withdraw`.",
        )
    made = await entry(connection, fund.id, kind, money.minor_units, actor, reason=reason, once=once)
    if not made:
        same = await connection.fetchval(
            "SELECT fund_id = $2 AND kind = $3 AND amount = $4 FROM fund_entry WHERE once = $1",
            once,
            fund.id,
            kind,
            money.minor_units,
        )
        if not same:
            raise Refused(
                "This key was used before for another move. Nothing was moved.",
                code="fund-once-reused",
                remedy="Use a new key for each deposit or withdrawal.",
            )
    else:
        details = {"amount": money.minor_units, "currency": money.currency}
        await insert_many(
            connection, [AuditEvent(actor, f"fund.{kind}", "fund", str(fund.id), details=details)]
        )
        await take_fees(connection, [fund.id], actor)
    return await get(connection, code), made


async def entry(
    connection: Connection,
    fund_id: UUID,
    kind: str,
    amount: int,
    actor: str,
    *,
    cycle_id: UUID | None = None,
    batch_id: UUID | None = None,
    reason: str | None = None,
    once: str | None = None,
) -> bool:
    """Write one entry, which moves the balances of fund and cycle; False when `once` had been."""
    made = await connection.fetchval(
        _ENTRY, uuid7(), fund_id, kind, amount, cycle_id, batch_id, once, actor, reason
    )
    return made is not None


async def entries(
    connection: Connection, code: str, before: UUID | None = None, limit: int = 100
) -> list[dict[str, Any]]:
    """Return the newest entries of a fund, with ids below `before`."""
    fund = await get(connection, code)
    rows = await connection.fetch(
        "SELECT id, kind, amount, cycle_id, batch_id, actor, reason, at FROM fund_entry "
        "WHERE fund_id = $1 AND ($2::uuid IS NULL OR id < $2) ORDER BY id DESC LIMIT $3",
        fund.id,
        before,
        min(limit, 1000),
    )
    return [dict(row) for row in rows]


def _check_fees_by(fees_by: str) -> None:
    if fees_by not in FEES_BY:
        raise Refused(
            "Fees are borne by the program or by the payee. Nothing was changed.",
            code="fees-by-invalid",
            remedy=f"Write one of: {', '.join(FEES_BY)}.",
        )


def _mixed(fund: Fund, currency: str) -> Refused:
    return Refused(
        f"Fund {fund.code} is kept in {fund.currency}, not in {currency[:3]}. Nothing was changed.",
        code="currency-mixed",
        remedy="Use a fund of that currency; the hub changes no money.",
    )
