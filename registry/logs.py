"""Logs by allow-list: a record carries a constant event name and named technical fields, and nothing else.

Personal data cannot reach a log line by accident, because free text has no way in: a field that is not in `FIELDS` is
dropped, a value that does not look like an identifier or a number is replaced, an exception is logged as its class and
the places it passed, and a record of another library keeps its logger, its level and its unfilled template.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Protocol
from uuid import UUID

import orjson

__all__ = ["FIELDS", "LogFormatter", "configure", "fields_in_force", "log", "log_context"]

FIELDS: Final = frozenset(
    {
        "accepted", "action", "actor", "adapter", "attempt", "attempts", "backlog", "broker", "bytes", "code", "connector",
        "count", "cursor", "database", "dead", "delivered", "delivery_id", "depth", "dropped", "duplicates", "error_class",
        "failed", "file", "from_state", "in_flight", "interval", "key", "kind", "limit", "mapping", "mapping_version",
        "message_id", "method", "migration", "name", "number", "operation", "outcome", "partition", "partner", "phase",
        "pid", "port", "queue", "rate", "reason_code", "refused", "remaining", "replayed", "request_id", "retry_after",
        "role", "route", "route_version", "routes", "rows", "scope", "seconds", "setting", "signal", "size", "skipped",
        "span_id", "state", "status", "step", "table", "target", "targets", "tier", "to_state", "total", "trace_id",
        "type", "version", "waiting", "worker",
    }
)  # fmt: skip
"""The only names a log line may carry beside time, level, logger, event and exception."""

_EVENT: Final = re.compile(r"^[a-z][a-z0-9]*(?:[-.][a-z0-9]+)*$")
# An identifier of ours starts with a letter and holds no blank, no at sign and no long run of digits; so neither a name in
# full nor an address, a phone number or an identity number passes. Ids are UUIDs or hexadecimal, versions dotted numbers.
_TOKEN: Final = re.compile(r"^(?!.*[0-9]{5})[A-Za-z_][A-Za-z0-9_.:/*-]{0,199}$")
_ID: Final = re.compile(
    r"^(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{16}|[0-9a-f]{32}|[0-9]{1,4}(?:\.[0-9]{1,4}){0,3})$"
)
_HIDDEN: Final = "hidden"
_MARK: Final = "hub_fields"
_TEMPLATE_LIMIT: Final = 200
_FRAME_LIMIT: Final = 30
_CHAIN_LIMIT: Final = 5

_bound: ContextVar[Mapping[str, Any]] = ContextVar("hub_log_fields", default=MappingProxyType({}))


class LogSettings(Protocol):
    """The two settings logging needs; `registry.settings.HubSettings` has them."""

    @property
    def log_level(self) -> str:
        """Least level that is written."""

    @property
    def log_format(self) -> str:
        """`json` or `text`."""


def _clean(value: Any) -> Any:
    """Return a value that can name no person: numbers, ids and short identifiers pass, anything else is hidden."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, str):
        return value if _TOKEN.match(value) or _ID.match(value) else _HIDDEN
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in list(value)[:50]]
    return _HIDDEN


def log(
    logger: logging.Logger | str, level: int, event: str, *, error: BaseException | None = None, **fields: Any
) -> None:
    """Write one event with named fields.

    `event` is a constant in kebab-case (`delivery-dead`); `fields` outside `FIELDS` are dropped and counted in `dropped`;
    `error` adds the class names of the exception and its causes with the places they passed, never their text.
    """
    target = logging.getLogger(logger) if isinstance(logger, str) else logger
    if target.isEnabledFor(level):
        exc_info = (type(error), error, error.__traceback__) if error is not None else None
        target.log(level, event, extra={_MARK: {**_bound.get(), **fields}}, exc_info=exc_info, stacklevel=2)


@contextmanager
def log_context(**fields: Any) -> Iterator[None]:
    """Add fields (a request id, a trace id) to every event written inside the block, in this task and its children."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


def fields_in_force() -> Mapping[str, Any]:
    """Return the fields `log_context` has bound here."""
    return _bound.get()


def _exception(error: BaseException) -> list[dict[str, Any]]:
    chain: list[dict[str, Any]] = []
    current: BaseException | None = error
    while current is not None and len(chain) < _CHAIN_LIMIT:
        frames: list[str] = []
        step = current.__traceback__
        while step is not None:
            frames.append(
                f"{step.tb_frame.f_globals.get('__name__', '?')}:{step.tb_frame.f_code.co_name}:{step.tb_lineno}"
            )
            step = step.tb_next
        entry: dict[str, Any] = {"class": f"{type(current).__module__}.{type(current).__qualname__}"}
        code = getattr(current, "code", None)
        if isinstance(code, str):
            entry["code"] = _clean(code)
        entry["frames"] = frames[-_FRAME_LIMIT:]
        chain.append(entry)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return chain


class LogFormatter(logging.Formatter):
    """Turn a record into one line, JSON or text, that holds allowed fields only."""

    def __init__(self, style: str = "json") -> None:
        super().__init__()
        self._json = style == "json"

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; a record not written by `log` keeps its logger, level and unfilled template."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        fields = getattr(record, _MARK, None)
        if isinstance(fields, dict):
            event = record.msg if isinstance(record.msg, str) and _EVENT.match(record.msg) else _HIDDEN
            line["event"] = event
            allowed = {
                name: _clean(value) for name, value in fields.items() if name in FIELDS and value is not None
            }
            unknown = sum(1 for name in fields if name not in FIELDS)
            if unknown:
                allowed["dropped"] = unknown
            line.update(allowed)
        else:
            line["event"] = "third-party"
            # Without arguments the text may already hold values, and nothing tells; so only a template with
            # arguments still to be filled in is kept.
            if record.args and isinstance(record.msg, str):
                line["template"] = record.msg[:_TEMPLATE_LIMIT]
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = _exception(record.exc_info[1])
        return orjson.dumps(line).decode() if self._json else _as_text(line)


def _as_text(line: dict[str, Any]) -> str:
    rest = " ".join(
        f"{name}={value}"
        for name, value in line.items()
        if name not in {"time", "level", "logger", "event", "exception"}
    )
    text = f"{line['time']} {line['level'].upper():7} {line['event']} {rest}".rstrip()
    for entry in line.get("exception", ()):
        text += f"\n    {entry['class']}" + "".join(f"\n      at {frame}" for frame in entry["frames"])
    return text


def configure(settings: LogSettings) -> None:
    """Send every record of this process to standard error in the hub's form, replacing earlier handlers."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter(settings.log_format))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level)
    logging.captureWarnings(capture=True)
    # The access log of the HTTP server writes addresses and paths; the hub writes its own request event instead.
    logging.getLogger("aiohttp.access").disabled = True
    for noisy in ("asyncio", "pika", "aiormq", "multipart"):
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))
