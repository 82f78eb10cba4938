"""The command line, `hub`."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from adapters.cli.output import report
from canonical_model.errors import HubError

GROUPS = {
    "accounts": ("adapters.cli.accounts", "Which financial address an id is paid at: link, resolve, import."),
    "areas": ("adapters.cli.areas", "Import, list and move areas."),
    "audit": ("adapters.cli.audit", "Read the audit trail, seal it, verify that it is whole."),
    "attributes": ("adapters.cli.attributes", "Declare attributes of registrants, programmes and events."),
    "changes": ("adapters.cli.changes", "Ask for changes of registrants, agree to them, undo them."),
    "connector": ("adapters.cli.connector", "New, list, check and score connectors."),
    "db": ("adapters.cli.database", "Upgrade and inspect the database schema."),
    "duplicates": ("adapters.cli.duplicates", "Find people registered twice, and decide over them."),
    "import": ("adapters.cli.imports", "Import people and groups from files."),
    "jobs": ("adapters.cli.jobs", "List, show and cancel long work."),
    "keys": ("adapters.cli.keys", "See, make and replace the keys of the vault."),
    "mapping": ("adapters.cli.mapping", "Check mappings, try them, see what they lose."),
    "messages": ("adapters.cli.messages", "List, show and replay messages; dead letters."),
    "partner": ("adapters.cli.partner", "List partners, make their secrets."),
    "payments": ("adapters.cli.payments", "Where a payment is; batches, reviews, sums and exports."),
    "people": ("adapters.cli.people", "List, find and show people and groups, their history and identity."),
    "reference": ("adapters.cli.reference", "Types of identifiers, relationships and facts; code lists."),
    "program": ("adapters.cli.program", "Programs from enrollment to reconciled payments."),
    "routes": ("adapters.cli.routes", "Check, list and explain routes."),
    "rules": ("adapters.cli.rules", "Check, preview and explain rules."),
    "schemas": ("adapters.cli.schemas", "Export the canonical model as JSON Schema."),
}
COMMANDS = {
    "console-link": ("adapters.cli.console_link", "console_link"),
    "bench": ("adapters.cli.bench", "bench"),
    "demo": ("adapters.cli.demo", "demo"),
    "doctor": ("adapters.cli.doctor", "doctor"),
    "errors": ("adapters.cli.errors", "errors"),
    "serve": ("adapters.cli.serve", "serve"),
    "token": ("adapters.cli.token", "token"),
}


def _version(value: bool) -> None:
    if value:
        typer.echo(f"openspp-hub {installed_version('openspp-hub')}")
        raise typer.Exit


def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """OpenSPP Hub: one canonical model, many dialects, nothing lost.

    Settings come from HUB_* variables or hub.toml; `hub doctor` checks them.
    """


def build(only: str | None = None) -> typer.Typer:
    """Return the command tree; with `only`, just that branch, so that a command starts without loading all others."""
    app = typer.Typer(
        no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None
    )
    app.callback()(root)
    for name, (module, help_text) in GROUPS.items():
        if only in {None, name}:
            app.add_typer(importlib.import_module(module).app, name=name, help=help_text)
    for name, (module, function) in COMMANDS.items():
        if only in {None, name}:
            app.command(name)(getattr(importlib.import_module(module), function))
    return app


def main() -> None:
    """Run the command line; an error of the hub is shown as what happened, what to do and its code."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    only = words[0] if words and words[0] in {*GROUPS, *COMMANDS} else None
    try:
        build(only)(prog_name="hub")
    except HubError as error:
        sys.exit(report(error, as_json="--json" in sys.argv))
