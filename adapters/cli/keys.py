"""`hub keys`: which keys wrap and seal what, and replacing them while the hub runs."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from rich.table import Table

from adapters.cli.output import OUT, Told, print_json, progress
from adapters.cli.store import actor, on_database
from canonical_model.errors import ConfigError
from registry.audit import AuditEvent
from registry.audit.writer import record
from registry.settings import load_settings
from registry.vault import KeyEncryptionKey, KeyRing, Vault, load_blind, open_keys, private_file
from registry.vault.rotation import Resealed, Standing, reseal, rewrap, standing

app = typer.Typer(no_args_is_help=True)

T = TypeVar("T")
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


def _run(work: Callable[[asyncpg.Pool, KeyRing], Awaitable[T]]) -> T:
    async def with_keys(pool: asyncpg.Pool, _url: str) -> T:
        keys = open_keys(load_settings())
        try:
            return await work(pool, keys)
        finally:
            await keys.close()

    return on_database(with_keys)


@app.command("status")
def status_command(as_json: Json = False) -> None:
    """Show which key is in use, which keys wrap the data keys, and which seal how many values of which column.

    The exit code is 1 while a data key is still wrapped by another key than the one in use.

    Example: hub keys status --json
    """
    found = _run(standing)
    if as_json:
        print_json(_as_dict(found))
    else:
        _show(found)
    if found.left:
        raise typer.Exit(1)


@app.command("rotate")
def rotate_command(
    data: Annotated[
        bool, typer.Option("--data", help="Then seal every value anew with this month's data key.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count what would be done.")] = False,
    as_json: Json = False,
) -> None:
    """Wrap all data keys with the key in use; the hub goes on running, and a command that was broken off is run again.

    The key it replaces must be at hand too: HUB_KEK_OLD_FILE or HUB_KEK_OLD_URL. What the data keys seal does not change,
    nor does the blind index. The exit code is 1 when something is left.

    Example: HUB_KEK_FILE=/etc/hub/kek-2027 HUB_KEK_OLD_FILE=/etc/hub/kek hub keys rotate --data
    """

    async def work(pool: asyncpg.Pool, keys: KeyRing, told: Told) -> dict[str, Any]:
        started = time.monotonic()
        if dry_run:
            found = await standing(pool, keys)
            return {
                "kek": found.kek,
                "dry_run": True,
                "rewrap": found.left,
                "stale": found.stale,
                "sealed": list(found.sealed),
            }
        # A database from before gets its blind index key stored first: it was derived from the key that goes.
        vault = Vault(pool, keys, await load_blind(pool, keys))
        done = await rewrap(pool, keys, lambda done, total: told("data keys", done, total))
        sealed = (
            await reseal(pool, vault, lambda done, total: told("values", done, total)) if data else Resealed()
        )
        result = {
            "kek": await keys.current(),
            "dry_run": False,
            "rewrapped": done,
            "resealed": sealed.done if data else None,
            "columns": sealed.columns if data else None,
            "left": sealed.left if data else None,
            "broken": sealed.broken[:20],
            "broken_count": len(sealed.broken),
            "seconds": round(time.monotonic() - started, 1),
        }
        details = {name: result[name] for name in ("kek", "rewrapped", "resealed", "left", "broken_count")}
        event = AuditEvent(actor(), "keys.rotate", "data_key", "*", details=details)
        await record(pool, event)
        return result

    with progress(as_json=as_json) as told:
        result = _run(lambda pool, keys: work(pool, keys, told))
    if as_json:
        print_json(result)
    else:
        _say(result)
    if result.get("left") or result.get("broken_count"):
        raise typer.Exit(1)


@app.command("new")
def new_command(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")], as_json: Json = False
) -> None:
    """Make a new key-encryption key in a file that only its owner can read, and print its id.

    Example: hub keys new /etc/hub/kek-2027
    """
    if file.exists():
        raise ConfigError(
            f"The file {file} exists; it was left as it is.",
            code="key-file-exists",
            remedy="Name another file: a key that data was sealed with must not be lost.",
        )
    private_file(file, base64.b64encode(secrets.token_bytes(32)) + b"\n")
    key = KeyEncryptionKey.read(file)
    if as_json:
        print_json({"file": str(file), "kek": key.id})
        return
    OUT.print(
        f"Made {file}; its id is {key.id}. Copy it to a safe place, apart from the backups of the data.",
        markup=False,
    )


def _as_dict(found: Standing) -> dict[str, Any]:
    return asdict(found) | {"left": found.left, "stale": found.stale}


def _say(result: dict[str, Any]) -> None:
    if result["dry_run"]:
        OUT.print(f"{result['rewrap']} data keys would be wrapped by {result['kek']}.", markup=False)
        OUT.print(f"{result['stale']:,} values would be sealed anew by --data.", markup=False)
        return
    OUT.print(f"{result['rewrapped']} data keys are now wrapped by {result['kek']}.", markup=False)
    if result["resealed"] is not None:
        OUT.print(f"{result['resealed']:,} values were sealed anew.", markup=False)
    if result["left"]:
        OUT.print(f"{result['left']:,} were being written all the time: run this again.", markup=False)
    if result["broken_count"]:
        OUT.print(
            f"{result['broken_count']:,} cannot be opened and were left: {', '.join(result['broken'])}",
            markup=False,
        )
    OUT.print(
        "Once every process runs with the new key, the old one may be taken out of the settings.",
        markup=False,
    )


def _show(found: Standing) -> None:
    OUT.print(f"In use: {found.kek}", markup=False)
    table = Table(title="Data keys", title_justify="left")
    for name in ("wrapped by", "live"):
        table.add_column(name)
    for kek, number in found.wrapped.items():
        table.add_row(kek, str(number))
    OUT.print(table)
    OUT.print(f"{found.destroyed} data keys were destroyed at the end of their retention.", markup=False)
    table = Table(title="Sealed values", title_justify="left")
    for name in ("column", "data key", "scope", "format", "values", "stale"):
        table.add_column(name)
    for each in found.sealed:
        table.add_row(
            each["column"],
            str(each["key"]),
            each["scope"] or "–",
            str(each["format"]),
            f"{each['values']:,}",
            "yes" if each["stale"] else "no",
        )
    OUT.print(table)
    if found.left:
        OUT.print(f"{found.left} data keys wait for `hub keys rotate`.", markup=False)
