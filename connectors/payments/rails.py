"""The target of a route with rails: enters each order on the rail that fits it, and tells of those that none takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final

from canonical_model.message import Message
from canonical_model.types import MESSAGE_TYPES
from connectors.contract import Callback, Connector, Context, Health, Manifest, Receipt, Repeat, Settings
from connectors.errors import ConfigError, Unavailable
from connectors.payments.contract import Bounds, LedgerService, Transfer
from connectors.payments.orders import BATCH, SINGLE, Orders
from connectors.targets import TargetConfig
from routing.routes import Route

NAME: Final = "rails"
SERVICE: Final = "rails"
"""The service of the context in which the ledger of routes with rails is found."""
_SECONDS: Final = 600.0


class RailsSettings(Settings):
    """Nothing: a route says which rails there are."""


class _NoRail:
    """Takes nothing: a payment stands on the rail chosen for it, or has failed; so the driver only tells and closes."""

    bounds: Final = Bounds(window=0, lookups=0)

    async def begin(self, rows: Sequence[Transfer]) -> None:
        """Do nothing: nothing is ever queued here."""

    async def go_on(self, rows: Sequence[Transfer]) -> None:
        """Do nothing: nothing is ever queued here."""

    async def ask(self, rows: Sequence[Transfer]) -> None:
        """Do nothing: nothing is ever due here."""


class RailsConnector:
    """Takes orders to pay into the ledger, each on the rail its route chooses; it sends nothing itself."""

    manifest: ClassVar[Manifest] = Manifest(
        name=NAME, version="1.0.0", title="One of several rails", sends=(SINGLE, BATCH), repeat=Repeat.RECOGNISED
    )  # fmt: skip
    settings_model: ClassVar[type[Settings]] = RailsSettings

    def __init__(self, settings: RailsSettings) -> None:
        self._orders: Orders | None = None
        self._rail = _NoRail()

    @property
    def rail(self) -> _NoRail:
        """A rail on which nothing stands, so that the driver tells results and closes batches."""
        return self._rail

    async def open(self, ctx: Context) -> None:
        """Find the ledger; raises `ConfigError` (`ledger-service-missing`) without one."""
        ledger = ctx.services.get(SERVICE)
        if not isinstance(ledger, LedgerService):
            raise ConfigError(
                f"Route {ctx.target} chooses among rails in the hub's ledger of transfers, which this process does not have.",
                code="ledger-service-missing",
                remedy="Start the worker with `hub serve`.",
            )
        self._orders = Orders(ctx.target, ledger, ctx.services.get("rows"))

    async def close(self) -> None:
        """Let go of the ledger; safe to call twice."""
        self._orders = None

    async def probe(self) -> Health:
        """Say that it is ready: each rail says for itself how its system is."""
        return Health(True, "Chooses among rails.")

    async def send(self, message: Message, deadline: float) -> Receipt:
        """Enter the payments of a message, each on its rail; raises what `Orders.send` does."""
        return await self._ready().send(message, deadline)

    async def ask(self, message: Message, deadline: float) -> Receipt | None:
        """Say whether the ledger holds all payments of a message."""
        return await self._ready().ask(message)

    async def receive(self, callback: Callback) -> Sequence[Message]:
        """Return nothing: nobody calls back here."""
        return ()

    def _ready(self) -> Orders:
        if self._orders is None:
            raise Unavailable(
                "The choice among rails is not open; nothing was ordered.", code="target-closed"
            )
        return self._orders


def with_rails(
    routes: Iterable[Route], targets: Sequence[TargetConfig], connectors: Mapping[str, type[Connector]]
) -> tuple[list[TargetConfig], dict[str, type[Connector]]]:
    """Return targets and connectors together with those of routes that choose among rails.

    Raises `ConfigError`: `route-invalid` for a rail that does not pay from the ledger or a route named like a target,
    `target-unknown` for a rail that is no target.
    """
    known = {target.name: target for target in targets}
    more: list[TargetConfig] = []
    for route in routes:
        if route.rails is None:
            continue
        for error in misfits(route, known, connectors):
            raise error
        more.append(TargetConfig(route.name, NAME, timeout=_SECONDS))
    return [*targets, *more], {**connectors, NAME: RailsConnector}


def misfits(
    route: Route, targets: Mapping[str, TargetConfig], connectors: Mapping[str, type[Connector]]
) -> list[ConfigError]:
    """Return what is wrong between a route with rails and the configured targets."""
    if route.rails is None:
        return []
    wrong: list[ConfigError] = []
    if route.name in targets:
        wrong.append(_invalid(route, f"has rails, and a target has its name {route.name} too", "/route"))
    for type_ in MESSAGE_TYPES:
        if route.takes_type(type_) and type_ not in (SINGLE, BATCH):
            wrong.append(
                _invalid(route, f"has rails and takes {type_}, which is no order to pay", "/when/type")
            )
    for name in route.rails.targets:
        target = targets.get(name)
        if target is None:
            wrong.append(
                ConfigError(
                    f"{route.origin}: the route {route.name} has the rail {name}, which is no target.",
                    code="target-unknown",
                    remedy=f"Write targets/{name}.yaml, or name one of: {', '.join(sorted(targets)) or 'none yet'}.",
                )
            )
            continue
        kind: Any = connectors.get(target.connector)
        if kind is not None and not hasattr(kind, "rail"):
            wrong.append(
                _invalid(
                    route,
                    f"has the rail {name}, whose connector {target.connector} does not pay from the ledger",
                    "/rails",
                )
            )
    return wrong


def _invalid(route: Route, what: str, pointer: str) -> ConfigError:
    return ConfigError(
        f"{route.origin}: the route {route.name} {what}.",
        code="route-invalid",
        remedy="docs/routes.md says what a route with rails may have.",
        pointer=pointer,
    )
