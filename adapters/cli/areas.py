"""`hub areas`: the tree of a country's provinces, districts and so on."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from adapters.cli.opened import on_hub
from adapters.cli.output import OUT, print_json
from canonical_model.localized import best_text
from registry.imports.areas import read_areas
from registry.imports.files import Format
from registry.people import Areas
from registry.people.areas import AreaChanges

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("import")
def import_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A CSV, XLSX or NDJSON file.", exists=True, dir_okay=False)
    ],
    language: Annotated[str, typer.Option(help="Language of the column name.")] = "en",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    format: Annotated[Format | None, typer.Option(help="Where the file's name does not say it.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Of a CSV file; UTF-8 when none is named.")] = None,
    sheet: Annotated[str | None, typer.Option(help="Of an XLSX file; the first when none is named.")] = None,
    as_json: Json = False,
) -> None:
    """Import areas, in any order of rows; the file is taken whole or not at all, and can be imported again.

    Columns: code, name, level, parent, kind, altnames (parted by ;), area_sqkm, active, and name_fr and so on for other
    languages. Areas that are not in the file stay.

    Example: hub areas import areas.csv --dry-run
    """
    rows = read_areas(file, language=language, format=format, encoding=encoding, sheet=sheet)
    _say(on_hub(lambda hub: Areas(hub.pool).put(rows, dry_run=dry_run)), dry_run, as_json)


@app.command("list")
def list_command(
    within: Annotated[str | None, typer.Option("--in", help="P-code; that area and all in it.")] = None,
    level: Annotated[int | None, typer.Option(min=0, max=20, help="0 is the country.")] = None,
    after: Annotated[str, typer.Option(help="Only codes behind this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Most areas.")] = 200,
    inactive: Annotated[bool, typer.Option("--inactive", help="Also areas no longer in use.")] = False,
    language: Annotated[str, typer.Option(help="Language of the names.")] = "en",
    as_json: Json = False,
) -> None:
    """List areas by P-code.

    Example: hub areas list --in SL01 --level 2
    """
    found = on_hub(
        lambda hub: Areas(hub.pool).list(
            within=within, level=level, after=after, limit=limit, inactive=inactive
        )
    )
    if as_json:
        print_json({"areas": [asdict(each) for each in found]})
        return
    for each in found:
        name = best_text(each.names, (language,)) if each.names else ""
        OUT.print(
            f"{'  ' * each.level}{each.code}  {name}{'' if each.active else '  (inactive)'}", markup=False
        )
    if len(found) == limit:
        OUT.print(f"There may be more: --after {found[-1].code}", markup=False)


@app.command("move")
def move_command(
    code: Annotated[str, typer.Argument(metavar="CODE", help="P-code of the area to move.")],
    parent: Annotated[
        str | None, typer.Option("--to", help="P-code of its new parent; without it the area becomes a root.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Move an area, with everything in it, to another parent.

    Example: hub areas move SL0101 --to SL02
    """
    _say(on_hub(lambda hub: Areas(hub.pool).move(code, parent)), False, as_json)


def _say(done: AreaChanges, dry_run: bool, as_json: bool) -> None:
    if as_json:
        print_json(asdict(done) | {"dry_run": dry_run})
        return
    would = "would be " if dry_run else ""
    OUT.print(
        f"{done.created} areas {would}made, {done.changed} {would}changed ({done.moved} of them moved), "
        f"{done.unchanged} stay as they are.",
        markup=False,
    )
