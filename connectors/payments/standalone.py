"""A rail's sandbox as a process of its own, and the target file that reaches it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

import yaml


class Listening(Protocol):
    """A sandbox that listens on a port of the loopback address."""

    port: int

    async def start(self) -> None:
        """Listen."""

    async def stop(self) -> None:
        """Stop listening; safe to call twice."""


def parser_of(
    prog: str, description: str | None, fault: type[StrEnum], *, target: str, port: int
) -> argparse.ArgumentParser:
    """Return a command line with what every sandbox takes: folder, name of the target, callbacks, port, faults.

    `fault` in what it reads is a list of pairs: the payee, empty for all, and the fault.
    """

    def read(text: str) -> tuple[str, StrEnum]:
        payee, _, name = text.rpartition("=")
        try:
            return payee, fault(name)
        except ValueError:
            raise argparse.ArgumentTypeError(f"no such fault; known are {', '.join(fault)}") from None

    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("folder", type=Path, help="where to write the target file and its secrets")
    parser.add_argument("--target", default=target, help="name of the target")
    parser.add_argument("--callbacks", default="http://127.0.0.1:8080/callbacks", help="the hub's callbacks")
    parser.add_argument("--port", type=int, default=port)
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        type=read,
        metavar="[PAYEE=]FAULT",
        help=f"misbehave towards one payee or all: {', '.join(fault)}",
    )
    return parser


def callbacks_of(arguments: argparse.Namespace) -> str:
    """Return the address of the hub's callbacks for the target."""
    return f"{arguments.callbacks.rstrip('/')}/{arguments.target}"


def write_target(
    folder: Path, name: str, frame: Mapping[str, Any], settings: Mapping[str, Any], secrets: Mapping[str, str]
) -> Path:
    """Write a target file and beside it, with mode 0600, the secrets it refers to; return the file.

    `frame` is what stands beside the settings; `secrets` gives the end of the file's name for each setting that is one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = dict(settings)
    for setting in secrets.keys() & settings.keys():
        path = folder / f"{name}-{secrets[setting]}"
        path.touch(mode=0o600)
        path.write_text(str(settings[setting]), encoding="utf-8")
        written[setting] = {"file": path.name}
    target = folder / f"{name}.yaml"
    document = {"target": name, **frame, "settings": written}
    target.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return target


async def serve_until_told(sandbox: Listening, target: Path) -> None:
    """Say where a started sandbox listens, and stop it when the process is told to stop."""
    print(f"The sandbox listens at http://127.0.0.1:{sandbox.port}; its books: /sandbox/state", flush=True)
    print(f"Target file: {target}", flush=True)
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    try:
        await stopped.wait()
    finally:
        await sandbox.stop()
