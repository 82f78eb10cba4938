"""`hub token`: an access token for a partner's client, to try the API with."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote_plus, urlsplit

import aiohttp
import orjson
import typer

from adapters.cli.output import OUT, print_json
from adapters.front import own_url
from adapters.http.security import SigningKey, TokenIssuer, load_partners
from adapters.http.server import is_loopback
from adapters.hub import Hub
from canonical_model.errors import ConfigError, Refused, Unavailable
from registry.settings import load_settings

SECRET_VARIABLE: Final = "HUB_CLIENT_SECRET"  # noqa: S105 - the name of a variable
_SECONDS: Final = 15
_MOST_BYTES: Final = 64 * 1024


def token(
    client_id: Annotated[str, typer.Argument(help="A client id of partners.yaml.")],
    scope: Annotated[
        str | None, typer.Option(help="Scopes, separated by blanks; without it, all the partner has.")
    ] = None,
    ttl: Annotated[
        int, typer.Option(min=30, max=86400, help="Seconds the token lives (signed locally only).")
    ] = 3600,
    issuer: Annotated[
        str | None, typer.Option(help="URL of the hub, when it differs from the settings.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask the hub at this URL with the client's secret instead.")
    ] = None,
    secret_file: Annotated[
        Path | None,
        typer.Option(help=f"File with the client's secret; else {SECRET_VARIABLE}, else it is asked for."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Print an access token: signed here with the hub's key, or fetched with the client's secret by --url.

    Example: hub token civil-registry --scope messages:write
    """
    if url is not None:
        found = asyncio.run(_fetch(url, client_id, _secret(secret_file), scope))
    else:
        found = _signed(client_id, scope, ttl, issuer)
    if as_json:
        print_json(found)
    else:
        OUT.print(found["access_token"], markup=False)


def _signed(client_id: str, scope: str | None, ttl: int, issuer: str | None) -> dict[str, Any]:
    settings = load_settings()
    partners = load_partners(Hub(settings).config_dir)
    found = partners.client(client_id)
    if found is None:
        raise ConfigError(
            "No enabled partner has this client id.",
            code="partner-unknown",
            remedy="`hub partner list` shows the clients there are.",
        )
    if issuer is None and settings.public_url is None and settings.port == 0:
        raise ConfigError(
            "The hub's URL is not known: its port is picked at the start.",
            code="settings-invalid",
            remedy="Give --issuer with the URL `hub serve` printed, or set HUB_PUBLIC_URL.",
        )
    granted = frozenset(str(one) for one in found[0].scopes)
    wanted = frozenset(scope.split()) if scope else granted
    if not wanted <= granted:
        raise Refused(
            f"The partner {found[0].name} may not have the scope {', '.join(sorted(wanted - granted))}.",
            code="scope-missing",
            remedy=f"It has {', '.join(sorted(granted)) or 'none'}; partners.yaml says so.",
        )
    key = SigningKey.load(settings.signing_key_file, settings.data_dir)
    signed = TokenIssuer(
        key, issuer=issuer or own_url(settings, settings.port), audience=settings.oidc_audience,
        partners=partners, lifetime=ttl,
    ).sign_claims(client_id, wanted)  # fmt: skip
    return {
        "access_token": signed.access_token, "token_type": "Bearer", "expires_in": signed.expires_in,
        "scope": signed.scope,
    }  # fmt: skip


def _secret(path: Path | None) -> str:
    if path is not None:
        try:
            return path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The secret file {path} cannot be read ({type(error).__name__}).",
                code="secret-missing",
                remedy="Name a file that holds the client's secret and nothing else.",
            ) from error
    return os.environ.get(SECRET_VARIABLE) or str(typer.prompt("Client secret", hide_input=True, err=True))


async def _fetch(url: str, client_id: str, secret: str, scope: str | None) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        raise ConfigError(
            "A client secret is sent over https only, or over http to this machine.",
            code="tls-required",
            remedy="Give the hub's https URL.",
        )
    form = {"grant_type": "client_credentials", **({"scope": scope} if scope else {})}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_SECONDS), trust_env=True) as session,
            session.post(
                f"{url.rstrip('/')}/oauth2/token",
                data=form,
                headers={"Authorization": _basic(client_id, secret)},
                allow_redirects=False,
            ) as answer,
        ):
            body = await answer.content.read(_MOST_BYTES)
            status = answer.status
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Unavailable(
            f"The hub at {parts.hostname} gave no token ({type(error).__name__}).",
            code="hub-unavailable",
            remedy="Check the URL and whether the hub runs there.",
        ) from None
    return _token_of(status, body)


def _basic(client_id: str, secret: str) -> str:
    """Return the header of HTTP Basic; RFC 6749 section 2.3.1 has both parts form-encoded first."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode('ascii')}"


def _token_of(status: int, body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if status == 200 and isinstance(found, dict) and isinstance(found.get("access_token"), str):
        return found
    why = found.get("error") if isinstance(found, dict) else None
    raise Refused(
        f"The hub gave no token: it answered {status}{f' {why}' if why else ''}.",
        code="token-denied",
        remedy="Check client id, secret and scope.",
    )
