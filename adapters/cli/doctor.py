"""`hub doctor`: is everything the hub needs there, and how to mend what is not."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import asdict
from typing import Annotated, Final

import typer

from adapters.cli.examine import Finding, State, examine
from adapters.cli.output import OUT, print_json
from canonical_model.errors import ConfigError
from registry.settings import load_settings
from registry.storage.database import stop_embedded

_SIGNS: Final = {State.OK: "✓", State.WARN: "!", State.FAIL: "✗"}


def doctor(
    probe: Annotated[bool, typer.Option("--probe", help="Ask every target how it is as well.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Check settings, keys, certificate, database, broker and configuration files; exit code 1 when one fails.

    Example: hub doctor --probe
    """
    try:
        settings = load_settings()
    except ConfigError as error:
        found = [Finding("settings", State.FAIL, error.detail, error.remedy or "", error.code)]
    else:
        try:
            found = asyncio.run(examine(settings, probe=probe))
        finally:
            stop_embedded()
    number = Counter(one.state for one in found)
    if json_output:
        print_json({"ok": not number[State.FAIL], "findings": [asdict(one) for one in found]})
    else:
        _show(found)
        OUT.print(
            f"{number[State.OK]} well, {number[State.WARN]} to look at, {number[State.FAIL]} wrong.",
            markup=False,
        )
    if number[State.FAIL]:
        raise typer.Exit(1)


def _show(found: list[Finding]) -> None:
    width = max(len(one.part) for one in found)
    for one in found:
        OUT.print(f"{_SIGNS[one.state]} {one.part:<{width}}  {one.says}", markup=False)
        if one.mend:
            code = f" (`hub errors {one.code}`)" if one.code else ""
            OUT.print(f"  {'':<{width}}  → {one.mend}{code}", markup=False)
