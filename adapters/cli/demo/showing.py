"""What the demonstration shows a visitor: the day of messages, then the cycle of payments, each as one short account."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.markup import escape
from rich.table import Table

from adapters.cli.demo.benefit import FINANCE, MAKER, MANAGER, Benefit
from adapters.cli.demo.rails import FAULTS
from adapters.cli.demo.run import Account
from adapters.cli.demo.terms import PROGRAMS
from adapters.cli.output import OUT
from adapters.cli.program.shared import shown

KEYS: Final = ("accepted", "refused", "duplicates", "delivered", "retried", "dead", "lost")
_PAYEES: Final = {"group": "households", "individual": "people"}
_HOW: Final = {"single": "each by itself", "batch": "as one batch"}
_SUMS: Final = ("payments", "ordered", "paid", "failed", "unknown", "cancelled")


def show_day(account: Account) -> None:
    """Print what became of the civil registry's day, and the way of one message."""
    OUT.width = max(OUT.width, 132)
    totals = Table(
        title=f"1. The civil registry's day (broker: {account.broker}, {account.seconds:.1f} s)",
        title_justify="left",
    )
    totals.add_column("what")
    totals.add_column("count", justify="right")
    totals.add_column("meaning")
    meanings = {
        "accepted": "events acknowledged and durable",
        "refused": "; ".join(f"{count} × {reason}" for reason, count in account.refusals.items()),
        "duplicates": "repeats that got the first answer",
        "delivered": f"deliveries over {len(account.routes)} routes",
        "retried": "deliveries that needed more than one attempt",
        "dead": "deliveries that need a person",
        "lost": "acknowledged events any receiver misses",
    }
    for key in KEYS:
        totals.add_row(key, str(getattr(account, key)), meanings[key])
    OUT.print(totals)
    trace = Table(title=f"\nOne message's trace: {account.trace_id}", title_justify="left")
    for name in ("time (UTC)", "what", "where", "note"):
        trace.add_column(name)
    for hop in account.trace:
        trace.add_row(f"{hop['at']:%H:%M:%S.%f}"[:12], hop["what"], hop["where"], hop["note"])
    OUT.print(trace)


def show_benefit(account: Benefit) -> None:
    """Print the benefit cycle: what was done, each cycle's sums, the fund."""
    OUT.print(f"\n2. A benefit cycle ({account.seconds:.1f} s)", style="italic")
    for what, told in _steps(account):
        OUT.print(f"  [bold]{what:<11}[/] {escape(told)}")
    cycles = [(one.cycle, one, one.balanced) for one in account.cycles]
    OUT.print(_table(f"Reconciled by cycle, {account.currency}", "cycle", _SUMS, cycles))
    names = (*_SUMS, "moved", "unproven")
    rails = [(one.rail, one, one.balanced) for one in account.rails]
    title = f"Reconciled with the books of each rail, {account.currency}: paid + unproven = moved there"
    OUT.print(_table(title, "rail", names, rails))
    fund = {name: _amount(value) for name, value in account.fund.items()}
    OUT.print(
        f"fund        {fund['deposited']} deposited = {fund['spent']} spent + {fund['reserved']} still reserved "
        f"+ {fund['fees']} fees + {fund['available']} available",
        markup=False,
    )


def show_wrong(sentences: list[str]) -> None:
    """Print what books disagree on."""
    for line in sentences[:20]:
        OUT.print(f"[bold red]✗[/] {escape(line)}")


def _steps(account: Benefit) -> Iterator[tuple[str, str]]:
    yield (
        "import",
        (
            f"people.csv: {account.people:,} people in {account.households:,} households; "
            f"{account.rows_faulty} rows not taken, mended, {account.rows_mended} taken"
        ),
    )
    if account.problems:
        yield "", account.problems[0]
    yield (
        "duplicates",
        (
            f"{account.duplicates_found} pairs shown to a clerk: {account.duplicates_merged} merged, "
            f"{account.duplicates_distinct} distinct"
        ),
    )
    for terms, cycle in zip(PROGRAMS, account.cycles, strict=True):
        yield (
            "program",
            f"{cycle.cycle}: {cycle.payees:,} {_PAYEES[terms['target_type']]}, {shown(cycle.entitled, account.currency)}",
        )
        yield "", f"who: {terms['eligibility']}"
        yield "", f"how much: {terms['benefit']['amounts'][0]['amount']}, at most {terms['benefit']['most']}"
    yield (
        "approve",
        (
            f"{_name(MAKER)}, who made the cycles, is refused ({account.maker_refused}); "
            f"{_name(MANAGER)} as manager and {_name(FINANCE)} as finance agree"
        ),
    )
    if account.stopped:
        stopped = account.stopped
        yield (
            "death",
            (
                f"told by the civil registry after approval: {stopped['cycle']}, entitlement {stopped['entitlement']}, "
                f"{shown(stopped['amount'], account.currency)} is held ({stopped['reason']})"
            ),
        )
    for terms, cycle in zip(PROGRAMS, account.cycles, strict=True):
        how = _HOW[terms["managers"]["payment"]["form"]]
        yield "pay", f"{cycle.cycle}: {cycle.payments:,} payments by {cycle.route}, {how}"
    for name, faults in FAULTS.items():
        yield "faults", f"{name}: {', '.join(faults)}"
    for rail in account.rails:
        yield "not paid", f"{rail.rail}: " + ", ".join(f"{n} {reason}" for reason, n in rail.reasons.items())


def _table(title: str, first: str, names: tuple[str, ...], rows: Sequence[tuple[str, object, bool]]) -> Table:
    table = Table(title=f"\n{title}", title_justify="left")
    table.add_column(first)
    for name in (*names, ""):
        table.add_column(name, justify="right")
    for label, one, balanced in rows:
        sums = (_amount(getattr(one, name)) for name in names[1:])
        payments = f"{getattr(one, names[0]):,}"
        table.add_row(label, payments, *sums, "[green]=[/]" if balanced else "[red]≠[/]")
    return table


def _amount(minor_units: int) -> str:
    return f"{minor_units / 100:,.2f}"


def _name(actor: str) -> str:
    return actor.partition(":")[2].capitalize()
