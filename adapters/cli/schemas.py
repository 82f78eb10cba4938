"""`hub schemas`: write the JSON Schemas of the canonical model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from canonical_model.schemas import export

app = typer.Typer(help="JSON Schemas of the canonical model.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `export` a command of its own while it is the only one."""


@app.command("export")
def export_command(
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write to; made if it is absent.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Write one JSON Schema 2020-12 file per model and per message type."""
    try:
        paths = export(directory)
    except OSError as error:
        typer.echo(
            f"Cannot write to {directory}: {error.strerror}. Name a folder you may write to.", err=True
        )
        raise typer.Exit(2) from None
    if as_json:
        typer.echo(json.dumps({"directory": str(directory), "files": [path.name for path in paths]}))
    else:
        typer.echo(f"Wrote {len(paths)} schemas to {directory}.")
