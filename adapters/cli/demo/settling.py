"""The end of the payments: what the ledger says of each rail, beside what that rail says of itself, payment by payment."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from adapters.cli.demo.rails import Moved
from adapters.cli.output import Told
from adapters.hub import Hub
from routing.ledger_desk import Desk
from routing.transfers import CANCELLED, FAILED, PAID, QUEUED, REVIEW, UNKNOWN, Transfer

_COLUMNS: Final = {
    PAID: "paid",
    FAILED: "failed",
    UNKNOWN: "unknown",
    REVIEW: "unknown",
    CANCELLED: "cancelled",
}
_OPEN: Final = (
    "SELECT count(*) AS all, count(*) FILTER (WHERE state NOT IN ('queued', 'working', 'sent') AND NOT report) AS ended "
    "FROM transfer"
)

_REASONS: Final = "SELECT reason, count(*) FROM transfer WHERE target = $1 AND reason IS NOT NULL GROUP BY reason ORDER BY count(*) DESC, reason"


@dataclass(slots=True)
class RailAccount:
    """One rail's account, in minor units: the ledger's sums, and what the rail's own books say has moved."""

    rail: str
    payments: int = 0
    ordered: int = 0
    paid: int = 0
    failed: int = 0
    unknown: int = 0
    cancelled: int = 0
    moved: int = 0
    unproven: int = 0
    """The part of `moved` for which the rail has given no proof: it stands among `unknown` until a person decides."""
    twice: int = 0
    """Payments for which money moved more than once."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Payments that were not paid, by the reason the ledger has."""
    balanced: bool = False


async def paid_out(hub: Hub, told: Told, within: float) -> None:
    """Wait until nothing moves by itself any more and each result was told; raises `TimeoutError` after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        row = await hub.pool.fetchrow(_OPEN)
        assert row is not None  # an aggregate always answers
        told("paying", row["ended"], row["all"])
        if row["all"] == row["ended"]:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"{row['all'] - row['ended']} payments are still on their way")
        await asyncio.sleep(0.1)


async def take_one_back(desk: Desk, target: str, actor: str) -> None:
    """Cancel one payment that waits, as `hub payments cancel` does; the target's payments have to be stopped."""
    (waiting,) = await desk.listed(target=target, state=QUEUED, limit=1)
    await desk.cancel(target, waiting["payment_id"], actor)


async def compare(hub: Hub, desk: Desk, rail: str, moved: Sequence[Moved]) -> tuple[RailAccount, list[str]]:
    """Return a rail's account, and sentences about each payment of which its books and the hub's say different things."""
    account = RailAccount(rail)
    for sums in await desk.settlement(target=rail):
        account.payments += sums["payments"]
        account.ordered += sums["units"]
        column = _COLUMNS.get(sums["state"])
        if column is not None:
            setattr(account, column, getattr(account, column) + sums["units"])
    account.reasons = {each["reason"]: each["count"] for each in await hub.pool.fetch(_REASONS, rail)}
    ledger = hub.books.transfers(rail)
    found = await asyncio.gather(*(ledger.find(one.kind, one.reference) for one in moved))
    return account, settled(account, moved, found)


def settled(account: RailAccount, moved: Sequence[Moved], found: Sequence[Sequence[Transfer]]) -> list[str]:
    """Complete an account by what has moved, each with the ledger's rows of it; return what does not agree."""
    rail, wrong = account.rail, list[str]()
    times: Counter[str] = Counter()
    proven = 0
    for one, rows in zip(moved, found, strict=True):
        account.moved += one.minor_units
        if len(rows) != 1:
            wrong.append(f"{rail}: money moved for {one.reference}, which the ledger does not know")
            continue
        (row,) = rows
        times[row.id] += 1
        if one.minor_units != row.instruction.amount.minor_units:
            wrong.append(f"{rail}: another amount moved for payment {row.payment_id} than was ordered")
        if row.state == PAID:
            proven += one.minor_units
        elif row.state in {UNKNOWN, REVIEW}:
            account.unproven += one.minor_units
        else:
            wrong.append(f"{rail}: money moved for payment {row.payment_id}, which is {row.state}")
    account.twice = sum(count > 1 for count in times.values())
    if account.twice:
        wrong.append(f"{rail}: {account.twice} payments were made twice")
    if proven != account.paid:
        wrong.append(f"{rail}: {account.paid} is paid by the ledger, {proven} by the rail's own books")
    outcomes = account.paid + account.failed + account.unknown + account.cancelled
    if outcomes != account.ordered:
        wrong.append(f"{rail}: {account.ordered - outcomes} of what was ordered has no outcome")
    account.balanced = not wrong and account.ordered > 0
    return wrong
