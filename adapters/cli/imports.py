"""`hub import`: from a file of people to the registry, with every row accounted for."""

from __future__ import annotations

import asyncio
import csv
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest, sha256
from pathlib import Path
from typing import IO, Annotated, Any, Final
from uuid import UUID

import orjson
import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from adapters.cli.opened import actor, on_hub
from adapters.cli.output import OUT, print_json, progress
from adapters.cli.serve import settle
from adapters.hub import Hub
from canonical_model.errors import Refused
from canonical_model.message import uuid7
from registry.imports.columns import ColumnMapping, Kind
from registry.imports.corrections import CorrectionFile
from registry.imports.files import Format
from registry.imports.job import known_areas
from registry.imports.run import Counts, Import, check, propose
from registry.imports.source import Reading, Source
from registry.imports.store import ImportStore
from registry.imports.templates import TEMPLATES, own_template
from registry.imports.writing import PeopleWriter
from registry.jobs import Job, JobRunner, JobStore
from registry.jobs.store import not_found
from registry.settings import load_settings

app = typer.Typer(
    help="Import people and groups from CSV, XLSX and NDJSON.", no_args_is_help=True, rich_markup_mode=None
)

KIND: Final = "import-here"
"""The kind of an import's job: only the command that has the file can run it."""

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
    source = Source(file, format, encoding, sheet)

    async def work(hub: Hub) -> ColumnMapping:
        return propose(source, kind, [*hub.catalog.declared(kind.value)], name)

    mapping = on_hub(work)
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

    async def work(hub: Hub) -> list[str]:
        return [*own_template(kind, hub.catalog.declared(kind.value))]

    columns = [one.column for one in TEMPLATES[name].columns] if name else on_hub(work)
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

    async def work(hub: Hub) -> Reading:
        return await _reading(hub, source, mapping, kind, region)

    reading = on_hub(work)
    with correction_file(problems, source) as out, progress() as bars:
        counts = check(
            source,
            reading,
            lambda done: bars("rows", done, None),
            untaken=None
            if out is None
            else lambda row, draft: out.write(row.number, row.cells, draft.problems),
        )
    say(counts, as_json, {"mapping": reading.mapping.name})
    if counts.untaken:
        raise typer.Exit(1)


@app.command("run")
def run_command(
    file: File,
    mapping: MappingOption = None,
    kind: KindOption = Kind.INDIVIDUAL,
    format: FormatOption = None,
    encoding: Encoding = None,
    sheet: Sheet = None,
    origin: Annotated[
        str, typer.Option("--source", help="Who vouches for the rows, as people's records will say.")
    ] = "import",
    problems: Annotated[
        Path | None, typer.Option("--problems", help="Write the rows that were not taken to this CSV file.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Import a file that was imported before, with the same mapping.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Write a file's people or groups to the registry: new ones are made, known ones (by identifier) updated.

    Broken off, the same command goes on where it was; finished, it says so and does nothing unless --again is given.

    Example: hub import run people.csv --source ministry-survey --problems mend.csv
    """
    source = Source(file, format, encoding, sheet)

    async def work(hub: Hub) -> Job:
        job = await _run(hub, source, await _reading(hub, source, mapping, kind), origin, again)
        if problems is not None:
            await _write_kept(hub, job.id, source, problems)
        return job

    job = on_hub(work)
    if job.state == "failed" and job.error is not None:
        raise Refused(str(job.error["detail"]), code=str(job.error["code"]), remedy=job.error.get("remedy"))
    counts = Counts.of(job.result) if job.result else Counts()
    say(counts, as_json, {"job": str(job.id), "state": job.state})
    if counts.untaken:
        raise typer.Exit(1)


async def _reading(
    hub: Hub, source: Source, name: str | None, kind: Kind, region: str | None = None
) -> Reading:
    """Return what rows are read with: the mapping, what the country declares, the areas it has."""
    found = await _mapping(hub, source, name, kind)
    return Reading(
        found,
        hub.catalog.declared(found.kind.value),
        await known_areas(hub.pool),
        region or load_settings().region,
    )


async def _write_kept(hub: Hub, job: UUID, source: Source, place: Path) -> int:
    """Write the rows an import did not take to a file; returns how many."""
    written = 0
    with correction_file(place, source) as out:
        assert out is not None
        async for one in ImportStore(hub.pool, hub.vault).kept(job):
            out.write(one.number, one.cells, one.problems)
            written += 1
    return written


async def _mapping(hub: Hub, source: Source, name: str | None, kind: Kind) -> ColumnMapping:
    if name is None:
        return propose(source, kind, [*hub.catalog.declared(kind.value)])
    try:
        return find_mapping(name)
    except Refused as refused:
        if refused.code != "import-mapping-missing":
            raise
    return await ImportStore(hub.pool, hub.vault).get(name)


async def _run(hub: Hub, source: Source, reading: Reading, origin: str, again: bool) -> Job:
    """Run the import here, going on with one of the same file and mapping that was broken off."""
    digest = await asyncio.to_thread(_digest, source.path)
    told = sha256(reading.mapping.model_dump_json().encode() + origin.encode()).hexdigest()[:16]
    once = f"import:{digest[:32]}:{told}"
    params = {"mapping": reading.mapping.name, "source": origin, "file": digest[:32]}
    store = JobStore(hub.pool)
    submitted = await store.submit(KIND, actor=actor(), params=params, once=once)
    if not submitted.created and submitted.job.state in {"done", "failed", "cancelled"}:
        if submitted.job.state == "done" and not again:
            raise Refused(
                f"This file was imported with this mapping by job {submitted.job.id}. Nothing was done.",
                code="import-done-before",
                remedy="Give --again to import it once more; known people are updated, not doubled.",
            )
        submitted = await store.submit(KIND, actor=actor(), params=params, once=f"{once}:{uuid7()}")
    write = PeopleWriter(hub.people.writer, source=origin, actor=actor(), at=submitted.job.created_at)
    work = Import(hub.pool, ImportStore(hub.pool, hub.vault), write, source, reading)
    runner = JobRunner(hub.pool, hub.id, {KIND: work.run})
    settle()
    with progress() as bars:
        return await runner.run(submitted.job.id, lambda done, total: bars("rows", done, total))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


@app.command("problems")
def problems_command(
    job: Annotated[str, typer.Argument(metavar="JOB", help="The import's job, as `hub import run` said.")],
    file: Annotated[
        Path,
        typer.Option("--of", help="The file that was imported, for its header.", exists=True, dir_okay=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.")],
) -> None:
    """Write the rows that an import did not take, with what is wrong, to be mended and imported again.

    Example: hub import problems 0197c0de-0000-7000-8000-000000000000 --of people.csv -o mend.csv
    """
    try:
        id_ = UUID(job)
    except ValueError:
        raise not_found() from None

    async def work(hub: Hub) -> int:
        return await _write_kept(hub, id_, Source(file), output)

    OUT.print(f"{on_hub(work):,} rows written to {output}.", markup=False)


@app.command("mappings")
def mappings_command(
    save: Annotated[
        Path | None,
        typer.Option("--save", help="Keep the mapping of this JSON file by its name.", exists=True),
    ] = None,
    remove: Annotated[str | None, typer.Option("--remove", help="Forget a saved mapping.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the mappings that come with the hub and those that were saved; keep or forget one.

    Example: hub import mappings --save people.mapping.json
    """

    async def work(hub: Hub) -> list[tuple[str, str, bool]]:
        store = ImportStore(hub.pool, hub.vault)
        if save is not None:
            await store.save(find_mapping(str(save)), actor())
        if remove is not None:
            await store.remove(remove)
        return await store.names()

    found = on_hub(work)
    if as_json:
        print_json([{"name": name, "kind": kind, "builtin": builtin} for name, kind, builtin in found])
        return
    table = Table("mapping", "rows are", "comes with the hub")
    for name, kind, builtin in found:
        table.add_row(name, kind, "yes" if builtin else "")
    OUT.print(table)


def find_mapping(name: str) -> ColumnMapping:
    """Return the mapping that comes with the hub under this name, or that of a JSON file."""
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
