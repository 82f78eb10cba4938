"""`hub import`: from a file of people to the registry, with every row accounted for."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Any

import orjson
import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from adapters.cli.output import OUT, print_json
from canonical_model.errors import Refused
from registry.imports.columns import ColumnMapping, Kind
from registry.imports.corrections import CorrectionFile
from registry.imports.files import Format
from registry.imports.run import Counts, Reading, Source, check, propose
from registry.imports.templates import TEMPLATES, own_template

app = typer.Typer(
    help="Import people and groups from CSV, XLSX and NDJSON.", no_args_is_help=True, rich_markup_mode=None
)

File = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV, XLSX or NDJSON file.", exists=True, dir_okay=False)
]
KindOption = Annotated[Kind, typer.Option("--kind", help="What the rows are.")]
FormatOption = Annotated[
    Format | None, typer.Option("--format", help="Where the file's name does not say it.")
]
Encoding = Annotated[str | None, typer.Option("--encoding", help="Of a CSV file; UTF-8 when none is named.")]
Sheet = Annotated[str | None, typer.Option("--sheet", help="Of an XLSX file; the first when none is named.")]
MappingOption = Annotated[
    str | None,
    typer.Option(
        "--mapping", help="A mapping's name or JSON file; without it the columns are guessed by their names."
    ),
]
Region = Annotated[
    str | None, typer.Option("--region", help="Country (two letters) of phone numbers without country code.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("suggest")
def suggest_command(
    file: File,
    kind: KindOption = Kind.INDIVIDUAL,
    format: FormatOption = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    name: Annotated[str, typer.Option("--name", help="Name to give the mapping.")] = "unnamed",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write the mapping to this JSON file, to be corrected."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what the columns of a file probably mean; a column like nothing known is left out.

    Example: hub import suggest people.csv -o people.mapping.json
    """
    mapping = propose(Source(file, format, encoding, sheet), kind, name=name)
    body = mapping.model_dump(mode="json", exclude_defaults=True) | {
        "name": mapping.name,
        "kind": mapping.kind.value,
    }
    if output is not None:
        output.write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2) + b"\n")
    if as_json:
        print_json(body)
        return
    table = Table(
        "column",
        "means",
        "written",
        title=f"mapping {mapping.name} ({mapping.kind.value})",
        title_justify="left",
    )
    for one in mapping.columns:
        means = one.field or (f"attribute {one.attribute}" if one.attribute else "[dim]left out[/]")
        notes = [one.id_type, one.dates and one.dates.value, one.currency]
        table.add_row(escape(one.column), means, ", ".join(note for note in notes if note))
    OUT.print(table)


@app.command("template")
def template_command(
    kind: KindOption = Kind.INDIVIDUAL,
    name: Annotated[
        str | None, typer.Option("--of", help=f"Header of another system's file: {', '.join(TEMPLATES)}.")
    ] = None,
) -> None:
    """Write the header of a file that imports without a mapping, as CSV.

    Example: hub import template --kind group > groups.csv
    """
    if name is not None and name not in TEMPLATES:
        raise Refused(
            "There is no such template.",
            code="import-mapping-missing",
            remedy=f"There are {', '.join(TEMPLATES)}.",
        )
    columns = [one.column for one in TEMPLATES[name].columns] if name else own_template(kind)
    csv.writer(sys.stdout).writerow(columns)


@app.command("check")
def check_command(
    file: File,
    mapping: MappingOption = None,
    kind: KindOption = Kind.INDIVIDUAL,
    format: FormatOption = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    region: Region = None,
    problems: Annotated[
        Path | None,
        typer.Option("--problems", help="Write the rows with problems to this CSV file, to be mended."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Read a whole file and say which rows would not be taken, without writing anything; exit code 1 where there are some.

    Example: hub import check people.csv --problems mend.csv
    """
    source = Source(file, format, encoding, sheet)
    reading = Reading(find_mapping(source, mapping, kind), region=region)
    with correction_file(problems, source) as out:
        counts = check(
            source,
            reading,
            untaken=None
            if out is None
            else lambda row, draft: out.write(row.number, row.cells, draft.problems),
        )
    say(counts, as_json, {"mapping": reading.mapping.name})
    if counts.untaken:
        raise typer.Exit(1)


def find_mapping(source: Source, name: str | None, kind: Kind) -> ColumnMapping:
    """Return the mapping of this name or JSON file, else what the file's header suggests."""
    if name is None:
        return propose(source, kind)
    if name in TEMPLATES:
        return TEMPLATES[name]
    try:
        return ColumnMapping.model_validate_json(Path(name).read_bytes())
    except OSError:
        raise Refused(
            "There is neither a mapping nor a file of that name.",
            code="import-mapping-missing",
            remedy="See `hub import mappings`, or let `hub import suggest FILE -o MAPPING.json` write one.",
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise Refused(
            f"The mapping is wrong at {place or 'its top'}: {first['msg']}.",
            code="import-mapping-invalid",
            remedy="Correct the file; `hub import suggest` writes one of the right form.",
        ) from None


@contextmanager
def correction_file(path: Path | None, source: Source) -> Iterator[CorrectionFile | None]:
    """Open the file for rows with problems, readable by its owner alone: it holds what people told."""
    if path is None:
        yield None
        return
    with source.open() as table:
        header = table.header
    with _private(path) as file:
        yield CorrectionFile(file, header)


def _private(path: Path) -> IO[str]:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.fchmod(handle, 0o600)
    return os.fdopen(handle, "w", encoding="utf-8", newline="")


def say(counts: Counts, as_json: bool, more: dict[str, Any]) -> None:
    """Print what became of the rows."""
    body = {
        "rows": counts.rows, "created": counts.created, "updated": counts.updated, "untaken": counts.untaken,
        "problems": counts.codes, **more,
    }  # fmt: skip
    if as_json:
        print_json(body)
        return
    OUT.print(
        f"{counts.rows:,} rows: {counts.created:,} new, {counts.updated:,} updated, {counts.untaken:,} not taken."
    )
    for code, number in sorted(counts.codes.items(), key=lambda item: -item[1]):
        OUT.print(f"  {number:,} × {code}")
