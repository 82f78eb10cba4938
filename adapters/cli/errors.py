"""`hub errors`: what each error code means and what can be done."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated

import typer

from adapters.cli.output import OUT, print_json
from adapters.http import error_pages
from canonical_model.errors import Refused


def errors(
    code: Annotated[
        str | None, typer.Argument(help="The code, such as route-invalid; without it, all of them.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """List the error codes, or show the page of one.

    Example: hub errors route-invalid
    """
    if code is None:
        found = {name: error_pages.summary(name) for name in error_pages.codes()}
        if as_json:
            print_json({"errors": [{"code": name, "summary": text} for name, text in found.items()]})
            return
        width = max(map(len, found), default=0)
        for name, text in found.items():
            OUT.print(f"{name:<{width}}  {text}", markup=False)
        return
    page = error_pages.page(code)
    if page is None:
        near = get_close_matches(code, error_pages.codes(), 3)
        raise Refused(
            "There is no page for this error code.",
            code="resource-not-found",
            remedy=f"Did you mean {', '.join(near)}?" if near else "`hub errors` lists every code.",
        )
    if as_json:
        print_json({"code": code, "summary": error_pages.summary(code), "page": page})
    else:
        OUT.print(page.rstrip(), markup=False)
