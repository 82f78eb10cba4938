"""Whether routes, message types and connectors fit each other: found before anything starts, not message by message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase

from canonical_model.errors import ConfigError
from canonical_model.types import MESSAGE_TYPES
from connectors.contract import Connector
from connectors.targets import TargetConfig
from routing.exclusion import twice
from routing.routes import Route

_ALIKE = 70.0


def idle_types(route: Route) -> Iterator[ConfigError]:
    """Yield what is wrong with each type of a route that no message can ever have."""
    for glob in route.file.when.type:
        if not any(fnmatchcase(name, glob) for name in MESSAGE_TYPES):
            yield ConfigError(
                f"{route.origin}: `when.type` of the route {route.name} names {glob}, and no message type is like it.",
                code="route-invalid",
                remedy=_hint(glob),
                pointer="/when/type",
            )


def untaken_types(
    route: Route, targets: Mapping[str, TargetConfig], connectors: Mapping[str, type[Connector]]
) -> ConfigError | None:
    """Return what is wrong when a route's target does not take what the route sends, None when it fits or is not known.

    A route without a condition sends every type it names; one with a condition may pick among them, so that only a route
    none of whose types is taken is surely wrong.
    """
    target = targets.get(route.target)
    connector = connectors.get(target.connector) if target is not None else None
    types = [name for name in MESSAGE_TYPES if route.takes_type(name)]
    if target is None or connector is None or not types:
        return None
    sends = connector.manifest.sends
    untaken = [name for name in types if not any(fnmatchcase(name, glob) for glob in sends)]
    if not untaken or (route.condition is not None and len(untaken) < len(types)):
        return None
    more = f" and {len(untaken) - 3} more" if len(untaken) > 3 else ""
    return ConfigError(
        f"{route.origin}: the route {route.name} sends {', '.join(untaken[:3])}{more} to {target.name}, whose connector "
        f"{target.connector} does not take that.",
        code="route-invalid",
        remedy=f"Correct `when.type` or `to` of the route; the connector takes {', '.join(sends)}.",
        pointer="/when/type",
    )


def check(
    routes: Iterable[Route],
    targets: Iterable[TargetConfig] = (),
    connectors: Mapping[str, type[Connector]] | None = None,
) -> None:
    """Raise the first `ConfigError` (`route-invalid`) of the two kinds above, or of two routes that pay (`routes-pay-twice`)."""
    known = {target.name: target for target in targets}
    routes = list(routes)
    for route in routes:
        for wrong in idle_types(route):
            raise wrong
        if connectors is not None and (misfit := untaken_types(route, known, connectors)) is not None:
            raise misfit
    for wrong in twice(routes):
        raise wrong


def _hint(glob: str) -> str:
    from rapidfuzz import fuzz, process

    near = process.extractOne(glob, list(MESSAGE_TYPES), scorer=fuzz.ratio)
    if near is not None and near[1] >= _ALIKE:
        return f"Did you mean {near[0]}? docs/canonical-model.md lists the types."
    return "Name a type of the table in docs/canonical-model.md, or a glob such as org.openspp.civil_event.*."
