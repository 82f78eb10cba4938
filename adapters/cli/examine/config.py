"""The configuration files: each is read alone, then whether they fit each other, then whether the targets answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from adapters.cli.examine.findings import Finding, fail, of_error, ok, warn
from adapters.cli.routes import misfits, read_all
from adapters.http.security import load_partners
from canonical_model.errors import HubError
from connectors.contract import Context, Health
from connectors.discovery import Broken, discover
from connectors.network import open_session
from connectors.runtime import ConnectorRuntime, defect_of
from connectors.targets import TargetConfig, build_settings, load_targets
from mappings.engine import MappingStore
from routing.routes import Route

_PROBE_SECONDS: Final = 10.0


def files(folder: Path) -> Iterator[Finding]:
    """Look at routes, mappings, targets and partners of a configuration folder."""
    if not folder.is_dir():
        yield warn(
            "configuration",
            f"There is no folder {folder}.",
            "`hub serve` without settings writes one to try the hub with; else set HUB_CONFIG_DIR.",
        )
        return
    routes, wrong = read_all(folder)
    yield from (of_error("routes", error) for error in wrong)
    yield from (of_error("routes", error) for error in misfits(folder, routes))
    if not wrong:
        yield (
            ok("routes", f"{len(routes)} routes can be read.")
            if routes
            else warn(
                "routes",
                "There is no route, so every message is refused.",
                f"Write one into {folder / 'routes'}.",
            )
        )
    yield from _mappings(folder)
    yield from _targets(folder, routes)
    yield from _partners(folder, routes)


def _mappings(folder: Path) -> Iterator[Finding]:
    own = folder / "mappings"
    try:
        found = MappingStore.load(*([own] if own.is_dir() else [])).compile_all()
    except HubError as error:
        yield of_error("mappings", error)
    else:
        yield ok("mappings", f"{len(found)} mappings compile.")


def _targets(folder: Path, routes: list[Route]) -> Iterator[Finding]:
    broken: list[Broken] = []
    known = discover(broken.append)
    for one in broken:
        yield warn(
            "connectors",
            f"The connector {one.name} of package {one.package} cannot be used: {one.reason}.",
            "Update or remove the package.",
        )
    try:
        targets = load_targets(folder / "targets")
    except HubError as error:
        yield of_error("targets", error)
        return
    well = 0
    for target in targets:
        try:
            ConnectorRuntime([target], connectors=known)
        except HubError as error:
            yield of_error("targets", error)
        else:
            well += 1
    for name in sorted(
        {target.name for target in targets} - {name for route in routes for name in route.reaches}
    ):
        yield warn(
            "targets", f"No route goes to the target {name}.", "Write a route, or remove the target's file."
        )
    if well == len(targets):
        yield ok("targets", f"{well} targets are set up.")


def _partners(folder: Path, routes: list[Route]) -> Iterator[Finding]:
    try:
        partners = load_partners(folder)
    except HubError as error:
        yield of_error("partners", error)
        return
    if not partners:
        yield warn(
            "partners",
            "There is no partner, so nobody may call the hub.",
            "docs/partners.md shows partners.yaml.",
        )
        return
    held = {scope for partner in partners.values() if partner.enabled for scope in partner.scopes}
    for route in routes:
        words = set(route.file.visible_to)
        if words and not words & held:
            yield warn(
                "routes",
                f"The route {route.name} is visible to {', '.join(sorted(words))}, which no partner has.",
                "Correct `visible_to` of the route, or give a partner the word among its scopes (docs/partners.md).",
            )
    yield ok(
        "partners", f"{len(partners)} partners, {sum(len(one.clients) for one in partners.values())} clients."
    )


async def probe(folder: Path, services: Mapping[str, Any]) -> AsyncIterator[Finding]:
    """Open every target and ask how it is, all at once; nothing is sent to any of them."""
    try:
        targets = load_targets(folder / "targets")
    except HubError:
        return  # said by `files` already
    session = open_session()
    try:
        for name, found in await asyncio.gather(*(_probed(target, session, services) for target in targets)):
            if isinstance(found, HubError):
                yield of_error(f"target {name}", found)
            elif found.ok:
                yield ok(f"target {name}", found.detail or f"answers in {found.seconds * 1000:.0f} ms")
            else:
                yield fail(
                    f"target {name}", found.detail or "does not answer", "Start it, or correct its settings."
                )
    finally:
        await session.close()


async def _probed(
    target: TargetConfig, session: aiohttp.ClientSession, services: Mapping[str, Any]
) -> tuple[str, Health | HubError]:
    """Open a connector of its own for one target, so that the reason it cannot be opened is seen itself."""
    kind = discover(lambda _broken: None).get(target.connector)
    if kind is None:
        return target.name, Health(False, f"The connector {target.connector} is not installed.")
    try:
        connector = kind(build_settings(target, kind))
    except HubError as error:
        return target.name, error
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            await connector.open(Context(target.name, session, services))
            return target.name, await connector.probe()
    except HubError as error:
        return target.name, error
    except TimeoutError:
        return target.name, Health(False, f"No answer within {_PROBE_SECONDS:g} seconds.")
    except Exception as error:
        # A connector may be anybody's code; one that breaks must not hide the others.
        return target.name, defect_of(error, target.name)
    finally:
        # What was found stands, however badly a connector closes.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(_PROBE_SECONDS):
                await connector.close()
