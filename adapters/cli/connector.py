"""`hub connector`: write a new connector, list the installed ones, check one, score one."""

from __future__ import annotations

import importlib
import sys
import tomllib
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, cast

import typer

from adapters.cli.output import OUT, print_json
from connectors.contract import Connector
from connectors.discovery import GROUP, Broken, contract_gap, discover
from connectors.errors import ConfigError
from connectors.template import write_package
from connectors.testing import Outcome, check, kit_for, score

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(help="The connector's name.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Write one JSON document.")]


@app.command("new")
def new(
    name: NameArgument,
    directory: Annotated[Path, typer.Option(help="Where to write the folder NAME.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Write a complete connector package whose tests pass; change it until it speaks to your system."""
    written = write_package(name, directory)
    if as_json:
        print_json({"name": name, "files": [str(path) for path in written]})
        return
    for path in written:
        OUT.print(f"wrote {path}", markup=False)
    OUT.print(f"Next: hub connector check {name}", markup=False)


@app.command("list")
def list_connectors(as_json: JsonOption = False) -> None:
    """List the installed connectors, and those that are installed but broken."""
    broken: list[Broken] = []
    found = discover(broken.append)
    if as_json:
        print_json(
            {
                "connectors": [
                    {"name": name, **kind.manifest.model_dump(mode="json", exclude={"name"})}
                    for name, kind in found.items()
                ],
                "broken": [asdict(one) for one in broken],
            }
        )
        return
    for name, kind in found.items():
        manifest = kind.manifest
        OUT.print(f"{name:<16} {manifest.version:<8} {manifest.tier:<9} {manifest.title}", markup=False)
    for one in broken:
        OUT.print(f"{one.name:<16} broken: {one.reason} (package {one.package})", markup=False)


@app.command("check")
def check_connector(name: NameArgument, as_json: JsonOption = False) -> None:
    """Run the conformance kit up to the tier the manifest claims; the exit code is 1 when a property does not hold."""
    connector = find_connector(name)
    outcomes = check(kit_for(connector), up_to=connector.manifest.tier)
    failed = [outcome for outcome in outcomes if outcome.result == "failed"]
    if as_json:
        body = {"name": name, "claimed": connector.manifest.tier, "holds": not failed}
        print_json({**body, "properties": [asdict(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            _show(outcome)
        held = len(outcomes) - len(failed)
        OUT.print(
            f"{held} of {len(outcomes)} properties hold ({connector.manifest.tier} claimed)", markup=False
        )
    if failed:
        raise typer.Exit(1)


@app.command("score")
def score_connector(name: NameArgument, as_json: JsonOption = False) -> None:
    """Print the tier a connector reaches and the first property that blocks the next."""
    connector = find_connector(name)
    tier, blocking = score(check(kit_for(connector)))
    if as_json:
        body = {"name": name, "claimed": connector.manifest.tier, "tier": tier}
        print_json({**body, "blocking": asdict(blocking) if blocking else None})
        return
    OUT.print(f"{name}: {tier or 'below bronze'}", markup=False)
    if blocking:
        OUT.print(f"{blocking.tier} is blocked by:", markup=False)
        _show(blocking)


def find_connector(name: str) -> type[Connector]:
    """Return the connector class in ./NAME, or the installed one of that name; raises `ConfigError`."""
    local = Path(name) / "pyproject.toml"
    if local.is_file():
        return _from_folder(name, local)
    broken: list[Broken] = []
    found = discover(broken.append)
    if name in found:
        return found[name]
    reason = next(
        (f"it is broken: {one.reason}" for one in broken if one.name == name), "it is not installed"
    )
    raise ConfigError(
        f"There is no folder {name} here, and no usable connector {name}: {reason}.",
        code="connector-unknown",
        remedy="`hub connector list` shows what is installed; `hub connector new` writes one.",
    )


def _from_folder(name: str, pyproject: Path) -> type[Connector]:
    try:
        value = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["entry-points"][GROUP][name]
        module, _, attribute = str(value).partition(":")
        folder = str(pyproject.parent.resolve())
        if folder not in sys.path:
            sys.path.insert(0, folder)
        candidate = getattr(importlib.import_module(module), attribute)
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(
            f"{pyproject} names no entry point {name} in the group {GROUP}.",
            code="connector-unknown",
            remedy=f'Add [project.entry-points."{GROUP}"] with {name} = "package:Class".',
        ) from error
    except (ImportError, AttributeError, SyntaxError) as error:
        raise ConfigError(
            f"The connector in {pyproject.parent} cannot be loaded: {type(error).__name__}: {error}.",
            code="connector-unknown",
            remedy="Correct the entry point or the package.",
        ) from error
    gap = contract_gap(candidate)
    if gap is not None:
        raise ConfigError(f"{value} is no connector: {gap}.", code="connector-unknown")
    return cast("type[Connector]", candidate)


def _show(outcome: Outcome) -> None:
    mark = {"held": "ok  ", "failed": "FAIL", "exempt": "skip"}[outcome.result]
    OUT.print(f"{mark} {outcome.tier:<8} {outcome.name.replace('_', ' ')}", markup=False)
    if outcome.result == "failed":
        OUT.print(f"     {outcome.statement.splitlines()[0]}", markup=False)
        OUT.print(f"     {outcome.detail}", markup=False)
        OUT.print(f"     {outcome.anchor}", markup=False)
    elif outcome.result == "exempt":
        OUT.print(f"     exempt: {outcome.detail}", markup=False)
