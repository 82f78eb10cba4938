"""`hub program fund`: the money programs pay from."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adapters.cli.program.shared import (
    After,
    As,
    Json,
    Limit,
    Reason,
    actor,
    money,
    run,
    say,
    shown,
    table,
    uuid,
)
from adapters.hub import Hub

app = typer.Typer(no_args_is_help=True)

FundCode = Annotated[str, typer.Argument(metavar="FUND", help="The fund's code.")]
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help="A decimal, such as 1250.50.")]
Once = Annotated[
    str | None,
    typer.Option("--once", metavar="KEY", help="The same key moves money once, however often it is sent."),
]


@app.command("make")
def make_command(
    code: FundCode,
    currency: Annotated[str, typer.Argument(metavar="CURRENCY", help="Three letters of ISO 4217.")],
    name: Annotated[str | None, typer.Option("--name", help="What people call it.")] = None,
    fees: Annotated[
        str, typer.Option("--fees", help="Who bears the fees of rails: program or payee.")
    ] = "program",
    who: As = None,
    as_json: Json = False,
) -> None:
    """Make a fund; one that is there stays as it is.

    Example: hub program fund make main KES --name "Social Protection Fund"
    """
    found = run(
        lambda hub: hub.programs.make_fund(code, {"en": name or code}, currency, actor(who), fees_by=fees)
    )
    say(found.as_dict(), as_json)


@app.command("fees")
def fees_command(
    code: FundCode,
    fees: Annotated[str, typer.Argument(metavar="WHO", help="program or payee.")],
    who: As = None,
    as_json: Json = False,
) -> None:
    """Say who bears the fees of rails from now on; what was charged before stays.

    Example: hub program fund fees main payee
    """
    say(run(lambda hub: hub.programs.bear_fees(code, fees, actor(who))).as_dict(), as_json)


def _move(
    code: str, kind: str, amount: str, reason: str | None, once: str | None, who: str | None, as_json: bool
) -> None:
    async def work(hub: Hub) -> dict[str, Any]:
        fund = await hub.programs.fund(code)
        moved = money(amount, fund.currency)
        after, made = await hub.programs.move_money(code, kind, moved, actor(who), reason=reason, once=once)
        return {
            "fund": code, "moved": made, "currency": after.currency, "deposited": after.deposited,
            "reserved": after.reserved, "spent": after.spent, "available": after.available,
        }  # fmt: skip

    found = run(work)
    if as_json:
        say(found, as_json)
    else:
        what = f"{shown(found['available'], found['currency'])} are available"
        say({"fund": code, "result": what if found["moved"] else f"nothing was moved again; {what}"}, as_json)


@app.command("deposit")
def deposit_command(
    code: FundCode,
    amount: Amount,
    reason: Reason = None,
    once: Once = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Put money into a fund.

    Example: hub program fund deposit main 2500000.00 --once slip-2026-01
    """
    _move(code, "deposit", amount, reason, once, who, as_json)


@app.command("withdraw")
def withdraw_command(
    code: FundCode,
    amount: Amount,
    reason: Reason = None,
    once: Once = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Take money out of a fund that is neither reserved nor spent.

    Example: hub program fund withdraw main 1000.00 --reason year-end
    """
    _move(code, "withdraw", amount, reason, once, who, as_json)


@app.command("show")
def show_command(as_json: Json = False) -> None:
    """Show every fund: deposited, reserved, spent, available, and whether its accounts agree; exit code 1 when not.

    Example: hub program fund show
    """
    if not balances(as_json):
        raise typer.Exit(1)


@app.command("entries")
def entries_command(code: FundCode, after: After = None, limit: Limit = 100, as_json: Json = False) -> None:
    """List the entries of a fund, newest first; none is ever changed.

    Example: hub program fund entries main
    """
    before = None if after is None else uuid(after)
    rows = run(lambda hub: hub.programs.fund_entries(code, before, limit))
    following = rows[-1]["id"] if len(rows) == limit else None
    table(rows, ("at", "kind", "amount", "actor", "reason", "id"), as_json, following)


def balances(as_json: bool) -> bool:
    """Print what every fund holds; say whether all accounts agree."""
    rows = run(lambda hub: hub.programs.funds())
    columns = (
        "deposited",
        "reserved",
        "spent",
        "fees",
        "fees_due",
        "available",
        "ordered",
        "paid",
        "failed",
        "unknown",
        "cancelled",
        "returned",
    )
    told = (
        rows
        if as_json
        else [{**row, **{name: shown(row[name], row["currency"]) for name in columns}} for row in rows]
    )
    table(told, ("code", *columns, "balanced"), as_json)
    return all(row["balanced"] for row in rows)
