"""`hub reference`: a country's types of identifiers, relationships and facts, and its code lists, as one file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml

from adapters.cli.opened import on_hub
from adapters.cli.output import OUT, print_json
from canonical_model.errors import Refused
from canonical_model.localized import best_text
from registry.people import Vocabularies
from registry.people.reference import apply_reference, read_reference, stored_reference

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("apply")
def apply_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A YAML or JSON file.", exists=True, dir_okay=False)
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only read the file and say what is in it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Take over reference data from a file; what is not in the file stays, and the file can be applied again.

    Example: hub reference apply country.yaml --dry-run
    """
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" at line {mark.line + 1}"
        raise Refused(
            f"The file is no YAML{where}. Nothing was changed.",
            code="reference-invalid",
            remedy="Correct the line named; docs/people.md shows a whole file.",
        ) from None
    reference = read_reference(document)
    counts = (
        {name: len(getattr(reference, name)) for name in type(reference).model_fields}
        if dry_run
        else on_hub(lambda hub: apply_reference(hub.pool, reference))
    )
    if as_json:
        print_json({**counts, "dry_run": dry_run})
        return
    said = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    OUT.print(f"{said} {'would be ' if dry_run else ''}taken over.", markup=False)


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """Show the reference data the hub has; with --json as a file that `hub reference apply` takes, ISO's lists apart.

    Example: hub reference list --json
    """
    found = on_hub(lambda hub: stored_reference(hub.pool))
    if as_json:
        print_json(found)
        return
    for part in ("identifier_types", "relationship_types", "event_types", "vocabularies"):
        for each in found[part]:
            key = each.get("type") or each.get("code") or each.get("namespace")
            OUT.print(
                f"{part.replace('_', ' ')[:-1]:<18} {key}  {best_text(each['names'], ())}", markup=False
            )
    for namespace, codes in found["standard_vocabularies"].items():
        OUT.print(f"{'comes with the hub':<18} {namespace}  {codes} codes", markup=False)


@app.command("codes")
def codes_command(
    namespace: Annotated[str, typer.Argument(metavar="NAMESPACE", help="URN of a code list.")],
    language: Annotated[str, typer.Option(help="Language of the names.")] = "en",
    after: Annotated[str, typer.Option(help="Only codes behind this one.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=20_000, help="Most codes.")] = 1000,
    as_json: Json = False,
) -> None:
    """List the codes of a list with their names.

    Example: hub reference codes urn:iso:std:iso:5218 --language fr
    """
    found = on_hub(lambda hub: Vocabularies(hub.pool).codes(namespace, after=after, limit=limit))
    if as_json:
        print_json(
            {"codes": [{"code": each.code, "names": each.names, "active": each.active} for each in found]}
        )
        return
    for each in found:
        OUT.print(
            f"{each.code}  {each.display(language)}{'' if each.active else '  (inactive)'}", markup=False
        )


@app.command("refresh")
def refresh_command(as_json: Json = False) -> None:
    """Load the lists of ISO anew, after an upgrade of the packages they are taken from.

    Example: hub reference refresh
    """
    count = on_hub(lambda hub: Vocabularies(hub.pool).refresh())
    if as_json:
        print_json({"codes": count})
    else:
        OUT.print(f"{count} codes of the lists that come with the hub were loaded.", markup=False)
