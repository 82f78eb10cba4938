"""`hub mapping`: check mapping files, try them on a sample, see what they lose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.markup import escape
from rich.table import Column, Table

from adapters.cli.output import ERR, OUT, print_json, report
from canonical_model.errors import ConfigError, HubError
from mappings.engine import Direction, LossReport, Mapping, MappingStore, loss_report
from mappings.engine.model import models

app = typer.Typer(
    help="Check mappings, try them, see what they lose.", no_args_is_help=True, rich_markup_mode=None
)
MAX_SAMPLE_BYTES = 10_000_000

Directories = Annotated[
    list[Path] | None,
    typer.Option(
        "--dir", envvar="HUB_MAPPING_DIRECTORIES", help="Further directory of mappings; may be repeated."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Name = Annotated[str, typer.Argument(metavar="FILE|NAME", help="A file, a name, or name@version.")]


def find_mapping(name: str, directories: list[Path] | None) -> Mapping:
    """Return the mapping of a file path or of a name in the store; raises ConfigError as the store does."""
    store = MappingStore.load(*directories or ())
    if name.endswith((".yaml", ".yml")):
        place = Path(name)
        if not place.is_file():
            raise ConfigError(
                f"There is no file {name}.",
                code="mapping-not-found",
                remedy="Give the path of a mapping file.",
            )
        return store.add_file(place)
    return store.get(name)


@app.command("check")
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files; none means all there are.")
    ] = None,
    directories: Directories = None,
    as_json: AsJson = False,
) -> None:
    """Hold mapping files to the schema, the canonical model and the names they use.

    Example: hub mapping check mappings/dci/crvs_person.yaml
    """
    rows: list[dict[str, Any]] = []
    failed: HubError | None = None
    names = [str(file) for file in files or ()]
    if not names:
        names = [header.reference for header in MappingStore.load(*directories or ()).headers()]
    for name in names:
        try:
            mapping = find_mapping(name, directories)
            problems = list(loss_report(mapping).problems)
            rows.append(
                {"mapping": mapping.header.reference, "file": name, "ok": not problems, "problems": problems}
            )
        except HubError as error:
            failed = failed or error
            rows.append(
                {"mapping": None, "file": name, "ok": False, "problems": [error.detail], "code": error.code}
            )
            if not as_json:
                report(error)
    if as_json:
        print_json({"ok": all(row["ok"] for row in rows), "files": rows})
    else:
        for row in rows:
            if row["ok"]:
                OUT.print(f"[green]✓[/] {escape(row['mapping'])}")
            elif row["mapping"]:
                for problem in row["problems"]:
                    ERR.print(f"[bold red]✗[/] {escape(row['mapping'])}: {escape(problem)}")
    if not all(row["ok"] for row in rows):
        raise typer.Exit(2)


@app.command("list")
def list_command(directories: Directories = None, as_json: AsJson = False) -> None:
    """Show every mapping with its version, its two sides and what it is for.

    Example: hub mapping list --json
    """
    store = MappingStore.load(*directories or ())
    headers = store.headers()
    if as_json:
        keys = ("name", "version", "canonical", "dialect", "description", "source")
        print_json(
            [{key: getattr(h, key) for key in keys} | {"file": store.place(h.reference)} for h in headers]
        )
        return
    table = Table(
        Column("mapping", no_wrap=True), "canonical", Column("dialect", overflow="fold"), "what it is"
    )
    for header in headers:
        table.add_row(*map(escape, (header.reference, header.canonical, header.dialect, header.description)))
    OUT.print(table)


@app.command("loss")
def loss(name: Name, directories: Directories = None, as_json: AsJson = False) -> None:
    """Show which fields do not survive a round trip, each with the reason.

    Example: hub mapping loss dci.crvs_vital_event
    """
    found: LossReport = loss_report(find_mapping(name, directories))
    if as_json:
        print_json(found.as_dict())
        return
    for title, losses in (
        ("canonical → dialect → canonical", found.canonical),
        ("dialect → canonical → dialect", found.dialect),
    ):
        table = Table(
            "field",
            "reason",
            "detail",
            title=f"{escape(found.mapping)}: lost on {title}",
            title_justify="left",
        )
        for each in losses:
            detail = f"{each.detail}: {', '.join(each.values)}" if each.values else each.detail
            table.add_row(escape(each.path), each.reason, escape(detail))
        OUT.print(table if losses else f"{escape(found.mapping)}: nothing is lost on {title}.")
    for problem in found.problems:
        ERR.print(f"[bold red]✗[/] {escape(problem)}")


@app.command("try")
def try_command(
    name: Name,
    sample: Annotated[
        Path, typer.Argument(metavar="SAMPLE.json", help="A JSON document of the source side.")
    ],
    to_canonical: Annotated[
        bool, typer.Option("--to-canonical/--to-dialect", help="Which way to map the sample.")
    ] = True,
    directories: Directories = None,
    as_json: AsJson = False,
) -> None:
    """Map a sample, show the result and where each field of it came from.

    Example: hub mapping try dci.crvs_vital_event birth.json --to-canonical
    """
    mapping = find_mapping(name, directories)
    direction: Direction = "to_canonical" if to_canonical else "to_dialect"
    trace = mapping.trace(read_sample(sample), direction)
    invalid = _model_problems(mapping, trace.output) if to_canonical else []
    if as_json:
        origins = [{"output": o.output, "source": o.source, "via": o.via} for o in trace.origins]
        print_json(
            {
                "mapping": mapping.header.reference,
                "direction": direction,
                "output": trace.output,
                "origins": origins,
                "unused": trace.unused,
                "invalid": invalid,
            }
        )
    else:
        OUT.print_json(orjson.dumps(trace.output).decode())
        table = Table(
            "field",
            "came from",
            "through",
            title=f"{escape(mapping.header.reference)}, {direction}",
            title_justify="left",
        )
        for origin in trace.origins:
            table.add_row(escape(origin.output), escape(origin.source or "(fixed)"), escape(origin.via))
        OUT.print(table)
        if trace.unused:
            OUT.print("Not carried: " + escape(", ".join(trace.unused)))
        for problem in invalid:
            ERR.print(f"[bold red]✗[/] {escape(problem)}")
    if invalid:
        raise typer.Exit(1)


def read_sample(sample: Path) -> dict[str, Any]:
    """Read a JSON object of at most 10 MB from a file; raises ConfigError `mapping-sample-invalid`."""
    remedy = "Give a file that holds one JSON object, as the partner sends it."
    try:
        if sample.stat().st_size > MAX_SAMPLE_BYTES:
            raise ConfigError(f"{sample} is larger than 10 MB.", code="mapping-sample-invalid", remedy=remedy)
        body = orjson.loads(sample.read_bytes())
    except OSError as error:
        raise ConfigError(
            f"{sample} cannot be read: {error.strerror}.", code="mapping-sample-invalid", remedy=remedy
        ) from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(
            f"{sample}, line {error.lineno}: not JSON.", code="mapping-sample-invalid", remedy=remedy
        ) from None
    if not isinstance(body, dict):
        raise ConfigError(
            f"{sample} does not hold a JSON object.", code="mapping-sample-invalid", remedy=remedy
        )
    return body


def _model_problems(mapping: Mapping, output: dict[str, Any]) -> list[str]:
    """Return what the canonical model says against an output, without its values."""
    from pydantic import ValidationError

    model = models().get(mapping.header.canonical)
    if model is None:
        return []
    try:
        model.model_validate_json(orjson.dumps(output))
    except ValidationError as wrong:
        found = wrong.errors(include_input=False, include_url=False, include_context=False)
        return [f"/{'/'.join(map(str, each['loc']))}: {each['msg']}" for each in found]
    return []
