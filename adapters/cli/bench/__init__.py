"""`hub bench`: speed measured beside the raw limit in the same run."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Awaitable, Callable, Iterable
from enum import StrEnum
from functools import partial
from typing import Annotated, Any, Final

import psutil
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from adapters.cli.bench import cycle, importing, mapper, payments, payments_g2p, payments_phee, rules, search
from adapters.cli.bench import people as creating
from adapters.cli.bench.path import GOAL_CPU_MS, GOAL_RATE, GOAL_RATIO, Bench, Run
from adapters.cli.output import ERR, OUT, print_json
from adapters.cli.serve import run
from registry.settings import load_settings
from registry.storage.database import database_url, stop_embedded

SEARCHES: Final = 300
"""Searches of each kind that `hub bench search` makes."""


class Rail(StrEnum):
    """The rails whose payments can be measured."""

    MOJALOOP = "mojaloop"
    PAYMENT_HUB_EE = "payment_hub_ee"
    G2P_CONNECT = "g2p_connect"


class Name(StrEnum):
    """The benchmarks there are."""

    CYCLE = "cycle"
    IMPORT = "import"
    MAPPER = "mapper"
    PATH = "path"
    PEOPLE = "people"
    PAYMENTS = "payments"
    SEARCH = "search"
    RULES = "rules"


def bench(
    name: Annotated[Name, typer.Argument(help="Which benchmark.")],
    messages: Annotated[
        int, typer.Option(min=500, max=5_000_000, help="Messages sent at full speed.")
    ] = 20_000,
    people: Annotated[
        int, typer.Option(min=1000, max=20_000_000, help="People that are filled in and searched.")
    ] = 100_000,
    rail: Annotated[
        Rail,
        typer.Option(help="Which rail's payments are measured: mojaloop, payment_hub_ee or g2p_connect."),
    ] = Rail.MOJALOOP,
    ledger: Annotated[
        bool, typer.Option("--ledger", help="Pay by the ledger in the database too (for `payments`).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Measure the hub and the raw limits of its parts in one run, and print the ratio.

    Uses HUB_DATABASE_URL and HUB_BROKER_URL; without them the embedded database and the postgres broker alone. `path`
    measures messages, `people` single creates through the API, `import` a file of people, `search` finding people by
    identifier and by name, `mapper` ids resolved to accounts, `rules` a rule over everybody, `cycle` a program from enrolment to payment; all make a database
    of their own and drop it. `payments` pays `--messages` people through the sandbox of a rail, beside the raw cost of the
    signatures; with `--ledger` once more by the ledger in the database, which it needs for that alone.

    Example: HUB_BROKER_URL=amqp://guest:guest@127.0.0.1/ hub bench path --json
    """
    if name is Name.PAYMENTS:
        _payments(rail, messages, ledger, as_json)
        return
    settings = load_settings()
    broker = settings.broker_url.get_secret_value() if settings.broker_url else None
    try:
        database, given = database_url(settings), {"people": people}
        if name is Name.CYCLE:
            run(_people(name, partial(cycle.measure, database, people), cycle.rows, given, as_json))
        elif name is Name.IMPORT:
            run(_people(name, partial(importing.measure, database, people), importing.rows, given, as_json))
        elif name is Name.MAPPER:
            given = {"links": people, "lists": mapper.BATCHES}
            run(_people(name, partial(mapper.measure, database, people), mapper.rows, given, as_json))
        elif name is Name.PEOPLE:
            given["connections"] = creating.CONNECTIONS
            run(_people(name, partial(creating.measure, database, people), creating.rows, given, as_json))
        elif name is Name.SEARCH:
            given["searches"] = SEARCHES
            run(
                _people(
                    name, partial(search.measure, database, people, SEARCHES), search.rows, given, as_json
                )
            )
        elif name is Name.RULES:
            given = {"registrants": people, "rounds": rules.ROUNDS}
            run(_people(name, partial(rules.measure, database, people), rules.rows, given, as_json))
        else:
            run(_path(database, broker, messages, as_json))
    finally:
        stop_embedded()


def _payments(rail: Rail, messages: int, ledger: bool, as_json: bool) -> None:
    how: dict[str, Any] = {"rail": rail.value, "payments": messages, "ledger": "both" if ledger else "memory"}
    measured = {
        Rail.MOJALOOP: payments,
        Rail.PAYMENT_HUB_EE: payments_phee,
        Rail.G2P_CONNECT: payments_g2p,
    }
    one: Any = measured[rail]
    if rail is Rail.MOJALOOP:
        how["window"] = payments.WINDOW
    elif rail is Rail.G2P_CONNECT:
        how["message_items"] = payments_g2p.ITEMS
    try:
        database = database_url(load_settings()) if ledger else None
        run(_people(Name.PAYMENTS, partial(one.measure, messages, database), one.rows, how, as_json))
    finally:
        if ledger:
            stop_embedded()


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load_before": [round(value, 2) for value in os.getloadavg()],
    }


class _Progress:
    """Shows the steps on standard error: as bars on a terminal, elsewhere as a line each, or not at all when `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self._lines = not quiet and not ERR.is_terminal
        self._bars = Progress(
            TextColumn("{task.description:32}"),
            BarColumn(40),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=ERR,
            disable=not ERR.is_terminal,
            transient=True,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> _Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def __call__(self, step: str, done: int = 0, total: int | None = None) -> None:
        if step not in self._tasks:
            if self._lines:
                ERR.print(f"… {step}" if total is None else f"… {step}, {total} messages", style="dim")
            self._tasks[step] = self._bars.add_task(step, total=total)
        self._bars.update(self._tasks[step], completed=done)


async def _path(database: str, broker: str | None, messages: int, as_json: bool) -> None:
    host = machine()
    with _Progress(quiet=as_json) as tell:
        work = Bench(database, broker, tell)
        bare_run, limits = await work.bare(messages)
        runs = [await work.hub("rabbitmq", messages)] if broker else []
        runs.append(await work.hub("postgres", messages))
    results = [_row(f"raw.{name}", value, "1/s") for name, value in limits.items()]
    if broker:
        results += _figures("bare", bare_run, None)
    for one in runs:
        results += _figures(one.name.removeprefix("hub over "), one, bare_run if broker else None)
    document = {"name": "path", "machine": host, "settings": {"messages": messages}, "results": results}
    if as_json:
        print_json(document)
    else:
        _show(document)
    await asyncio.sleep(0)


async def _people(
    name: Name,
    measured: Callable[[Callable[[str], None]], Awaitable[Any]],
    rows: Callable[..., Iterable[dict[str, Any]]],
    settings: dict[str, Any],
    as_json: bool,
) -> None:
    """Measure one of the benchmarks over people and print its document."""
    host = machine()
    figures = await measured(lambda text: ERR.print(f"… {text}", style="dim"))
    document = {
        "name": name.value,
        "machine": host,
        "settings": settings,
        "results": list(rows(figures, _row)),
    }
    if as_json:
        print_json(document)
    else:
        _show(document)


def _row(
    metric: str,
    value: float,
    unit: str,
    limit: float | None = None,
    goal: float | None = None,
    *,
    least: bool = False,
) -> dict[str, Any]:
    ratio = None if not limit else round(value / limit, 3)
    met = None if goal is None else (value >= goal if least else value <= goal)
    return {"metric": metric, "value": round(value, 3), "unit": unit, "limit": None if limit is None else round(limit, 3), "ratio": ratio, "goal": goal, "met": met}  # fmt: skip


def _figures(prefix: str, one: Run, base: Run | None) -> list[dict[str, Any]]:
    hub = prefix != "bare"
    rows = [
        _row(f"{prefix}.accepted", one.accepted, "1/s", base.accepted if base else None),
        _row(
            f"{prefix}.delivered", one.delivered, "1/s", base.delivered if base else None,
            GOAL_RATE if prefix == "rabbitmq" else None, least=True,
        ),
        _row(f"{prefix}.cpu", one.cpu_total, "ms/message", base.cpu_total if base else None, GOAL_CPU_MS if hub else None),
    ]  # fmt: skip
    if base is not None:
        rows.append(_row(f"{prefix}.cpu_ratio", one.cpu_total / base.cpu_total, "x bare", None, GOAL_RATIO))
    rows += [_row(f"{prefix}.cpu.{role}", value, "ms/message") for role, value in one.cpu_ms.items()]
    rows += [
        _row(f"{prefix}.{name}", value, "ms", base.latency.get(name) if base else None)
        for name, value in one.latency.items()
    ]
    for role, memory in one.memory.items():
        rows += [
            _row(f"{prefix}.memory.{role}", memory.after, "MiB", memory.before),
            _row(f"{prefix}.memory_most.{role}", memory.most, "MiB", memory.before),
            _row(
                f"{prefix}.memory_growth.{role}",
                memory.growth,
                "MiB",
                None,
                round(memory.allowed, 1) if hub else None,
            ),
        ]
    rows.append(_row(f"{prefix}.lost", one.lost, "messages", None, 0 if hub else None))
    rows.append(_row(f"{prefix}.twice", one.twice, "messages", None, 0 if hub else None))
    return rows


def _show(document: dict[str, Any]) -> None:
    OUT.width = max(OUT.width, 110)
    table = Table(
        title=f"hub bench {document['name']} · {document['machine']['cores']} cores", title_justify="left"
    )
    for name in ("metric", "value", "unit", "beside", "ratio", "goal", "met"):
        table.add_column(name, justify="left" if name in {"metric", "unit", "met"} else "right")
    for row in document["results"]:
        table.add_row(
            row["metric"], f"{row['value']:,}", row["unit"], "" if row["limit"] is None else f"{row['limit']:,}",
            "" if row["ratio"] is None else str(row["ratio"]), "" if row["goal"] is None else f"{row['goal']:g}",
            {None: "", True: "yes", False: "no"}[row["met"]],
        )  # fmt: skip
    OUT.print(table)
