"""`hub console-link`: an address that signs the operator in to the console, once."""

from __future__ import annotations

from typing import Annotated

import typer

from adapters.cli.output import OUT, print_json
from adapters.console.session import LINK_LIFETIME, issue_login_link
from adapters.front import own_url
from registry.settings import load_settings
from registry.vault import BlindIndex, KeyEncryptionKey


def console_link(
    url: Annotated[str | None, typer.Option(help="The hub's own address; else the configured one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print an address that signs you in to the console as operator; it works once, within five minutes.

    Example: hub console-link
    """
    settings = load_settings()
    blind = BlindIndex(KeyEncryptionKey.load(settings).derive("blind index"))
    link = issue_login_link(blind, url or own_url(settings, settings.port))
    if as_json:
        print_json({"url": link, "expires_in": LINK_LIFETIME})
    else:
        OUT.print(link, markup=False)
