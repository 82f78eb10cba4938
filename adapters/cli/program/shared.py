"""What the commands of programs share: the hub they work on, who acts, lists of ids, jobs followed, answers shown."""

from __future__ import annotations

import asyncio
import getpass
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import typer
from rich.table import Table
from rich.text import Text

from adapters.cli.jobs import follow
from adapters.cli.output import OUT, print_json
from adapters.hub import Hub
from canonical_model.errors import Refused
from canonical_model.money import Money
from registry.programs import Cycle, Programs
from registry.settings import load_settings

T = TypeVar("T")
_MOST_IDS: Final = 100_000

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Code = Annotated[str, typer.Argument(metavar="PROGRAM", help="The program's code.")]
CycleName = Annotated[
    str, typer.Argument(metavar="CYCLE", help="Program and number of the cycle, such as cash/1.")
]
As = Annotated[
    str | None,
    typer.Option("--as", metavar="NAME", help="Who acts, for the audit trail; your user name if left out."),
]
Ids = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids, as other commands show them.")]
IdFile = Annotated[
    Path | None,
    typer.Option(
        "--ids", metavar="FILE", help="A file with one id a line; - reads standard input.", allow_dash=True
    ),
]
Reason = Annotated[
    str | None,
    typer.Option("--reason", help="A code of why, such as moved-away; never names or numbers of people."),
]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="Most rows of one page.")]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="ID", help="Go on behind this id, as the last page's end said."),
]


def run(work: Callable[[Hub], Awaitable[T]]) -> T:
    """Do something on the database side of the configured hub."""

    async def whole() -> T:
        hub = Hub(load_settings())
        await hub.open(deliver=False)
        try:
            return await work(hub)
        finally:
            await hub.close()

    return asyncio.run(whole())


def actor(given: str | None) -> str:
    """Return who acts, as the audit trail names them."""
    return f"user:{given or getpass.getuser()}"


def uuid(text: str) -> UUID:
    """Return an id; raises `Refused` (`id-invalid`)."""
    try:
        return UUID(text.strip())
    except ValueError:
        raise Refused(
            "An id is 32 hexadecimal digits. Nothing was changed.",
            code="id-invalid",
            remedy="Copy it as other commands show it, one a line in a file.",
        ) from None


def ids(given: Sequence[str] | None, file: Path | None) -> list[UUID]:
    """Return the ids of a command line and of a file; raises `Refused` (`id-invalid`, `list-length`)."""
    lines = list(given or ())
    if file is not None:
        with sys.stdin if str(file) == "-" else file.open(encoding="utf-8-sig") as source:
            for line in source:
                if line.strip():
                    lines.append(line)
                if len(lines) > _MOST_IDS:
                    break
    if not 0 < len(lines) <= _MOST_IDS:
        raise Refused(
            f"A list has 1 to {_MOST_IDS:,} ids. Nothing was changed.",
            code="list-length",
            remedy="Name ids, or a file of them with --ids; cut a longer one into parts.",
        )
    return [uuid(line) for line in lines]


def day(text: str | None) -> date | None:
    """Return a day written as YYYY-MM-DD; raises `Refused` (`day-invalid`)."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise Refused(
            "A day is written as YYYY-MM-DD. Nothing was changed.",
            code="day-invalid",
            remedy="Write it as 2026-01-31.",
        ) from None


async def cycle_of(programs: Programs, name: str) -> Cycle:
    """Return the cycle of a name such as `cash/1`; raises `Refused` (`cycle-not-found`)."""
    code, _, number = name.rpartition("/")
    return await programs.cycle(code, int(number) if number.isdecimal() and len(number) < 7 else 0)


async def worked(hub: Hub, job_id: UUID, *, wait: bool = True) -> dict[str, Any]:
    """Follow a job to its end and return what came of it; raises the refusal it ended with. Without `wait` just its id."""
    job = await hub.jobs.get(job_id)
    if not wait:
        return {"job": job_id, "state": job.state}
    if not job.ended:
        job = await follow(hub, job)
    if job.error is not None:
        raise Refused(job.error["detail"], code=job.error["code"], remedy=job.error["remedy"])
    return {"job": job_id, "state": job.state, **(job.result or {})}


def money(amount: str, currency: str) -> Money:
    """Return an amount written as a decimal, such as 1250.50; raises `Refused` (`amount-invalid`)."""
    try:
        return Money.parse(amount, currency)
    except ValueError as error:
        raise Refused(
            f"The amount is wrong: {error}. Nothing was changed.",
            code="amount-invalid",
            remedy="Write it as a decimal with at most the currency's decimals, such as 1250.50.",
        ) from None


def shown(minor_units: int, currency: str) -> str:
    """Return an amount for people: `1,250.50 KES`."""
    text = Money(minor_units=minor_units, currency=currency).decimal()
    whole, _, fraction = text.partition(".")
    return f"{int(whole):,}{'.' if fraction else ''}{fraction} {currency}"


_MONEY: Final = frozenset(
    {"total", "ordered", "deposited", "reserved", "spent", "available", "amount", "fees", "fees_due"}
)


def readable(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an answer for people: amounts with their currency, names in words instead of objects."""
    currency = body.get("currency")
    found = dict(body)
    for name, value in body.items():
        if name in _MONEY and isinstance(value, int) and currency is not None:
            found[name] = shown(value, currency)
        elif name == "names" and isinstance(value, Mapping):
            found[name] = ", ".join(f"{text} ({tag})" for tag, text in value.items())
    return found


def say(body: Mapping[str, Any], as_json: bool) -> None:
    """Print an answer: one JSON object, or a line a field."""
    if as_json:
        print_json(dict(body))
        return
    body = readable(body)
    width = max(map(len, body), default=0)
    for name, value in body.items():
        if value is not None:
            OUT.print(f"{name.replace('_', ' '):<{width}}  {value}", markup=False)


def table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], as_json: bool, following: Any = None
) -> None:
    """Print rows: one JSON object with `items` and `next`, or a table."""
    if as_json:
        print_json({"items": [dict(row) for row in rows], "next": following})
        return
    rows = [readable(row) for row in rows]
    made = Table(*[name.replace("_", " ") for name in columns], box=None, pad_edge=False)
    for row in rows:
        made.add_row(*[Text("–" if row.get(name) is None else str(row[name])) for name in columns])
    OUT.print(made)
    OUT.print(f"{len(rows)} rows." + (f" More: --after {following}" if following else ""), markup=False)
