"""`hub demo`: the main job on real input: a civil registry's day, and a benefit cycle from a file to reconciled payments."""

from __future__ import annotations

import asyncio
import shutil
import sys
from dataclasses import asdict
from typing import Annotated, Any

import asyncpg
import typer

from adapters.cli.demo.benefit import Benefit, Office
from adapters.cli.demo.rails import Rails
from adapters.cli.demo.run import Account, demo_data, run_demo
from adapters.cli.demo.showing import KEYS, show_benefit, show_day, show_wrong
from adapters.cli.demo.terms import CURRENCY
from adapters.cli.demo.traffic import sample_record
from adapters.cli.output import OUT, print_json, progress
from adapters.cli.serve import run
from adapters.console import issue_login_link
from adapters.front import free_port
from canonical_model.errors import ConfigError
from registry import logs
from registry.settings import HubSettings, load_settings
from registry.storage import migrate
from registry.storage.database import database_url, stop_embedded

__all__ = ["KEYS", "demo"]


def demo(
    events: Annotated[int, typer.Option(min=10, max=100_000, help="Births and deaths to send.")] = 200,
    people: Annotated[
        int, typer.Option(min=200, max=100_000, help="People in the file that is imported.")
    ] = 5000,
    stay: Annotated[bool, typer.Option(help="Keep serving afterwards, to look at the console.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Send a civil registry's day through the hub, run a benefit cycle, and settle the accounts of all sides.

    Uses a fresh embedded database, or with HUB_DATABASE_URL an empty one of yours; with HUB_BROKER_URL set the messages
    travel over RabbitMQ.

    Example: hub demo --json
    """
    base = load_settings()
    folder = demo_data(base.data_dir)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    settings = load_settings(
        data_dir=folder,
        config_dir=None,
        host="127.0.0.1",
        port=free_port("127.0.0.1"),  # known before anything starts, since the rails have to call back
        log_level="ERROR",
        rate_limit=10_000,
    )
    logs.configure(settings)
    try:
        run(_demo(settings, events, people, stay, as_json))
    finally:
        stop_embedded()


async def _demo(settings: HubSettings, events: int, people: int, stay: bool, as_json: bool) -> None:
    if settings.database_url is not None:
        await _prove_empty(settings)
    if not as_json:
        OUT.print(f"A civil registry sends {events} births and deaths, shaped after {sample_record()[1]};")
        OUT.print("the ministry of health is out of order for the first seconds.")
        OUT.print(
            f"Then a programme office pays {people:,} invented people and their households through three payment rails with faults.\n"
        )
    rails = Rails(CURRENCY)
    with progress(as_json=as_json) as told:
        account, hub, front, outside = await run_demo(settings, events, rails, told)
    try:
        if not as_json:
            show_day(account)
        with progress(as_json=as_json) as told:
            benefit = await Office(hub, rails, front.url, settings.data_dir, told).run(people)
        if as_json:
            print_json(_body(account, benefit))
        else:
            show_benefit(benefit)
            show_wrong([*account.wrong, *benefit.wrong])
            OUT.print(f"\nlost {account.lost}, {'balanced' if benefit.balanced else 'NOT BALANCED'}")
            _say_console(front.url, issue_login_link(hub.vault.blind, front.url) if stay else None)
            if stay:
                await asyncio.Event().wait()
    except asyncio.CancelledError:
        OUT.print("Stopped.")
        return
    finally:
        await front.stop()
        await hub.close()
        await outside.stop()
        await rails.stop()
    if account.lost or account.wrong or not benefit.balanced:
        sys.exit(1)


def _body(account: Account, benefit: Benefit) -> dict[str, Any]:
    body = asdict(account)
    rest = {name: value for name, value in body.items() if name not in KEYS}
    return {**{key: body[key] for key in KEYS}, **rest, "benefit": asdict(benefit)}


async def _prove_empty(settings: HubSettings) -> None:
    """Refuse a database that holds anything, since the demonstration fills it with invented people; bring its schema up to date."""
    url = database_url(settings)
    connection = await asyncpg.connect(url, timeout=10)
    try:
        tables = await connection.fetchval("SELECT to_regclass('registrant') IS NOT NULL")
        used = tables and await connection.fetchval(
            "SELECT EXISTS (SELECT FROM registrant) OR EXISTS (SELECT FROM message) OR EXISTS (SELECT FROM data_key)"
        )
    finally:
        await connection.close()
    if used:
        raise ConfigError(
            "The database of HUB_DATABASE_URL is in use, and the demonstration would fill it with invented people. "
            "Nothing was written.",
            code="demo-database-used",
            remedy="Name an empty database, or unset HUB_DATABASE_URL: the demonstration then brings its own.",
        )
    await migrate.upgrade_async(url)


def _say_console(url: str, link: str | None) -> None:
    if link is not None:
        OUT.print(f"\nConsole: {link}   (works once; stop with Ctrl-C)")
    else:
        OUT.print(f"\nConsole: {url}/console while the demo runs; `hub demo --stay` keeps it open.")
