"""How commands speak: tables and sentences for a person, one JSON document for a program."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from canonical_model.errors import ConfigError, HubError, Unavailable

OUT = Console(highlight=False, soft_wrap=True)
ERR = Console(stderr=True, highlight=False, soft_wrap=True)

Told = Callable[[str, int, int | None], None]
"""Told of one step of long work: what is being done, how many are done, of how many (None: not known yet)."""


@contextmanager
def progress(*, as_json: bool = False) -> Iterator[Told]:
    """Show bars on standard error while long work is under way; none for a program or where nobody watches.

    The bars vanish at the end: what was done is said by the command itself.
    """
    bars = Progress(
        TextColumn("{task.description:12}"),
        BarColumn(40),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=ERR,
        disable=as_json or not ERR.is_terminal,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}

    def told(name: str, done: int, total: int | None) -> None:
        if name not in tasks:
            for open_end in [one.id for one in bars.tasks if one.total is None]:
                bars.remove_task(open_end)
                # What had no end in sight may come again, as the second of two programs that enroll.
                for known in [known for known, task in tasks.items() if task == open_end]:
                    del tasks[known]
            tasks[name] = bars.add_task(name, total=total)
        bars.update(tasks[name], completed=done, total=total)

    with bars:
        yield told


def print_json(value: Any) -> None:
    """Write one JSON document to standard output."""
    sys.stdout.write(
        orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z, default=str).decode() + "\n"
    )


def exit_code(error: HubError) -> int:
    """Return the exit code of an error: 2 wrong configuration, 3 something is away, 1 anything else."""
    if isinstance(error, ConfigError):
        return 2
    return 3 if isinstance(error, Unavailable) else 1


def report(error: HubError, *, as_json: bool = False) -> int:
    """Write an error to standard error and return the exit code."""
    if as_json or os.environ.get("HUB_ERRORS") == "json":
        body = {"code": error.code, "detail": error.detail, "remedy": error.remedy, "pointer": error.pointer}
        sys.stderr.write(orjson.dumps(body).decode() + "\n")
    else:
        ERR.print(f"[bold red]✗[/] {escape(error.detail)}", markup=True)
        if error.remedy:
            ERR.print(f"  → {error.remedy}", markup=False)
        ERR.print(f"  ({error.code}; `hub errors {error.code}` says more)", markup=False)
    return exit_code(error)
