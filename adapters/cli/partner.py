"""`hub partner`: who may call, and how their secrets are made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from adapters.cli.output import OUT, print_json
from adapters.http.security import Partners, hash_secret, load_partners, new_secret
from adapters.http.security.partners import FILE_NAME
from adapters.hub import Hub
from canonical_model.errors import ConfigError
from registry.settings import load_settings

app = typer.Typer(no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Folder = Annotated[
    Path | None, typer.Argument(metavar="[DIR]", help="Folder with partners.yaml; else the configured one.")
]
_SHORTEST: int = 16


def _load(folder: Path | None) -> tuple[Path, Partners]:
    place = folder or Hub(load_settings()).config_dir
    return place / FILE_NAME, load_partners(place)


@app.command("list")
def list_command(folder: Folder = None, as_json: Json = False) -> None:
    """List the partners: their clients, scopes and dialect; secrets are never shown.

    Example: hub partner list
    """
    _, partners = _load(folder)
    found: list[dict[str, Any]] = [
        {
            "name": partner.name,
            "display": partner.display,
            "enabled": partner.enabled,
            "clients": [client.id for client in partner.clients],
            "scopes": sorted(str(scope) for scope in partner.scopes),
            "dialect": partner.dialect.name,
        }
        for partner in partners.values()
    ]
    if as_json:
        print_json({"partners": found})
        return
    for one in found:
        state = "" if one["enabled"] else " (switched off)"
        OUT.print(f"{one['name']}{state}  speaks {one['dialect']}", markup=False)
        OUT.print(f"  clients: {', '.join(one['clients']) or 'none'}", markup=False)
        OUT.print(f"  scopes:  {' '.join(one['scopes']) or 'none'}", markup=False)
    OUT.print(f"{len(found)} partners.", markup=False)


@app.command("secret")
def secret_command(
    given: Annotated[
        bool, typer.Option("--given", help="Hash a secret you have, asked for or from a pipe.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make a client secret and its scrypt hash: the secret goes to the partner, the hash into partners.yaml.

    Example: hub partner secret
    """
    secret = new_secret()
    if given:
        secret = str(typer.prompt("Client secret", hide_input=True, err=True)).strip()
        if len(secret) < _SHORTEST:
            raise ConfigError(
                f"The secret is shorter than {_SHORTEST} characters.",
                code="secret-weak",
                remedy="Let `hub partner secret` make one.",
            )
    hashed = hash_secret(secret)
    if as_json:
        print_json({"hash": hashed} if given else {"secret": secret, "hash": hashed})
        return
    if not given:
        OUT.print(f"secret (give it to the partner once, keep no copy): {secret}", markup=False)
    OUT.print(f"hash   (clients[].secret in partners.yaml):          {hashed}", markup=False)


@app.command("check")
def check_command(folder: Folder = None, as_json: Json = False) -> None:
    """Read partners.yaml and say what is wrong in it; exit code 2 when something is.

    Example: hub partner check
    """
    path, partners = _load(folder)
    if not path.exists():
        raise ConfigError(
            f"There is no {path}.",
            code="partners-invalid",
            remedy="Make it; docs/partners.md shows every key. Without it nobody may call the hub.",
        )
    hints = [
        f"{partner.name}: client {client.id} has neither secret nor issuer, so only `hub token` can give it tokens"
        for partner in partners.values()
        for client in partner.clients
        if client.secret is None and client.issuer is None
    ]
    hints += [
        f"{partner.name}: has no scope, so it may do nothing"
        for partner in partners.values()
        if not partner.scopes
    ]
    if as_json:
        print_json({"file": str(path), "partners": len(partners), "hints": hints})
        return
    for hint in hints:
        OUT.print(f"! {hint}", markup=False)
    OUT.print(f"{path}: {len(partners)} partners, nothing wrong.", markup=False)
