"""`hub demo`: the main job on real input, from a civil registry's call to three outside systems."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from adapters.cli.demo.run import Account, demo_data, run_demo
from adapters.cli.demo.traffic import sample_record
from adapters.cli.output import OUT, print_json, progress
from adapters.cli.serve import run
from adapters.console import issue_login_link
from registry import logs
from registry.settings import HubSettings, load_settings
from registry.storage.database import stop_embedded

KEYS = ("accepted", "refused", "duplicates", "delivered", "retried", "dead", "lost")


def demo(
    events: Annotated[int, typer.Option(min=10, max=100_000, help="Births and deaths to send.")] = 200,
    stay: Annotated[bool, typer.Option(help="Keep serving afterwards, to look at the console.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Send a civil registry's day through the hub and settle the accounts of all sides.

    Uses a fresh embedded database; with HUB_BROKER_URL set the messages travel over RabbitMQ.

    Example: hub demo --json
    """
    base = load_settings()
    folder = demo_data(base.data_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = load_settings(
        data_dir=folder,
        config_dir=None,
        database_url=None,
        host="127.0.0.1",
        port=0,
        log_level="ERROR",
        rate_limit=10_000,
    )
    logs.configure(settings)
    try:
        run(_demo(settings, events, stay, as_json))
    finally:
        stop_embedded()


async def _demo(settings: HubSettings, events: int, stay: bool, as_json: bool) -> None:
    if not as_json:
        OUT.print(f"A civil registry sends {events} births and deaths, shaped after {sample_record()[1]}.")
        OUT.print(
            "The hub brings its own database; the ministry of health is out of order for the first seconds.\n"
        )
    with progress(as_json=as_json) as told:
        account, hub, front, outside = await run_demo(settings, events, told)
    try:
        if as_json:
            body = asdict(account)
            print_json(
                {**{key: body[key] for key in KEYS}, **{k: v for k, v in body.items() if k not in KEYS}}
            )
        else:
            _show(account)
            _say_console(front.url, issue_login_link(hub.vault.blind, front.url) if stay else None)
            if stay:
                await asyncio.Event().wait()
    except asyncio.CancelledError:
        OUT.print("Stopped.")
    finally:
        await front.stop()
        await hub.close()
        await outside.stop()
    if account.lost or account.wrong:
        sys.exit(1)


def _say_console(url: str, link: str | None) -> None:
    if link is not None:
        OUT.print(f"\nConsole: {link}   (works once; stop with Ctrl-C)")
    else:
        OUT.print(f"\nConsole: {url}/console while the demo runs; `hub demo --stay` keeps it open.")


def _show(account: Account) -> None:
    OUT.width = max(OUT.width, 118)
    totals = Table(
        title=f"The day's account (broker: {account.broker}, {account.seconds:.1f} s)", title_justify="left"
    )
    totals.add_column("what")
    totals.add_column("count", justify="right")
    totals.add_column("meaning")
    meanings = {
        "accepted": "events acknowledged and durable",
        "refused": "; ".join(f"{count} × {reason}" for reason, count in account.refusals.items()),
        "duplicates": "repeats that got the first answer",
        "delivered": "deliveries over three routes",
        "retried": "deliveries that needed more than one attempt",
        "dead": "deliveries that need a person",
        "lost": "acknowledged events any receiver misses",
    }
    for key in KEYS:
        totals.add_row(key, str(getattr(account, key)), meanings[key])
    OUT.print(totals)
    routes = Table(title="\nRoutes", title_justify="left")
    for name in ("route", "target", "delivered", "retried", "dead", "most attempts"):
        routes.add_column(name, justify="left" if name in {"route", "target"} else "right")
    for row in account.routes:
        routes.add_row(
            row["route"],
            row["target"],
            str(row["delivered"]),
            str(row["retried"]),
            str(row["dead"]),
            str(row["attempts"]),
        )
    OUT.print(routes)
    trace = Table(title=f"\nOne message's trace: {account.trace_id}", title_justify="left")
    for name in ("time (UTC)", "what", "where", "note"):
        trace.add_column(name)
    for hop in account.trace:
        trace.add_row(f"{hop['at']:%H:%M:%S.%f}"[:12], hop["what"], hop["where"], hop["note"])
    OUT.print(trace)
    for line in account.wrong[:20]:
        OUT.print(f"[bold red]✗[/] {line}")
    OUT.print(f"\nlost {account.lost}")
