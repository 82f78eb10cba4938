"""`hub attributes`: what a country wants to know of its registrants, declared in a file, versioned in the database."""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, cast

import asyncpg
import typer
from asyncpg.pool import PoolConnectionProxy
from rich.markup import escape
from rich.table import Column, Table

from adapters.cli.forms import write_form
from adapters.cli.output import ERR, OUT, print_json
from adapters.cli.store import actor, on_database
from canonical_model.errors import Refused
from registry.attributes import (
    KINDS,
    Applied,
    Attribute,
    Catalog,
    Document,
    Form,
    Kind,
    apply,
    event_form,
    form,
    load_catalog,
    load_file,
    load_version,
    parse,
    promote,
    template,
    versions,
    wanted,
)
from registry.programs.uses import attributes_used

Connection = asyncpg.Connection | PoolConnectionProxy

app = typer.Typer(
    help="Declare attributes of individuals, groups, programmes and events.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="A schema in YAML or JSON.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Language = Annotated[str, typer.Option("--language", help="Language of titles, such as fr.")]


@app.command("check")
def check_command(file: File, as_json: AsJson = False) -> None:
    """Read a schema without a database and say what is wrong in it; exit code 2 when something is.

    Example: hub attributes check individual.yaml
    """
    subject = parse(load_file(file))
    if as_json:
        print_json(
            {"file": str(file), "subject": subject.name, "attributes": _rows(subject.attributes, "en")}
        )
    else:
        OUT.print(
            f"{file}: {len(subject.attributes)} attributes of {subject.name}, nothing wrong.", markup=False
        )


@app.command("apply")
def apply_command(
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change and what would break; store nothing.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option("--force", help="Store it although records break it, where their values stay readable."),
    ] = False,
    index: Annotated[
        bool,
        typer.Option("--index/--no-index", help="Make the indexes for rules now; writers go on meanwhile."),
    ] = True,
    as_json: AsJson = False,
) -> None:
    """Hold a schema to the stored records, make it the version in force, and promote what rules use.

    Safe to repeat: the same file changes nothing, and indexes that are missing are made.

    Example: hub attributes apply individual.yaml --dry-run
    """
    document = load_file(file)

    async def work(pool: asyncpg.Pool, _url: str) -> dict[str, Any]:
        return await _apply(pool, document, dry_run=dry_run, force=force, index=index)

    found = on_database(work)
    if as_json:
        print_json(found)
        return
    verb = "would become" if dry_run else "is now"
    OUT.print(
        f"{found['subject']} {verb} version {found['version']}."
        if found["changed"]
        else f"{found['subject']} is version {found['version']} already.",
        markup=False,
    )
    for line in found["changes"]:
        OUT.print(f"  {line}", markup=False)
    for one in found["breaks"]:
        passed = "--force passes it" if one["safe"] else "cannot be passed"
        OUT.print(
            f"! {one['attribute']}: {one['records']:,} records break {one['rule']} ({passed})", markup=False
        )
    for name in found["indexes_made"]:
        OUT.print(f"index {name} made", markup=False)
    for name in found["indexes_dropped"]:
        OUT.print(f"index {name} dropped", markup=False)


async def _apply(
    pool: asyncpg.Pool, document: Document, *, dry_run: bool, force: bool, index: bool
) -> dict[str, Any]:
    made: list[str] = []
    dropped: list[str] = []
    async with pool.acquire() as connection:
        result: Applied = await apply(connection, document, actor(), force=force, dry_run=dry_run)
        if index and not dry_run:
            catalog = await load_catalog(connection)
            used = await attributes_used(connection, catalog)
            made, dropped = await promote(
                connection,
                catalog,
                used,
                progress=lambda text: ERR.print(f"… {text}", style="dim", markup=False),
            )
    return asdict(result) | {"dry_run": dry_run, "indexes_made": made, "indexes_dropped": dropped}


@app.command("list")
def list_command(as_json: AsJson = False) -> None:
    """List every version of every schema: who stored it and when.

    Example: hub attributes list
    """

    async def work(pool: asyncpg.Pool, _url: str) -> list[dict[str, Any]]:
        return await versions(pool)

    found = on_database(work)
    if as_json:
        print_json({"schemas": found})
        return
    table = Table(Column("subject", no_wrap=True), "version", "attributes", "stored at", "by")
    for one in found:
        table.add_row(
            escape(one["subject"]), str(one["version"]), str(one["attributes"]),
            f"{one['applied_at']:%Y-%m-%d %H:%M}", escape(one["actor"]),
        )  # fmt: skip
    OUT.print(table if found else "No attributes are declared. `hub attributes apply FILE` declares some.")


@app.command("show")
def show_command(
    subject: Annotated[
        str, typer.Argument(help="individual, group, program:CODE or event:TYPE.", show_default=False)
    ],
    version: Annotated[int | None, typer.Option(help="A version; the one in force when left out.")] = None,
    language: Language = "en",
    as_json: AsJson = False,
) -> None:
    """Show the attributes of a subject, what is built in included: type, codes, class, whether rules have an index.

    Example: hub attributes show individual --language fr
    """

    async def work(pool: asyncpg.Pool, _url: str) -> tuple[dict[str, Attribute], int, set[str], Any]:
        catalog = await load_catalog(pool)
        if version is not None:
            found = await load_version(pool, subject, version)
        elif subject in KINDS and subject not in catalog.subjects:
            return catalog.attributes(subject), 0, set(), None
        else:
            found = catalog.subject(subject)
        own = dict(found.attributes)
        if subject in KINDS:
            own = Catalog().attributes(subject) | own
        promoted = {one.attribute.name for one in wanted(Catalog.of([found]))}
        return own, found.version, promoted, found.document

    attributes, number, promoted, document = on_database(work)
    rows = _rows(attributes, language)
    if as_json:
        print_json(
            {"subject": subject, "version": number or None, "attributes": rows, "promoted": sorted(promoted), "document": document}
        )  # fmt: skip
        return
    table = Table(
        Column("attribute", no_wrap=True), "title", "type", "codes", "class", "index",
        title=f"{escape(subject)}, version {number}" if number else f"{escape(subject)}, nothing declared",
        title_justify="left",
    )  # fmt: skip
    for row in rows:
        table.add_row(
            escape(row["name"]), escape(row["title"]), row["type"], escape(", ".join(row["codes"] or ())),
            row["privacy"], "yes" if row["name"] in promoted else "",
        )  # fmt: skip
    OUT.print(table)


@app.command("template")
def template_command(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="individual or group.")],
    program: Annotated[
        str | None, typer.Option("--program", help="With the attributes of this programme too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the header of a CSV file to import registrants from, with every declared attribute.

    Example: hub attributes template individual > people.csv
    """
    if kind not in KINDS:
        raise Refused(
            "There are registrants of two kinds only.",
            code="attribute-subject-unknown",
            remedy="Say individual or group.",
        )

    async def work(pool: asyncpg.Pool, _url: str) -> tuple[str, ...]:
        return template(await load_catalog(pool), kind, program)

    columns = on_database(work)
    if as_json:
        print_json({"kind": kind, "columns": columns})
    else:
        csv.writer(sys.stdout, lineterminator="\n").writerow(columns)


@app.command("form")
def form_command(
    subject: Annotated[str, typer.Argument(help="individual, group or event:TYPE.", show_default=False)],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The XLSForm to write, such as household.xlsx.")
    ] = None,
    program: Annotated[
        str | None, typer.Option("--program", help="With the attributes of this programme too.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a form that asks for every declared attribute, as an XLSForm for ODK, Kobo and others; answers can be imported.

    Example: hub attributes form individual -o household.xlsx
    """
    kind = cast("Kind", subject)
    is_event = subject.startswith("event:")
    if subject not in KINDS and not is_event:
        raise Refused(
            "There is a form for individuals, groups and events only.",
            code="attribute-subject-unknown",
            remedy="Say individual, group or event:TYPE; a programme's attributes come with --program.",
        )
    if output is None and not as_json:
        raise typer.BadParameter(
            "Name the workbook to write, such as form.xlsx, or say --json.", param_hint="--output"
        )

    async def work(pool: asyncpg.Pool, _url: str) -> Form:
        catalog = await load_catalog(pool)
        if is_event:
            return event_form(catalog, subject.removeprefix("event:"))
        return form(catalog, kind, program)

    found = on_database(work)
    if output is not None:
        write_form(found, output)
    if as_json:
        print_json({"subject": subject} | asdict(found))
    else:
        OUT.print(f"{output}: {len(found.survey)} questions.", markup=False)


def _rows(attributes: dict[str, Attribute] | Any, language: str) -> list[dict[str, Any]]:
    return [
        {
            "name": one.name,
            "title": one.title([language]),
            "type": "code" if one.codes else one.type.value,
            "codes": list(one.codes) if one.codes else None,
            "vocabulary": one.vocabulary,
            "privacy": one.privacy.value,
            "required": one.required,
            "built_in": one.column is not None,
        }
        for one in attributes.values()
    ]
