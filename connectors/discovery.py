"""Finding installed connectors by the entry point group `openspp.connectors`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, cast

from connectors.contract import Connector, Manifest, Settings
from registry.logs import log

GROUP: Final = "openspp.connectors"
OURS: Final = "openspp-hub"
_METHODS: Final = ("open", "close", "probe", "send", "ask", "receive")
_LOG = logging.getLogger("openspp.connectors")


@dataclass(frozen=True, slots=True)
class Broken:
    """An installed connector that cannot be used, and why."""

    name: str
    package: str
    reason: str


def _warn(broken: Broken) -> None:
    # The reason is free text; `hub connector list` shows it.
    log(_LOG, logging.WARNING, "connector-left-out", connector=broken.name, name=broken.package)


def contract_gap(candidate: Any) -> str | None:
    """Say what keeps an object from being a connector class, or None when it is one."""
    if not isinstance(candidate, type):
        return "the entry point is not a class"
    if not isinstance(getattr(candidate, "manifest", None), Manifest):
        return "`manifest` is missing or not a Manifest"
    model = getattr(candidate, "settings_model", None)
    if not (isinstance(model, type) and issubclass(model, Settings)):
        return "`settings_model` is missing or not a subclass of Settings"
    missing = [name for name in _METHODS if not callable(getattr(candidate, name, None))]
    return f"missing methods: {', '.join(missing)}" if missing else None


def _load(point: EntryPoint) -> tuple[Any, str | None]:
    try:
        found = point.load()
    except ImportError as error:
        return None, f"{type(error).__name__}: {error}"
    except (Exception, SystemExit) as error:
        # Third-party code runs here; whatever it does wrong must not stop the other connectors.
        return None, f"{type(error).__name__} while importing {point.value}"
    return found, contract_gap(found)


def discover(report: Callable[[Broken], None] = _warn) -> dict[str, type[Connector]]:
    """Return the usable connectors by entry point name; each unusable one goes to `report` and is left out.

    A name of the hub's own package cannot be taken over by another package.
    """
    found: dict[str, type[Connector]] = {}
    points = sorted(entry_points(group=GROUP), key=lambda p: (_package(p) != OURS, p.name, _package(p)))
    for point in points:
        if point.name in found:
            if point.value != f"{found[point.name].__module__}:{found[point.name].__qualname__}":
                _report_taken(point, report)
            continue
        candidate, gap = _load(point)
        if gap is None:
            found[point.name] = cast("type[Connector]", candidate)
        else:
            report(Broken(point.name, _package(point), gap))
    return found


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown"


def _report_taken(point: EntryPoint, report: Callable[[Broken], None]) -> None:
    if _package(point) != OURS:
        report(Broken(point.name, _package(point), "another package already provides this name"))
