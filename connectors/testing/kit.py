"""The bench a property is tried on: one connector, one sandbox, messages with planted personal data, all logs caught."""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import inspect
import logging
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from canonical_model.message import Message, new_traceparent
from connectors.contract import Connector, Context, Receipt, Settings
from connectors.errors import ConfigError, HubError
from connectors.network import open_session
from connectors.runtime import OpenTarget
from connectors.targets import TargetConfig
from connectors.testing.sandbox import Mode, Sandbox

PLANTED: Final = ("Zuleika Marker", "+999555012345", "zuleika.marker@person.example", "ZM-4411-7723")
"""A made-up person; the kit looks for these where they must not be."""
_NOTICE: Final = "org.openspp.notice.requested.v1"
_EVENT: Final = "org.openspp.civil_event.registered.v1"


class PropertyFailed(AssertionError):
    """A property does not hold; the text says what was expected and what was seen."""


def expect(holds: bool, expectation: str, seen: object = "") -> None:
    """Raise `PropertyFailed` unless `holds`."""
    if not holds:
        raise PropertyFailed(f"Expected: {expectation}" + (f" Seen: {seen}" if seen != "" else ""))


def planted_message(sends: tuple[str, ...]) -> Message:
    """Return a new message of a type the connector takes, full of planted personal data."""
    name, phone, mail, identifier = PLANTED
    kind = sends[0] if sends else _EVENT
    if any(c in kind for c in "*?["):
        kind = _EVENT if fnmatchcase(_EVENT, kind) else kind.replace("*", "kit").removesuffix(".v1") + ".v1"
    data: dict[str, Any] = {"name": name, "phone": phone, "mail": mail, "identifier": identifier}
    if kind == _NOTICE:
        data = {
            "notice_id": "kit-1",
            "channel": "email",
            "to": {"kind": "email", "value": mail},
            "title": {"en": f"For {name}"},
            "body": {"en": f"{name} {phone} {identifier}"},
        }
    return Message(
        source="/kit", type=kind, subject=f"person/{identifier}", traceparent=new_traceparent(), data=data
    )


class _Catcher(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s"))
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if len(self.lines) < 100_000:
            self.lines.append(self.format(record))


@dataclass
class Bench:
    """An opened target with its sandbox."""

    connector: Connector
    target: OpenTarget
    sandbox: Sandbox
    context: Context
    new_message: Callable[[], Message]
    logs: list[str]

    async def send(self, message: Message | None = None, *, within: float = 5.0) -> Receipt:
        """Send a message (a new one if none is given) with a deadline `within` seconds from now."""
        return await self.target.send(
            message or self.new_message(), asyncio.get_running_loop().time() + within
        )

    async def outcome(self, message: Message | None = None, *, within: float = 5.0) -> Receipt | HubError:
        """Send, and return the hub error in place of raising it."""
        try:
            return await self.send(message, within=within)
        except HubError as error:
            return error


@dataclass(frozen=True)
class Kit:
    """What is tried: a connector class, how to make its sandbox, further settings, a message it takes."""

    connector: type[Connector]
    sandbox: Callable[[], Sandbox]
    settings: Mapping[str, Any] = field(default_factory=dict)
    message: Callable[[], Message] | None = None

    @property
    def folder(self) -> Path:
        """The folder the connector's own files lie in."""
        return Path(inspect.getfile(self.connector)).parent

    def new_message(self) -> Message:
        """Return a new message for the connector."""
        return self.message() if self.message else planted_message(self.connector.manifest.sends)

    def raw_settings(self, sandbox: Sandbox) -> dict[str, Any]:
        """Return the settings by which the connector reaches the sandbox."""
        return {**sandbox.settings(), **self.settings}

    def read_settings(self, sandbox: Sandbox) -> Settings:
        """Return the same, validated."""
        return self.connector.settings_model.model_validate(self.raw_settings(sandbox))

    @asynccontextmanager
    async def bench(self, *, concurrency: int = 16, opened: bool = True) -> AsyncIterator[Bench]:
        """Start a sandbox, open a target at it, and take both down again; every log line is caught."""
        catcher, root = _Catcher(), logging.getLogger()
        level = root.level
        root.addHandler(catcher)
        root.setLevel(logging.DEBUG)
        sandbox = self.sandbox()
        await sandbox.start()
        connector = self.connector(self.read_settings(sandbox))
        target = OpenTarget(TargetConfig("kit", "kit", concurrency=concurrency, timeout=20), connector)
        http = open_session()
        bench = Bench(
            connector,
            target,
            sandbox,
            Context("kit", http, getattr(sandbox, "services", dict)()),
            self.new_message,
            catcher.lines,
        )
        try:
            if opened:
                await connector.open(bench.context)
                await target.open(bench.context)
            yield bench
        finally:
            sandbox.switch(Mode.OK)
            await target.close()
            await connector.close()
            await http.close()
            await sandbox.stop()
            root.removeHandler(catcher)
            root.setLevel(level)


def told(error: BaseException) -> str:
    """Return everything an exception would show in a log: its text, its representation and the printed chain."""
    return "\n".join((str(error), repr(error), *traceback.format_exception(error)))


def kit_for(connector: type[Connector]) -> Kit:
    """Return a kit for a connector by convention: the module `sandbox` beside it holds one sandbox class.

    `example_message()` in that module gives the message to send, `example_settings` further settings; both may be
    missing. Raises `ConfigError` when there is no sandbox.
    """
    package = connector.__module__.rpartition(".")[0]
    name = f"{package}.sandbox" if package else "sandbox"
    if importlib.util.find_spec(name) is None:
        raise ConfigError(
            f"The connector {connector.manifest.name} has no module {name}.",
            code="sandbox-missing",
            remedy="Add sandbox.py beside connector.py; docs/connectors.md says what it holds.",
        )
    module = importlib.import_module(name)
    for candidate in vars(module).values():
        own = isinstance(candidate, type) and candidate.__module__ == name
        if own and all(
            callable(getattr(candidate, part, None)) for part in ("start", "stop", "switch", "effects")
        ):
            return Kit(
                connector,
                candidate,
                getattr(module, "example_settings", {}),
                getattr(module, "example_message", None),
            )
    raise ConfigError(
        f"The module {name} holds no sandbox class.",
        code="sandbox-missing",
        remedy="Give it a class with start, stop, settings, secrets, effects and switch.",
    )
