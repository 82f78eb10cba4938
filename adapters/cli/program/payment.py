"""`hub program payment`: what a person decides on payments and entitlements."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from adapters.cli.program.shared import (
    After,
    As,
    CycleName,
    IdFile,
    Ids,
    Json,
    Limit,
    actor,
    cycle_of,
    day,
    ids,
    money,
    run,
    say,
    table,
    uuid,
)
from adapters.hub import Hub
from canonical_model.payment import PaymentStatus

app = typer.Typer(no_args_is_help=True)

Why = Annotated[
    str, typer.Option("--reason", help="A code of why, such as wrong-bank; never names or numbers of people.")
]
Note = Annotated[str, typer.Option("--note", help="Where this is known from, without data of people.")]
One = Annotated[str, typer.Argument(metavar="ID", help="The id.")]
Currency = Annotated[str | None, typer.Option(help="The currency of the amount.")]


def hold_command(
    reason: Why,
    given: Ids = None,
    file: IdFile = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DAY", help="Until when, YYYY-MM-DD; until somebody resumes it if left out."),
    ] = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Hold entitlements; a payment that has not gone out is taken out of its batch.

    Example: hub program hold 0197c0de-0000-7000-8000-000000000000 --reason complaint
    """
    listed, last = ids(given, file), day(until)
    say(run(lambda hub: hub.programs.hold(listed, reason, actor(who), until=last)), as_json)


def resume_command(given: Ids = None, file: IdFile = None, who: As = None, as_json: Json = False) -> None:
    """Let held entitlements go with the next `hub program pay`, also those whose payment failed or came back.

    Example: hub program resume --ids corrected.txt
    """
    listed = ids(given, file)
    say(run(lambda hub: hub.programs.resume(listed, actor(who))), as_json)


@app.command("cancel")
def cancel_command(
    reason: Why, given: Ids = None, file: IdFile = None, who: As = None, as_json: Json = False
) -> None:
    """Cancel entitlements for good; what was reserved for them is free.

    Example: hub program payment cancel 0197c0de-0000-7000-8000-000000000000 --reason double
    """
    listed = ids(given, file)
    say(run(lambda hub: hub.programs.cancel_entitlements(listed, reason, actor(who))), as_json)


@app.command("recall")
def recall_command(batch: One, reason: Why, who: As = None, as_json: Json = False) -> None:
    """Take back a batch that has not gone out; its entitlements are held until somebody resumes them.

    Example: hub program payment recall 0197c0de-0000-7000-8000-000000000000 --reason wrong-bank
    """
    id_ = uuid(batch)
    say(run(lambda hub: hub.programs.recall(id_, reason, actor(who))), as_json)


@app.command("list")
def list_command(
    batch: One,
    state: Annotated[str | None, typer.Option(help="In this state only, such as failed.")] = None,
    after: After = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List the payments of a batch in the order they were sent.

    Example: hub program payment list 0197c0de-0000-7000-8000-000000000000 --state failed
    """
    id_, behind = uuid(batch), None if after is None else uuid(after)
    rows = run(lambda hub: hub.programs.payments(id_, state=state, after=behind, limit=limit))
    following = rows[-1]["id"] if len(rows) == limit else None
    columns = (
        "id",
        "try",
        "state",
        "amount",
        "paid",
        "failed",
        "returned",
        "fee",
        "rail_reference",
        "reason_code",
    )
    table(rows, columns, as_json, following)


@app.command("settle")
def settle_command(
    status: Annotated[PaymentStatus, typer.Argument(help="paid, failed or cancelled.")],
    note: Note,
    given: Ids = None,
    file: IdFile = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Say what became of payments the rail never answered for; those with an outcome stay as they are.

    Example: hub program payment settle failed --ids unpaid.txt --note "list of the bank, 3 March"
    """
    listed = ids(given, file)
    say(run(lambda hub: hub.programs.settle(listed, status, actor(who), note)), as_json)


@app.command("return")
def return_command(
    payment: One,
    note: Note,
    amount: Annotated[
        str | None, typer.Option(help="How much came back, as a decimal; all of it if left out.")
    ] = None,
    currency: Currency = None,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Note that money of a payment came back; it is not paid again before somebody resumes the entitlement.

    Example: hub program payment return 0197c0de-0000-7000-8000-000000000000 --note "cash returned"
    """
    id_ = uuid(payment)
    back = None if amount is None else money(amount, currency or "")
    say(run(lambda hub: hub.programs.give_back(id_, back, actor(who), note)), as_json)


@app.command("disputes")
def disputes_command(
    every: Annotated[bool, typer.Option("--all", help="Decided ones too.")] = False,
    after: After = None,
    limit: Limit = 100,
    as_json: Json = False,
) -> None:
    """List results that contradict what is known; a person decides what is true.

    Example: hub program payment disputes
    """
    before = None if after is None else uuid(after)
    rows = run(lambda hub: hub.programs.disputes(open_only=not every, before=before, limit=limit))
    following = rows[-1]["id"] if len(rows) == limit else None
    columns = ("id", "payment_id", "kind", "status", "amount_paid", "currency", "received_at", "decision")
    table(rows, columns, as_json, following)


def _decide(dispute: str, decision: str, note: str | None, who: str | None, as_json: bool) -> None:
    id_ = uuid(dispute)
    found = run(lambda hub: hub.programs.decide(id_, decision, actor(who), note))
    say({name: found[name] for name in ("id", "payment_id", "decision", "decided_by", "decided_at")}, as_json)


@app.command("accept")
def accept_command(dispute: One, note: Note, who: As = None, as_json: Json = False) -> None:
    """Accept a disputed result: the books then say what it says.

    Example: hub program payment accept 0197c0de-0000-7000-8000-000000000000 --note "statement of the bank"
    """
    _decide(dispute, "accepted", note, who, as_json)


@app.command("dismiss")
def dismiss_command(dispute: One, note: Note, who: As = None, as_json: Json = False) -> None:
    """Dismiss a disputed result: the books stay as they are.

    Example: hub program payment dismiss 0197c0de-0000-7000-8000-000000000000 --note "sent in error"
    """
    _decide(dispute, "dismissed", note, who, as_json)


@app.command("top-up")
def top_up_command(
    entitlement: One,
    amount: Annotated[int, typer.Argument(min=1, help="What is added, in minor units.")],
    reason: Why,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Ask for more money for one entitlement; somebody else has to agree.

    Example: hub program payment top-up 0197c0de-0000-7000-8000-000000000000 70000 --reason flood
    """
    id_ = uuid(entitlement)
    say({"top_up": run(lambda hub: hub.programs.ask_top_up(id_, amount, reason, actor(who)))}, as_json)


@app.command("agree")
def agree_command(
    top_up: One,
    no: Annotated[bool, typer.Option("--no", help="Refuse it instead.")] = False,
    who: As = None,
    as_json: Json = False,
) -> None:
    """Agree to a top-up, which reserves it for the next `hub program pay`, or refuse it; not for who asked.

    Example: hub program payment agree 0197c0de-0000-7000-8000-000000000000
    """
    id_ = uuid(top_up)
    found = run(lambda hub: hub.programs.decide_top_up(id_, not no, actor(who)))
    say({name: found[name] for name in ("id", "entitlement_id", "amount", "agreed", "checker")}, as_json)


@app.command("vouchers")
def vouchers_command(
    name: CycleName,
    after: Annotated[int, typer.Option(metavar="NUMBER", help="Go on behind this number.")] = 0,
    limit: Limit = 1000,
    as_json: Json = False,
) -> None:
    """List the vouchers of a distributed cycle with their codes, to be printed; whoever has a code can use it.

    Example: hub program payment vouchers food/1
    """

    async def work(hub: Hub) -> list[dict[str, Any]]:
        cycle = await cycle_of(hub.programs, name)
        return await hub.programs.vouchers(cycle.id, after, limit)

    rows = run(work)
    following = rows[-1]["number"] if len(rows) == limit else None
    table(rows, ("number", "code", "amount", "valid_until"), as_json, following)


@app.command("redeem")
def redeem_command(
    name: CycleName,
    what: Annotated[
        str, typer.Argument(metavar="CODE", help="A voucher's code, or the id of an entitlement of goods.")
    ],
    who: As = None,
    as_json: Json = False,
) -> None:
    """Take a voucher, or note that goods were handed out; a second time changes nothing and says so.

    Example: hub program payment redeem food/1 0A1B-2C3D-4E5F-6G7H-8J9K-0M1N-2P3Q-4R5S
    """

    async def work(hub: Hub) -> dict[str, Any]:
        cycle = await cycle_of(hub.programs, name)
        if cycle.benefit.kind == "voucher":
            id_, now = await hub.programs.redeem_voucher(cycle.id, what, actor(who))
        else:
            id_ = uuid(what)
            now = await hub.programs.redeem(cycle.id, id_, actor(who))
        return {"entitlement": id_, "redeemed": now}

    say(run(work), as_json)


@app.command("accounts")
def accounts_command(
    given: Ids = None,
    file: IdFile = None,
    source: Annotated[
        str, typer.Option("--source", help="Who verified them, such as bank-a.")
    ] = "command-line",
    until: Annotated[
        str | None, typer.Option(metavar="DAY", help="Until when that holds, YYYY-MM-DD.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Note that people have an account which was proved to be theirs.

    Example: hub program payment accounts --ids verified.txt --source bank-a
    """
    listed, last = ids(given, file), day(until)
    say({"verified": run(lambda hub: hub.programs.verify_accounts(listed, source, expires_on=last))}, as_json)
