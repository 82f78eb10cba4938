"""`hub routes`: check route files, list them, explain which of them take a message and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from adapters import fitting
from adapters.cli.output import ERR, OUT, print_json
from adapters.hub import Hub
from canonical_model.cloudevents import STRUCTURED, parse_http, to_message
from canonical_model.errors import ConfigError, HubError
from canonical_model.message import Message
from canonical_model.types import check_data
from connectors.discovery import discover
from connectors.payments import rails
from connectors.targets import TargetConfig, load_targets
from mappings.engine import MappingStore
from registry.settings import load_settings
from routing.exclusion import twice
from routing.routes import Route, RouteBook, load_routes, parse_route

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Folder = Annotated[
    Path | None,
    typer.Argument(
        metavar="[DIR]", help="Configuration folder (with routes/ in it); else the configured one."
    ),
]
_MOST_BYTES: Final = 1 << 20


def _folder(given: Path | None) -> Path:
    return given or Hub(load_settings()).config_dir


def read_all(folder: Path) -> tuple[list[Route], list[HubError]]:
    """Read every route file of a configuration folder, going on after a wrong one; return routes and what is wrong."""
    routes: dict[str, Route] = {}
    wrong: list[HubError] = []
    for path in sorted((folder / "routes").glob("*.yaml")):
        try:
            route = parse_route(path.read_text(encoding="utf-8"), path.name)
        except ConfigError as error:
            wrong.append(error)
            continue
        except (OSError, UnicodeDecodeError) as error:
            wrong.append(
                ConfigError(f"{path.name}: cannot be read ({type(error).__name__}).", code="route-invalid")
            )
            continue
        first = routes.setdefault(route.name, route)
        if first is not route:
            both = f"{path.name} and {first.origin} both declare the route {route.name}."
            wrong.append(ConfigError(both, code="route-invalid", remedy="Give one of them another name."))
    return list(routes.values()), wrong


def misfits(folder: Path, routes: Sequence[Route]) -> list[HubError]:
    """Return what does not fit between routes, targets and mappings of a configuration folder."""
    wrong: list[HubError] = []
    targets: dict[str, TargetConfig] | None = None
    connectors = discover(lambda _broken: None)
    try:
        targets = {target.name: target for target in load_targets(folder / "targets")}
    except ConfigError as error:
        wrong.append(error)
    own = folder / "mappings"
    mappings: MappingStore | None = None
    try:
        mappings = MappingStore.load(*([own] if own.is_dir() else []))
    except ConfigError as error:
        wrong.append(error)
    for route in routes:
        wrong += fitting.idle_types(route)
        if targets is not None and (misfit := fitting.untaken_types(route, targets, connectors)) is not None:
            wrong.append(misfit)
        if targets is not None and route.rails is not None:
            wrong += rails.misfits(route, targets, connectors)
        elif targets is not None and route.target not in targets:
            wrong.append(
                ConfigError(
                    f"{route.origin}: the route {route.name} goes to {route.target}, which is no target.",
                    code="target-unknown",
                    remedy=f"Write targets/{route.target}.yaml, or name one of: {', '.join(sorted(targets)) or 'none yet'}.",
                )
            )
        if mappings is not None and route.mapping is not None:
            try:
                mappings.get(route.mapping)
            except ConfigError as error:
                wrong.append(
                    ConfigError(f"{route.origin}: {error.detail}", code=error.code, remedy=error.remedy)
                )
    return [*wrong, *twice(routes)]


@app.command("check")
def check_command(folder: Folder = None, as_json: Json = False) -> None:
    """Read every route file and check it against targets and mappings; exit code 2 when something is wrong.

    Example: hub routes check
    """
    place = _folder(folder)
    if not (place / "routes").is_dir():
        raise ConfigError(
            f"There is no folder {place / 'routes'}.",
            code="route-invalid",
            remedy="Make it, or name the configuration folder: hub routes check DIR.",
        )
    routes, wrong = read_all(place)
    wrong += misfits(place, routes)
    if as_json:
        problems = [{"code": one.code, "detail": one.detail, "remedy": one.remedy} for one in wrong]
        print_json({"routes": len(routes), "ok": not wrong, "problems": problems})
    else:
        for one in wrong:
            ERR.print(f"✗ {one.detail} ({one.code})", markup=False)
            if one.remedy:
                ERR.print(f"  → {one.remedy}", markup=False)
        OUT.print(f"{len(routes)} routes read, {len(wrong)} problems.", markup=False)
    if wrong:
        raise typer.Exit(2)


@app.command("list")
def list_command(folder: Folder = None, as_json: Json = False) -> None:
    """List the routes: which messages go where.

    Example: hub routes list
    """
    book = load_routes(_folder(folder) / "routes")
    if as_json:
        print_json({"routes": [_described(route) for route in book]})
        return
    for route in book:
        state = "" if route.file.enabled else " (switched off)"
        condition = f" if {route.file.when.condition}" if route.file.when.condition else ""
        OUT.print(f"{route.name}{state}", markup=False)
        OUT.print(
            f"  {', '.join(route.file.when.type)}{condition} → {', else '.join(route.reaches)}", markup=False
        )
    OUT.print(f"{len(book)} routes.", markup=False)


def _described(route: Route) -> dict[str, Any]:
    return {**route.file.model_dump(mode="json"), "file": route.origin}


def _message(path: Path) -> Message:
    """Read one structured CloudEvent; raises `ConfigError` for the file, `Refused` for what is in it."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError(
            f"The file {path} cannot be read ({type(error).__name__}).",
            code="message-file-unreadable",
            remedy="Name a file with one CloudEvent as JSON.",
        ) from error
    if len(raw) > _MOST_BYTES:
        raise ConfigError(f"The file {path} is larger than 1 MiB.", code="message-file-unreadable")
    message = to_message(parse_http({"content-type": STRUCTURED}, raw)[0])
    check_data(message.type, message.data)
    return message


@app.command("explain")
def explain_command(
    message: Annotated[
        Path, typer.Argument(metavar="MESSAGE.json", help="One CloudEvent in structured JSON.")
    ],
    folder: Folder = None,
    partner: Annotated[
        str | None, typer.Option(help="Partner who sends it: the hub sets the source to this name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say which routes take a message, and of each other one why it does not; nothing is sent.

    Example: hub routes explain birth.json
    """
    book: RouteBook = load_routes(_folder(folder) / "routes")
    found = _message(message)
    if partner is not None:
        found = found.model_copy(update={"source": partner})
    verdicts = book.explain(found)
    if as_json:
        print_json(
            {
                "type": found.type,
                "source": found.source,
                "verdicts": [
                    {"route": one.route, "matched": one.matched, "why": one.why, "undecided": one.broken}
                    for one in verdicts
                ],
            }
        )
        return
    for one in sorted(verdicts, key=lambda verdict: not verdict.matched):
        sign = "?" if one.broken else "✓" if one.matched else "·"
        OUT.print(f"{sign} {one.route}: {one.why}", markup=False)
    taken = sum(one.matched for one in verdicts)
    OUT.print(f"{taken} of {len(verdicts)} routes take this {found.type} of {found.source}.", markup=False)
