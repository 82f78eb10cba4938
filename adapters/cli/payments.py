"""`hub payments`: where is this payment, what waits for a decision, what goes on again, and the sums for the ministry."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from adapters.cli import reading_back
from adapters.cli.opened import actor, on_hub, registrant_id
from adapters.cli.output import OUT, print_json
from adapters.hub import Hub
from adapters.rest.payments import lines
from canonical_model.errors import Refused
from canonical_model.money import Money
from routing.ledger_desk import Desk, plain

app = typer.Typer(no_args_is_help=True)
review_app = typer.Typer(no_args_is_help=True)
app.add_typer(review_app, name="review", help="Payments of which only a person can say what became of them.")

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Target = Annotated[str | None, typer.Option(help="Only of this target.")]
Cycle = Annotated[str | None, typer.Option(help="Only of the cycle with this id.")]
PaymentId = Annotated[str, typer.Argument(metavar="PAYMENT_ID", help="The id of the payment.")]
AT = Annotated[str, typer.Option("--target", help="The target it is on.")]
DRY = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]


def desk(hub: Hub) -> Desk:
    """Return the desk of this hub's ledger."""
    return Desk(hub.pool, hub.books)


@app.command("list")
def list_command(
    target: Target = None,
    state: Annotated[str | None, typer.Option(help="Only in this state, such as `sent` or `failed`.")] = None,
    batch: Annotated[str | None, typer.Option(help="Only of this batch.")] = None,
    institution: Annotated[str | None, typer.Option(help="Only to this institution.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most payments of one page.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="Continue after the page before.")] = None,
    as_json: Json = False,
) -> None:
    """List payments in the ledger, in the order in which they were entered.

    Example: hub payments list --state failed
    """
    after = None if cursor is None else registrant_id(cursor)

    async def work(hub: Hub) -> list[dict[str, Any]]:
        return await desk(hub).listed(
            target=target, state=state, batch_id=batch, institution=institution, after=after, limit=limit
        )

    _print_list(on_hub(work), limit, as_json=as_json)


@app.command("show")
def show_command(payment_id: PaymentId, as_json: Json = False) -> None:
    """Say where a payment is, with the time of each of its steps.

    Example: hub payments show 01890a5d-ac96-774b-bcce-b302099a8057
    """
    found = on_hub(lambda hub: desk(hub).show(payment_id))
    if as_json:
        print_json({"payments": found})
        return
    for one in found:
        attempt = "" if one["rails"] is None else f" (attempt {one['attempt']} of the route {one['rails']})"
        code = f" {one['reason']}" if one["reason"] else ""
        OUT.print(
            f"{one['payment_id']} on {one['target']}{attempt}: {one['state']}{code}",
            style="bold",
            markup=False,
        )
        if one["fee"] is not None:
            OUT.print(f"  fee {_amount(one['fee'], one['currency'])}", markup=False)
        if one["superseded"]:
            OUT.print("  it has surely not paid; the next rail was ordered to", markup=False)
        OUT.print(f"  {_amount(one['units'], one['currency'])} {_words(one)}", markup=False)
        table = Table("time", "stage", "state", "code")
        table.add_row(str(plain(one["created_at"])), "", "entered", "")
        for step in one["steps"]:
            table.add_row(step["at"], step["stage"], step["state"], step["code"] or "")
        OUT.print(table)


@app.command("batches")
def batches_command(
    target: Target = None,
    state: Annotated[str | None, typer.Option(help="running, stopped or closed.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most batches.")] = 50,
    as_json: Json = False,
) -> None:
    """List batches, the newest first, with what has become of their payments.

    Example: hub payments batches --state stopped
    """
    found = on_hub(lambda hub: desk(hub).batches(target=target, state=state, limit=limit))
    if as_json:
        print_json({"batches": found})
        return
    table = Table(
        "target", "batch", "state", "ordered", "open", "paid", "failed", "unknown", "cancelled", "code"
    )
    for one in found:
        counts = (one[name] for name in ("ordered", "open", "paid", "failed", "unknown", "cancelled"))
        table.add_row(
            one["target"], one["batch_id"] or "(single)", one["state"],
            *("–" if count is None else f"{count:,}" for count in counts), one["reason"] or "",
        )  # fmt: skip
    OUT.print(table)


@review_app.command("list")
def review_list_command(
    target: Target = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Most payments.")] = 50,
    as_json: Json = False,
) -> None:
    """List payments that wait for a decision.

    Example: hub payments review list
    """
    _print_list(
        on_hub(lambda hub: desk(hub).listed(target=target, state="review", limit=limit)),
        limit,
        as_json=as_json,
    )


@review_app.command("decide")
def review_decide_command(
    payment_id: PaymentId,
    decision: Annotated[str, typer.Argument(metavar="DECISION", help="paid or failed.")],
    target: AT,
    as_json: Json = False,
) -> None:
    """Decide over a payment in review, or unknown, as the rail's own statement shows it; nothing is sent.

    Example: hub payments review decide PAYMENT_ID paid --target mojaloop
    """
    on_hub(lambda hub: desk(hub).decide(target, payment_id, decision, actor()))
    _said(
        {"payment_id": payment_id, "target": target, "state": decision},
        f"Payment {payment_id} is {decision}.",
        as_json,
    )


@app.command("resume")
def resume_command(
    target: AT,
    batch: Annotated[str | None, typer.Option(help="Only this batch.")] = None,
    dry_run: DRY = False,
    as_json: Json = False,
) -> None:
    """Let a stopped batch, or all that is stopped of a target, go on, once its cause is gone.

    Example: hub payments resume --target mojaloop --batch B-7
    """

    async def work(hub: Hub) -> int:
        if dry_run:
            stopped = await desk(hub).batches(target=target, state="stopped", limit=1000)
            return sum(batch in (None, one["batch_id"]) for one in stopped)
        return await desk(hub).resume(target, batch_id=batch, actor=actor())

    count = on_hub(work)
    words = "would go on" if dry_run else "goes on" if count == 1 else "go on"
    _said({"target": target, "resumed": count, "dry_run": dry_run}, f"{count} {words}.", as_json)


@app.command("cancel")
def cancel_command(payment_id: PaymentId, target: AT, as_json: Json = False) -> None:
    """Take back a payment of which nothing is under way yet.

    Example: hub payments cancel PAYMENT_ID --target mojaloop
    """
    on_hub(lambda hub: desk(hub).cancel(target, payment_id, actor()))
    _said(
        {"payment_id": payment_id, "target": target, "state": "cancelled"},
        f"Payment {payment_id} is cancelled.",
        as_json,
    )


@app.command("read-back")
def read_back_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A pain.002, a camt.054, or a list that came back as CSV.")
    ],
    target: AT,
    dry_run: DRY = False,
    as_json: Json = False,
) -> None:
    """Read a file that a bank or cash-out desk sent back, and end the payments it tells of.

    Example: hub payments read-back report.xml --target bank-file --dry-run
    """
    done = on_hub(lambda hub: reading_back.read_file(hub, target, file, actor(), dry_run=dry_run))
    if as_json:
        print_json({"target": target, "dry_run": dry_run, **done})
        return
    table = Table("reference", "payment", "becomes", "code")
    for one in done["payments"]:
        table.add_row(one["reference"], one["payment_id"] or "–", one["to"], one["code"] or "")
    OUT.print(table)
    words = ", ".join(f"{done[name]:,} {name}" for name in reading_back.COUNTS)
    OUT.print(f"{'Would be: ' if dry_run else ''}{words}.", markup=False)


@app.command("settlement")
def settlement_command(cycle: Cycle = None, target: Target = None, as_json: Json = False) -> None:
    """Show sums per cycle, rail and state, fees, and how old the unknown ones are.

    Example: hub payments settlement --target mojaloop
    """
    found = on_hub(lambda hub: desk(hub).settlement(cycle_id=cycle, target=target))
    if as_json:
        print_json({"settlement": found})
        return
    table = Table(
        "cycle",
        "target",
        "state",
        "payments",
        "amount",
        "fees",
        "not known for: <1 h",
        "<1 d",
        "<7 d",
        "older",
    )
    for one in found:
        ages = (one[f"unclear_{age}"] for age in ("hour", "day", "week", "older"))
        table.add_row(
            one["cycle_id"] or "–", one["target"], one["state"], f"{one['payments']:,}",
            _amount(one["units"], one["currency"]), _amount(one["fees"], one["currency"]),
            *(f"{age:,}" if age else "" for age in ages),
        )  # fmt: skip
    OUT.print(table)


@app.command("export")
def export_command(
    cycle: Cycle = None,
    target: Target = None,
    form: Annotated[str, typer.Option("--format", help="csv or ndjson.")] = "csv",
) -> None:
    """Write every payment of a cycle or rail to standard output, without anything that names its payee.

    Example: hub payments export --target mojaloop --format ndjson
    """
    if form not in {"csv", "ndjson"}:
        raise Refused(
            "An export is csv or ndjson.",
            code="export-format-unknown",
            remedy="Give --format csv or --format ndjson.",
        )

    async def work(hub: Hub) -> None:
        await desk(hub).note_export(actor(), cycle_id=cycle, target=target)
        async for line in lines(desk(hub).exported(cycle_id=cycle, target=target), form):
            sys.stdout.write(line.decode())

    on_hub(work)


def _print_list(found: list[dict[str, Any]], limit: int, *, as_json: bool) -> None:
    going_on = found[-1]["id"] if len(found) == limit else None
    if as_json:
        print_json({"payments": found, "cursor": going_on})
        return
    table = Table("payment", "target", "institution", "amount", "stage", "state", "code", "since")
    for one in found:
        table.add_row(
            one["payment_id"], one["target"], one["institution"] or "–", _amount(one["units"], one["currency"]),
            one["stage"], one["state"], one["reason"] or "", str(plain(one["sent_at"] or one["created_at"])),
        )  # fmt: skip
    OUT.print(table)
    if going_on is not None:
        OUT.print(f"There may be more: --cursor {going_on}", markup=False)


def _words(one: dict[str, Any]) -> str:
    words = [f"to {one['institution']}" if one["institution"] else "institution not known yet"]
    if one["batch_state"] == "stopped" or one["target_stopped"]:
        words.append(
            f"stopped ({one['batch_reason'] or one['target_stopped']}): `hub payments resume` lets it go on"
        )
    if one["due_at"] is not None:
        words.append(f"asked about again at {plain(one['due_at'])}")
    if one["reported_at"] is not None:
        words.append(f"told at {plain(one['reported_at'])}")
    return "; ".join(words)


def _amount(units: int, currency: str) -> str:
    return f"{Money(minor_units=units, currency=currency).decimal()} {currency}"


def _said(body: dict[str, Any], text: str, as_json: bool) -> None:
    if as_json:
        print_json(body)
    else:
        OUT.print(text, markup=False)
